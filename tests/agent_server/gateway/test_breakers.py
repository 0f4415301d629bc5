import pytest

from agent_server.gateway.breakers import (
    MEASURE_FRESH_SECONDS,
    MOST_UNCONFIGURED,
    Admission,
    BreakerPolicy,
    RouteBook,
    RouteHealth,
)
from agent_server.gateway.routes import Route

POLICY = BreakerPolicy(
    failures=3, min_attempts=10, window_seconds=30, probe_seconds=10, max_rest_seconds=60
)
ROUTE = Route("p", "m")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> RouteHealth:
    return RouteHealth("", POLICY, clock)


def ask(health: RouteHealth, *, fails: bool) -> Admission:
    admission = health.admit(None)
    if admission:
        if fails:
            health.fail(admission, 0.1)
        else:
            health.succeed(admission, 0.1)
        health.release()
    return admission


def broken(health: RouteHealth) -> RouteHealth:
    for _ in range(POLICY.failures):
        ask(health, fails=True)
    return health


def test_it_opens_after_failures_in_a_row_and_not_before(health: RouteHealth) -> None:
    for fails in (True, True, False, True, True):
        ask(health, fails=fails)
    assert health.state == "closed"
    ask(health, fails=True)
    assert health.state == "open"
    assert health.admit(None) is Admission.REFUSED
    assert health.wait_seconds() == POLICY.probe_seconds


def test_it_opens_when_half_of_a_window_has_failed(health: RouteHealth) -> None:
    for number in range(POLICY.min_attempts - 1):
        ask(health, fails=number % 2 == 0)
    assert health.state == "closed"
    ask(health, fails=False)
    ask(health, fails=True)
    assert health.state == "open"


def test_failures_of_an_old_window_are_forgotten(health: RouteHealth, clock: Clock) -> None:
    for number in range(POLICY.min_attempts - 1):
        ask(health, fails=number % 2 == 0)
    clock.now += POLICY.window_seconds
    ask(health, fails=False)
    ask(health, fails=True)
    assert health.state == "closed"


def test_one_probe_at_a_time_and_its_success_closes(health: RouteHealth, clock: Clock) -> None:
    broken(health)
    clock.now += POLICY.probe_seconds
    assert health.state == "half_open"
    probe = health.admit(None)
    assert probe is Admission.PROBE
    assert [health.admit(None) for _ in range(20)] == [Admission.REFUSED] * 20
    health.succeed(probe, 0.1)
    assert health.state == "closed"
    assert health.admit(None) is Admission.NORMAL


def test_an_outage_costs_one_attempt_per_probe_interval(health: RouteHealth, clock: Clock) -> None:
    broken(health)
    asked = 0
    for _ in range(100):
        clock.now += 1.0
        asked += bool(ask(health, fails=True))
    assert asked == 100 / POLICY.probe_seconds
    clock.now += POLICY.probe_seconds
    assert ask(health, fails=False) is Admission.PROBE
    assert health.state == "closed"


def test_a_probe_that_hangs_does_not_hold_the_route_for_ever(
    health: RouteHealth, clock: Clock
) -> None:
    broken(health)
    clock.now += POLICY.probe_seconds
    assert health.admit(None) is Admission.PROBE
    clock.now += POLICY.probe_seconds
    assert health.admit(None) is Admission.PROBE


def test_a_probe_that_was_cancelled_leaves_the_place_to_the_next(
    health: RouteHealth, clock: Clock
) -> None:
    broken(health)
    clock.now += POLICY.probe_seconds
    health.forget(health.admit(None))
    assert health.admit(None) is Admission.PROBE


def test_what_was_asked_before_does_not_put_the_probe_off(
    health: RouteHealth, clock: Clock
) -> None:
    early = health.admit(None)
    broken(health)
    clock.now += POLICY.probe_seconds - 1
    health.fail(early, 9.0)
    assert health.wait_seconds() == 1
    health.succeed(early, 9.0)
    assert health.state == "open"


def test_a_retry_after_rests_the_route_up_to_the_cap(health: RouteHealth, clock: Clock) -> None:
    health.fail(health.admit(None), 0.1, rest_seconds=20, rate_limited=True)
    assert (health.state, health.is_resting, health.wait_seconds()) == ("open", True, 20)
    assert health.admit(None) is Admission.REFUSED
    clock.now += 20
    assert health.admit(None) is Admission.NORMAL
    health.fail(Admission.NORMAL, 0.1, rest_seconds=86_400, rate_limited=True)
    assert health.wait_seconds() == POLICY.max_rest_seconds


def test_a_full_route_is_refused_until_a_place_is_given_back(health: RouteHealth) -> None:
    assert health.admit(2)
    assert health.admit(2)
    assert health.admit(2) is Admission.REFUSED
    health.release()
    assert health.admit(2)


def test_answers_that_break_off_later_open_it_too(health: RouteHealth) -> None:
    for _ in range(POLICY.min_attempts):
        health.succeed(health.admit(None), 0.1)
        health.lose()
        health.release()
    assert health.state == "open"


def test_the_mean_moves_slowly_grows_old_and_failures_count_as_slow(
    health: RouteHealth, clock: Clock
) -> None:
    assert health.first_content_seconds is None
    health.succeed(Admission.NORMAL, 1.0)
    health.succeed(Admission.NORMAL, 2.0)
    assert health.first_content_seconds == pytest.approx(1.2)
    health.fail(Admission.NORMAL, 0.001)
    assert (health.first_content_seconds or 0) > 2
    clock.now += MEASURE_FRESH_SECONDS + 1
    assert health.first_content_seconds is None


def test_a_reload_keeps_what_is_known_of_unchanged_routes(clock: Clock) -> None:
    book = RouteBook(POLICY, now=clock)
    moved, gone = Route("moved", "m", origin="a"), Route("gone", "m")
    book.configure([ROUTE, moved, gone], POLICY)
    for route in (ROUTE, moved, gone):
        broken(book.of(route))
    book.configure([ROUTE, Route("moved", "m", origin="b"), Route("new", "m")], POLICY)
    assert book.states() == {"p/m": "open", "moved/m": "closed", "new/m": "closed"}
    book.configure([ROUTE], BreakerPolicy(failures=9))
    assert book.states() == {"p/m": "closed"}


def test_an_answer_under_way_keeps_its_place_over_a_reload(clock: Clock) -> None:
    book = RouteBook(POLICY, now=clock)
    book.configure([ROUTE], POLICY)
    health = book.of(ROUTE)
    health.admit(1)
    book.configure([ROUTE], POLICY)
    assert book.of(ROUTE).admit(1) is Admission.REFUSED
    health.release()
    assert book.of(ROUTE).admit(1)


def test_names_that_clients_invent_are_bounded_and_in_no_metric() -> None:
    book = RouteBook()
    for number in range(3 * MOST_UNCONFIGURED):
        book.of(Route("openai", f"invented-{number}"))
    assert len(book._others) == MOST_UNCONFIGURED
    assert book.states() == {}
