"""The search for one answer where the first attempt is not enough: repeats, fallbacks, hedging."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, Final, Generic

from agent_server.gateway.attempt import Attempt, Candidate, T, Trail, ask_once
from agent_server.gateway.breakers import Admission, RouteBook, RouteHealth
from agent_server.gateway.deadlines import Deadlines
from agent_server.gateway.failure import (
    Verdict,
    cause_of,
    no_route_error,
    summary_of,
    verdict_of,
)
from agent_server.gateway.routes import Cause, Route, RoutePlan, ordered
from agent_server.log_config import get_logger
from streaming.errors import AgentServerError

log = get_logger()


class Search(Generic[T]):
    """Goes over the routes of a plan until one answers.

    `deadline` is in seconds of the loop's clock; `draw` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        plan: RoutePlan,
        attempt: Attempt[T],
        deadline: float,
        trail: Trail,
        *,
        book: RouteBook,
        deadlines: Deadlines,
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._attempt = attempt
        self._deadline = deadline
        self._trail = trail
        self._book = book
        self._deadlines = deadlines
        self._sleep = sleep
        self._draw = draw
        self._loop = asyncio.get_running_loop()
        self._cause: Cause = "error"
        self._window = 0
        self._is_over = False
        self._errors: list[AgentServerError] = []
        self._refused: list[tuple[Route, RouteHealth]] = []
        self._seen: set[str] = set()
        self._routes = self._candidates(plan, _OWN_ROUTES)
        self._ahead: Candidate | None = None
        self._begun: tuple[Candidate, float | None] | None = None

    def begin_after(self, error: AgentServerError, candidate: Candidate) -> None:
        """Take over from a first attempt that has failed."""
        self._seen.add(candidate[0].route_id)
        self._begun = (candidate, self._wait_after(error, candidate, 0))

    async def run(self) -> T:
        """The answer; raises the error of them all."""
        try:
            opened = await self._over_routes()
            if opened is None and (wait := self._rest()) is not None:
                await self._sleep(wait)
                self._refused.clear()
                self._seen.clear()
                self._routes = self._candidates(self._plan, _OWN_ROUTES)
                opened = await self._over_routes()
            if opened is None:
                raise self._final_error()
            return opened
        finally:
            # An error holds the frames that it went through, and these hold the request.
            self._errors.clear()

    async def _over_routes(self) -> T | None:
        if self._begun is not None:
            opened = await self._repeated(*self._begun)
        elif (candidate := self._next()) is None:
            return None
        elif self._plan.hedge_after_seconds is None:
            opened = await self._on_route(candidate)
        else:
            opened = await self._hedged(candidate)
        while opened is None and not self._is_over and self._loop.time() < self._deadline:
            if (candidate := self._next()) is None:
                break
            self._trail.fallbacks += 1
            opened = await self._on_route(candidate)
        return opened

    async def _on_route(self, candidate: Candidate, repeat: int = 0) -> T | None:
        """The answer of a route, asked again as often as it may be; None for the next route."""
        again: Candidate | None = candidate
        while again is not None:
            candidate = again
            try:
                opened = await self._once(candidate)
            except AgentServerError as exc:
                wait = self._wait_after(exc, candidate, repeat)
            else:
                self._trail.keep(candidate[0], candidate[1])
                return opened
            again = await self._waited(candidate, wait)
            repeat += 1
        return None

    async def _repeated(self, candidate: Candidate, wait: float | None) -> T | None:
        again = await self._waited(candidate, wait)
        return None if again is None else await self._on_route(again, repeat=1)

    def _once(self, candidate: Candidate) -> Coroutine[Any, Any, T]:
        return ask_once(
            candidate,
            self._plan,
            self._attempt,
            self._deadline,
            self._trail,
            self._deadlines,
        )

    async def _hedged(self, candidate: Candidate) -> T | None:
        """The first answer of two routes, the second asked once the first has taken too long."""
        first = asyncio.create_task(self._once(candidate))
        running = {first: candidate}
        wait: float | None = None
        try:
            await asyncio.wait(running, timeout=self._plan.hedge_after_seconds)
            if not first.done() and (other := self._next()) is not None:
                running[asyncio.create_task(self._once(other))] = other
            repeat = 0 if len(running) == 1 else None
            while running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                task = min(done, key=lambda task: task.exception() is not None)
                candidate = running.pop(task)
                try:
                    opened = task.result()
                except AgentServerError as exc:
                    wait = self._wait_after(exc, candidate, repeat)
                else:
                    self._trail.keep(candidate[0], candidate[1])
                    return opened
        finally:
            await _end(running)
        return await self._repeated(candidate, wait)

    def _wait_after(
        self, error: AgentServerError, candidate: Candidate, repeat: int | None
    ) -> float | None:
        """How long to wait before the route is asked again, None to go on to the next.

        `repeat` is None where it is not to be asked again.
        """
        plan, (route, health, _) = self._plan, candidate
        verdict = verdict_of(error, plan)
        self._errors.append(error)
        self._is_over = verdict is Verdict.STOP
        if (cause := cause_of(error)) != "error":
            self._cause = cause
            self._window = max(self._window, route.context_window or 0)
        wait = None
        if verdict is Verdict.AGAIN and repeat is not None and not health.is_broken:
            wait = self._patience(error.retry_after_seconds, repeat)
        log.warning(
            "Route failed",
            route=route.route_id,
            model=plan.name,
            error_type=type(error).__name__,
            code=error.code,
            attempt=self._trail.attempts,
            wait_seconds=None if wait is None else round(wait, 3),
        )
        return wait

    def _patience(self, retry_after: float | None, repeat: int) -> float | None:
        wait = self._plan.retry.wait_seconds(repeat, retry_after, self._draw())
        if wait is None or self._loop.time() + wait >= self._deadline:
            return None
        if retry_after is not None and wait > self._plan.patience_seconds:
            self._ahead = self._next()
            return wait if self._ahead is None else None
        return wait

    async def _waited(self, candidate: Candidate, wait: float | None) -> Candidate | None:
        """The same candidate with a new place on its route, after the wait."""
        if wait is None:
            return None
        route, health, _ = candidate
        await self._sleep(wait)
        admission = health.readmit(route.max_in_flight)
        if admission is Admission.REFUSED:
            return None
        self._trail.retries += 1
        return (route, health, admission)

    def _next(self) -> Candidate | None:
        """The next route that may be asked, with a place on it."""
        if (ahead := self._ahead) is not None:
            self._ahead = None
            return ahead
        for route in self._routes:
            health = self._book.of(route)
            admission = health.admit(route.max_in_flight)
            if admission is not Admission.REFUSED:
                return (route, health, admission)
            self._refused.append((route, health))
        return None

    def _candidates(self, plan: RoutePlan, on: frozenset[Cause]) -> Iterator[Route]:
        """The routes in their order, each once, as far as they suit what has failed before them."""
        for route in ordered(plan, self._book.of, self._draw):
            if route.route_id not in self._seen and self._suits(route, on):
                self._seen.add(route.route_id)
                yield route
        for fallback in plan.fallbacks:
            if self._cause != "error" or "error" in fallback.on:
                yield from self._candidates(fallback.plan, fallback.on)

    def _suits(self, route: Route, on: frozenset[Cause]) -> bool:
        if self._cause in on:
            return True
        return self._cause == "context_length" and (route.context_window or 0) > self._window

    def _rest(self) -> float | None:
        """How long to wait where every route rests and none was asked: as its own 429 would tell.

        Callers that wait for the same moment are spread over a quarter of the wait after it.
        """
        if self._trail.attempts or not self._refused or self._plan.retry.limit == 0:
            return None
        waits = [health.wait_seconds() for _, health in self._refused if health.is_resting]
        shortest = min(waits, default=None)
        if shortest is None or shortest > self._plan.retry.max_retry_after_seconds:
            return None
        wait = shortest * (1 + self._draw() / 4)
        return wait if self._loop.time() + wait < self._deadline else None

    def _final_error(self) -> AgentServerError:
        if not self._errors:
            return no_route_error(self._plan, self._refused)
        return summary_of(self._plan, self._errors, self._trail.failures)


async def _end(tasks: Mapping[asyncio.Task[T], Candidate]) -> None:
    """End the attempts that have not won, and close what they have opened all the same."""
    for task in tasks:
        task.cancel()
    for ended, (_, health, _) in zip(
        await asyncio.gather(*tasks, return_exceptions=True), tasks.values(), strict=True
    ):
        if not isinstance(ended, BaseException):
            health.release()
            await ended.aclose()


_OWN_ROUTES: Final[frozenset[Cause]] = frozenset({"error"})
