"""The embedded engine: one process, one SQLite file.

Guarantees: a run that `start` answered survives the process; opening the engine resumes every
unfinished run from its last recorded step, after ending what a killed engine left running; `close`
ends the running steps' processes and leaves their runs resumable; runs and attempts at a time, and
waiting runs, are bounded.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from typing_extensions import override

from workflow_backend.artefacts import ArtefactStore
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import (
    EngineBusyError,
    Executor,
    Page,
    Run,
    RunConflictError,
    RunEndedError,
    RunEvent,
    RunFilter,
    RunOptions,
    Signalled,
)
from workflow_backend.engines.journal import changes
from workflow_backend.engines.journal.changes import Appended, Inserted
from workflow_backend.engines.journal.definitions import Definitions
from workflow_backend.engines.journal.feed import LiveFeeds
from workflow_backend.engines.journal.lock import JournalLock
from workflow_backend.engines.journal.reader import RunReader
from workflow_backend.engines.journal.retention import Retention, RetentionKeeper
from workflow_backend.engines.journal.rows import (
    RunRow,
    decode_result,
    encode_workflow,
    new_row,
)
from workflow_backend.engines.journal.runtime import record_of_signal
from workflow_backend.engines.journal.scheduler import RunScheduler
from workflow_backend.engines.journal.store import JournalStore
from workflow_backend.engines.journal.writer import JournalBrokenError
from workflow_backend.engines.opened import OpenedEngine
from workflow_backend.reaper import birth_of, kill_group, kill_marked
from workflow_backend.run_steps import steps_of
from workflow_backend.step_state import StepState, states_to_json
from workflow_backend.steps.run_folder import run_folder


class EngineClosedError(Exception):
    """The engine is closed or closing; unfinished runs go on when it is opened again."""


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Where the journal is and what it may hold at a time.

    `owner_url`: the server's own URL. `artefacts`: what is forgotten with the runs that kept it.
    """

    data_dir: Path
    owner_url: str = ""
    max_running_runs: int = 64
    max_running_attempts: int = 64
    max_waiting_runs: int = 10_000
    cancel_wait_seconds: float = 10.0
    retention: Retention = field(default_factory=Retention)
    artefacts: ArtefactStore | None = None


_ATTEMPT_KEY = re.compile(r"(@(?P<time>[0-9]+))?#(?P<attempt>[0-9]+)")


