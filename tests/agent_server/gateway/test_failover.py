import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent_server.gateway.breakers import BreakerPolicy, RouteBook
from agent_server.gateway.budgets import Budgets
from agent_server.gateway.failover import Failover, Trail
from agent_server.gateway.routes import Fallback, Route, RoutePlan
from providers.retry import RetryPolicy
from streaming.errors import (
    AgentServerError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    UnsupportedFieldError,
    UpstreamConnectionError,
    UpstreamCredentialsError,
    UpstreamOverloadedError,
    UpstreamProtocolError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)

A, B, C = Route("a", "m"), Route("b", "m"), Route("c", "m")
ONCE = RetryPolicy(limit=0)
TWICE = RetryPolicy(limit=1, base_seconds=0.5)
SILENT = Budgets(first_token_seconds=0.02)


@dataclass
class Answer:
    """What a route gave, and whether it was closed."""

    route: Route
    is_closed: bool = False

    async def aclose(self) -> None:
        self.is_closed = True


Step = AgentServerError | Callable[[], Awaitable[None]] | None


@dataclass
class Script:
    """What each route does, one step per attempt, the last again and again; None is an answer."""

    steps: dict[str, list[Step]]
    asked: list[str] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    async def __call__(self, route: Route, deadline: float) -> Answer:
        number = self.asked.count(route.provider)
        self.asked.append(route.provider)
        self.deadlines.append(deadline)
        steps = self.steps.get(route.provider, [None])
        step = steps[min(number, len(steps) - 1)]
        if isinstance(step, AgentServerError):
            raise step
        if step is not None:
            try:
                await step()
            except asyncio.CancelledError:
                self.cancelled.append(route.provider)
                raise
        self.answers.append(Answer(route))
        return self.answers[-1]


@dataclass
class Waits:
    """A sleep that only notes how long it should have been; it is the clock of the routes too."""

    seconds: list[float] = field(default_factory=list)
    now: float = 100.0

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.now += seconds


