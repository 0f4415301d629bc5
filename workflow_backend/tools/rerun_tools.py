"""The tool that runs a workflow again, where it failed or from a step on.

Guarantee: the run that is repeated stays as it is; what is kept of it is what its journal recorded.
"""

from typing import Annotated

from mcp.server import MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field

from workflow_backend.backend import Backend
from workflow_backend.engines.base import RunOptions
from workflow_backend.reruns import RerunError, kept_states
from workflow_backend.tools.calls import (
    FOR_SERVER,
    RunId,
    ToolContext,
    chosen_run_id,
    owner_of,
    trace_of,
)
from workflow_backend.tools.engine_runs import EngineRuns
from workflow_backend.tools.refusals import RefusalError
from workflow_backend.tools.results import StartedRun
from workflow_backend.tools.runs import started_run

_RUNS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
)


def register_rerun_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tools to the server."""
    runs = EngineRuns(backend)

    @server.tool(title="Run again", annotations=_RUNS, meta=FOR_SERVER)
    async def rerun_run(
        run_id: RunId,
        ctx: ToolContext,
        from_step: Annotated[
            str | None,
            Field(description="Where to begin anew; without it at what failed.", max_length=200),
        ] = None,
        new_run_id: RunId | None = None,
    ) -> StartedRun:
        """Run the workflow of an ended run again, keeping what succeeded before (for the server).

        The same `new_run_id` again gives the same run.
        """
        owner = owner_of(ctx)
        earlier = await runs.get(run_id, owner)
        if earlier.finished_at is None:
            raise RefusalError(
                "run_not_ended",
                f"The run {run_id} has not ended: cancel it first, or wait for its end.",
            )
        workflow = await runs.workflow(run_id, owner)
        states = await backend.engine.states(run_id, owner)
        try:
            kept = kept_states(workflow, states, from_step)
        except RerunError as error:
            raise RefusalError("invalid_step", f"Nothing is run again: {error}") from error
        chosen = None if new_run_id is None else chosen_run_id(new_run_id)
        options = RunOptions(earlier.depth, kept, earlier.run_id, trace=trace_of(ctx))
        return started_run(*await runs.start(workflow, earlier.inputs, chosen, owner, options))
