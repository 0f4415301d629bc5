"""One attempt: a route is asked once, within its time, and its health is told what came of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TypeAlias, TypeVar

from agent_server.gateway.breakers import Admission, RouteHealth
from agent_server.gateway.deadlines import Deadlines
from agent_server.gateway.failure import Failure, counts_against, failure_of, timed_out
from agent_server.gateway.routes import Route, RoutePlan
from streaming.errors import (
    AgentServerError,
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamTimeoutError,
)


class Opened(Protocol):
    """An answer that has proved itself: it has content, or is whole."""

    async def aclose(self) -> None:
        """End whatever gives the answer, at once."""
        ...


T = TypeVar("T", bound=Opened)
# Asks a route once. The float is when all has to be over, in seconds of the loop's clock.
Attempt: TypeAlias = Callable[[Route, float], Awaitable[T]]
Candidate: TypeAlias = tuple[Route, RouteHealth, Admission]


@dataclass(slots=True)
class Trail:
    """What was tried for one call, and the places that it holds on routes.

    `route` is the one that answered, or was asked last; `first_content_seconds` is how long it took
    from its attempt to its content. Close it when the answer has ended, however it did.
    """

    route: Route | None = None
    attempts: int = 0
    retries: int = 0
    fallbacks: int = 0
    failures: list[Failure] = field(default_factory=list)
    first_content_seconds: float | None = None
    _health: RouteHealth | None = None

    @property
    def provider(self) -> str | None:
        """The provider that answered, or was asked last."""
        return None if self.route is None else self.route.provider

    def keep(self, route: Route, health: RouteHealth) -> None:
        """Hold the place on the route that answers."""
        self.route = route
        self._health = health

    def close(self, error: BaseException | None = None) -> None:
        """Give the route's place back; an upstream's error after its content counts against it."""
        health, self._health = self._health, None
        if health is not None:
            if isinstance(error, UpstreamError):
                health.lose()
            health.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(error)


async def ask_once(
    candidate: Candidate,
    plan: RoutePlan,
    attempt: Attempt[T],
    deadline: float,
    trail: Trail,
    deadlines: Deadlines,
) -> T:
    """The answer of a route that gives content in time; it keeps its place on the route.

    Raises:
        AgentServerError: the attempt failed, which `trail` and the route's health have been told.
    """
    # No error has a name here: its traceback holds this frame, and both would live until the next
    # collection, with the request.
    route, health, admission = candidate
    trail.attempts += 1
    trail.route = route
    loop = deadlines.loop
    began = loop.time()
    limit = began + route.budgets.first_token_seconds
    expiry = _Expiry(asyncio.current_task(loop))
    expire = expiry.fire
    deadlines.keep(expire, limit if limit < deadline else deadline)
    is_open = False
    try:
        opened = await attempt(route, deadline)
        is_open = True
    except asyncio.CancelledError as exc:
        if not expiry.is_cause():
            raise
        raise _timed_out(candidate, plan, trail, deadline <= limit, loop.time() - began) from exc
    except AgentServerError as exc:
        _note(exc, candidate, plan, trail, loop.time() - began)
        raise
    finally:
        deadlines.drop(expire)
        if not is_open:
            health.forget(admission)
            health.release()
    trail.first_content_seconds = seconds = loop.time() - began
    health.succeed(admission, seconds)
    return opened


class _Expiry:
    """Cancels the task that waits, once; `asyncio.timeout` does the same for three times the price.

    Source of the rule: Python 3.11, "Task Cancellation": who cancelled has to uncancel, and a
    cancel from outside, which came at the same time, wins.
    """

    __slots__ = ("_cancelled_before", "_has_fired", "_task")

    def __init__(self, task: "asyncio.Task[object] | None") -> None:
        self._task = task
        self._has_fired = False

    def fire(self) -> None:
        """Cancel the task."""
        if self._task is not None:
            self._cancelled_before = self._task.cancelling()
            self._has_fired = True
            self._task.cancel()

    def is_cause(self) -> bool:
        """Whether the cancellation of the task is this one, and nobody else's."""
        if not self._has_fired or self._task is None:
            return False
        return self._task.uncancel() <= self._cancelled_before


def _timed_out(
    candidate: Candidate, plan: RoutePlan, trail: Trail, is_total: bool, seconds: float
) -> UpstreamTimeoutError:
    error = timed_out(candidate[0], plan, is_total=is_total)
    _note(error, candidate, plan, trail, seconds)
    return error


def _note(
    error: AgentServerError, candidate: Candidate, plan: RoutePlan, trail: Trail, seconds: float
) -> None:
    route, health, admission = candidate
    trail.failures.append(failure_of(error, route))
    if counts_against(error, plan):
        health.fail(
            admission,
            seconds,
            rest_seconds=error.retry_after_seconds,
            rate_limited=isinstance(error, UpstreamRateLimitError),
        )
