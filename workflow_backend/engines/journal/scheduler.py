"""Which runs are interpreted now, and which wait for one of them to end or to rest.

Guarantees: every run that was submitted gets its turn, in order, and of a group one at a time; a
run that only waits, for a person or a time, keeps no other from its turn; a run that was cancelled
while it waited ends at once; a run whose interpretation fails for a reason of ours ends as failed,
with the runs inside it, and one that cannot be recorded is left as it is in the journal.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import orjson

from workflow_backend.engines.base import (
    MAX_DEPTH,
    ChildResult,
    ChildSpec,
    Executor,
    RunOptions,
)
from workflow_backend.engines.end_states import decode_states
from workflow_backend.engines.journal import changes
from workflow_backend.engines.journal.definitions import Definitions
from workflow_backend.engines.journal.feed import LiveFeeds
from workflow_backend.engines.journal.groups import Groups
from workflow_backend.engines.journal.rows import (
    RunRow,
    decode_result,
    encode_workflow,
    new_row,
    now,
)
from workflow_backend.engines.journal.runtime import KEPT, JournalRuntime
from workflow_backend.engines.journal.store import JournalStore
from workflow_backend.engines.journal.writer import JournalBrokenError
from workflow_backend.interpreter import SUPPORTED_VERSIONS, interpret
from workflow_backend.step_state import StepState, states_from_json, states_to_json

_PARENT_ENDED = "the run that it belongs to has ended"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Active:
    """A run that is being interpreted."""

    row: RunRow
    runtime: JournalRuntime
    task: asyncio.Task[None]


@dataclass(slots=True)
class _Level:
    """The runs with so many agents above them.

    An agent step waits for the run that it has started, so that has room of its own: else steps
    that hold all the room would wait for ever.
    """

    attempts: asyncio.Semaphore
    waiting: OrderedDict[int, RunRow] = field(default_factory=OrderedDict)
    outer_count: int = 0


class RunScheduler:
    """Interprets the submitted runs, so many at a time; runs inside others are not counted."""

    def __init__(
        self,
        store: JournalStore,
        executor: Executor,
        definitions: Definitions,
        feeds: LiveFeeds,
        *,
        max_runs: int,
        max_attempts: int,
        on_finished: Callable[[], None],
    ) -> None:
        self._store = store
        self._executor = executor
        self._definitions = definitions
        self._feeds = feeds
        self._max_runs = max_runs
        levels = range(MAX_DEPTH + 1)
        self._levels = [_Level(asyncio.Semaphore(max_attempts)) for _ in levels]
        self._on_finished = on_finished
        self._groups = Groups()
        self._active: dict[int, _Active] = {}
        self._is_closing = False

    @property
    def waiting_count(self) -> int:
        """How many runs wait."""
        return sum(len(level.waiting) for level in self._levels) + self._groups.waiting_count

    def resume(self, rows: list[RunRow]) -> None:
        """Go on with the runs that an earlier engine left; those under way keep their groups.

        A run inside another waits until that asks for it.
        """
        open_ids = {row.run_id for row in rows}
        for row in sorted(rows, key=lambda row: (row.started_at is None, row.id)):
            if row.parent is None:
                self.submit(row)
                continue
            self._open_feed(row)
            if row.parent not in open_ids:
                self._start(replace(row, cancel_reason=_PARENT_ENDED))

    def submit(self, row: RunRow) -> None:
        """Interpret the run when its turn comes; its events can be followed from now on."""
        self._open_feed(row)
        if row.started_at is not None:
            self._groups.hold(row)
        if row.cancel_reason is not None or row.finished_at is not None:
            self._start(row)
            return
        before = self._groups.before(row) if row.group_policy == "cancel_running" else []
        if self._groups.enter(row):
            self._levels[row.depth].waiting[row.id] = row
            self._start_waiting()
        for other in before:
            self._let_go(other, f"run {row.run_id} of the group `{row.run_group}` took its place")

    def cancel(self, run: int, reason: str) -> asyncio.Task[bool] | None:
        """Cancel the run; a task that ends when the run has, None if it is not here."""
        popped = (level.waiting.pop(run, None) for level in self._levels)
        row = next(filter(None, popped), None)
        if row is None:
            row = self._groups.take_out(run)
        if row is not None:
            self._start(replace(row, cancel_reason=reason))
        active = self._active.get(run)
        if active is None:
            return None
        active.runtime.request_cancel(reason)
        return asyncio.create_task(active.runtime.ended.wait())

    def deliver(self, run: int, signal: str, value: bytes) -> None:
        """Hand a recorded signal to the run, if it is being interpreted."""
        active = self._active.get(run)
        if active is not None:
            active.runtime.deliver(signal, value)

    async def close(self) -> None:
        """Stop interpreting: steps that run are ended, and their runs stay unfinished."""
        self._is_closing = True
        for level in self._levels:
            level.waiting.clear()
        self._groups.clear()
        tasks = [active.task for active in self._active.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open_feed(self, row: RunRow) -> None:
        if row.finished_at is None:
            self._feeds.open(row.id, row.last_seq)

    def _let_go(self, run: int, reason: str) -> None:
        """Cancel a run for another one's sake; the first reason is the one that is kept."""
        self._store.put_now(changes.request_cancel(run, reason))
        self.cancel(run, reason)

    def _start_waiting(self) -> None:
        for level in self._levels:
            while level.waiting and level.outer_count < self._max_runs and not self._is_closing:
                _, row = level.waiting.popitem(last=False)
                self._start(row)

    def _start(self, row: RunRow) -> _Active:
        runtime = JournalRuntime(
            row,
            self._store,
            self._executor,
            self._levels[row.depth].attempts,
            self._run_child,
            lambda: self._is_closing,
            lambda is_resting: self._rests(row, is_resting=is_resting),
        )
        task = asyncio.create_task(self._run(row, runtime), name=f"run {row.run_id}")
        active = self._active[row.id] = _Active(row, runtime, task)
        self._levels[row.depth].outer_count += row.parent is None
        task.add_done_callback(lambda _: self._ended(row))
        return active

    def _ended(self, row: RunRow) -> None:
        active = self._active.pop(row.id)
        active.runtime.ended.set()
        self._gave_up(row, active.runtime)
        following = self._groups.leave(row)
        if self._is_closing:
            return
        if following is not None:
            self._levels[following.depth].waiting[following.id] = following
        for other in list(self._active.values()):
            if other.row.parent == row.run_id:
                other.runtime.request_cancel(_PARENT_ENDED)
        self._on_finished()
        self._start_waiting()

    def _gave_up(self, row: RunRow, runtime: JournalRuntime) -> None:
        """The run ends: it gives up its place, unless it rests and has none."""
        runtime.rest.close()
        if not runtime.rest.is_resting:
            self._levels[row.depth].outer_count -= row.parent is None
        elif (outer := self._outer(row)) is not None:
            outer.runtime.rest.change_work(1)

    def _rests(self, row: RunRow, *, is_resting: bool) -> None:
        """A run that only waits gives its place to another; when it goes on, it does so at once."""
        by = -1 if is_resting else 1
        if row.parent is None:
            self._levels[row.depth].outer_count += by
        elif (outer := self._outer(row)) is not None:
            outer.runtime.rest.change_work(by)
        if is_resting:
            self._start_waiting()

    def _outer(self, row: RunRow) -> _Active | None:
        """The run that made this one, while it is interpreted."""
        active = self._active.values()
        return next((other for other in active if other.row.run_id == row.parent), None)

    async def _run(self, row: RunRow, runtime: JournalRuntime) -> None:
        """Interpret one run to its end, whatever happens."""
        try:
            await self._interpret(row, runtime)
        except JournalBrokenError as error:
            _logger.error("run %s stopped where it was: %s", row.run_id, error)  # noqa: TRY400
            self._feeds.close(row.id, error)
        except Exception as error:
            _logger.exception("run %s failed inside the engine", row.run_id)
            await self._fail(row, runtime, error)

    async def _interpret(self, row: RunRow, runtime: JournalRuntime) -> None:
        kept = await runtime.load()
        if row.interpreter not in SUPPORTED_VERSIONS:
            await runtime.fail(
                f"the run began with version {row.interpreter} of the interpreter, which this"
                f" program (versions {min(SUPPORTED_VERSIONS)} to {max(SUPPORTED_VERSIONS)}) cannot"
                " continue; start it again"
            )
        else:
            workflow = await self._definitions.get(row.definition)
            runtime.goes_on_after_end = bool(workflow.notify)
            watching = asyncio.create_task(runtime.replay.watch())
            try:
                await interpret(
                    workflow,
                    orjson.loads(row.inputs),
                    runtime,
                    run_id=row.run_id,
                    owner=row.owner,
                    depth=row.depth,
                    trace=orjson.loads(row.trace),
                    kept=kept,
                )
            finally:
                watching.cancel()
        if runtime.goes_on_after_end:
            await (await self._store.put(changes.close(row.id, now())))

    async def _fail(self, row: RunRow, runtime: JournalRuntime, error: Exception) -> None:
        try:
            await runtime.fail(f"the engine failed: {type(error).__name__}; see the server's log")
            await (await self._store.put(changes.close(row.id, now())))
        except JournalBrokenError as broken:
            self._feeds.close(row.id, broken)

    async def _run_child(
        self, parent: RunRow, spec: ChildSpec, may_begin: asyncio.Event | None
    ) -> ChildResult:
        """A run inside another, from its beginning or from where it is, to its end.

        It goes on once it `may_begin`. A caller that is cancelled cancels the run; its end comes
        all the same.
        """
        finding = asyncio.create_task(self._child_row(parent, spec))
        try:
            row = await asyncio.shield(finding)
            if may_begin is not None:
                await may_begin.wait()
            if row is not None and row.closed_at is None:
                await asyncio.shield(self._child_task(row))
        except asyncio.CancelledError as reason:
            if self._is_closing:
                raise
            row = await finding
            if row is not None and row.closed_at is None:
                task = self._child_task(row)
                self._let_go(row.id, str(reason) or "the run that it belongs to was cancelled")
                await asyncio.wait([task])
        if row is None:
            return ChildResult("failed", f"the run id {spec.run_id} is taken by another run")
        # It has ended: who is cancelled now is told so all the same.
        reading = asyncio.create_task(self._child_result(row.id))
        while not reading.done():
            try:
                await asyncio.shield(reading)
            except asyncio.CancelledError:
                if self._is_closing:
                    raise
        return reading.result()

    async def _child_result(self, run: int) -> ChildResult:
        row = await self._store.by_id(run)
        ended = row.to_run()
        return ChildResult(ended.status, ended.error, ended.outputs, await self.states(row))

    async def states(self, row: RunRow) -> Mapping[str, StepState]:
        """What the steps of an ended run came to, whole."""
        body = await self._store.states(row.id)
        records = await self._store.records(row.id)
        kept = states_from_json(orjson.loads(await self._store.kept(row.id)))

        def outputs_at(place: str) -> Mapping[str, object]:
            if place.startswith(KEPT):
                return kept[place.removeprefix(KEPT)].outputs
            return decode_result(records[place]).outputs

        async def states_of(run_id: str) -> Mapping[str, StepState]:
            child = await self._store.find(run_id, row.owner)
            return {} if child is None else await self.states(child)

        return await decode_states(body, outputs_at, states_of)

    def _child_task(self, row: RunRow) -> asyncio.Task[None]:
        """The interpretation of a run inside another, begun if it is not under way."""
        self._open_feed(row)
        active = self._active.get(row.id) or self._start(row)
        return active.task

    async def _child_row(self, parent: RunRow, spec: ChildSpec) -> RunRow | None:
        """The run inside the other one, recorded; None if its id is another run's."""
        digest, body = encode_workflow(spec.workflow)
        self._definitions.keep(digest, spec.workflow)
        options = RunOptions(depth=parent.depth, trace=orjson.loads(parent.trace))
        row = new_row(
            spec.run_id,
            parent.owner,
            spec.workflow.name,
            digest,
            spec.inputs,
            options,
            parent.run_id,
        )
        kept = orjson.dumps(states_to_json(spec.kept))
        inserted = await (await self._store.put(changes.insert_run(row, body, kept)))
        found = inserted.row
        is_its_own = found is not None and found.parent == parent.run_id
        return found if is_its_own else None
