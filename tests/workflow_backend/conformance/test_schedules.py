"""Schedules on both engines: registered, fired, held apart, refused."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from temporalio.client import ScheduleBackfill, ScheduleOverlapPolicy

from tests.workflow_backend.conformance.places import SECONDS, Place
from tests.workflow_backend.journals import Gated, step, workflow
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import Engine, Run, RunOptions
from workflow_backend.engines.temporal.engine import TemporalEngine
from workflow_backend.engines.temporal.schedules import schedule_id
from workflow_backend.schedules.base import (
    Firing,
    FiringRefusedError,
    KeepsSchedules,
    Registered,
    ScheduleNotFoundError,
    Schedules,
    ScheduleUnfitError,
    run_id_of,
)
from workflow_backend.schedules.keeper import ScheduleKeeper
from workflow_backend.schedules.times import Times

T = TypeVar("T")

YEARLY = "0 0 1 1 *"


@dataclass
class Kept:
    """Schedules that are open, and what they work with."""

    place: Place
    engine: Engine
    schedules: Schedules
    executor: Gated
    refusal: list[FiringRefusedError] = field(default_factory=list)

    async def put(self, name: str = "s", cron: str = YEARLY, **schedule: Any) -> Registered:
        flow = workflow(step("a"), schedule={"cron": cron, **schedule})
        return (await self.schedules.put(self.place.owner, name, flow, {"x": 1}))[0]

    async def trigger(self, name: str = "s") -> Firing:
        return await self.schedules.trigger(self.place.owner, name)

    async def get(self, name: str = "s") -> Registered:
        return await self.schedules.get(self.place.owner, name)

    async def status(self, run_id: str) -> str:
        return (await self.engine.get(run_id, self.place.owner)).status

    async def end_of(self, run_id: str) -> Run:
        async with asyncio.timeout(SECONDS):
            async for _ in self.engine.events(run_id, self.place.owner):
                continue
        return await self.engine.get(run_id, self.place.owner)

    async def until(self, is_so: Callable[[Registered], bool]) -> Registered:
        """The schedule, once it is so."""
        return await once(self.get, is_so)


async def once(
    ask: Callable[[], Awaitable[T]], is_so: Callable[[T], bool], seconds: float = 0.05
) -> T:
    """An answer that is so; asked again and again, since a cluster tells nobody of its changes."""
    async with asyncio.timeout(SECONDS):
        while True:
            answer = await ask()
            if is_so(answer):
                return answer
            await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def kept(place: Place, *gated: str) -> AsyncIterator[Kept]:
    """The schedules of an engine."""
    executor = Gated(*gated)
    refusal: list[FiringRefusedError] = []

    async def prepare(
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions,
    ) -> tuple[Mapping[str, object], RunOptions]:
        if refusal:
            raise refusal[0]
        return inputs, options

    async with place.engine(executor) as engine:

        async def start(
            run_id: str,
            workflow: Workflow,
            inputs: Mapping[str, object],
            owner: str,
            options: RunOptions,
        ) -> Run:
            await prepare(run_id, workflow, inputs, owner, options)
            return await engine.start(run_id, workflow, inputs, owner, options)

        own = engine.schedules(prepare) if isinstance(engine, KeepsSchedules) else None
        schedules = own or ScheduleKeeper(place.data_dir, engine, start)
        await schedules.open()
        try:
            yield Kept(place, engine, schedules, executor, refusal)
        finally:
            await schedules.close()


async def test_a_schedule_is_registered_changed_paused_and_deleted(place: Place) -> None:
    async with kept(place) as at:
        made = await at.put(timezone="Europe/Berlin", overlap="queue", catch_up="1h")
        first = made.upcoming[0]
        midnight = datetime.fromtimestamp(first, UTC)
        assert (midnight.day, midnight.hour, made.next_at) == (31, 23, first)
        assert len(made.upcoming) == 5
        assert (made.missed, made.last_error, made.firings) == (0, None, ())
        changed, is_new = await at.schedules.put(
            place.owner, "s", workflow(step("b"), schedule={"cron": "30 0 1 1 *"}), {}
        )
        assert (is_new, changed.mark, changed.inputs) == (False, made.mark, {})
        assert [each.name for each in changed.workflow.steps] == ["b"]
        assert datetime.fromtimestamp(changed.upcoming[0], UTC).minute == 30
        await at.put("another")
        listed = await once(lambda: at.schedules.list(place.owner), lambda found: len(found) == 2)
        assert [each.name for each in listed] == ["another", "s"]
        paused = await at.schedules.pause(place.owner, "s", is_paused=True)
        assert (paused.is_paused, paused.next_at, paused.upcoming) == (True, None, ())
        assert (await at.put()).is_paused
        resumed = await at.schedules.pause(place.owner, "s", is_paused=False)
        assert resumed.next_at
        await at.schedules.delete(place.owner, "s")
        for call in (at.get(), at.trigger(), at.schedules.delete(place.owner, "s")):
            with pytest.raises(ScheduleNotFoundError):
                await call


async def test_schedules_are_their_owners_alone(place: Place) -> None:
    async with kept(place) as at:
        await at.put()
        other = f"other-{place.owner}"
        assert list(await at.schedules.list(other)) == []
        for call in (
            at.schedules.get(other, "s"),
            at.schedules.pause(other, "s", is_paused=True),
            at.schedules.trigger(other, "s"),
            at.schedules.delete(other, "s"),
        ):
            with pytest.raises(ScheduleNotFoundError):
                await call


async def test_a_trigger_begins_a_run_with_the_inputs_as_registered(place: Place) -> None:
    async with kept(place) as at:
        await at.put()
        fired = await at.trigger()
        assert (fired.state, fired.is_manual) == ("started", True)
        run = await at.end_of(fired.run_id)
        assert (run.status, run.scheduled_by, run.inputs) == ("success", "s", {"x": 1})
        assert [each.run_id for each in (await at.get()).firings] == [fired.run_id]


async def test_skip_leaves_out_what_comes_while_a_run_is_under_way(place: Place) -> None:
    async with kept(place, "a") as at:
        await at.put(overlap="skip")
        first = await at.trigger()
        assert (await at.trigger()).state == "skipped"
        at.executor.gates["a"].set()
        await at.end_of(first.run_id)
        # The cluster learns of the end a moment after us, and no second of the clock has two.
        await once(
            at.trigger,
            lambda fired: fired.state == "started" and fired.run_id != first.run_id,
            0.2,
        )


async def test_queue_lets_one_wait(place: Place) -> None:
    async with kept(place, "a") as at:
        await at.put(overlap="queue")
        first = await at.trigger()
        assert (await at.trigger()).state == "waiting"
        await at.executor.has_started("a")
        assert len(at.executor.attempts) == 1
        at.executor.gates["a"].set()
        await at.end_of(first.run_id)
        found = await at.until(
            lambda found: [each.state for each in found.firings] == ["started"] * 2
        )
        assert (await at.end_of(found.firings[0].run_id)).status == "success"


async def test_cancel_running_ends_the_run_before(place: Place) -> None:
    async with kept(place, "a") as at:
        await at.put(overlap="cancel_running")
        first = await at.trigger()
        await at.executor.has_started("a")
        await asyncio.sleep(1.0 if place.kind == "temporal" else 0.0)
        second = await at.trigger()
        assert second.state in {"started", "waiting"}
        ended = await at.end_of(first.run_id)
        assert (ended.status, "takes its place" in str(ended.error)) == ("cancelled", True)
        found = await at.until(lambda found: len(found.firings) == 2)
        assert found.firings[0].run_id != first.run_id


async def test_allow_runs_all_beside_one_another(place: Place) -> None:
    async with kept(place, "a") as at:
        await at.put(overlap="allow")
        first = await at.trigger()
        await asyncio.sleep(1.0 if place.kind == "temporal" else 0.0)
        second = await at.trigger()
        assert (first.state, second.state) == ("started", "started")
        assert {await at.status(each.run_id) for each in (first, second)} <= {"queued", "running"}
        at.executor.gates["a"].set()
        for each in (first, second):
            assert (await at.end_of(each.run_id)).status == "success"


async def test_a_refused_firing_is_shown(place: Place) -> None:
    async with kept(place) as at:
        await at.put()
        at.refusal.append(FiringRefusedError("the policy forbids it"))
        fired = await at.trigger()
        assert (fired.state, fired.note) == ("refused", "the policy forbids it")
        found = await at.get()
        assert found.last_error == "the policy forbids it"
        assert found.last_error_at == fired.at
        at.refusal.clear()
        await once(at.trigger, lambda fired: fired.state == "started", 0.2)
        assert (await at.get()).last_error is None


async def test_a_start_that_fails_for_now_is_tried_again(temporal: Place) -> None:
    async with kept(temporal) as at:
        await at.put()
        at.refusal.append(FiringRefusedError("the engine is busy", is_temporary=True))
        firing = asyncio.create_task(at.trigger())
        await asyncio.sleep(1)
        at.refusal.clear()
        assert (await firing).state == "started"


async def test_each_time_that_passed_begins_one_run(temporal: Place) -> None:
    """Temporal's own clock cannot be set, but times that passed can be asked for again."""
    async with kept(temporal) as at:
        made = await at.put(cron="*/10 * * * *", overlap="allow")
        assert isinstance(at.engine, TemporalEngine)
        client = await at.engine._open_link().client()
        handle = client.get_schedule_handle(schedule_id(temporal.owner, "s"))
        last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        span = ScheduleBackfill(
            last - timedelta(minutes=20), last, overlap=ScheduleOverlapPolicy.ALLOW_ALL
        )
        await handle.backfill(span)
        found = await at.until(
            lambda found: [each.state for each in found.firings] == ["started"] * 3
        )
        times = [int(last.timestamp()) - 600 * number for number in range(3)]
        runs = [run_id_of("s", made.mark, time) for time in times]
        assert sorted(each.run_id for each in found.firings) == sorted(runs)
        for run_id in runs:
            assert (await at.end_of(run_id)).scheduled_by == "s"
        # The same times again are the same runs.
        await handle.backfill(span)
        await at.until(lambda found: len(found.firings) >= 6)
        assert sorted(at.executor.attempts) == ["a#1"] * 3


