"""Lists of runs by Temporal's visibility, newest first.

Clusters order a list by the time of closing and take no other order, so a page is cut out by time:
it is counted how many runs began since when, until a span holds enough of them but not too many.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import orjson
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

from workflow_backend.engines.base import Page, Run, RunFilter, RunStatus
from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.search_attributes import (
    OWNER,
    PARENT,
    STATUS,
    WORKFLOW,
    attribute_text,
)
from workflow_backend.events import time_text

MAX_PAGE_RUNS = 200
# What a span of time may hold before a shorter one is looked for.
MAX_SPAN_RUNS = 1_000

_FIRST_SPAN = timedelta(hours=1)
_WHOLE_TIME = timedelta(days=36_500)
_MOST_COUNTS = 40
_OPEN = ("queued", "running")
_CLOSED_AS: Mapping[WorkflowExecutionStatus, RunStatus] = {
    WorkflowExecutionStatus.TERMINATED: "cancelled",
    WorkflowExecutionStatus.CANCELED: "cancelled",
    WorkflowExecutionStatus.TIMED_OUT: "timed_out",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.COMPLETED: "failed",
    WorkflowExecutionStatus.CONTINUED_AS_NEW: "failed",
}
_NATIVE_NAMES: Mapping[RunStatus, str] = {
    "cancelled": "'Terminated', 'Canceled'",
    "timed_out": "'TimedOut'",
    "failed": "'Failed'",
}


class InvalidCursorError(ValueError):
    """The cursor was not made by this engine."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A run's place in the list: when it began, and its id in few letters."""

    began_at: datetime
    run: str

    def encode(self) -> str:
        """The cursor that continues after this run."""
        text = orjson.dumps([self.began_at.isoformat(), self.run])
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    @classmethod
    def decode(cls, cursor: str) -> "Position":
        """The place that `encode` wrote.

        Raises:
            InvalidCursorError: It was not.
        """
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            began_at, run = orjson.loads(base64.b64decode(padded, b"-_", validate=True))
            return cls(datetime.fromisoformat(began_at).astimezone(UTC), str(run))
        except (ValueError, TypeError, binascii.Error):
            raise InvalidCursorError(
                "the cursor is not one that this server gave; leave it out to begin with the newest"
            ) from None