@dataclass
class Hangs:
    """A step without an end, and an event for the moment in which it was reached."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


class Case:
    """One failover with its script, its waits and its book."""

    def __init__(self, policy: BreakerPolicy | None = None, **steps: list[Step]) -> None:
        self.script = Script(steps)
        self.waits = Waits()
        self.book = RouteBook(policy, now=lambda: self.waits.now)
        self.failover = Failover(self.book, sleep=self.waits, draw=lambda: 0.5)
        self.trail = Trail()

    async def first(self, plan: RoutePlan) -> Answer:
        self.trail = Trail()
        return await self.failover.first(plan, self.script, self.trail)

    async def error(self, plan: RoutePlan) -> AgentServerError:
        with pytest.raises(AgentServerError) as caught:
            await self.first(plan)
        return caught.value


def plan_of(*routes: Route, **values: object) -> RoutePlan:
    return replace(RoutePlan("named", routes, retry=ONCE, is_named=True), **values)  # type: ignore[arg-type]


def limited(seconds: float | None = None) -> UpstreamRateLimitError:
    return UpstreamRateLimitError("limited", provider="a", status=429, retry_after_seconds=seconds)


REFUSED = UpstreamConnectionError("refused", provider="a")
CUT = UpstreamConnectionError("cut", provider="a")
BUSY = UpstreamOverloadedError("busy", provider="a", status=503)
TOO_LONG = ContextLengthError("too long")
FILTERED = InvalidRequestError("filtered", code="content_filter")


async def test_the_first_answer_takes_one_attempt() -> None:
    case = Case()
    answer = await case.first(plan_of(A, B))
    assert (answer.route, case.script.asked, case.trail.attempts) == (A, ["a"], 1)
    assert case.trail.provider == "a"
    assert case.trail.first_content_seconds is not None
    assert not case.trail.failures


async def test_first_answers_cost_no_task_and_one_timer_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at

    def counted(when: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(call_at(when, *rest, **more))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", counted)

    async def looks() -> None:
        assert len(asyncio.all_tasks()) == 1

    case = Case(a=[looks, looks, looks])
    for _ in range(3):
        await case.first(plan_of(A, B))
    (timer,) = timers
    timer.cancel()


GOES_ON = [
    REFUSED,
    UpstreamConnectionError("bad certificate", is_retryable=False),
    UpstreamTimeoutError("silent", param="first_byte_seconds"),
    UpstreamTimeoutError("408", status=408),
    limited(),
    UpstreamRateLimitError("no credit", code="insufficient_quota", is_retryable=False),
    BUSY,
    UpstreamRejectedError("500", status=500, is_retryable=True),
    UpstreamRejectedError("404", status=404),
    UpstreamProtocolError("html"),
    UpstreamCredentialsError("401", status=401),
    UnsupportedFieldError("no logprobs here"),
    NotFoundError("no such model", code="model_not_found"),
]


@pytest.mark.parametrize("error", GOES_ON, ids=str)
async def test_a_failed_route_is_followed_by_the_next(error: AgentServerError) -> None:
    case = Case(a=[error])
    answer = await case.first(plan_of(A, B))
    assert (answer.route, case.script.asked) == (B, ["a", "b"])
    assert (case.trail.attempts, case.trail.fallbacks, case.trail.route) == (2, 1, B)
    assert [failure.route_id for failure in case.trail.failures] == ["a/m"]


@pytest.mark.parametrize("error", [InvalidRequestError("bad"), TOO_LONG, FILTERED], ids=str)
async def test_the_callers_own_error_is_given_to_the_caller(error: AgentServerError) -> None:
    case = Case(a=[error])
    assert await case.error(plan_of(A, B, retry=TWICE)) is error
    assert case.script.asked == ["a"]


async def test_a_model_that_the_caller_named_and_is_not_there_is_the_callers_error() -> None:
    missing = NotFoundError("no such model", code="model_not_found")
    case = Case(a=[missing])
    assert await case.error(plan_of(A, is_named=False)) is missing


@pytest.mark.parametrize("error", [REFUSED, limited(), BUSY, GOES_ON[7], GOES_ON[3]], ids=str)
async def test_what_passes_is_asked_again_on_the_same_route_first(error: AgentServerError) -> None:
    case = Case(a=[error, None])
    answer = await case.first(plan_of(A, B, retry=TWICE))
    assert (answer.route, case.script.asked) == (A, ["a", "a"])
    assert (case.trail.retries, case.trail.fallbacks) == (1, 0)
    assert case.waits.seconds == [0.25]


@pytest.mark.parametrize("error", [GOES_ON[1], GOES_ON[2], GOES_ON[5], *GOES_ON[8:11]], ids=str)
async def test_what_does_not_pass_is_not_asked_again(error: AgentServerError) -> None:
    case = Case(a=[error])
    await case.first(plan_of(A, B, retry=TWICE))
    assert case.script.asked == ["a", "b"]


async def test_repeats_back_off_and_end() -> None:
    case = Case(a=[BUSY])
    await case.first(plan_of(A, B, retry=RetryPolicy(limit=3, base_seconds=1.0)))
    assert case.script.asked == ["a", "a", "a", "a", "b"]
    assert case.waits.seconds == [0.5, 1.0, 2.0]


async def test_a_short_retry_after_is_waited_for_exactly() -> None:
    case = Case(a=[limited(1.5), None])
    answer = await case.first(plan_of(A, B, retry=TWICE))
    assert (answer.route, case.waits.seconds) == (A, [1.5])


async def test_a_long_retry_after_goes_to_the_next_route() -> None:
    case = Case(a=[limited(9.0)])
    answer = await case.first(plan_of(A, B, retry=TWICE))
    assert (answer.route, case.waits.seconds) == (B, [])
    # And the route rests for that long, also for others.
    assert case.book.of(A).wait_seconds() == 9.0
    await case.first(plan_of(A, B, retry=TWICE))
    assert case.script.asked == ["a", "b", "b"]


async def test_a_long_retry_after_is_waited_for_where_there_is_no_other_route() -> None:
    case = Case(a=[limited(9.0), None])
    assert (await case.first(plan_of(A, retry=TWICE))).route is A
    assert case.waits.seconds == [9.0]


async def test_the_last_route_that_is_left_counts_as_no_other() -> None:
    case = Case(BreakerPolicy(failures=2), a=[limited(9.0), None], b=[REFUSED, None])
    health = case.book.of(B)
    for _ in range(2):
        health.fail(health.admit(None), 0.1)
    assert (await case.first(plan_of(A, B, retry=RetryPolicy(limit=1)))).route is A
    assert case.waits.seconds == [9.0]


async def test_a_retry_after_over_the_cap_or_the_budget_is_told_and_not_waited_for() -> None:
    case = Case(a=[limited(9.0)])
    short = replace(Budgets(), total_seconds=5.0)
    for plan in (plan_of(A, retry=RetryPolicy(2, max_retry_after_seconds=8)), plan_of(A)):
        case = Case(a=[limited(9.0)])
        assert (await case.error(plan)).retry_after_seconds == 9.0
    case = Case(a=[limited(9.0)])
    await case.error(plan_of(A, retry=TWICE, budgets=short))
    assert case.waits.seconds == []


async def test_a_caller_waits_for_a_single_route_that_rests_as_for_its_own_429() -> None:
    case = Case(a=[limited(4.0), None])
    await case.error(plan_of(A))
    assert (await case.first(plan_of(A, retry=TWICE))).route is A
    assert case.waits.seconds == [4.0 * 1.125]


async def test_a_route_that_gives_no_content_in_time_is_ended_and_not_asked_again() -> None:
    case = Case(a=[Hangs()])
    answer = await case.first(plan_of(replace(A, budgets=SILENT), B, retry=TWICE))
    assert answer.route is B
    assert (case.script.asked, case.script.cancelled) == (["a", "b"], ["a"])
    assert "first_token_seconds" in case.trail.failures[0].message


async def test_the_total_budget_bounds_everything() -> None:
    case = Case(a=[Hangs()])
    total = replace(Budgets(), total_seconds=0.03)
    error = await case.error(plan_of(A, B, C, budgets=total))
    assert isinstance(error, UpstreamTimeoutError)
    assert error.param == "total_seconds"
    assert case.script.asked == ["a"]


async def test_an_attempt_is_told_when_all_has_to_be_over() -> None:
    case = Case(a=[BUSY])
    began = asyncio.get_running_loop().time()
    await case.first(plan_of(A, B, budgets=replace(Budgets(), total_seconds=50.0)))
    first, second = case.script.deadlines
    assert first == second == pytest.approx(began + 50.0, abs=5.0)


async def test_a_cancelled_caller_ends_the_attempt_and_gives_its_place_back() -> None:
    case = Case(a=[hangs := Hangs()])
    task = asyncio.create_task(case.first(plan_of(A, B)))
    await hangs.reached.wait()
    assert case.book.of(A).in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert case.script.cancelled == ["a"]
    assert (case.book.of(A).in_flight, case.book.of(A).state) == (0, "closed")


async def test_a_cancel_from_outside_wins_over_an_expired_attempt() -> None:
    async def cancelled_twice() -> None:
        try:
            await Hangs()()
        finally:
            task.cancel()

    case = Case(a=[cancelled_twice])
    task = asyncio.create_task(case.first(plan_of(replace(A, budgets=SILENT), B)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert case.script.asked == ["a"]


async def test_too_long_a_request_goes_to_a_larger_window_alone() -> None:
    case = Case(a=[TOO_LONG])
    small, same, large = (
        replace(route, context_window=size) for route, size in ((A, 8000), (B, 8000), (C, 32_000))
    )
    assert (await case.first(plan_of(small, same, large, retry=TWICE))).route is large
    assert case.script.asked == ["a", "c"]


@pytest.mark.parametrize(
    ("error", "cause"), [(TOO_LONG, "context_length"), (FILTERED, "content_filter")], ids=str
)
async def test_a_fallback_is_asked_for_the_causes_that_it_lists(
    error: AgentServerError, cause: str
) -> None:
    plain, listed = RoutePlan("plain", (B,)), RoutePlan("listed", (C,))
    plan = plan_of(A, fallbacks=(Fallback(plain), Fallback(listed, frozenset({cause}))))
    case = Case(a=[error])
    assert (await case.first(plan)).route is C
    case = Case(a=[BUSY], b=[BUSY])
    await case.error(plan)
    assert case.script.asked == ["a", "b"]


async def test_after_too_long_a_request_an_error_does_not_open_the_other_routes() -> None:
    larger = replace(B, context_window=9)
    case = Case(a=[TOO_LONG], b=[BUSY])
    error = await case.error(plan_of(replace(A, context_window=5), larger, C))
    assert case.script.asked == ["a", "b"]
    assert isinstance(error, ContextLengthError)


async def test_fallbacks_of_fallbacks_are_asked_and_no_route_twice() -> None:
    last = RoutePlan("last", (B, A, C))
    plan = plan_of(A, fallbacks=(Fallback(RoutePlan("next", (A, B), fallbacks=(Fallback(last),))),))
    case = Case(a=[BUSY], b=[BUSY])
    assert (await case.first(plan)).route is C
    assert case.script.asked == ["a", "b", "c"]


async def test_the_error_of_all_names_the_first_cause_and_what_was_tried() -> None:
    denied = UpstreamCredentialsError("a refused the server's key (401)", provider="a", status=401)
    case = Case(a=[denied], b=[BUSY], c=[InvalidRequestError("prefill is not supported")])
    error = await case.error(plan_of(A, B, C))
    # The status is that of what a repeat may mend, and never a fallback's 400.
    assert isinstance(error, UpstreamOverloadedError)
    assert error.message.startswith(
        "'named' was not answered in 3 attempts. First cause: a refused"
    )
    assert "b/m: busy" in error.message
    assert "c/m: prefill is not supported" in error.message
    assert denied.message == "a refused the server's key (401)"


async def test_one_failure_alone_is_given_as_it_is() -> None:
    case = Case(a=[BUSY])
    assert await case.error(plan_of(A)) is BUSY


async def test_where_all_are_limited_the_shortest_wait_is_told() -> None:
    case = Case(a=[limited(40.0)], b=[limited(31.0)], c=[limited(99.0)])
    error = await case.error(plan_of(A, B, C))
    assert isinstance(error, UpstreamRateLimitError)
    assert error.retry_after_seconds == 31.0
    # So are those who come later, without asking anybody.
    later = await case.error(plan_of(A, B, C))
    assert isinstance(later, UpstreamRateLimitError)
    assert later.retry_after_seconds == 31.0
    assert case.script.asked == ["a", "b", "c"]


async def test_a_broken_single_route_is_a_503_that_says_until_when() -> None:
    case = Case(BreakerPolicy(failures=2, probe_seconds=10), a=[BUSY, BUSY, None])
    for _ in range(2):
        await case.error(plan_of(A, retry=TWICE))
    assert case.script.asked == ["a", "a"]
    error = await case.error(plan_of(A))
    assert isinstance(error, UpstreamOverloadedError)
    assert (error.retry_after_seconds, "a/m (again in 10 s)" in error.message) == (10, True)
    assert len(case.script.asked) == 2
    case.waits.now += 10
    assert (await case.first(plan_of(A))).route is A
    assert case.book.of(A).state == "closed"


async def test_a_dead_primary_costs_one_probe_per_interval_and_is_used_when_back() -> None:
    case = Case(BreakerPolicy(failures=3, probe_seconds=10), a=[BUSY] * 9 + [None])
    plan = plan_of(A, B)
    for _ in range(60):
        with case.trail:
            await case.first(plan)
            case.trail.close()
        case.waits.now += 1
    assert case.script.asked.count("a") == 3 + 5
    case.waits.now += 10
    await case.first(plan)
    case.waits.now += 10
    assert (await case.first(plan)).route is A


async def test_a_full_route_is_passed_over_and_full_routes_are_a_503() -> None:
    full = replace(A, max_in_flight=1)
    case = Case()
    await case.first(plan_of(full, B))
    kept = case.trail
    assert (await case.first(plan_of(full, B))).route is B
    error = await case.error(plan_of(full))
    assert isinstance(error, UpstreamOverloadedError)
    kept.close()
    kept.close()
    assert (await case.first(plan_of(full))).route is full
    case.trail.close()
    assert case.book.of(A).in_flight == 0


async def test_an_answer_that_breaks_off_after_its_content_counts_against_the_route() -> None:
    case = Case(BreakerPolicy(failures=9, min_attempts=4))
    for _ in range(4):
        await case.first(plan_of(A))
        case.trail.close(CUT)
    assert case.book.of(A).state == "open"


def hedged(*routes: Route, **values: object) -> RoutePlan:
    return plan_of(*routes, hedge_after_seconds=0.01, **values)


async def test_hedging_asks_nobody_else_where_the_first_is_quick() -> None:
    case = Case()
    assert (await case.first(hedged(A, B))).route is A
    assert case.script.asked == ["a"]


async def test_of_two_hedged_attempts_the_loser_is_ended() -> None:
    case = Case(a=[Hangs()])
    assert (await case.first(hedged(A, B))).route is B
    assert (case.script.cancelled, case.trail.attempts, case.trail.route) == (["a"], 2, B)
    assert (case.book.of(A).in_flight, case.book.of(B).in_flight) == (0, 1)


async def test_a_loser_that_has_answered_as_well_is_closed() -> None:
    both = asyncio.Event()

    async def slow() -> None:
        await both.wait()

    async def sets() -> None:
        both.set()

    case = Case(a=[slow], b=[sets])
    answer = await case.first(hedged(A, B))
    others = [other for other in case.script.answers if other is not answer]
    assert all(other.is_closed for other in others)
    assert not answer.is_closed
    case.trail.close()
    assert case.book.of(A).in_flight == case.book.of(B).in_flight == 0


async def test_a_hedged_attempt_that_fails_leaves_the_other_running() -> None:
    failed = asyncio.Event()

    async def waits() -> None:
        await failed.wait()

    async def fails() -> None:
        failed.set()
        raise BUSY

    case = Case(a=[waits], b=[fails])
    assert (await case.first(hedged(A, B))).route is A


async def test_hedged_attempts_that_all_fail_are_followed_by_the_next_route() -> None:
    async def fails() -> None:
        await asyncio.sleep(0.02)
        raise BUSY

    case = Case(a=[fails], b=[fails])
    assert (await case.first(hedged(A, B, C, retry=TWICE))).route is C
    assert case.script.asked == ["a", "b", "c"]


async def test_a_single_hedged_route_is_asked_again_as_ever() -> None:
    case = Case(a=[BUSY, None])
    assert (await case.first(hedged(A, retry=TWICE))).route is A
    assert case.trail.retries == 1


async def test_a_cancelled_caller_ends_both_hedged_attempts() -> None:
    case = Case(a=[Hangs()], b=[hangs := Hangs()])
    task = asyncio.create_task(case.first(hedged(A, B)))
    await hangs.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(case.script.cancelled) == ["a", "b"]
    assert case.book.of(A).in_flight == case.book.of(B).in_flight == 0


class Body:
    """What a request holds in memory."""


async def test_a_failed_call_keeps_nothing_of_its_request_alive() -> None:
    failover = Failover(sleep=Waits())

    async def call() -> weakref.ref[Body]:
        body = Body()

        async def attempt(route: Route, deadline: float) -> Answer:
            assert body
            raise UpstreamOverloadedError("busy", status=503)

        try:
            await failover.first(plan_of(A, B, retry=TWICE), attempt, Trail())
        except UpstreamOverloadedError:
            return weakref.ref(body)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        assert (await call())() is None
    finally:
        gc.enable()
