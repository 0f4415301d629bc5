"""Reads a workflow's history from the cluster, as facts."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle
from temporalio.converter import DataConverter

from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.history import Fact

Handle = WorkflowHandle[Any, Any]

# A page of a long poll comes when there is news, or after the cluster's own wait of 20 s.
POLL_SECONDS = 40.0


class HistoryReader:
    """Reads histories with the codec of the link."""

    def __init__(self, converter: DataConverter) -> None:
        self._converter = converter

    async def facts(
        self, handle: Handle, *, follow: bool, limit: timedelta
    ) -> AsyncGenerator[Fact, None]:
        """The facts from the first on; with `follow` until the execution is closed."""
        events = handle.fetch_history_events(
            wait_new_event=follow,
            rpc_timeout=timedelta(seconds=POLL_SECONDS) if follow else limit,
        )
        async for event in events:
            fact = await self.fact(event)
            if fact is not None:
                yield fact

    async def fact(self, event: HistoryEvent) -> Fact | None:
        """What the event says, if that concerns a run."""
        read = _READ.get(event.event_type)
        if read is None:
            return None
        return await read(self, event)

    async def started(self, event: HistoryEvent) -> Fact | None:
        """The first event; None for an execution that is no run."""
        attributes = event.workflow_execution_started_event_attributes
        if attributes.workflow_type.name != wire.RUN:
            return None
        values = {"input": await self._first(attributes.input.payloads)}
        return _fact(event, "started", values=values)

    async def scheduled(self, event: HistoryEvent) -> Fact | None:
        """An activity; what a hidden one is given is not read."""
        attributes = event.activity_task_scheduled_event_attributes
        name = attributes.activity_type.name
        if name != wire.ATTEMPT:
            return None
        values = {"input": await self._first(attributes.input.payloads)}
        return _fact(event, "attempt_scheduled", name=name, values=values)

    async def completed(self, event: HistoryEvent) -> Fact | None:
        """An activity's result."""
        attributes = event.activity_task_completed_event_attributes
        values = {"result": await self._first(attributes.result.payloads)}
        about = attributes.scheduled_event_id
        return _fact(event, "attempt_completed", about=about, values=values)

    async def failed(self, event: HistoryEvent) -> Fact | None:
        """An activity that raised something."""
        attributes = event.activity_task_failed_event_attributes
        return _fact(
            event,
            "attempt_failed",
            about=attributes.scheduled_event_id,
            name=attributes.failure.application_failure_info.type,
            values={"message": attributes.failure.message},
        )

    async def timed_out(self, event: HistoryEvent) -> Fact | None:
        """An activity that was not heard of."""
        about = event.activity_task_timed_out_event_attributes.scheduled_event_id
        return _fact(event, "attempt_timed_out", about=about)

    async def cancelled(self, event: HistoryEvent) -> Fact | None:
        """An activity that was cancelled and gave no result."""
        about = event.activity_task_canceled_event_attributes.scheduled_event_id
        return _fact(event, "attempt_cancelled", about=about)

    async def memo(self, event: HistoryEvent) -> Fact | None:
        """Fields of the memo that the workflow has set."""
        attributes = event.workflow_properties_modified_event_attributes
        values = {
            name: await self._first([payload])
            for name, payload in attributes.upserted_memo.fields.items()
            if name in _FIELDS
        }
        return _fact(event, "memo", values=values)

    async def updated(self, event: HistoryEvent) -> Fact | None:
        """The answer of an update that went well."""
        outcome = event.workflow_execution_update_completed_event_attributes.outcome
        if not outcome.success.payloads:
            return None
        return _fact(
            event, "update", values={"result": await self._first(outcome.success.payloads)}
        )

    async def closed(self, event: HistoryEvent) -> Fact | None:
        """The last event, and what it says of the result or the reason."""
        kind = _CLOSED[event.event_type]
        if kind == "completed":
            attributes = event.workflow_execution_completed_event_attributes
            values = {"result": await self._first(attributes.result.payloads)}
            return _fact(event, kind, values=values)
        failure = event.workflow_execution_failed_event_attributes.failure
        reason = event.workflow_execution_terminated_event_attributes.reason
        name = failure.application_failure_info.type
        return _fact(event, kind, name=name, values={"message": failure.message or reason})

    async def _first(self, payloads: Sequence[Payload]) -> Any:
        values = await self._converter.decode(payloads[:1])
        return values[0] if values else None


def _fact(
    event: HistoryEvent,
    kind: str,
    *,
    about: int = 0,
    name: str = "",
    values: Mapping[str, Any] | None = None,
) -> Fact:
    at = event.event_time.seconds + event.event_time.nanos / 1e9
    return Fact(event.event_id, kind, at, about, name, values or {})


_FIELDS = frozenset({wire.EVENT, wire.STOPPED, wire.NOW})
_CLOSED: Mapping[int, str] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "completed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "failed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "timed_out",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "cancelled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "continued",
}
_Read = Callable[[HistoryReader, HistoryEvent], Coroutine[Any, Any, Fact | None]]
_READ: Mapping[int, _Read] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: HistoryReader.started,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: HistoryReader.scheduled,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: HistoryReader.completed,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: HistoryReader.failed,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: HistoryReader.timed_out,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: HistoryReader.cancelled,
    EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED: HistoryReader.memo,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED: HistoryReader.updated,
    **dict.fromkeys(_CLOSED, HistoryReader.closed),
}
