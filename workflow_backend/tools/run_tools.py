"""Tools that start, follow, show and cancel runs.

Guarantees: a run belongs to the owner that started it, and for anybody else it does not exist;
events are reported in order, each once, before the result; the cancel of a call that executes a
workflow cancels its run, the end of the server does not.
"""

import asyncio
import json
import uuid
from typing import Annotated

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from workflow_backend.backend import Backend
from workflow_backend.definition.plain_text import plain_json, plain_text
from workflow_backend.engines.base import (
    Run,
    RunConflictError,
    RunFilter,
    RunNotFoundError,
    RunStatus,
)
from workflow_backend.engines.journal import EngineBusyError
from workflow_backend.tools.calls import (
    HIDDEN_KEY,
    Inputs,
    RunId,
    ToolContext,
    WorkflowText,
    checked_run_id,
    owner_of,
    run_id_of,
    wants_events,
)
from workflow_backend.tools.definition_tools import valid_workflow
from workflow_backend.tools.progress import sentence
from workflow_backend.tools.results import RunPage, RunResult, RunSummary
from workflow_backend.tools.runs import run_result, run_summary

MAX_EVENT_TEXT = 12_000
CANCEL_SECONDS = 10.0
# For the server in front of this one: it hides such tools from models.
_FOR_SERVER = {HIDDEN_KEY: True}
_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_RUNS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
)
_CANCELS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)