async def test_what_is_due_waits_for_a_server(temporal: Place) -> None:
    async with kept(temporal) as at:
        await at.put(overlap="allow")
        assert isinstance(at.engine, TemporalEngine)
        client = await at.engine._open_link().client()
    await client.get_schedule_handle(schedule_id(temporal.owner, "s")).trigger()
    async with kept(temporal) as at:
        found = await at.until(lambda found: [each.state for each in found.firings] == ["started"])
        assert (await at.end_of(found.firings[0].run_id)).status == "success"


async def test_a_large_workflow_is_kept_within_the_schedule(temporal: Place) -> None:
    async with kept(temporal) as at:
        noise = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(60_000))
        flow = workflow(step("a", run=f": {noise}"), schedule={"cron": YEARLY})
        await at.schedules.put(temporal.owner, "s", flow, {})
        assert (await at.get()).workflow == flow
        fired = await at.trigger()
        assert (await at.end_of(fired.run_id)).status == "success"
        assert (await at.engine.workflow(fired.run_id, temporal.owner)) == flow


@pytest.mark.parametrize("cron", ["0 0 L * *", "0 0 * * mon#1", "0 0 * * 5L", "0 0 LW * *"])
async def test_what_temporal_has_no_counterpart_for_is_refused(temporal: Place, cron: str) -> None:
    async with kept(temporal) as at:
        with pytest.raises(ScheduleUnfitError, match="which Temporal cannot"):
            await at.put(cron=cron)


