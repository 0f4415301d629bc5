from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest

from agent_server.gateway.routes import Fallback, Route, RoutePlan, StrategyName, ordered


@dataclass
class Load:
    in_flight: int = 0
    first_content_seconds: float | None = None


def plan_of(strategy: StrategyName, *weights: int) -> RoutePlan:
    routes = tuple(Route("p", f"m{number}", weight) for number, weight in enumerate(weights))
    return RoutePlan("named", routes, strategy)


def order(plan: RoutePlan, loads: dict[str, Load], draw: float = 0.5) -> list[str]:
    routes = ordered(plan, lambda route: loads.get(route.model, Load()), lambda: draw)
    return [route.model for route in routes]


def test_priority_keeps_the_order_of_the_file() -> None:
    busy = {"m0": Load(in_flight=9, first_content_seconds=9.0)}
    assert order(plan_of("priority", 1, 1, 1), busy) == ["m0", "m1", "m2"]


def test_weights_are_the_chances_of_being_first_and_every_route_comes_once() -> None:
    plan, random = plan_of("weighted", 6, 3, 1), Random(7)  # noqa: S311 - a steady draw
    firsts: Counter[str] = Counter()
    for _ in range(3000):
        names = [route.model for route in ordered(plan, lambda _: Load(), random.random)]
        assert sorted(names) == ["m0", "m1", "m2"]
        firsts[names[0]] += 1
    assert firsts["m0"] == pytest.approx(1800, abs=120)
    assert firsts["m1"] == pytest.approx(900, abs=120)


@pytest.mark.parametrize("draw", [0.0, 0.999999999999])
def test_the_ends_of_the_draw_choose_a_route(draw: float) -> None:
    assert sorted(order(plan_of("weighted", 1, 2), {}, draw)) == ["m0", "m1"]


def test_a_route_of_weight_zero_comes_last() -> None:
    assert order(plan_of("weighted", 0, 5), {}, 0.0) == ["m1", "m0"]


def test_the_lowest_latency_comes_first() -> None:
    loads = {"m0": Load(0, 0.9), "m1": Load(0, 0.2), "m2": Load(0, 0.5)}
    assert order(plan_of("lowest_latency", 1, 1, 1), loads) == ["m1", "m2", "m0"]


def test_an_unmeasured_route_is_explored_by_one_answer_at_a_time() -> None:
    plan = plan_of("lowest_latency", 1, 1)
    assert order(plan, {"m0": Load(0, 0.1), "m1": Load(0)}) == ["m1", "m0"]
    assert order(plan, {"m0": Load(0, 0.1), "m1": Load(1)}) == ["m0", "m1"]


def test_the_least_busy_comes_first_and_on_a_tie_the_first_of_the_file() -> None:
    plan = plan_of("least_busy", 1, 1, 1)
    loads = {"m0": Load(3), "m1": Load(1), "m2": Load(1)}
    assert order(plan, loads) == ["m1", "m2", "m0"]


def test_all_routes_are_those_of_the_fallbacks_too() -> None:
    last = RoutePlan("last", (Route("q", "z"),))
    middle = RoutePlan("middle", (Route("q", "y"),), fallbacks=(Fallback(last),))
    plan = RoutePlan("first", (Route("p", "x"),), fallbacks=(Fallback(middle),))
    assert [route.route_id for route in plan.all_routes()] == ["p/x", "q/y", "q/z"]


@pytest.mark.parametrize(
    ("model", "route_id"),
    [
        ("meta-llama/Llama 3:70b", "p/meta-llama/Llama 3:70b"),
        ("x\r\nset-cookie: a", "p/x%0D%0Aset-cookie: a"),
        ("通义", "p/%E9%80%9A%E4%B9%89"),
        ("x" * 999, "p/" + "x" * 254),
    ],
)
def test_the_id_of_a_route_can_stand_in_a_header(model: str, route_id: str) -> None:
    assert Route("p", model).route_id == route_id
