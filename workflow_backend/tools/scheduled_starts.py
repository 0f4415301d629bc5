"""Begins the runs of schedules as those of callers: checked, planned, held to today's rules."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from workflow_backend.backend import Backend
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import Run, RunOptions
from workflow_backend.run_owners import RunOwners
from workflow_backend.schedules.base import FiringRefusedError, KeepsSchedules
from workflow_backend.schedules.keeper import ScheduleKeeper
from workflow_backend.steps.server_link import ServerLink
from workflow_backend.tools.engine_runs import EngineRuns
from workflow_backend.tools.refusals import RefusalError

_TEMPORARY = frozenset({"engine_busy", "engine_unavailable"})


class ScheduledStarts:
    """What a schedule begins runs by: `start`, or `prepare` where the engine itself starts them."""

    def __init__(self, backend: Backend, owners: RunOwners) -> None:
        self._runs = EngineRuns(backend)
        self._owners = owners

    async def start(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions,
    ) -> Run:
        """The run, begun; as `StartRun`."""
        await self._owners.check(owner, run_id)
        with _refused():
            run, _ = await self._runs.start(workflow, inputs, run_id, owner, options)
        return run

    async def prepare(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions,
    ) -> tuple[Mapping[str, object], RunOptions]:
        """What the run begins with; as `PrepareRun`."""
        await self._owners.check(owner, run_id)
        with _refused():
            return await self._runs.prepared(workflow, inputs, run_id, owner, options)


@asynccontextmanager
async def keeping_schedules(
    backend: Backend, data_dir: Path, server: ServerLink | None = None
) -> AsyncIterator[None]:
    """Let the backend's schedules fire: those of the engine itself, or those of a file here.

    `server` is whom the owners' keys are asked of.

    Raises:
        ScheduleFileError: The file of schedules cannot be used.
    """
    starts, engine = ScheduledStarts(backend, RunOwners(server)), backend.engine
    own = engine.schedules(starts.prepare) if isinstance(engine, KeepsSchedules) else None
    schedules = own or ScheduleKeeper(data_dir, engine, starts.start)
    await schedules.open()
    backend.schedules = schedules
    try:
        yield
    finally:
        backend.schedules = None
        await schedules.close()


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except RefusalError as error:
        is_temporary = error.code in _TEMPORARY
        raise FiringRefusedError(error.message, is_temporary=is_temporary) from error
