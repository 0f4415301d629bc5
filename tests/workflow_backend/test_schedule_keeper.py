"""Schedules on the journal: each time once, overlaps, what passed, clocks that are set."""

import asyncio
from pathlib import Path

import pytest

from tests.workflow_backend.journals import OWNER, Gated, follow
from tests.workflow_backend.schedules import HOUR, MINUTE, NINE, Kept, SetClock, kept, scheduled
from workflow_backend.engines.base import EngineBusyError, RunFilter
from workflow_backend.schedules.base import (
    FiringRefusedError,
    ScheduleNotFoundError,
    TooManySchedulesError,
)


def run_id(minute: int, mark: str, name: str = "s") -> str:
    return f"{name}-20261127T09{minute:02d}Z-{mark}"


async def mark_of(at: Kept) -> str:
    return (await at.keeper.get(OWNER, "s")).mark


async def runs(at: Kept) -> list[str]:
    """The runs of the owner, the first first."""
    return [run.run_id for run in reversed((await at.engine.list(RunFilter(OWNER))).runs)]


async def test_a_time_begins_one_run_with_the_workflow_and_inputs_as_registered(
    tmp_path: Path,
) -> None:
    async with kept(tmp_path) as at:
        flow = scheduled("*/5 * * * *")
        registered, is_new = await at.seen(at.keeper.put(OWNER, "s", flow, {"x": 1}))
        assert is_new
        assert registered.next_at == NINE + 5 * MINUTE
        assert registered.upcoming == tuple(int(NINE) + 300 * n for n in range(1, 6))
        await at.pass_time(4 * MINUTE)
        assert at.begun == []
        await at.pass_time(MINUTE)
        (firing,) = await at.states("started")
        assert firing.run_id == run_id(5, registered.mark)
        run = await at.engine.get(firing.run_id, OWNER)
        assert (run.scheduled_by, run.inputs) == ("s", {"x": 1})
        assert await at.engine.workflow(firing.run_id, OWNER) == flow
        shown = await at.keeper.get(OWNER, "s")
        assert shown.next_at == NINE + 10 * MINUTE


