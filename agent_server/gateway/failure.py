"""What the failure of an attempt means: ask again, ask elsewhere, or tell the caller. Pure.

| error of the attempt | the same route again | another route |
|---|---|---|
| no connection, or one that broke; connect timeout; 408, 429, 5xx, 529 | yes | yes |
| first-byte, first-token, idle or total timeout | no: it would only double the wait | yes |
| an answer that is not the format, a refused key, an address that is not there | no | yes |
| a model that is not there but that the operator named; an unsupported field | no | yes |
| more tokens than the model takes | no | one with a larger window, or listed for it |
| a refusal by the content filter | no | one that is listed for it |
| the caller's own error | no | no |
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from agent_server.gateway.breakers import RouteHealth
from agent_server.gateway.routes import Cause, Route, RoutePlan
from streaming.errors import (
    AgentServerError,
    CallerError,
    ContextLengthError,
    NotFoundError,
    UnsupportedFieldError,
    UpstreamError,
    UpstreamOverloadedError,
    UpstreamProtocolError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)

CONTENT_FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})
SHORTEST_RETRY_SECONDS = 1.0
SERVER_ERROR = 500
MOST_TOLD = 5


class Verdict(Enum):
    """What follows from a failed attempt."""

    STOP = "the caller is told"
    NEXT = "the next route is asked"
    AGAIN = "the same route is asked again, then the next"


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that failed, without its traceback: that would keep the whole request alive."""

    route_id: str
    provider: str
    error_type: str
    code: str | None
    status: int | None
    message: str


def failure_of(error: AgentServerError, route: Route) -> Failure:
    """The record of an attempt's error."""
    return Failure(
        route_id=route.route_id,
        provider=route.provider,
        error_type=type(error).__name__,
        code=error.code,
        status=error.status if isinstance(error, UpstreamError) else None,
        message=error.message,
    )


def verdict_of(error: AgentServerError, plan: RoutePlan) -> Verdict:
    """What follows from the error of an attempt on a route of the plan."""
    if isinstance(error, UpstreamTimeoutError):
        is_early = error.status is not None or error.param == "connect_seconds"
        return Verdict.AGAIN if is_early else Verdict.NEXT
    if isinstance(error, UpstreamError):
        return Verdict.AGAIN if error.is_retryable else Verdict.NEXT
    if isinstance(error, UnsupportedFieldError) or cause_of(error) != "error":
        return Verdict.NEXT
    return Verdict.NEXT if _is_wrong_model(error, plan) else Verdict.STOP


def cause_of(error: AgentServerError) -> Cause:
    """For which of a fallback's causes the error counts."""
    if isinstance(error, ContextLengthError):
        return "context_length"
    return "content_filter" if error.code in CONTENT_FILTER_CODES else "error"


def counts_against(error: AgentServerError, plan: RoutePlan) -> bool:
    """Whether the error says something about the health of the route."""
    if isinstance(error, UpstreamRejectedError):
        return error.status is None or error.status >= SERVER_ERROR
    if isinstance(error, UpstreamError):
        return cause_of(error) == "error"
    return _is_wrong_model(error, plan)


def timed_out(route: Route, plan: RoutePlan, *, is_total: bool) -> UpstreamTimeoutError:
    """The error of an attempt that gave no content in time."""
    if is_total:
        text = f"'{plan.name}' was not answered in {plan.budgets.total_seconds:g} s (total_seconds)"
    else:
        seconds = route.budgets.first_token_seconds
        text = f"{route.provider} sent no content in {seconds:g} s (first_token_seconds)"
    name = "total_seconds" if is_total else "first_token_seconds"
    return UpstreamTimeoutError(text, provider=route.provider, param=name)


def summary_of(
    plan: RoutePlan, errors: Sequence[AgentServerError], failures: Sequence[Failure]
) -> AgentServerError:
    """One error for all that was tried: of the most useful kind, told from the first cause on."""
    best = _most_useful(errors)
    if len(errors) == 1:
        return best
    error = copy.copy(best)
    error.__traceback__ = None
    error.message = _told(plan, failures)
    error.args = (error.message,)
    if all(isinstance(error, UpstreamRateLimitError) for error in errors):
        waits = [error.retry_after_seconds for error in errors if error.retry_after_seconds]
        error.retry_after_seconds = min(waits, default=None)
    return error


def no_route_error(plan: RoutePlan, refused: Sequence[tuple[Route, RouteHealth]]) -> UpstreamError:
    """The error where no route may be asked now: each is broken, rests, or is full."""
    if not refused:
        return UpstreamProtocolError(f"'{plan.name}' has no route that may be asked")
    waits = [(health.wait_seconds(), route) for route, health in refused]
    seconds = max(SHORTEST_RETRY_SECONDS, min(wait for wait, _ in waits))
    told = ", ".join(
        f"{route.route_id} ({f'again in {wait:.0f} s' if wait else 'full'})"
        for wait, route in waits[:MOST_TOLD]
    )
    kind: type[UpstreamError] = UpstreamOverloadedError
    reason = "is out of use after failures, or has no place left"
    if all(
        wait and health.was_rate_limited
        for (wait, _), (_, health) in zip(waits, refused, strict=True)
    ):
        kind, reason = UpstreamRateLimitError, "is limited by its provider"
    return kind(
        f"Every route of '{plan.name}' {reason}: {told}",
        provider=refused[0][0].provider,
        retry_after_seconds=seconds,
    )


def _is_wrong_model(error: AgentServerError, plan: RoutePlan) -> bool:
    return plan.is_named and isinstance(error, NotFoundError)


def _most_useful(errors: Sequence[AgentServerError]) -> AgentServerError:
    """What the caller can mend, else what a repeat can, else the first."""
    first = errors[0]
    if isinstance(first, CallerError):
        return first
    upstream = (error for error in errors if not isinstance(error, CallerError))
    return next((error for error in upstream if error.is_retryable), first)


def _told(plan: RoutePlan, failures: Sequence[Failure]) -> str:
    first = failures[0]
    routes: dict[str, list[Failure]] = {}
    for failure in failures:
        routes.setdefault(failure.route_id, []).append(failure)
    text = (
        f"'{plan.name}' was not answered in {len(failures)} attempts. First cause: {first.message}"
    )
    others = [
        f"{route_id}: {found[-1].message}"
        for route_id, found in routes.items()
        if route_id != first.route_id or found[-1].message != first.message
    ]
    return f"{text}. Then {'; '.join(others[:MOST_TOLD])}" if others else text
