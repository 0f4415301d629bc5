"""Tools that start, follow, show and cancel runs.

Guarantees: a run belongs to the owner that started it, and for anybody else it does not exist;
events are reported in order, each once, before the result; the cancel of a call that executes a
workflow cancels its run, unless that waits for somebody, the end of the server does not.
"""

import asyncio
from typing import Annotated

from mcp.server import MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field

from workflow_backend.backend import Backend
from workflow_backend.engines.base import RunFilter, RunOptions, RunStatus
from workflow_backend.tools.calls import (
    FOR_SERVER,
    Inputs,
    RunId,
    ToolContext,
    WorkflowText,
    chosen_run_id,
    depth_of,
    owner_of,
    run_id_of,
    trace_of,
)
from workflow_backend.tools.definition_tools import valid_workflow
from workflow_backend.tools.engine_runs import EngineRuns
from workflow_backend.tools.results import RunPage, RunResult, StartedRun
from workflow_backend.tools.runs import started_run

_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_RUNS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
)
_CANCELS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)


def register_run_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tools to the server."""
    runs = EngineRuns(backend)
    _register_execution(server, backend, runs)
    _register_following(server, runs)
    _register_cancel(server, runs)


def _register_execution(server: MCPServer, backend: Backend, runs: EngineRuns) -> None:
    @server.tool(title="Run a workflow", annotations=_RUNS)
    async def execute_workflow(
        workflow: WorkflowText, ctx: ToolContext, inputs: Inputs = None
    ) -> RunResult:
        """Run a workflow to its end and give the result of every step.

        Progress tells each step as it happens. Cancelling the call cancels the run. Where
        `is_waiting` is true the run is not at its end: people must decide its `approvals` or send
        what it `waits` for, and it goes on by itself. You cannot decide; tell the user what to
        decide, and do not run it again.
        """
        owner = owner_of(ctx)
        checked = valid_workflow(workflow, backend)
        options = RunOptions(depth=depth_of(ctx), trace=trace_of(ctx))
        run, _ = await runs.start(checked, inputs, run_id_of(ctx), owner, options)
        try:
            await runs.report_events(run.run_id, owner, 0, ctx, until_rest=True)
            return await runs.result(run.run_id, owner)
        except asyncio.CancelledError:
            await runs.cancel_with_call(run.run_id, owner)
            raise

    @server.tool(title="Start a run", annotations=_RUNS, meta=FOR_SERVER)
    async def start_run(
        workflow: WorkflowText, ctx: ToolContext, inputs: Inputs = None, run_id: RunId | None = None
    ) -> StartedRun:
        """Start a run that goes on by itself (for the server; models use execute_workflow).

        The same `run_id` again gives the same run.
        """
        owner = owner_of(ctx)
        chosen = run_id_of(ctx) if run_id is None else chosen_run_id(run_id)
        checked = valid_workflow(workflow, backend)
        options = RunOptions(depth=depth_of(ctx), trace=trace_of(ctx))
        return started_run(*await runs.start(checked, inputs, chosen, owner, options))


def _register_following(server: MCPServer, runs: EngineRuns) -> None:
    @server.tool(title="Follow a run", annotations=_READS, meta=FOR_SERVER)
    async def watch_run(
        run_id: RunId,
        ctx: ToolContext,
        after_seq: Annotated[int, Field(ge=0, description="Last event already known.")] = 0,
        until_rest: Annotated[
            bool, Field(description="Whether to stop where nothing goes on without a person.")
        ] = False,
    ) -> RunResult:
        """Report the events after `after_seq` until the run ends, then its result."""
        owner = owner_of(ctx)
        await runs.get(run_id, owner)
        await runs.report_events(run_id, owner, after_seq, ctx, until_rest=until_rest)
        return await runs.result(run_id, owner)

    @server.tool(title="Show a run", annotations=_READS)
    async def get_run(run_id: RunId, ctx: ToolContext) -> RunResult:
        """Give the state of one run with its steps, and what it waits for."""
        return await runs.result(run_id, owner_of(ctx))

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
        parent: Annotated[
            RunId | None, Field(description="Only the runs that this run made.")
        ] = None,
    ) -> RunPage:
        """List runs, newest first; runs inside others are left out unless asked for."""
        run_filter = RunFilter(
            owner_of(ctx), status=status, workflow=workflow, limit=limit, parent_run_id=parent
        )
        return await runs.page(run_filter, cursor)


def _register_cancel(server: MCPServer, runs: EngineRuns) -> None:
    @server.tool(title="Cancel a run", annotations=_CANCELS)
    async def cancel_run(
        run_id: RunId,
        ctx: ToolContext,
        reason: Annotated[str, Field(description="Why.", max_length=500)] = "cancelled on request",
    ) -> RunResult:
        """Cancel a run; one that has ended stays as it is."""
        owner = owner_of(ctx)
        await runs.cancel(run_id, owner, reason)
        return await runs.result(run_id, owner)