async def test_schedules_are_their_owners_alone(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        await at.add()
        await at.add(owner="bob")
        assert [found.owner for found in await at.keeper.list("bob")] == ["bob"]
        assert await at.keeper.list("carol") == []
        for call in (
            at.keeper.get("carol", "s"),
            at.keeper.pause("carol", "s", is_paused=True),
            at.keeper.trigger("carol", "s"),
            at.keeper.delete("carol", "s"),
        ):
            with pytest.raises(ScheduleNotFoundError):
                await call
        await at.pass_time(MINUTE)
        for owner in (OWNER, "bob"):
            await at.firings(
                lambda found: [each.state for each in found] == ["started"], owner=owner
            )
        # Both have a schedule of one name and time, and each its own run.
        assert len(set(at.begun)) == 2


async def test_an_owner_has_a_bounded_number_of_schedules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_backend.schedules.store.MAX_SCHEDULES", 2)
    async with kept(tmp_path) as at:
        await at.add("one")
        await at.add("two")
        await at.add("two")
        with pytest.raises(TooManySchedulesError):
            await at.add("three")
        await at.add("three", owner="bob")


async def test_a_schedule_that_is_registered_again_keeps_its_name_and_past(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        await at.add()
        await at.pass_time(MINUTE)
        await at.states("started")
        changed, is_new = await at.keeper.put(OWNER, "s", scheduled("0 * * * *"), {})
        assert not is_new
        assert changed.next_at == NINE + HOUR
        assert len((await at.keeper.get(OWNER, "s")).firings) == 1


async def test_a_paused_schedule_leaves_its_times_out(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        await at.add(catch_up="1h")
        paused = await at.seen(at.keeper.pause(OWNER, "s", is_paused=True))
        assert paused.next_at is None
        await at.pass_time(10 * MINUTE)
        resumed = await at.seen(at.keeper.pause(OWNER, "s", is_paused=False))
        assert resumed.next_at == NINE + 11 * MINUTE
        assert at.begun == []
        await at.pass_time(MINUTE)
        await at.states("started")
        assert (await at.keeper.get(OWNER, "s")).missed == 0


async def test_a_deleted_schedule_fires_no_more_and_its_run_goes_on(tmp_path: Path) -> None:
    async with kept(tmp_path, Gated("a")) as at:
        await at.add(overlap="queue")
        await at.pass_time(MINUTE)
        await at.states("started")
        await at.pass_time(MINUTE)
        await at.states("started", "waiting")
        await at.keeper.delete(OWNER, "s")
        at.executor.gates["a"].set()
        assert (await follow(at.engine, at.begun[0]))[-1]["status"] == "success"  # type: ignore[arg-type]
        await at.pass_time(10 * MINUTE)
        assert len(at.begun) == 1


async def test_skip_leaves_out_what_comes_while_a_run_is_under_way(tmp_path: Path) -> None:
    async with kept(tmp_path, Gated("a")) as at:
        await at.add(overlap="skip")
        await at.pass_time(MINUTE)
        (first,) = await at.states("started")
        await at.pass_time(MINUTE)
        _, second = await at.states("started", "skipped")
        assert second.note == f"run {first.run_id} was under way"
        at.executor.gates["a"].set()
        await follow(at.engine, first.run_id)  # type: ignore[arg-type]
        await at.pass_time(MINUTE)
        await at.states("started", "skipped", "started")


async def test_queue_lets_one_wait_and_no_more(tmp_path: Path) -> None:
    async with kept(tmp_path, Gated("a")) as at:
        await at.add(overlap="queue")
        await at.pass_time(MINUTE)
        (first,) = await at.states("started")
        await at.pass_time(MINUTE)
        await at.states("started", "waiting")
        await at.pass_time(MINUTE)
        *_, third = await at.states("started", "waiting", "skipped")
        assert third.note == "another one waits already"
        assert len(at.begun) == 1
        at.executor.gates["a"].set()
        await follow(at.engine, first.run_id)  # type: ignore[arg-type]
        _, second, _ = await at.states("started", "started", "skipped")
        assert at.begun == [first.run_id, second.run_id]


async def test_cancel_running_ends_the_run_before_and_the_newest_takes_its_place(
    tmp_path: Path,
) -> None:
    async with kept(tmp_path, Gated("a")) as at:
        await at.add(overlap="cancel_running")
        await at.pass_time(MINUTE)
        (first,) = await at.states("started")
        await at.executor.has_started("a")
        await at.pass_time(MINUTE)
        await at.states("started", "started")
        cancelled = await at.engine.get(first.run_id, OWNER)
        assert cancelled.status == "cancelled"
        assert "a later run of the schedule s takes its place" in str(
            (await follow(at.engine, first.run_id))[-1]["error"]  # type: ignore[arg-type]
        )


async def test_allow_runs_all_beside_one_another(tmp_path: Path) -> None:
    async with kept(tmp_path, Gated("a")) as at:
        await at.add(overlap="allow")
        for count in (1, 2, 3):
            await at.pass_time(MINUTE)
            await at.states(*["started"] * count)
        statuses = [(await at.engine.get(run, OWNER)).status for run in at.begun]
        assert set(statuses) <= {"queued", "running"}


async def test_a_run_that_goes_on_for_long_is_never_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_backend.schedules.store.KEPT_FIRINGS", 3)
    async with kept(tmp_path, Gated("a")) as at:
        await at.add(overlap="skip")
        for _ in range(10):
            await at.pass_time(MINUTE)
            await at.firings(lambda found: all(each.state != "due" for each in found))
        assert len(at.begun) == 1
        found = [each.state for each in (await at.keeper.get(OWNER, "s")).firings]
        assert found == ["skipped"] * 3 + ["started"]


async def test_what_passed_while_no_server_ran_is_left_out(tmp_path: Path) -> None:
    clock = SetClock()
    async with kept(tmp_path, clock=clock) as at:
        await at.add("s", cron="*/10 * * * *")
    clock.set(NINE + 35 * MINUTE)
    async with kept(tmp_path, clock=clock) as at:
        found = await at.keeper.get(OWNER, "s")
        assert (found.missed, found.next_at, found.firings) == (3, NINE + 40 * MINUTE, ())
        assert at.begun == []


async def test_what_passed_a_moment_ago_is_not_lost(tmp_path: Path) -> None:
    clock = SetClock()
    async with kept(tmp_path, clock=clock) as at:
        await at.add("s", cron="*/10 * * * *")
    clock.set(NINE + 10 * MINUTE + 50)
    async with kept(tmp_path, clock=clock) as at:
        await at.states("started")


async def test_catch_up_makes_up_for_what_passed_within_it(tmp_path: Path) -> None:
    clock = SetClock()
    async with kept(tmp_path, clock=clock) as at:
        await at.add("s", cron="*/10 * * * *", catch_up="25m", overlap="allow")
    clock.set(NINE + 55 * MINUTE)
    async with kept(tmp_path, clock=clock) as at:
        found = await at.states("started", "started", "started")
        assert [(each.at - NINE) / MINUTE for each in found] == [30, 40, 50]
        assert (await at.keeper.get(OWNER, "s")).missed == 2


async def test_no_more_than_a_hundred_times_are_made_up(tmp_path: Path) -> None:
    clock = SetClock()
    async with kept(tmp_path, clock=clock) as at:
        await at.add("s", catch_up="24h", overlap="queue")
    clock.set(NINE + 20 * HOUR)
    async with kept(tmp_path, clock=clock) as at:
        await at.firings(lambda found: all(each.state != "due" for each in found))
        pending = await at.keeper._store.started(1)
        found = await at.keeper.get(OWNER, "s")
        assert found.missed == 20 * 60 - 100
        assert len(pending) <= 2
        assert len(at.begun) <= 2


async def test_a_clock_that_is_set_forward_is_as_if_nothing_had_run(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        await at.add("without", cron="*/10 * * * *")
        await at.add("with", cron="*/10 * * * *", catch_up="15m")
        await at.set(NINE + 55 * MINUTE)
        (made_up,) = await at.states("started", name="with")
        assert made_up.at == NINE + 50 * MINUTE
        found = await at.keeper.get(OWNER, "without")
        assert (found.missed, found.firings) == (5, ())
        assert found.next_at == NINE + 60 * MINUTE


async def test_a_clock_that_is_set_back_fires_no_time_twice_and_goes_on(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        await at.add("s", cron="*/10 * * * *")
        await at.pass_time(10 * MINUTE)
        await at.states("started")
        await follow(at.engine, at.begun[0])  # type: ignore[arg-type]
        await at.pass_time(10 * MINUTE)
        await at.states("started", "started")
        await follow(at.engine, at.begun[1])  # type: ignore[arg-type]
        await at.set(NINE + 5 * MINUTE)
        assert (await at.keeper.get(OWNER, "s")).next_at == NINE + 10 * MINUTE
        await at.pass_time(5 * MINUTE)
        await at.pass_time(10 * MINUTE)
        assert len(at.begun) == 2
        await at.pass_time(10 * MINUTE)
        await at.states("started", "started", "started")
        assert len(set(at.begun)) == 3


async def test_a_clock_that_was_years_ahead_holds_nothing_up(tmp_path: Path) -> None:
    clock = SetClock(NINE + 5 * 365 * 24 * HOUR)
    async with kept(tmp_path, clock=clock) as at:
        await at.add("s", cron="*/10 * * * *")
    clock.set(NINE)
    async with kept(tmp_path, clock=clock) as at:
        assert (await at.keeper.get(OWNER, "s")).next_at == NINE + 10 * MINUTE
        await at.pass_time(10 * MINUTE)
        await at.states("started")


async def test_a_refused_firing_is_shown_and_the_next_is_tried(tmp_path: Path) -> None:
    async with kept(tmp_path) as at:
        await at.add()
        at.refusals["test"] = FiringRefusedError("the policy forbids it")
        await at.pass_time(MINUTE)
        (refused,) = await at.states("refused")
        found = await at.keeper.get(OWNER, "s")
        assert refused.note == found.last_error == "the policy forbids it"
        assert found.last_error_at == NINE + MINUTE
        at.refusals.clear()
        await at.pass_time(MINUTE)
        await at.states("refused", "started")
        assert (await at.keeper.get(OWNER, "s")).last_error is None


async def test_a_start_that_fails_for_now_is_tried_again_and_begins_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(tmp_path) as at:
        begin, failures = (
            at.engine.start,
            [
                FiringRefusedError("away", is_temporary=True),
                EngineBusyError("full"),
                OSError("odd"),
            ],
        )

        async def fail_first(*args: object, **kwargs: object) -> object:
            if failures:
                raise failures.pop(0)
            return await begin(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(at.engine, "start", fail_first)
        await at.add("s", cron="0 10 * * *")
        await at.pass_time(HOUR)
        for _ in range(3):
            # The timer, and who tries again.
            await at.clock.asleep(2)
            at.clock.pass_time(30)
        await at.states("started")
        assert len(set(at.begun)) == 1
        assert len(await runs(at)) == 1


async def test_a_trigger_fires_now_also_while_paused(tmp_path: Path) -> None:
    async with kept(tmp_path, Gated("a")) as at:
        await at.add("s", cron="0 0 1 1 *")
        await at.keeper.pause(OWNER, "s", is_paused=True)
        fired = await at.keeper.trigger(OWNER, "s")
        assert (fired.state, fired.is_manual) == ("started", True)
        assert (await at.engine.get(fired.run_id, OWNER)).scheduled_by == "s"
        again = await at.keeper.trigger(OWNER, "s")
        assert (again.state, again.note) == ("skipped", f"run {fired.run_id} was under way")


@pytest.mark.parametrize("state", ["recorded", "begun"])
async def test_a_firing_that_a_crash_interrupted_begins_one_run(tmp_path: Path, state: str) -> None:
    """The crash comes after the time was recorded, or after its run began."""
    clock = SetClock()
    reached: asyncio.Event = asyncio.Event()
    async with kept(tmp_path, Gated("a"), clock) as at:
        await at.add(cron="*/10 * * * *")
        begin = at.engine.start

        async def hang(*args: object, **kwargs: object) -> object:
            if state == "begun":
                await begin(*args, **kwargs)  # type: ignore[arg-type]
            reached.set()
            return await asyncio.Event().wait()

        at.engine.start = hang  # type: ignore[assignment,method-assign]
        await at.pass_time(10 * MINUTE)
        await reached.wait()
        at.engine.start = begin  # type: ignore[method-assign]
    clock.set(NINE + 6 * HOUR + 5 * MINUTE)
    async with kept(tmp_path, Gated("a"), clock) as at:
        (firing,) = await at.states("started")
        assert await runs(at) == [firing.run_id]
        assert len(at.begun) == (1 if state == "recorded" else 0)
        # The times after it passed while nothing ran.
        assert (await at.keeper.get(OWNER, "s")).missed == 35


async def test_a_firing_that_waits_outlives_a_restart(tmp_path: Path) -> None:
    clock = SetClock()
    async with kept(tmp_path, Gated("a"), clock) as at:
        await at.add("s", cron="*/10 * * * *", overlap="queue")
        await at.pass_time(10 * MINUTE)
        await at.states("started")
        await at.pass_time(10 * MINUTE)
        await at.states("started", "waiting")
    executor = Gated("a")
    async with kept(tmp_path, executor, clock) as at:
        await executor.has_started("a")
        assert at.begun == []
        executor.gates["a"].set()
        await at.states("started", "started")


async def test_times_that_cannot_be_computed_hold_up_no_other_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(tmp_path) as at:
        await at.add("bad", timezone="Europe/Berlin")
        await at.add("s")

        def gone(name: str) -> object:
            raise KeyError(name)

        monkeypatch.setattr("workflow_backend.schedules.times.ZoneInfo", gone)
        await at.pass_time(MINUTE)
        await at.states("started")
        bad = await at.keeper.get(OWNER, "bad")
        assert "cannot be computed any more" in str(bad.last_error)
        assert len(await at.keeper.list(OWNER)) == 2
