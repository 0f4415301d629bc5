"""The failover of a server: asks the routes of a plan until one answer has proved itself.

What this module promises:

- an attempt that fails is tried again, elsewhere or not at all, as `failure.verdict_of` says;
- nothing outlives its budget: each attempt is bounded by the first-token time, all of it by the
  total time, and a cancelled caller ends every attempt that is under way;
- a route that is broken or rests is not asked, but for its probes;
- of two hedged attempts the loser is ended, and closed, before the winner is returned.

A caller whose first attempt proves itself pays for no task and no timer.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from agent_server.gateway.attempt import Attempt, Opened, T, Trail, ask_once
from agent_server.gateway.breakers import Admission, RouteBook
from agent_server.gateway.deadlines import Deadlines
from agent_server.gateway.routes import Route, RoutePlan, ordered
from agent_server.gateway.search import Search
from streaming.errors import AgentServerError

__all__ = ["Attempt", "Failover", "Opened", "Trail"]


class Failover:
    """Runs attempts over plans; one for each server.

    `sleep` and `draw` (from 0 to 1) can be replaced, so that a test of waits does not wait.
    """

    def __init__(
        self,
        book: RouteBook | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.book = book or RouteBook()
        self._sleep = sleep
        self._draw = draw
        self._deadlines = Deadlines()

    async def first(self, plan: RoutePlan, attempt: Attempt[T], trail: Trail) -> T:
        """The first answer that proves itself on a route of the plan.

        `trail` is filled in as it goes on, and holds the route's place until it is closed.

        Raises:
            AgentServerError: the caller's own error as it is; else the most useful error of all
                attempts, which names the first cause and what was tried.
        """
        deadline = self._deadlines.loop.time() + plan.budgets.total_seconds
        search = None
        if plan.hedge_after_seconds is None:
            is_simple = plan.strategy == "priority"
            route = plan.routes[0] if is_simple else self._chosen(plan)
            health = self.book.of(route)
            admission = health.admit(route.max_in_flight)
            if admission is not Admission.REFUSED:
                candidate = (route, health, admission)
                try:
                    opened = await ask_once(
                        candidate, plan, attempt, deadline, trail, self._deadlines
                    )
                except AgentServerError as exc:
                    search = self._search(plan, attempt, deadline, trail)
                    search.begin_after(exc, candidate)
                else:
                    trail.keep(route, health)
                    return opened
        return await (search or self._search(plan, attempt, deadline, trail)).run()

    def _chosen(self, plan: RoutePlan) -> Route:
        return next(iter(ordered(plan, self.book.of, self._draw)))

    def _search(
        self, plan: RoutePlan, attempt: Attempt[T], deadline: float, trail: Trail
    ) -> Search[T]:
        return Search(
            plan,
            attempt,
            deadline,
            trail,
            book=self.book,
            deadlines=self._deadlines,
            sleep=self._sleep,
            draw=self._draw,
        )
