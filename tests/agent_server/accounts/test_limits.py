import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_server.accounts.keys import NANO_PER_USD, ApiKey, api_key_from_fields
from agent_server.accounts.limits import Admission, Ask, Limits
from agent_server.accounts.meters import Period, Window, day_of, month_of
from agent_server.accounts.rate_headers import HEADER_NAMES, duration_text, rate_headers
from streaming.errors import RateLimitError
from tests.agent_server.accounts.clocks import Clock

MIDNIGHT = 1_795_305_600.0  # 2026-11-22 00:00 UTC


def key(**fields: object) -> ApiKey:
    return api_key_from_fields({"name": "alice", "sha256": "a" * 64, **fields})


async def admitted(limits: Limits, holder: ApiKey, ask: Ask, calls: int) -> list[Admission]:
    """Those of some calls at the same time that may be made."""
    found = await asyncio.gather(
        *(limits.admit(holder, ask) for _ in range(calls)), return_exceptions=True
    )
    for one in found:
        if isinstance(one, BaseException):
            assert isinstance(one, RateLimitError)
    return [one for one in found if isinstance(one, Admission)]


async def refusal(limits: Limits, holder: ApiKey, ask: Ask) -> RateLimitError:
    with pytest.raises(RateLimitError) as raised:
        await limits.admit(holder, ask)
    return raised.value


