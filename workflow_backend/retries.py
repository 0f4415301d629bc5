"""When a failed attempt is repeated, and after which delay. Pure."""

from workflow_backend.definition.control import RetryPolicy
from workflow_backend.definition.durations import parse_duration
from workflow_backend.engines.base import AttemptResult, AttemptSpec

_NEVER_REPEATED = frozenset({"success", "cancelled", "worker_lost"})


def will_retry(spec: AttemptSpec, result: AttemptResult) -> bool:
    """Whether another attempt follows this result.

    Without `on_exit_codes` every failure and timeout counts; with it, only those exit codes.
    """
    policy = spec.step.retry
    if policy is None or spec.retries_left <= 0 or result.status in _NEVER_REPEATED:
        return False
    return policy.on_exit_codes is None or result.exit_code in policy.on_exit_codes


def delay_seconds(policy: RetryPolicy, failed_attempt: int) -> float:
    """How long to wait after the n-th attempt failed, counted from 1."""
    longest = parse_duration(policy.max_interval)
    delay = parse_duration(policy.interval)
    for _ in range(failed_attempt - 1):
        if delay >= longest:
            break
        delay *= policy.backoff
    return min(delay, longest)
