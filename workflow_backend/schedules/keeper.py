"""Keeps schedules on an engine that has none of its own: a timer, and a file.

Guarantees, whatever ends this process when: a time that was recorded begins one run, and not two;
a time that passes while nothing runs is made up if it is no older than `catch_up` says. The clock
is looked at every half minute at least: when it was set forward, the times in between have passed
as if nothing had run; when it was set back, no time that fired fires again.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import orjson
from typing_extensions import override

from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import (
    Engine,
    EngineBusyError,
    EngineUnavailableError,
    RunNotFoundError,
    RunOptions,
)
from workflow_backend.schedules.base import (
    Firing,
    FiringRefusedError,
    FiringState,
    Registered,
    Schedules,
    StartRun,
)
from workflow_backend.schedules.clock import Clock, SystemClock
from workflow_backend.schedules.overlap import decide
from workflow_backend.schedules.rows import Row
from workflow_backend.schedules.store import ScheduleStore

CHECK_SECONDS = 30.0
RETRY_SECONDS = 10.0
TRIGGER_SECONDS = 20.0
# What a clock may go back for a moment without having been set.
BACK_SECONDS = 1.0

_UNFINISHED = frozenset({"queued", "running"})
_logger = logging.getLogger(__name__)


class ScheduleKeeper(Schedules):
    """The schedules of one data folder: `open`, use, `close` before the engine is closed."""

    def __init__(
        self, data_dir: Path, engine: Engine, start: StartRun, clock: Clock | None = None
    ) -> None:
        self._store = ScheduleStore(data_dir)
        self._engine = engine
        self._start = start
        self._clock = clock or SystemClock()
        self._latest = 0.0
        self._timer: asyncio.Task[None] | None = None
        self._workers: dict[int, asyncio.Task[None]] = {}
        # Set when something of the schedule is new; of all of them when the timer is to look.
        self._changed: dict[int, asyncio.Event] = {}
        self._woken = asyncio.Event()
        self._settled = asyncio.Condition()

    @override
    async def open(self) -> None:
        """Open the file and begin to fire.

        Raises:
            ScheduleFileError: The file cannot be used.
        """
        await self._store.open()
        await self._store.look_again(self._clock.now())
        self._timer = asyncio.create_task(self._keep_time())

    @override
    async def close(self) -> None:
        tasks = [*self._workers.values(), *([self._timer] if self._timer else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.close()

    @override
    async def put(
        self, owner: str, name: str, workflow: Workflow, inputs: Mapping[str, object]
    ) -> tuple[Registered, bool]:
        body = orjson.dumps(workflow.model_dump(mode="json", by_alias=True))
        values = orjson.dumps(dict(inputs))
        now = self._clock.now()
        row, is_new = await self._store.put(owner, name, body, values, now)
        self._woken.set()
        return row.registered(now), is_new

    @override
    async def list(self, owner: str) -> Sequence[Registered]:
        now = self._clock.now()
        return [row.registered(now) for row in await self._store.of_owner(owner)]

    @override
    async def get(self, owner: str, name: str) -> Registered:
        row, firings = await self._store.find(owner, name)
        return row.registered(self._clock.now(), firings)

    @override
    async def pause(self, owner: str, name: str, *, is_paused: bool) -> Registered:
        now = self._clock.now()
        row = await self._store.pause(owner, name, is_paused, now)
        self._woken.set()
        return row.registered(now)

    @override
    async def trigger(self, owner: str, name: str) -> Firing:
        """Fire now; the answer is `due` if the run could not begin within a bounded time."""
        row, firing = await self._store.add_manual(owner, name, self._clock.now())
        self._work(row.id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TRIGGER_SECONDS), self._settled:
                while True:
                    firing = await self._store.firing(row.id, firing.run_id) or firing
                    if firing.state != "due":
                        break
                    await self._settled.wait()
        return firing

    @override
    async def delete(self, owner: str, name: str) -> None:
        number = await self._store.delete(owner, name)
        self._note(number)

    async def _keep_time(self) -> None:
        """The timer: record what is due, have it done, sleep until the next time."""
        while True:
            self._woken.clear()
            try:
                seconds = await self._tick()
            except sqlite3.Error:
                _logger.exception("the file of schedules cannot be written; it is tried again")
                seconds = RETRY_SECONDS
            sleeping = [
                asyncio.create_task(self._clock.sleep(seconds)),
                asyncio.create_task(self._woken.wait()),
            ]
            try:
                await asyncio.wait(sleeping, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in sleeping:
                    task.cancel()

    async def _tick(self) -> float:
        now = self._clock.now()
        if now < self._latest - BACK_SECONDS:
            _logger.warning("the clock was set back by %.0f s", self._latest - now)
            await self._store.look_again(now)
        self._latest = now
        await self._store.record_due(now)
        for number in await self._store.pending_schedules():
            self._work(number)
        next_at = await self._store.earliest()
        return CHECK_SECONDS if next_at is None else min(CHECK_SECONDS, max(0.0, next_at - now))

    def _work(self, number: int) -> None:
        """Let what has not begun of a schedule be looked at."""
        self._note(number)
        if number not in self._workers:
            task = asyncio.create_task(self._work_off(number))
            self._workers[number] = task
            task.add_done_callback(lambda _: self._forget_worker(number))

    def _note(self, number: int) -> None:
        if number in self._changed:
            self._changed[number].set()

    def _forget_worker(self, number: int) -> None:
        self._workers.pop(number, None)
        # What came while the last look was taken.
        if self._changed.pop(number, asyncio.Event()).is_set():
            self._woken.set()

    async def _work_off(self, number: int) -> None:
        """Begin, skip or hold back what has not begun of a schedule, until nothing is left."""
        changed = self._changed.setdefault(number, asyncio.Event())
        while True:
            changed.clear()
            try:
                is_done = await self._look(number, changed)
            except (EngineUnavailableError, EngineBusyError, FiringRefusedError) as error:
                _logger.warning("a scheduled run cannot begin now: %s", error)
                await self._clock.sleep(RETRY_SECONDS)
            except Exception:
                # Whatever it was: the other times of the schedule must go on.
                _logger.exception("a scheduled run cannot begin; it is tried again")
                await self._clock.sleep(CHECK_SECONDS)
            else:
                if is_done:
                    return

    async def _look(self, number: int, changed: asyncio.Event) -> bool:
        """One look at a schedule; whether nothing is left to do."""
        found = await self._store.pending(number)
        if found is None or not found[1]:
            return True
        row, pending = found
        active = await self._active_run(row)
        overlap = row.workflow.schedule.overlap if row.workflow.schedule else "skip"
        decision = decide(overlap, pending, active)
        for firing, reason in decision.skip:
            await self._settle(row, firing, "skipped", reason)
        if decision.start is not None:
            await self._begin(row, decision.start)
        elif decision.wait is not None and active is not None:
            if decision.wait.state == "due":
                await self._settle(row, decision.wait, "waiting", f"for the end of run {active}")
            if decision.cancels:
                reason = f"a later run of the schedule {row.name} takes its place"
                await self._engine.cancel(active, row.owner, reason)
            await self._wait_for_end(row, active, changed)
        return False

    async def _active_run(self, row: Row) -> str | None:
        """The newest run of the schedule that has not ended."""
        active = None
        for firing in await self._store.started(row.id):
            try:
                run = await self._engine.get(firing.run_id, row.owner)
                is_over = run.status not in _UNFINISHED
            except RunNotFoundError:
                is_over = True
            if is_over:
                await self._store.end(row.id, firing.run_id)
            else:
                active = firing.run_id
        return active

    async def _begin(self, row: Row, firing: Firing) -> None:
        """Begin the run of a firing, unless it was begun before a crash."""
        try:
            await self._engine.get(firing.run_id, row.owner)
        except RunNotFoundError:
            options = RunOptions(scheduled_by=row.name)
            try:
                await self._start(firing.run_id, row.workflow, row.inputs, row.owner, options)
            except FiringRefusedError as error:
                if error.is_temporary:
                    raise
                _logger.warning("schedule %s: refused: %s", row.name, error)
                await self._settle(row, firing, "refused", str(error))
                return
        await self._settle(row, firing, "started")

    async def _wait_for_end(self, row: Row, run_id: str, changed: asyncio.Event) -> None:
        """Wait until the run has ended, or something of the schedule is new."""
        waiting = [
            asyncio.create_task(self._end_of(run_id, row.owner)),
            asyncio.create_task(changed.wait()),
        ]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        for task in done:
            task.result()

    async def _end_of(self, run_id: str, owner: str) -> None:
        run = await self._engine.get(run_id, owner)
        async with aclosing(self._engine.events(run_id, owner, run.last_seq)) as events:
            async for _ in events:
                continue

    async def _settle(self, row: Row, firing: Firing, state: FiringState, note: str = "") -> None:
        await self._store.settle(row.id, firing.run_id, state, self._clock.now(), note)
        async with self._settled:
            self._settled.notify_all()