class Listing:
    """The lists of one namespace."""

    def __init__(self, client: Client, timeout: timedelta) -> None:
        self._client = client
        self._timeout = timeout

    async def page(self, run_filter: RunFilter, cursor: str | None) -> Page:
        """Runs of the owner, newest first, without their inputs, outputs and steps.

        Raises:
            InvalidCursorError: The cursor is none of this engine's.
            RPCError: The cluster is away.
        """
        after = Position.decode(cursor) if cursor else None
        limit = max(1, min(run_filter.limit, MAX_PAGE_RUNS))
        found = await self._newest(query_of(run_filter), after, limit + 1)
        shown = found[:limit]
        runs = [await self._run(execution) for execution in shown]
        has_more = len(found) > limit
        return Page(tuple(runs), _position(shown[-1]).encode() if has_more else None)

    async def _newest(
        self, query: str, after: Position | None, wanted: int
    ) -> list[WorkflowExecution]:
        """At least so many runs after the place, if there are."""
        until = after.began_at if after else datetime.now(UTC) + timedelta(days=1)
        span = await self._span(query, until, wanted + 1)
        executions = [
            execution
            async for execution in self._client.list_workflows(
                _between(query, until - span, until), rpc_timeout=self._timeout
            )
        ]
        executions.sort(key=_position, reverse=True)
        return [one for one in executions if after is None or _position(one) < after][:wanted]

    async def _span(self, query: str, until: datetime, wanted: int) -> timedelta:
        """How far back enough runs began, but not too many."""
        if await self._count(query, until - _WHOLE_TIME, until) <= MAX_SPAN_RUNS:
            return _WHOLE_TIME
        too_short, too_long, span = timedelta(0), _WHOLE_TIME, _FIRST_SPAN
        for _ in range(_MOST_COUNTS):
            count = await self._count(query, until - span, until)
            if count < wanted:
                too_short = span
                span = min(8 * span, too_short + (too_long - too_short) / 2)
            elif count > MAX_SPAN_RUNS:
                too_long = span
                span = too_short + (too_long - too_short) / 2
            else:
                return span
        return too_long

    async def _count(self, query: str, since: datetime, until: datetime) -> int:
        counted = await self._client.count_workflows(
            _between(query, since, until), rpc_timeout=self._timeout
        )
        return counted.count

    async def _run(self, execution: WorkflowExecution) -> Run:
        attributes = execution.typed_search_attributes
        memo = await execution.memo()
        about, now = memo.get(wire.ABOUT) or {}, memo.get(wire.NOW) or {}
        status = status_of(str(attributes.get(STATUS) or "running"), execution.status)
        ended_at = execution.close_time.timestamp() if execution.close_time else None
        if "status" in now:
            ended_at = now["at"]
        return Run(
            run_id=execution.id,
            workflow=unquote(str(attributes.get(WORKFLOW) or "")),
            owner=unquote(str(attributes.get(OWNER) or "")),
            status=status,
            created_at=time_text(execution.start_time.timestamp()),
            started_at=_text(now.get("started_at")),
            finished_at=_text(ended_at),
            error=now.get("error"),
            last_seq=int(now.get("seq") or 0),
            definition_sha256=str(about.get("sha256") or ""),
            engine="temporal",
            parent_run_id=attributes.get(PARENT),
            rerun_of=about.get("rerun_of"),
            scheduled_by=about.get("scheduled_by"),
            depth=int(about.get("depth") or 0),
        )


def query_of(run_filter: RunFilter) -> str:
    """The filter as a visibility query."""
    parts = [
        f"WorkflowType = {_quoted(wire.RUN)}",
        f"{OWNER.name} = {_quoted(attribute_text(run_filter.owner))}",
    ]
    if run_filter.parent_run_id is None:
        parts.append(f"{PARENT.name} IS NULL")
    else:
        parts.append(f"{PARENT.name} = {_quoted(attribute_text(run_filter.parent_run_id))}")
    if run_filter.workflow is not None:
        parts.append(f"{WORKFLOW.name} = {_quoted(attribute_text(run_filter.workflow))}")
    if run_filter.status is not None:
        parts.append(_status_query(run_filter.status))
    return " AND ".join(parts)


def status_of(written: str, native: WorkflowExecutionStatus | None) -> RunStatus:
    """The status of a run: what it wrote itself, unless it was closed before it could."""
    if written in _OPEN and native is not None and native in _CLOSED_AS:
        return _CLOSED_AS[native]
    return written  # type: ignore[return-value]  # written by the workflow


def _status_query(status: RunStatus) -> str:
    is_written = f"{STATUS.name} = {_quoted(status)}"
    if status in _OPEN:
        return f"{is_written} AND ExecutionStatus = 'Running'"
    native = _NATIVE_NAMES.get(status)
    if native is None:
        return is_written
    is_open = " OR ".join(f"{STATUS.name} = {_quoted(name)}" for name in _OPEN)
    return f"({is_written} OR (({is_open}) AND ExecutionStatus IN ({native})))"


def _between(query: str, since: datetime, until: datetime) -> str:
    return (
        f"{query} AND StartTime >= {_quoted(since.isoformat())}"
        f" AND StartTime <= {_quoted((until + timedelta(milliseconds=1)).isoformat())}"
    )


def _position(execution: WorkflowExecution) -> Position:
    return Position(execution.start_time, sha256(execution.id.encode()).hexdigest()[:12])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _text(at: Any) -> str | None:
    return None if at is None else time_text(float(at))