@pytest.mark.parametrize(
    ("fields", "ask", "calls"),
    [
        ({"requests_per_minute": 5}, Ask(), 5),
        ({"tokens_per_minute": 100}, Ask(tokens=30), 3),
        ({"parallel": 4}, Ask(), 4),
        ({"budget_per_day": 1}, Ask(cost=NANO_PER_USD // 2 + 1), 1),
        ({"budget_per_month": 1}, Ask(cost=NANO_PER_USD // 3), 3),
    ],
    ids=["requests", "tokens", "parallel", "day", "month"],
)
async def test_calls_at_the_same_time_never_pass_a_limit_together(
    fields: dict[str, object], ask: Ask, calls: int
) -> None:
    limits = Limits(clock=Clock())
    assert len(await admitted(limits, key(**fields), ask, 50)) == calls


@given(
    st.lists(st.tuples(st.floats(0, 25), st.integers(1, 40)), min_size=1, max_size=80),
    st.integers(40, 120),
)
def test_no_minute_holds_more_than_the_limit(steps: list[tuple[float, int]], limit: int) -> None:
    window = Window()
    now, taken = 1000.5, []
    for pause, amount in steps:
        now += pause
        if window.room(limit, now) >= amount:
            window.take(amount, now)
            taken.append((now, amount))
    for begin, _ in taken:
        assert sum(amount for at, amount in taken if begin <= at < begin + 60) <= limit


async def test_what_a_call_did_not_use_is_given_back() -> None:
    holder = key(tokens_per_minute=100, budget_per_day=1)
    limits = Limits(clock=Clock())
    first = await limits.admit(holder, Ask(tokens=100, cost=NANO_PER_USD))
    assert (await refusal(limits, holder, Ask(tokens=1))).param == "tokens_per_minute"
    first.settle(tokens=40, cost=NANO_PER_USD // 4)
    assert len(await admitted(limits, holder, Ask(20, NANO_PER_USD // 4), 9)) == 3


async def test_what_a_call_used_beyond_its_reservation_counts_too() -> None:
    clock, holder = Clock(), key(tokens_per_minute=100)
    limits = Limits(clock=clock)
    first = await limits.admit(holder, Ask(tokens=10))
    clock.now += 30
    first.settle(tokens=110)
    error = await refusal(limits, holder, Ask(tokens=1))
    assert error.retry_after_seconds == 61
    clock.now += 31
    assert (await refusal(limits, holder, Ask(tokens=1))).retry_after_seconds == 30
    clock.now += 30
    assert len(await admitted(limits, holder, Ask(tokens=100), 2)) == 1


async def test_an_assumed_answer_takes_the_room_that_is_left_and_refuses_nobody() -> None:
    holder = key(tokens_per_minute=100, budget_per_day="0.0000001")
    limits = Limits(clock=Clock())
    first = await limits.admit(holder, Ask(10, 10, soft_tokens=4096, soft_cost=10**9))
    (account,) = limits._accounts.values()
    assert [meter.room(limit, 1000.0) for _, limit, meter in account.rows] == [0, 0]
    assert (await refusal(limits, holder, Ask(10, 1))).param == "tokens_per_minute"
    first.settle(tokens=12, cost=20)
    assert first.headers() == []
    assert len(await admitted(limits, holder, Ask(44, 40), 5)) == 2


OUTCOMES = ("complete", "error", "timeout", "abort")


async def call(admission: Admission, outcome: str) -> None:
    """A call that ends as its outcome says, or is cancelled."""
    with admission:
        await asyncio.sleep(0)
        if outcome == "error":
            raise ConnectionError
        if outcome == "timeout":
            await asyncio.wait_for(asyncio.Event().wait(), 0.0001)
        if outcome == "abort":
            await asyncio.Event().wait()
        for _ in range(3):
            admission.settle(tokens=30, cost=500)


async def test_a_slot_comes_back_in_every_outcome_and_only_once() -> None:
    chance = random.Random(18)  # noqa: S311
    holder = key(parallel=5, requests_per_minute=10**6, tokens_per_minute=10**9, budget_per_day=9)
    limits = Limits()
    calls = 0
    while calls < 1000:
        may = await admitted(limits, holder, Ask(tokens=50, cost=1000), 10)
        assert len(may) == limits.running(holder) == 5
        tasks = [asyncio.create_task(call(one, chance.choice(OUTCOMES))) for one in may]
        await asyncio.wait(tasks, timeout=0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        calls += len(may)
        assert limits.running(holder) == 0


async def test_a_key_without_limits_is_never_refused() -> None:
    limits = Limits()
    assert len(await admitted(limits, key(), Ask(tokens=10**9, cost=10**15), 100)) == 100
    assert (await limits.admit(key(), Ask())).headers() == []


async def test_a_refusal_says_when_to_come_again_and_what_is_left() -> None:
    clock, holder = Clock(1000.25), key(requests_per_minute=2, tokens_per_minute=1000)
    limits = Limits(clock=clock)
    await limits.admit(holder, Ask(tokens=300))
    clock.now += 20
    await limits.admit(holder, Ask(tokens=300))
    error = await refusal(limits, holder, Ask(tokens=300))
    assert (error.code, error.param, error.is_retryable) == (
        *("rate_limit_exceeded", "requests_per_minute"),
        True,
    )
    assert error.retry_after_seconds == 1061 - 1020.25
    assert error.limits == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m1s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "400",
        "x-ratelimit-reset-tokens": "1m1s",
    }
    clock.now += error.retry_after_seconds
    assert len(await admitted(limits, holder, Ask(), 9)) == 1


async def test_a_call_that_never_fits_is_not_to_be_repeated() -> None:
    error = await refusal(Limits(), key(tokens_per_minute=100), Ask(tokens=101))
    assert not error.is_retryable
    assert error.retry_after_seconds == 60
    assert "max_tokens" in error.message


async def test_a_spent_budget_names_itself_and_when_it_is_whole_again() -> None:
    wall, holder = Clock(MIDNIGHT + 3600), key(budget_per_day="0.5", budget_per_month=2)
    limits = Limits(wall=wall)
    (await limits.admit(holder, Ask(cost=1))).settle(cost=NANO_PER_USD // 2)
    error = await refusal(limits, holder, Ask(cost=1))
    assert (error.code, error.param, error.is_retryable) == (
        *("insufficient_quota", "budget_per_day"),
        False,
    )
    assert error.retry_after_seconds == 23 * 3600
    assert "0 USD left of its budget of 0.5 USD a day" in error.message
    wall.now = MIDNIGHT + 86_400
    (await limits.admit(holder, Ask(cost=1))).settle(cost=0)


async def test_a_call_that_ends_on_another_day_counts_where_it_began() -> None:
    wall, holder = Clock(MIDNIGHT - 1), key(budget_per_day=1)
    limits = Limits(wall=wall)
    late = await limits.admit(holder, Ask(cost=NANO_PER_USD))
    wall.now = MIDNIGHT
    today = await admitted(limits, holder, Ask(cost=NANO_PER_USD), 3)
    assert len(today) == 1
    late.settle(cost=0)
    assert await admitted(limits, holder, Ask(cost=1), 1) == []
    today[0].settle(cost=0)
    assert len(await admitted(limits, holder, Ask(cost=NANO_PER_USD), 3)) == 1


async def test_what_was_spent_is_read_once_and_a_store_that_is_down_stops_nobody() -> None:
    clock = Clock()
    reads: list[tuple[str, str, str]] = []
    answers: list[tuple[int, int] | None] = [None, (NANO_PER_USD, 3 * NANO_PER_USD)]

    async def load(key_id: str, day: Period, month: Period) -> tuple[int, int] | None:
        reads.append((key_id, day.name, month.name))
        await asyncio.sleep(0)
        return answers[len(reads) - 1]

    limits = Limits(load_spend=load, clock=clock, wall=Clock(MIDNIGHT))
    holder = key(budget_per_month=4)
    assert len(await admitted(limits, holder, Ask(cost=NANO_PER_USD // 2), 9)) == 8
    for one in limits._accounts.values():
        one.meters["month"].settle(one.meters["month"].period, 4 * NANO_PER_USD, 0, 0)  # type: ignore[attr-defined]
    clock.now += 31
    assert len(await admitted(limits, holder, Ask(cost=NANO_PER_USD), 9)) == 1
    assert reads == [("alice", "2026-11-22", "2026-11")] * 2


async def test_limits_follow_the_key_as_it_is_now() -> None:
    limits = Limits(clock=Clock())
    assert len(await admitted(limits, key(requests_per_minute=2), Ask(), 9)) == 2
    assert len(await admitted(limits, key(requests_per_minute=5), Ask(), 9)) == 3


async def test_the_limits_of_idle_keys_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_server.accounts.limits.MAX_ACCOUNTS", 3)
    clock = Clock()
    limits = Limits(clock=clock)
    for number in range(10):
        holder = api_key_from_fields(
            {"name": f"k{number}", "sha256": "a" * 64, "requests_per_minute": 1}
        )
        (await limits.admit(holder, Ask())).settle()
        clock.now += 200
    assert len(limits._accounts) <= 4


@pytest.mark.parametrize(
    ("now", "day", "month"),
    [
        (MIDNIGHT, ("2026-11-22", 0, 86_400), ("2026-11", -21 * 86_400, 9 * 86_400)),
        (MIDNIGHT + 39.5 * 86_400, ("2026-12-31", 39 * 86_400, 40 * 86_400), None),
        (MIDNIGHT + 40 * 86_400, ("2027-01-01", 40 * 86_400, 41 * 86_400), None),
    ],
)
def test_days_and_months_are_those_of_utc(
    now: float, day: tuple[str, float, float], month: tuple[str, float, float] | None
) -> None:
    name, begin, end = day
    assert day_of(now) == Period(name, MIDNIGHT + begin, MIDNIGHT + end)
    if month:
        assert month_of(now) == Period(month[0], MIDNIGHT + month[1], MIDNIGHT + month[2])
    assert month_of(now).holds(now)
    assert not month_of(now).holds(month_of(now).ends_at)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-1, "0s"), (0.0171, "18ms"), (1, "1s"), (59.2, "1m0s"), (360, "6m0s")],
)
def test_a_duration_is_written_as_openai_writes_it(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_headers_never_show_less_than_nothing() -> None:
    headers = dict(rate_headers(HEADER_NAMES["tokens"], 5, -3, 1.0))
    assert headers[b"x-ratelimit-remaining-tokens"] == b"0"