@pytest.mark.parametrize(
    "cron", ["0 12 13 * 5", "0 12 */2 * 1-5", "*/7 1-3,22 1,15 2-4 *", "5 4 * * 7", "0 0 31 * *"]
)
async def test_the_cluster_fires_at_the_times_of_the_expression(temporal: Place, cron: str) -> None:
    """Both days restricted are joined by "or", as cron has it; Temporal by itself has "and"."""
    async with kept(temporal) as at:
        made = await at.put(cron=cron)
    times = Times(made.schedule).after(made.upcoming[0])
    assert list(made.upcoming)[1:] == list(itertools.islice(times, 4))


def last_sunday(month: int, after: datetime) -> datetime:
    """The next day on which the clocks of Europe change in this month."""
    for year in (after.year, after.year + 1):
        last = datetime(year, month, 31, tzinfo=UTC)
        last -= timedelta(days=(last.weekday() + 1) % 7)
        if last > after + timedelta(days=2):
            return last
    raise AssertionError("there is none")


async def test_the_cluster_leaves_a_skipped_hour_out_and_fires_once_in_a_doubled_one(
    temporal: Place,
) -> None:
    now = datetime.now(UTC)
    skipped, doubled = last_sunday(3, now), last_sunday(10, now)
    async with kept(temporal) as at:
        first = await at.put(cron=f"30 2 {skipped.day} 3 *", timezone="Europe/Berlin")
        second = await at.put(cron=f"30 2 {doubled.day} 10 *", timezone="Europe/Berlin")
    assert datetime.fromtimestamp(first.upcoming[0], UTC).year > skipped.year
    days = [datetime.fromtimestamp(time, UTC).date() for time in second.upcoming]
    assert days[0] == doubled.date()
    assert len(set(days)) == 5