class JournalEngine(OpenedEngine):
    """The engine on one data folder: `open` (or `async with`), use, `close`."""

    def __init__(self, settings: JournalSettings, executor: Executor) -> None:
        self._settings = settings
        self._executor = executor
        self._lock = JournalLock(settings.data_dir)
        self._feeds = LiveFeeds()
        self._store = JournalStore(settings.data_dir, self._publish)
        self._definitions = Definitions(self._store)
        self._reader = RunReader(self._store, self._feeds, self._definitions, self.name)
        self._keeper = RetentionKeeper(
            settings.retention, self._store, settings.data_dir, settings.artefacts
        )
        self._scheduler = RunScheduler(
            self._store,
            executor,
            self._definitions,
            self._feeds,
            max_runs=settings.max_running_runs,
            max_attempts=settings.max_running_attempts,
            on_finished=self._keeper.run_finished,
        )
        self._starting: set[asyncio.Task[Inserted]] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._is_open = False

    @override
    async def open(self) -> None:
        """Take the lock, open the file, end left-over processes, resume unfinished runs.

        Raises:
            JournalLockedError: Another process has the journal open.
            JournalVersionError: The file is newer than this program.
            JournalBrokenError: The file is no journal, or damaged.
            IsolationError: The executor cannot isolate steps as it was told to.
        """
        self._settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire(self._settings.owner_url)
        try:
            await self._store.open()
            await self._end_left_over()
            await self._executor.open()
            self._scheduler.resume(await self._store.open_runs())
        except BaseException:
            await self._release()
            raise
        self._keeping = asyncio.create_task(self._keeper.run())
        self._is_open = True

    @override
    async def close(self) -> None:
        """End the steps that run, keep their runs for the next `open`, write all, unlock."""
        if not self._is_open:
            return
        self._is_open = False
        if self._starting:
            await asyncio.wait(self._starting)
        await self._release()

    @property
    @override
    def name(self) -> str:
        return "journal"

    @override
    async def start(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions | None = None,
    ) -> Run:
        """Begin a run; idempotent by `run_id` for the same owner and definition.

        `inputs` are complete and valid (`definition.validate_inputs`).

        Raises:
            RunConflictError: The id is taken by another owner's run or another definition, or the
                group is busy and the run would not wait.
            EngineBusyError: Too many runs wait already.
            EngineClosedError: The engine is not open.
            ValueError: The run id cannot be the name of a folder, or the inputs are no JSON.
        """
        self._require_open()
        run_folder(self._settings.data_dir, run_id)
        if self._scheduler.waiting_count >= self._settings.max_waiting_runs:
            raise EngineBusyError(
                f"{self._settings.max_waiting_runs} runs are waiting; try again when some have"
                " ended"
            )
        options = options or RunOptions()
        digest, body = encode_workflow(workflow)
        row = new_row(run_id, owner, workflow.name, digest, inputs, options)
        self._definitions.keep(digest, workflow)
        # In a task of its own: a caller that goes away leaves no run that nobody interprets.
        kept = orjson.dumps(states_to_json(options.kept))
        task = asyncio.create_task(self._insert(row, body, kept))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        inserted = await asyncio.shield(task)
        found = inserted.row
        if found is None:
            raise RunConflictError(
                f"another run of the group `{options.group}` is under way, and its policy is"
                " `refuse`; wait for its end"
            )
        if inserted.is_new:
            names = [step.name for step in workflow.all_steps()]
            return self._reader.run_of(found, steps_of(names, ()))
        if found.owner != owner or found.definition != digest or found.parent is not None:
            raise RunConflictError(
                f"the run id {run_id!r} is taken by another run; choose another, or leave it out"
            )
        return await self.get(run_id, owner)

    @override
    async def cancel(self, run_id: str, owner: str, reason: str) -> Run:
        """Cancel a run and wait, for a bounded time, until it has ended."""
        self._require_open()
        row = await self._reader.find(run_id, owner)
        if row.finished_at is None:
            written = await self._store.put(changes.request_cancel(row.id, reason))
            ending = self._scheduler.cancel(row.id, reason)
            await written
            if ending is not None:
                await asyncio.wait([ending], timeout=self._settings.cancel_wait_seconds)
                ending.cancel()
        return await self.get(run_id, owner)

    @override
    async def signal(
        self, run_id: str, owner: str, key: str, payload: Mapping[str, object]
    ) -> Signalled:
        self._require_open()
        row = await self._reader.find(run_id, owner)
        try:
            value = orjson.dumps(dict(payload))
        except orjson.JSONEncodeError as error:
            raise ValueError(f"the payload cannot be written as JSON: {error}") from error
        change = changes.record_signal(row.id, record_of_signal(key), value)
        delivered = await (await self._store.put(change))
        if delivered.value is None:
            raise RunEndedError(f"run {run_id!r} has ended, or does not wait for `{key}` any more")
        self._scheduler.deliver(row.id, key, delivered.value)
        return Signalled(orjson.loads(delivered.value), delivered.is_first)

    @override
    async def get(self, run_id: str, owner: str) -> Run:
        self._require_open()
        return await self._reader.get(run_id, owner)

    @override
    async def workflow(self, run_id: str, owner: str) -> Workflow:
        self._require_open()
        return await self._reader.workflow(run_id, owner)

    @override
    async def states(self, run_id: str, owner: str) -> Mapping[str, StepState]:
        self._require_open()
        return await self._scheduler.states(await self._reader.find(run_id, owner))

    async def has(self, run_id: str) -> bool:
        """Whether a run has this id, whoever owns it."""
        self._require_open()
        return await self._store.is_taken(run_id)

    async def step_outputs(self, run_id: str, owner: str, step: str) -> Mapping[str, object]:
        """All recorded outputs of the step's last ended attempt; empty if none has ended.

        Events and `get` carry only head and tail of long ones.
        """
        self._require_open()
        row = await self._reader.find(run_id, owner)
        # `#`, `@` and their next characters: the attempts of a step, and its further times.
        records = [
            *await self._store.record_like(row.id, f"{step}#", f"{step}$"),
            *await self._store.record_like(row.id, f"{step}@", f"{step}A"),
        ]
        results = {
            (int(match["time"] or 1), int(match["attempt"])): value
            for key, value in records
            if (match := _ATTEMPT_KEY.fullmatch(key.removeprefix(step)))
        }
        return decode_result(results[max(results)]).outputs if results else {}

    @override
    async def list(self, run_filter: RunFilter, cursor: str | None = None) -> Page:
        """Runs of the owner, newest first, without their inputs, outputs and steps.

        Raises:
            InvalidCursorError: The cursor is none of this engine's.
        """
        self._require_open()
        return await self._reader.page(run_filter, cursor)

    @override
    async def events(
        self, run_id: str, owner: str, after_seq: int = 0
    ) -> AsyncGenerator[RunEvent, None]:
        """The events after `after_seq`, in order, without gaps, until the run has ended.

        Raises:
            EngineClosedError: The engine was closed before the run ended.
        """
        self._require_open()
        async with contextlib.aclosing(self._reader.events(run_id, owner, after_seq)) as found:
            async for event in found:
                yield event

    async def failure(self) -> JournalBrokenError:
        """Wait until the journal cannot be written any more, and give the reason.

        Nothing mends an open engine: runs go on from what was written when it is opened again.
        """
        self._require_open()
        return JournalBrokenError(f"the journal cannot be written: {await self._store.failure()}")

    async def forget_old_runs(self) -> int:
        """Forget the runs that retention does not keep, at once; how many those were."""
        self._require_open()
        return await self._keeper.forget()

    async def _insert(self, row: RunRow, body: bytes, kept: bytes) -> Inserted:
        """Record the run; if it is new, let it be interpreted."""
        inserted = await (await self._store.put(changes.insert_run(row, body, kept)))
        if inserted.is_new and inserted.row is not None:
            self._scheduler.submit(inserted.row)
        return inserted

    async def _end_left_over(self) -> None:
        """End the processes that a killed engine noted and its reaper did not end."""
        groups = await self._store.process_groups()
        for group in groups:
            # A group that has lost its leader cannot be told from a later one with the same id.
            if group.birth is not None and group.birth == birth_of(group.pgid):
                kill_group(group.pgid)
        if groups:
            await asyncio.to_thread(kill_marked, [group.mark for group in groups])
            await (await self._store.put(changes.clear_groups()))

    async def _release(self) -> None:
        """Give back all that `open` took, in the reverse order."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
            self._keeping = None
        await self._scheduler.close()
        await self._executor.close()
        self._feeds.close_all(EngineClosedError("the engine was closed before the run ended"))
        await self._store.close()
        self._lock.release()

    def _publish(self, appended: Sequence[Appended]) -> None:
        for each in appended:
            self._feeds.publish(each.run, each.seq, each.event)

    def _require_open(self) -> None:
        if not self._is_open:
            raise EngineClosedError("the engine is closed")
