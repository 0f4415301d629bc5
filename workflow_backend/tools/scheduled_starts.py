"""Begins the runs of schedules as those of callers: checked, planned, held to today's rules."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from typing_extensions import override

from workflow_backend.backend import Backend
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import Run, RunOptions
from workflow_backend.schedules.base import FiringRefusedError, StartRun
from workflow_backend.schedules.keeper import ScheduleKeeper
from workflow_backend.tools.engine_runs import EngineRuns
from workflow_backend.tools.refusals import RefusalError

_TEMPORARY = frozenset({"engine_busy", "engine_unavailable"})


class ScheduledStarts(StartRun):
    """What a schedule begins runs by."""

    def __init__(self, backend: Backend) -> None:
        self._runs = EngineRuns(backend)

    @override
    async def __call__(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions,
    ) -> Run:
        try:
            run, _ = await self._runs.start(workflow, inputs, run_id, owner, options)
        except RefusalError as error:
            is_temporary = error.code in _TEMPORARY
            raise FiringRefusedError(error.message, is_temporary=is_temporary) from error
        return run


@asynccontextmanager
async def keeping_schedules(backend: Backend, data_dir: Path) -> AsyncIterator[None]:
    """Let the backend's schedules fire.

    Raises:
        ScheduleFileError: The file of schedules cannot be used.
    """
    keeper = ScheduleKeeper(data_dir, backend.engine, ScheduledStarts(backend))
    await keeper.open()
    backend.schedules = keeper
    try:
        yield
    finally:
        backend.schedules = None
        await keeper.close()
