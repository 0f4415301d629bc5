"""Begins the run of a firing: the activity that a schedule's workflow asks for.

Guarantee: asked again, it begins no second run; what cannot run is told as such, and what may be
possible later is tried again by Temporal.
"""

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from workflow_backend.engines.base import RunConflictError, RunOptions
from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.feed import RunFeed
from workflow_backend.engines.temporal.link import Link
from workflow_backend.engines.temporal.options import TemporalSettings
from workflow_backend.engines.temporal.runners import UnknownRunnerError
from workflow_backend.engines.temporal.schedule_document import ScheduleDocument
from workflow_backend.engines.temporal.starts import Starts
from workflow_backend.schedules.base import FiringRefusedError, PrepareRun, run_id_of


class Begins:
    """What begins scheduled runs; `prepare` is set by a server, which has what plans need."""

    def __init__(self, link: Link, settings: TemporalSettings) -> None:
        self._link = link
        self._settings = settings
        self.prepare: PrepareRun | None = None

    @activity.defn(name=wire.BEGIN)
    async def begin(self, document: wire.Json) -> wire.Json:
        """Begin the run of a time of a schedule; what became of it, as `wire.FIRED` has it."""
        if self.prepare is None:
            raise ApplicationError("no server is ready here to begin runs of schedules")
        at = int(document["at"])
        found = await self._schedule(str(document["schedule_id"]))
        if found is None:
            return _refused("", "the schedule was deleted")
        run_id = run_id_of(found.name, found.mark, at, is_manual=not found.plans(at))
        options = RunOptions(scheduled_by=found.name)
        try:
            values, options = await self.prepare(
                run_id, found.workflow, found.inputs, found.owner, options
            )
            starts = Starts(self._link, self._settings, RunFeed(self._link))
            told = activity.info().workflow_id
            is_new = await starts.start(run_id, found.workflow, values, found.owner, options, told)
        except FiringRefusedError as error:
            if error.is_temporary:
                raise ApplicationError(str(error)) from error
            return _refused(run_id, str(error))
        except (RunConflictError, UnknownRunnerError, ValueError) as error:
            return _refused(run_id, str(error))
        # One that is not new may have ended, and told nobody here.
        return {"run_id": run_id, "state": "started", "note": "", "is_new": is_new}

    async def _schedule(self, schedule_id: str) -> ScheduleDocument | None:
        client = await self._link.client()
        handle = client.get_schedule_handle(schedule_id)
        try:
            description = await self._link.call(
                handle.describe(rpc_timeout=self._link.call_timeout)
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        return await ScheduleDocument.of(client, description)


def _refused(run_id: str, reason: str) -> wire.Json:
    return {"run_id": run_id, "state": "refused", "note": reason}
