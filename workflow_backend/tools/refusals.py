"""How the tools refuse: words for models and people, and a code for the server in front."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, TextContent
from typing_extensions import override

from workflow_backend.definition.plain_text import plain_text
from workflow_backend.definition.problems import Problem
from workflow_backend.engines.base import (
    EngineBusyError,
    EngineUnavailableError,
    RunConflictError,
    RunEndedError,
    RunNotFoundError,
)


class RefusalError(ToolError):
    """A call that is refused. `code` is a stable word, `problems` what is wrong with what was sent.

    Codes: `run_not_found`, `run_conflict`, `run_ended`, `run_not_ended`, `approval_not_found`,
    `approval_not_open`, `signal_not_found`, `hook_not_found`, `invalid_workflow`, `invalid_inputs`,
    `invalid_values`, `invalid_step`, `invalid_cursor`, `invalid_run_id`, `workflow_blocked`,
    `engine_busy`, `engine_unavailable`, `server_only`, `artefact_not_found`, `artefact_gone`,
    `log_not_found`, `schedule_not_found`, `schedule_overlap`, `too_many_schedules`, `no_schedule`,
    `invalid_name`.
    """

    def __init__(self, code: str, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.problems = tuple(problems)

    def as_object(self) -> dict[str, Any]:
        """The refusal as the server in front reads it."""
        problems = [
            {"path": problem.path, "reason": problem.reason, "fix": problem.fix}
            for problem in self.problems
        ]
        return {"code": self.code, "message": self.message, "problems": problems}


class RefusingServer(MCPServer):
    """An MCP server whose refusals are also objects: `{code, message, problems}`."""

    @override
    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; a refusal is a result that is an error, with its object."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            refused = error.__cause__
            if not isinstance(refused, RefusalError):
                raise
            return CallToolResult(
                content=[TextContent(type="text", text=str(error))],
                structured_content=refused.as_object(),
                is_error=True,
            )


def with_problems(code: str, what: str, problems: Sequence[Problem]) -> RefusalError:
    """The error that a model can repair what it sent by: path, reason and fix of each fault."""
    lines = [
        f"- path: {problem.path or '(whole document)'}\n"
        f"  reason: {problem.reason}\n"
        f"  fix: {problem.fix}"
        for problem in problems
    ]
    return RefusalError(code, plain_text(f"{what}\n" + "\n".join(lines)), problems)


@contextmanager
def engine_refusals(run_id: str) -> Iterator[None]:
    """What an engine refuses of a run, said in the words of the tools."""
    try:
        yield
    except tuple(_ENGINE_REFUSALS) as error:
        code, words = next(row for kind, row in _ENGINE_REFUSALS.items() if isinstance(error, kind))
        raise RefusalError(code, words.format(run_id=run_id, why=error)) from error


_ENGINE_REFUSALS: Mapping[type[Exception], tuple[str, str]] = {
    RunNotFoundError: ("run_not_found", "There is no run {run_id}. `list_runs` gives the ids."),
    RunConflictError: ("run_conflict", "The run cannot begin: {why}."),
    RunEndedError: (
        "run_ended",
        "Nothing can be given to the run {run_id}: it has ended, or waits for this no more.",
    ),
    EngineBusyError: ("engine_busy", "The server is busy: {why}."),
    EngineUnavailableError: ("engine_unavailable", "Workflows cannot be run now: {why}."),
}
