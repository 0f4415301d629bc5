"""The health of routes: breakers, cool-downs, answers under way, time to first content.

What this module promises: a route that is down is asked once per `probe_seconds`, however many
callers there are; it is used again with the first probe that succeeds; whatever a client names, the
number of routes that are remembered is bounded. No IO, no tasks; the clock is injected.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, TypeAlias

from agent_server.gateway.routes import Route

State: TypeAlias = Literal["closed", "open", "half_open"]

MOST_UNCONFIGURED = 512
EWMA_WEIGHT: Final = 0.2
MEASURE_FRESH_SECONDS: Final = 60.0
FAILURE_PENALTY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a route is taken out of use, and for how long.

    Opens after `failures` in a row, or when `failure_rate` of at least `min_attempts` attempts of
    one window of `window_seconds` have failed. Open, it lets one probe through per `probe_seconds`.
    A `Retry-After` rests the route for as long as it says, up to `max_rest_seconds`.
    """

    failures: int = 5
    failure_rate: float = 0.5
    min_attempts: int = 20
    window_seconds: float = 30.0
    probe_seconds: float = 10.0
    max_rest_seconds: float = 60.0


class Admission(IntEnum):
    """Whether a route may be asked now; a probe decides whether it is back."""

    REFUSED = 0
    NORMAL = 1
    PROBE = 2


class RouteHealth:
    """What is known of one route. Every `admit` that is not refused ends in one `release`."""

    __slots__ = (
        "_attempts",
        "_consecutive",
        "_failures",
        "_measured_at",
        "_now",
        "_policy",
        "_probe_at",
        "_probe_since",
        "_rest_until",
        "_seconds",
        "_window_ends",
        "in_flight",
        "origin",
        "was_rate_limited",
    )

    def __init__(self, origin: str, policy: BreakerPolicy, now: Callable[[], float]) -> None:
        self.origin = origin
        self.in_flight = 0
        self.was_rate_limited = False
        self._policy = policy
        self._now = now
        self._consecutive = 0
        self._attempts = self._failures = 0
        self._window_ends = 0.0
        self._rest_until = 0.0
        self._probe_at: float | None = None
        self._probe_since: float | None = None
        self._seconds = 0.0
        self._measured_at: float | None = None

    @property
    def state(self) -> State:
        """Open while no answer is tried, half open while a probe may be or is under way."""
        now = self._now()
        if self._rest_until > now:
            return "open"
        if self._probe_at is None:
            return "closed"
        return "half_open" if self._probe_at <= now or self._probe_since is not None else "open"

    @property
    def is_broken(self) -> bool:
        """Whether the breaker has opened and no probe has closed it again."""
        return self._probe_at is not None

    @property
    def first_content_seconds(self) -> float | None:
        """The running mean of the time to first content; None if it is old, or was never taken."""
        if self._measured_at is None or self._now() - self._measured_at > MEASURE_FRESH_SECONDS:
            return None
        return self._seconds

    @property
    def is_resting(self) -> bool:
        """Whether the route asked to be left alone, and nothing else is wrong with it."""
        return self._probe_at is None and self._rest_until > self._now()

    def wait_seconds(self) -> float:
        """How long the route is not asked from now on; 0 if it may be."""
        return max(0.0, max(self._rest_until, self._probe_at or 0.0) - self._now())

    def admit(self, max_in_flight: int | None) -> Admission:
        """Take a place on the route, if it may be asked now."""
        if max_in_flight is not None and self.in_flight >= max_in_flight:
            return Admission.REFUSED
        if self._rest_until == 0.0 and self._probe_at is None:
            self.in_flight += 1
            return Admission.NORMAL
        return self._admit_after_trouble(self._now())

    def readmit(self, max_in_flight: int | None) -> Admission:
        """Take a place again after a wait that the route has asked for itself."""
        is_full = max_in_flight is not None and self.in_flight >= max_in_flight
        if is_full or self.is_broken:
            return Admission.REFUSED
        self.in_flight += 1
        return Admission.NORMAL

    def release(self) -> None:
        """Give the place back: the answer has ended, or there was none."""
        self.in_flight -= 1

    def succeed(self, admission: Admission, seconds: float) -> None:
        """Note that the route gave content, so many seconds after it was asked."""
        if self._probe_at is not None and admission is Admission.PROBE:
            self._close()
        now = self._now()
        self._consecutive = 0
        self._count(now, 0)
        self._measure(now, seconds)

    def fail(
        self,
        admission: Admission,
        seconds: float,
        *,
        rest_seconds: float | None = None,
        rate_limited: bool = False,
    ) -> None:
        """Note that the route failed; `rest_seconds` is how long it asked to be left alone."""
        now = self._now()
        self._measure(now, seconds + FAILURE_PENALTY_SECONDS)
        self.was_rate_limited = rate_limited
        if rest_seconds is not None:
            rest = min(rest_seconds, self._policy.max_rest_seconds)
            self._rest_until = max(self._rest_until, now + rest)
        self._consecutive += 1
        self._count(now, 1)
        if admission is Admission.PROBE or self._is_over_limit():
            self._open(now, is_probe=admission is Admission.PROBE)

    def lose(self) -> None:
        """Note that an answer which had counted as a success broke off later."""
        self._failures += 1
        self._consecutive += 1
        if self._is_over_limit():
            self._open(self._now(), is_probe=False)

    def forget(self, admission: Admission) -> None:
        """Note that an attempt says nothing about the route: it was cancelled, or the caller's."""
        if admission is Admission.PROBE:
            self._probe_since = None

    def _admit_after_trouble(self, now: float) -> Admission:
        if self._rest_until > now:
            return Admission.REFUSED
        if self._probe_at is None:
            self._rest_until = 0.0
            self.in_flight += 1
            return Admission.NORMAL
        is_probed = (
            self._probe_since is not None and now - self._probe_since < self._policy.probe_seconds
        )
        if self._probe_at > now or is_probed:
            return Admission.REFUSED
        self._probe_since = now
        self.in_flight += 1
        return Admission.PROBE

    def _is_over_limit(self) -> bool:
        policy = self._policy
        return self._consecutive >= policy.failures or (
            self._attempts >= policy.min_attempts
            and self._failures >= policy.failure_rate * self._attempts
        )

    def _open(self, now: float, *, is_probe: bool) -> None:
        # What was asked before the breaker opened and fails now does not put the next probe off.
        if self._probe_at is None or is_probe:
            self._probe_at = now + self._policy.probe_seconds
            self._probe_since = None

    def _close(self) -> None:
        self._probe_at = self._probe_since = None
        self._rest_until = 0.0
        self._window_ends = 0.0

    def _count(self, now: float, failures: int) -> None:
        if now >= self._window_ends:
            self._window_ends = now + self._policy.window_seconds
            self._attempts = self._failures = 0
        self._attempts += 1
        self._failures += failures

    def _measure(self, now: float, seconds: float) -> None:
        if self._measured_at is None or now - self._measured_at > MEASURE_FRESH_SECONDS:
            self._seconds = seconds
        else:
            self._seconds += EWMA_WEIGHT * (seconds - self._seconds)
        self._measured_at = now


