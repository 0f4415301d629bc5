"""Keeps the books of calls: room is reserved before one, and what it used is written after it.

What this module promises: whatever became of a call, its reservation is settled, its row is
written and it is counted, once; none of that waits or fails.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from agent_server.accounts.accounts import Accounts, check_model
from agent_server.accounts.estimate import prompt_tokens
from agent_server.accounts.usage import UsageRow
from agent_server.error_responses import status_of
from agent_server.gateway.call import Charge, ModelCall
from agent_server.gateway.names import Target
from agent_server.metrics import Metrics, Outcome
from streaming.errors import AgentServerError, RateLimitError, UpstreamError
from streaming.events import JsonValue, Usage

OK: Final = 200
CLIENT_CLOSED: Final = 499
# About what a frame of a stream takes, where an upstream left without telling what it used.
BYTES_PER_TOKEN: Final = 200


class CallBooks:
    """The books of one server."""

    def __init__(self, accounts: Accounts, metrics: Metrics) -> None:
        self.accounts = accounts
        self._metrics = metrics

    def begin(self, call: ModelCall) -> None:
        """Count a call as under way, until it is closed."""
        self._metrics.request_began(call.door.name)

    async def open(self, call: ModelCall, target: Target) -> None:
        """Reserve what a call may use.

        Raises:
            PermissionDeniedError: the caller's key may not name the model.
            RateLimitError: a limit of the key has no room.
        """
        plan = target.plan
        for key in call.caller.siblings:
            check_model(key, call.model or plan.name)
        call.admission = await self.accounts.admit(
            call.caller.key,
            model=call.model or plan.name,
            targets=plan.targets,
            body=call.raw,
            max_output_tokens=_max_output_tokens(call),
        )

    def close(self, call: ModelCall) -> None:
        """Settle a call that has ended, however it did."""
        charges = _charges(call)
        usage = charges[0][2] if len(charges) == 1 else sum((used for *_, used in charges), Usage())
        cost = self._cost(charges)
        outcome = _outcome(call)
        duration = time.perf_counter() - call.began
        trail = call.trail
        provider, model, attempts = _asked(call)
        first = trail.first_content_seconds
        row = UsageRow(
            key_id=call.caller.key.key_id if call.caller.key else "",
            door=call.door.name,
            provider=provider,
            model=model,
            outcome=outcome,
            status=_status(call),
            usage=usage,
            cost_nano_usd=cost,
            duration_ms=round(duration * 1000),
            first_token_ms=None if first is None else round(first * 1000),
            attempts=attempts,
            request_id=call.request_id,
        )
        if call.admission is None:
            self.accounts.record(row)
        else:
            self.accounts.finish(call.admission, row)
        self._count(call, row, outcome, duration)
        call.log_fields.update(
            door=row.door,
            model=model,
            provider=provider,
            outcome=outcome if call.failure is None else type(call.failure).__name__,
            attempts=attempts,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )

    def _count(self, call: ModelCall, row: UsageRow, outcome: Outcome, duration: float) -> None:
        metrics, trail = self._metrics, call.trail
        metrics.request_ended(
            row.door,
            row.model,
            row.provider,
            outcome,
            duration,
            trail.first_content_seconds,
            row.usage,
            row.cost_nano_usd,
        )
        if outcome == "aborted":
            metrics.client_gone(row.door)
        elif outcome == "truncated":
            metrics.upstream_truncated(row.provider)
        elif outcome == "rejected" and call.failure is not None:
            metrics.limit_rejected(getattr(call.failure, "param", None) or "requests")
        if call.cache is not None:
            metrics.cache_looked_up(hit=call.cache == "hit")
        if trail.failures or trail.retries:
            self._count_trail(call)
        if trail.first_content_seconds is not None:
            metrics.upstream_attempt(row.provider, "ok")

    def _count_trail(self, call: ModelCall) -> None:
        """Count the failed attempts, and what followed each of them."""
        trail = call.trail
        tried = [(failure.route_id, failure.provider) for failure in trail.failures]
        for failure in trail.failures:
            self._metrics.upstream_attempt(failure.provider, failure.code or failure.error_type)
        if trail.first_content_seconds is not None and trail.route is not None:
            tried.append((trail.route.route_id, trail.route.provider))
        for before, after in pairwise(tried):
            if before[0] == after[0]:
                self._metrics.retry(after[1])
            else:
                self._metrics.fallback(before[1], after[1])

    def _cost(self, charges: Sequence[Charge]) -> int | None:
        if len(charges) == 1:
            return self.accounts.cost(*charges[0])
        costs = [self.accounts.cost(*charge) for charge in charges]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None


def _asked(call: ModelCall) -> tuple[str, str, int]:
    """The provider and the model that answered or were asked last, and how often any was asked."""
    route = call.trail.route
    if route is not None:
        return route.provider, route.model, call.trail.attempts
    if call.charges:
        provider, model, _ = call.charges[-1]
        return provider, model, len(call.charges)
    return "", call.model or "", 0


def _charges(call: ModelCall) -> Sequence[Charge]:
    """What to pay for: as told by who answered, and where nobody told, as far as was seen."""
    if call.charges:
        return call.charges
    route, answer = call.trail.route, call.answer
    has_failed = isinstance(call.failure, AgentServerError)
    if route is None or (answer is None and has_failed):
        return ()
    usage = None if answer is None else answer.usage
    if usage is None:
        # The client left, the upstream broke off or does not count: the prompt was read, and some
        # was said, or would have been.
        prompt, said = prompt_tokens(call.raw), call.bytes_out // BYTES_PER_TOKEN
        usage = Usage(prompt, said, prompt + said)
    return ((route.provider, route.model, usage),)


def _outcome(call: ModelCall) -> Outcome:
    failure = call.failure
    if failure is None:
        return "cached" if call.cache == "hit" else "ok"
    if isinstance(failure, RateLimitError):
        return "rejected"
    if not isinstance(failure, AgentServerError):
        return "aborted"
    is_cut = isinstance(failure, UpstreamError) and call.answer is not None
    return "truncated" if is_cut else "error"


def _status(call: ModelCall) -> int:
    """The HTTP status, or what would have been it where the answer had begun."""
    if call.failure is None:
        return OK
    if isinstance(call.failure, AgentServerError):
        return status_of(call.failure)
    return CLIENT_CLOSED


def _max_output_tokens(call: ModelCall) -> int | None:
    """The most tokens that all choices of the answer may have, None where nothing says."""
    names = _LENGTH_FIELDS.get(call.door.wire)
    if names is None:
        return 0
    length = max(_whole(call.body.get(name)) for name in names)
    return length * max(1, _whole(call.body.get("n"))) if length > 0 else None


def _whole(value: JsonValue) -> int:
    return int(value) if isinstance(value, int | float) else 0


# What bounds an answer at each door; a field of another door's is none that an upstream obeys, and
# of two that are there nobody knows which one it does.
_LENGTH_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
}
