"""The remote engine: workflows run on Kubiya's API, their runs and events are kept here.

Guarantees: a run that `start` answered is in the store, with every event that the API told of it,
numbered without gaps; a start is sent once; a run that this process cannot follow any more ends as
failed and says so; the key is in no event, error or log line.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from typing_extensions import override

from workflow_backend.definition.lint import LOCAL_RUNNER
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import (
    EngineBusyError,
    EngineUnavailableError,
    Page,
    Run,
    RunConflictError,
    RunEndedError,
    RunEvent,
    RunFilter,
    RunOptions,
    Signalled,
)
from workflow_backend.engines.journal import (
    EngineClosedError,
    JournalBrokenError,
    Retention,
    changes,
)
from workflow_backend.engines.journal.changes import Appended, Inserted
from workflow_backend.engines.journal.definitions import Definitions
from workflow_backend.engines.journal.feed import LiveFeeds
from workflow_backend.engines.journal.lock import JournalLock
from workflow_backend.engines.journal.reader import RunReader
from workflow_backend.engines.journal.retention import RetentionKeeper
from workflow_backend.engines.journal.rows import RunRow, encode_workflow, new_row
from workflow_backend.engines.journal.store import JournalStore
from workflow_backend.engines.kubiya.client import KubiyaClient, Patience
from workflow_backend.engines.kubiya.errors import KubiyaError
from workflow_backend.engines.kubiya.remote_runs import RemoteRuns
from workflow_backend.engines.kubiya.runners import Runners
from workflow_backend.engines.kubiya.vendor_workflow import lacks_of, translate
from workflow_backend.engines.opened import OpenedEngine
from workflow_backend.engines.runners import RunnerDetail
from workflow_backend.masking import Masker
from workflow_backend.run_steps import steps_of
from workflow_backend.step_state import StepState, states_from_json
from workflow_backend.steps.run_folder import run_folder

FILE_NAME = "kubiya.db"
LOCK_NAME = "kubiya.lock"


@dataclass(frozen=True, slots=True)
class KubiyaSettings:
    """Where the API is, and how much goes on there at a time.

    Without a key the runs from before can be read, and nothing is sent.
    """

    data_dir: Path
    base_url: str
    api_key: str = field(repr=False)
    patience: Patience = field(default_factory=Patience)
    max_running_runs: int = 64
    max_waiting_runs: int = 10_000
    cancel_wait_seconds: float = 10.0
    retention: Retention = field(default_factory=Retention)


class KubiyaEngine(OpenedEngine):
    """The engine on one data folder: `open` (or `async with`), use, `close`."""

    def __init__(self, settings: KubiyaSettings) -> None:
        masker = Masker([settings.api_key])
        self._settings = settings
        self._lock = JournalLock(settings.data_dir, LOCK_NAME)
        self._feeds = LiveFeeds()
        self._store = JournalStore(settings.data_dir, self._publish, FILE_NAME)
        self._definitions = Definitions(self._store)
        self._reader = RunReader(self._store, self._feeds, self._definitions, self.name)
        # Its runs have no folders; a folder of the journal's must not go with them.
        self._keeper = RetentionKeeper(
            settings.retention, self._store, settings.data_dir / "kubiya"
        )
        self._client = KubiyaClient(settings.base_url, settings.api_key, masker, settings.patience)
        self._runners = Runners(self._client)
        self._runs = RemoteRuns(
            self._store,
            self._definitions,
            self._feeds,
            self._client,
            self._runners.default,
            masker,
            settings.max_running_runs,
        )
        self._starting: set[asyncio.Task[Inserted]] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._is_open = False

    @override
    async def open(self) -> None:
        """Take the lock, open the file, end the runs whose process died.

        Raises:
            JournalLockedError: Another process has the file open.
            JournalVersionError: The file is newer than this program.
            JournalBrokenError: The file is no journal, or damaged.
        """
        self._settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire("")
        try:
            await self._store.open()
            await self._client.open()
            for row in await self._store.open_runs():
                if row.started_at is not None or row.cancel_reason is not None:
                    await self._runs.end_lost(row)
                elif self._settings.api_key:
                    self._runs.submit(row)
        except BaseException:
            await self._release()
            raise
        self._keeping = asyncio.create_task(self._keeper.run())
        self._is_open = True

    @override
    async def close(self) -> None:
        """Leave the streams, end their runs as lost, write all, unlock."""
        if not self._is_open:
            return
        self._is_open = False
        if self._starting:
            await asyncio.wait(self._starting)
        await self._release()

    @property
    @override
    def name(self) -> str:
        return "kubiya"

    async def runners(self, asked: str | None = None) -> tuple[str, ...]:
        """The names of the runners that the API lists; `local` stands for the default one.

        Raises:
            EngineUnavailableError: They cannot be asked for, and none are known.
        """
        return tuple(runner.name for runner in await self.runner_details())

    async def runner_details(self) -> Sequence[RunnerDetail]:
        """The runners with their health, a minute old at most, after the one for the default.

        Raises:
            EngineUnavailableError: As `runners`.
        """
        try:
            listed, default = await self._runners.all(), await self._runners.default()
        except KubiyaError as error:
            raise EngineUnavailableError(str(error)) from error
        health = next((one.is_healthy for one in listed if one.name == default), None)
        return RunnerDetail(LOCAL_RUNNER, f"Kubiya's runner {default}.", health), *listed

    async def has(self, run_id: str) -> bool:
        """Whether a run has this id, whoever owns it."""
        self._require_open()
        return await self._store.is_taken(run_id)

    def lacks(self, workflow: Workflow) -> Sequence[str]:
        """What keeps the workflow from running there, each with its place."""
        return lacks_of(workflow)

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

        Raises:
            RunConflictError: The id is taken by another owner's run or another definition.
            EngineBusyError: Too many runs wait already.
            EngineUnavailableError: The workflow has what Kubiya's format lacks.
            EngineClosedError: The engine is not open.
            ValueError: The run id has a form that none may have, or the inputs are no JSON.
        """
        self._require_open()
        run_folder(self._settings.data_dir, run_id)
        options = options or RunOptions()
        if not self._settings.api_key:
            raise EngineUnavailableError("Kubiya needs KUBIYA_API_KEY")
        translate(workflow)
        if options.kept:
            raise EngineUnavailableError(
                "Kubiya takes over no results of an earlier run; run it from its first step"
            )
        if self._runs.count >= self._settings.max_waiting_runs:
            raise EngineBusyError(
                f"{self._settings.max_waiting_runs} runs are waiting; try again when some have"
                " ended"
            )
        digest, body = encode_workflow(workflow)
        row = new_row(run_id, owner, workflow.name, digest, inputs, options)
        self._definitions.keep(digest, workflow)
        # In a task of its own: a caller that goes away leaves no run that nobody follows.
        task = asyncio.create_task(self._insert(row, body))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        inserted = await asyncio.shield(task)
        found = inserted.row
        if found is None or found.owner != owner or found.definition != digest:
            raise RunConflictError(
                f"the run id {run_id!r} is taken by another run; choose another, or leave it out"
            )
        if inserted.is_new:
            names = [step.name for step in workflow.all_steps()]
            return self._reader.run_of(found, steps_of(names, ()))
        return await self.get(run_id, owner)

    @override
    async def cancel(self, run_id: str, owner: str, reason: str) -> Run:
        """Leave the run's stream and end it as cancelled; it may go on there, and says so."""
        self._require_open()
        row = await self._reader.find(run_id, owner)
        if row.finished_at is None:
            written = await self._store.put(changes.request_cancel(row.id, reason))
            ending = self._runs.cancel(row.id, reason)
            await written
            if ending is not None:
                await asyncio.wait([ending], timeout=self._settings.cancel_wait_seconds)
        return await self.get(run_id, owner)

    @override
    async def signal(
        self, run_id: str, owner: str, key: str, payload: Mapping[str, object]
    ) -> Signalled:
        self._require_open()
        await self._reader.find(run_id, owner)
        raise RunEndedError(
            f"run {run_id!r} goes on at Kubiya, which takes no approvals or signals"
        )

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
        row = await self._reader.find(run_id, owner)
        return states_from_json(orjson.loads(await self._store.states(row.id)))

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
        """Wait until the file cannot be written any more, and give the reason."""
        self._require_open()
        return JournalBrokenError(f"{FILE_NAME} cannot be written: {await self._store.failure()}")

    async def _insert(self, row: RunRow, body: bytes) -> Inserted:
        """Record the run; if it is new, let it be sent."""
        inserted = await (await self._store.put(changes.insert_run(row, body)))
        if inserted.is_new and inserted.row is not None:
            self._runs.submit(inserted.row)
        return inserted

    async def _release(self) -> None:
        """Give back all that `open` took, in the reverse order."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
            self._keeping = None
        await self._runs.close()
        await self._client.close()
        self._feeds.close_all(EngineClosedError("the engine was closed before the run ended"))
        await self._store.close()
        self._lock.release()

    def _publish(self, appended: Sequence[Appended]) -> None:
        for each in appended:
            self._feeds.publish(each.run, each.seq, each.event)

    def _require_open(self) -> None:
        if not self._is_open:
            raise EngineClosedError("the engine is closed")
