"""The tool that draws a run: its steps and what they have come to."""

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from workflow_backend.backend import Backend
from workflow_backend.definition.mermaid import to_mermaid
from workflow_backend.engines.base import Engine, Run
from workflow_backend.tools.calls import RunId, ToolContext, owner_of
from workflow_backend.tools.engine_runs import EngineRuns
from workflow_backend.tools.results import GraphResult

_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
# Runs inside a run that are looked at; the others are drawn without states.
MAX_INNER_RUNS = 50


def register_graph_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tool to the server."""
    runs = EngineRuns(backend)

    @server.tool(title="Draw a run", annotations=_READS)
    async def get_run_graph(run_id: RunId, ctx: ToolContext) -> GraphResult:
        """Give the steps of a run as a Mermaid flowchart, coloured by what they have come to."""
        owner = owner_of(ctx)
        run = await runs.get(run_id, owner)
        workflow = await runs.workflow(run_id, owner)
        states = await _states_of(run, owner, backend.engine)
        return GraphResult(run_id=run.run_id, mermaid=to_mermaid(workflow, states))


async def _states_of(run: Run, owner: str, engine: Engine) -> dict[str, str]:
    """The statuses of the steps, those of the runs inside it as `ref/step`."""
    states: dict[str, str] = {}
    pending = [(run, "")]
    looked_at = 0
    while pending:
        current, prefix = pending.pop()
        for step in current.steps:
            states[f"{prefix}{step['name']}"] = str(step["status"])
            inner_id = step.get("child_run_id")
            if isinstance(inner_id, str) and looked_at < MAX_INNER_RUNS:
                looked_at += 1
                inner = await engine.get(inner_id, owner)
                pending.append((inner, f"{inner.workflow}/"))
    return states
