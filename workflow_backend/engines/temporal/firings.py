"""One time of a schedule on Temporal: it has the run begun, and goes on for as long as the run.

Guarantees: of a time one run begins, however often the beginning is tried; what Temporal's overlap
policy sees is the run's own length; a cancellation by that policy ends the run in order.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from workflow_backend.engines.temporal import wire

# A run tells of its end; this finds those that were ended from outside.
CHECK_SECONDS = 600.0
MOST_EVENTS = 2_000

_SCHEDULED_AT = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
_UNTIL_IT_IS_KNOWN = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)
)


@workflow.defn(name=wire.FIRING)
class FiringWorkflow:
    """One firing: `run` with the schedule's id, and the run's once it has begun.

    Its memo says what became of it: `wire.FIRED`.
    """

    @workflow.init
    def __init__(self, schedule_id: str, run_id: str | None = None) -> None:
        self._schedule_id = schedule_id
        self._run_id = run_id
        self._has_ended = False
        self._is_cancelled = False
        self._is_unsure = False

    @workflow.run
    async def run(self, schedule_id: str, run_id: str | None = None) -> None:
        """Until the run has ended, or is refused."""
        if self._run_id is None:
            fired = await self._begun()
            workflow.upsert_memo({wire.FIRED: fired})
            if fired["state"] != "started":
                return
            self._run_id = str(fired["run_id"])
            self._is_unsure = not fired["is_new"]
        if self._is_cancelled:
            await self._cancel(self._run_id)
        while not self._has_ended:
            try:
                await self._wait(self._run_id)
            except asyncio.CancelledError:
                await self._cancel(self._run_id)

    @workflow.signal(name=wire.LEAVE)
    def leave(self, run_id: str) -> None:
        """The run has ended."""
        self._has_ended = True

    async def _begun(self) -> wire.Json:
        """What became of the beginning, which a cancellation does not cut off: it may be done."""
        beginning = asyncio.create_task(self._begin())
        while not beginning.done():
            try:
                await asyncio.shield(beginning)
            except asyncio.CancelledError:
                self._is_cancelled = True
        return beginning.result()

    async def _begin(self) -> wire.Json:
        at = workflow.info().typed_search_attributes.get(_SCHEDULED_AT)
        scheduled = at.timestamp() if at is not None else workflow.info().start_time.timestamp()
        fired: wire.Json = await workflow.execute_activity(
            wire.BEGIN,
            {"schedule_id": self._schedule_id, "at": int(scheduled)},
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=_UNTIL_IT_IS_KNOWN,
        )
        return fired

    async def _wait(self, run_id: str) -> None:
        """Wait for the run to tell of its end, and look now and then whether it still can."""
        seconds = 0.0 if self._is_unsure else CHECK_SECONDS
        try:
            await workflow.wait_condition(lambda: self._has_ended, timeout=seconds)
        except TimeoutError:
            await self._look(run_id)
            self._is_unsure = False
        if (
            not self._has_ended
            and workflow.info().get_current_history_length() > MOST_EVENTS
            and workflow.all_handlers_finished()
        ):
            workflow.continue_as_new(args=[self._schedule_id, run_id])

    async def _look(self, run_id: str) -> None:
        """Whether the run still goes on."""
        liveness = await workflow.execute_local_activity(
            wire.PROBE,
            run_id,
            schedule_to_close_timeout=timedelta(hours=1),
            start_to_close_timeout=timedelta(seconds=10),
        )
        self._has_ended = self._has_ended or liveness != "open"

    async def _cancel(self, run_id: str) -> None:
        reason = "a later run of the schedule takes its place"
        try:
            handle = workflow.get_external_workflow_handle(run_id)
            await asyncio.shield(handle.signal(wire.CANCEL, reason))
        except ApplicationError:
            # It has ended by itself meanwhile.
            self._has_ended = True
