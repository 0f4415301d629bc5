"""Routes: the ways in which a named model can be answered, and the order in which they are tried.

All of it is immutable: an answer keeps the plan that it began with, whatever a reload brings.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias, get_args
from urllib.parse import quote

from agent_server.gateway.budgets import Budgets
from providers.retry import RetryPolicy

Cause: TypeAlias = Literal["error", "context_length", "content_filter"]
StrategyName: TypeAlias = Literal["priority", "weighted", "lowest_latency", "least_busy"]
LONGEST_ID: Final = 256
_KEPT: Final = "/:@ +,;=()[]"
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)
STRATEGY_NAMES: Final[tuple[StrategyName, ...]] = get_args(StrategyName)


@dataclass(frozen=True, slots=True)
class Route:
    """One model of one provider, as one named model uses it.

    `origin` tells where the provider is, so that a route whose provider has moved is another one;
    it holds no secret. `context_window` is in tokens, `max_in_flight` in answers at once; None is
    unknown, and no bound. `route_id` names the route in headers, metrics and logs: printable ASCII
    of bounded length, whatever a client has named as the model. `headers` name it on its answers.
    """

    provider: str
    model: str
    weight: int = 1
    budgets: Budgets = field(default_factory=Budgets)
    context_window: int | None = None
    max_in_flight: int | None = None
    origin: str = ""
    route_id: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.route_id:
            object.__setattr__(self, "route_id", _id_of(f"{self.provider}/{self.model}"))
        told = (
            (b"x-provider", self.provider.encode("latin-1", "replace")),
            (b"x-route", self.route_id.encode("latin-1", "replace")),
        )
        object.__setattr__(self, "headers", told)


def _id_of(name: str) -> str:
    name = name[:LONGEST_ID]
    return name if name.isascii() and name.isprintable() else quote(name, safe=_KEPT)


@dataclass(frozen=True, slots=True)
class Fallback:
    """Another plan, and the causes for which it is asked when the routes before it have failed."""

    plan: "RoutePlan"
    on: frozenset[Cause] = frozenset({"error"})


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """How one name is answered.

    `retry` is how often one route is asked again before the next one is. While another route is
    there, a `Retry-After` over `patience_seconds` is not waited for. `hedge_after_seconds` starts a
    second route beside one that has not proved itself by then; None never does. `is_named` tells
    that the operator chose the models, not the caller. `targets` are the (provider, model) that may
    answer, those of fallbacks too.
    """

    name: str
    routes: tuple[Route, ...]
    strategy: StrategyName = "priority"
    fallbacks: tuple[Fallback, ...] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    budgets: Budgets = field(default_factory=Budgets)
    patience_seconds: float = 2.0
    hedge_after_seconds: float | None = None
    is_named: bool = False
    targets: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        targets = tuple((route.provider, route.model) for route in self.all_routes())
        object.__setattr__(self, "targets", targets)

    def all_routes(self) -> Iterator[Route]:
        """Every route that may be asked, those of the fallbacks last; one may come twice."""
        yield from self.routes
        for fallback in self.fallbacks:
            yield from fallback.plan.all_routes()


class RouteLoad(Protocol):
    """What the strategies look at: how many answers are under way, and how fast they begin.

    `first_content_seconds` is None for a route that was never measured, or not for long.
    """

    @property
    def in_flight(self) -> int:
        """Answers under way now."""
        ...

    @property
    def first_content_seconds(self) -> float | None:
        """The running mean of the time to first content."""
        ...


LoadOf: TypeAlias = Callable[[Route], RouteLoad]
Strategy: TypeAlias = Callable[[Sequence[Route], LoadOf, Callable[[], float]], Iterable[Route]]


def ordered(plan: RoutePlan, load_of: LoadOf, random: Callable[[], float]) -> Iterable[Route]:
    """The plan's own routes in the order in which its strategy tries them.

    `random` draws from 0 to 1. Finding the first costs one pass over the routes.
    """
    if len(plan.routes) == 1:
        return plan.routes
    return _STRATEGIES[plan.strategy](plan.routes, load_of, random)


def _by_priority(
    routes: Sequence[Route], _load_of: LoadOf, _random: Callable[[], float]
) -> Iterable[Route]:
    return routes


def _by_weight(
    routes: Sequence[Route], _load_of: LoadOf, random: Callable[[], float]
) -> Iterator[Route]:
    """Draw one after the other, each with the chance that its weight has among those left."""
    left = list(routes)
    while left:
        draw = random() * sum(route.weight for route in left)
        for route in left:
            draw -= route.weight
            if draw < 0:
                break
        # Rounding may leave nothing over for the last one, which the loop then ended with.
        yield route
        left.remove(route)


def _by_latency(
    routes: Sequence[Route], load_of: LoadOf, _random: Callable[[], float]
) -> Iterator[Route]:
    return _lowest_first(routes, lambda route: _latency_rank(load_of(route)))


def _by_load(
    routes: Sequence[Route], load_of: LoadOf, _random: Callable[[], float]
) -> Iterator[Route]:
    return _lowest_first(routes, lambda route: (load_of(route).in_flight, 0))


def _latency_rank(load: RouteLoad) -> tuple[float, int]:
    """Unmeasured routes come first, so that they are measured, but with one answer at a time."""
    seconds, in_flight = load.first_content_seconds, load.in_flight
    if seconds is None:
        return (-1.0 if in_flight == 0 else float("inf"), in_flight)
    return (seconds, in_flight)


def _lowest_first(
    routes: Sequence[Route], rank: Callable[[Route], tuple[float, int]]
) -> Iterator[Route]:
    """The lowest rank, found in one pass; the others are ranked only if they are asked for."""
    best = min(routes, key=rank)
    yield best
    yield from sorted((route for route in routes if route is not best), key=rank)


_STRATEGIES: Final[dict[StrategyName, Strategy]] = {
    "priority": _by_priority,
    "weighted": _by_weight,
    "lowest_latency": _by_latency,
    "least_busy": _by_load,
}