class RouteBook:
    """The health of every route: of the configured ones for good, of others while they matter."""

    def __init__(
        self, policy: BreakerPolicy | None = None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._policy = policy or BreakerPolicy()
        self._now = now
        self._configured: dict[str, RouteHealth] = {}
        self._others: dict[str, RouteHealth] = {}

    def configure(self, routes: Iterable[Route], policy: BreakerPolicy) -> None:
        """Take the routes of a new configuration; what is known of unchanged ones stays.

        A changed policy begins anew for all. Answers under way keep what they were begun with.
        """
        known = {**self._others, **self._configured} if policy == self._policy else {}
        self._policy = policy
        configured: dict[str, RouteHealth] = {}
        for route in routes:
            health = known.get(route.route_id)
            if health is None or health.origin != route.origin:
                health = RouteHealth(route.origin, policy, self._now)
            configured[route.route_id] = health
        self._configured = configured
        self._others = {
            name: known[name] for name in self._others if name in known and name not in configured
        }

    def of(self, route: Route) -> RouteHealth:
        """The health of a route."""
        health = self._configured.get(route.route_id)
        if health is None or health.origin != route.origin:
            health = self._others.get(route.route_id)
        if health is None or health.origin != route.origin:
            health = self._remember(route)
        return health

    def states(self) -> Mapping[str, State]:
        """The breakers of the configured routes, for metrics."""
        return {route_id: health.state for route_id, health in self._configured.items()}

    def _remember(self, route: Route) -> RouteHealth:
        health = RouteHealth(route.origin, self._policy, self._now)
        if len(self._others) >= MOST_UNCONFIGURED:
            self._others.pop(next(iter(self._others)))
        self._others[route.route_id] = health
        return health