def register_run_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tools to the server."""
    runs = _Runs(backend)
    _register_execution(server, runs)
    _register_following(server, runs)


def _register_execution(server: MCPServer, runs: "_Runs") -> None:
    @server.tool(title="Run a workflow", annotations=_RUNS)
    async def execute_workflow(
        workflow: WorkflowText, ctx: ToolContext, inputs: Inputs = None
    ) -> RunResult:
        """Run a workflow to its end and give the result of every step.

        Progress tells each step as it happens. Cancelling the call cancels the run.
        """
        owner = owner_of(ctx)
        run = await runs.start(workflow, inputs, run_id_of(ctx), owner)
        try:
            await runs.report_events(run.run_id, owner, 0, ctx)
            return run_result(await runs.get(run.run_id, owner))
        except asyncio.CancelledError:
            await runs.cancel_with_call(run.run_id, owner)
            raise

    @server.tool(title="Start a run", annotations=_RUNS, meta=_FOR_SERVER)
    async def start_run(
        workflow: WorkflowText, ctx: ToolContext, inputs: Inputs = None, run_id: RunId | None = None
    ) -> RunSummary:
        """Start a run that goes on by itself (for the server; models use execute_workflow).

        The same `run_id` again gives the same run.
        """
        owner = owner_of(ctx)
        chosen = run_id_of(ctx) if run_id is None else checked_run_id(run_id)
        return run_summary(await runs.start(workflow, inputs, chosen, owner))


def _register_following(server: MCPServer, runs: "_Runs") -> None:
    @server.tool(title="Follow a run", annotations=_READS, meta=_FOR_SERVER)
    async def watch_run(
        run_id: RunId,
        ctx: ToolContext,
        after_seq: Annotated[int, Field(ge=0, description="Last event already known.")] = 0,
    ) -> RunResult:
        """Report the events after `after_seq` until the run ends, then its result."""
        owner = owner_of(ctx)
        await runs.get(run_id, owner)
        await runs.report_events(run_id, owner, after_seq, ctx)
        return run_result(await runs.get(run_id, owner))

    @server.tool(title="Show a run", annotations=_READS)
    async def get_run(run_id: RunId, ctx: ToolContext) -> RunResult:
        """Give the state of one run with its steps."""
        return run_result(await runs.get(run_id, owner_of(ctx)))

    @server.tool(title="List runs", annotations=_READS)
    async def list_runs(
        ctx: ToolContext,
        status: Annotated[RunStatus | None, Field(description="Only runs of this status.")] = None,
        workflow: Annotated[
            str | None, Field(description="Only runs of the workflow of this name.", max_length=200)
        ] = None,
        limit: Annotated[int, Field(ge=1, le=200, description="Most runs to give.")] = 20,
        cursor: Annotated[
            str | None, Field(description="`next_cursor` of the page before.", max_length=500)
        ] = None,
    ) -> RunPage:
        """List runs, newest first."""
        run_filter = RunFilter(owner_of(ctx), status=status, workflow=workflow, limit=limit)
        return await runs.page(run_filter, cursor)

    @server.tool(title="Cancel a run", annotations=_CANCELS)
    async def cancel_run(
        run_id: RunId,
        ctx: ToolContext,
        reason: Annotated[str, Field(description="Why.", max_length=500)] = "cancelled on request",
    ) -> RunResult:
        """Cancel a run; one that has ended stays as it is."""
        return run_result(await runs.cancel(run_id, owner_of(ctx), reason))


class _Runs:
    """The engine as the tools use it; its errors become ones that a caller can read."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._engine = backend.engine

    async def start(
        self, text: str, inputs: dict[str, object] | None, run_id: str | None, owner: str
    ) -> Run:
        """Check, plan and begin a run.

        Raises:
            ToolError: It cannot run as it is; the message says what to mend.
        """
        workflow = valid_workflow(text, self._backend)
        planned = self._backend.plan(workflow, inputs or {}, owner)
        if not planned.can_run:
            blockers = "\n".join(f"- {blocker}" for blocker in planned.blockers)
            raise ToolError(plain_text(f"The workflow cannot run yet:\n{blockers}"))
        values = {planned_input.name: planned_input.value for planned_input in planned.inputs}
        try:
            return await self._engine.start(run_id or str(uuid.uuid4()), workflow, values, owner)
        except RunConflictError as error:
            raise ToolError(f"The run id {run_id} is taken by another run; choose one.") from error
        except EngineBusyError as error:
            raise ToolError(f"The server is busy: {error}.") from error

    async def report_events(
        self, run_id: str, owner: str, after_seq: int, ctx: ToolContext
    ) -> None:
        """Report each event after `after_seq` as progress, until the run has ended."""
        as_json = wants_events(ctx)
        async for event in self._engine.events(run_id, owner, after_seq):
            shown = plain_json(event, MAX_EVENT_TEXT)
            message = json.dumps(shown, ensure_ascii=False) if as_json else sentence(event)
            await ctx.report_progress(float(str(event["seq"])), None, message)

    async def get(self, run_id: str, owner: str) -> Run:
        """The run.

        Raises:
            ToolError: The owner has no such run.
        """
        try:
            return await self._engine.get(checked_run_id(run_id), owner)
        except RunNotFoundError as error:
            raise _not_found(run_id) from error

    async def page(self, run_filter: RunFilter, cursor: str | None) -> RunPage:
        """Runs of the owner.

        Raises:
            ToolError: The cursor is none of ours.
        """
        try:
            page = await self._engine.list(run_filter, cursor)
        except ValueError as error:
            raise ToolError("The cursor is not valid; begin without one.") from error
        return RunPage(runs=[run_summary(run) for run in page.runs], next_cursor=page.next_cursor)

    async def cancel(self, run_id: str, owner: str, reason: str) -> Run:
        """The run after the cancel was asked for.

        Raises:
            ToolError: The owner has no such run.
        """
        try:
            return await self._engine.cancel(checked_run_id(run_id), owner, plain_text(reason))
        except RunNotFoundError as error:
            raise _not_found(run_id) from error

    async def cancel_with_call(self, run_id: str, owner: str) -> None:
        """Cancel the run of a call that was cancelled; not when it is the server that ends."""
        if self._backend.is_closing:
            return
        with anyio.move_on_after(CANCEL_SECONDS, shield=True):
            await self._engine.cancel(run_id, owner, "the call that ran it was cancelled")


def _not_found(run_id: str) -> ToolError:
    return ToolError(f"There is no run {run_id}. `list_runs` gives the ids.")
