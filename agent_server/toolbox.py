"""The tools that a turn of the agent may call, joined to the MCP servers behind them.

The policy stands here, before the call, so that no model can argue with it: a workflow is executed
only if the server's mode allows it, if the caller may, and if the newest message of the user asks
for it; a run is cancelled only if the caller may. A caller with a run token has the tools that it
names and no others, and their names stand for the order: the text of a step is made of data, which
gives none. Whatever goes wrong in a call becomes its result,
in words that a model can use and that give away nothing of the server's inside.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from agent_server.log_config import get_logger
from agent_server.tool_arguments import ArgumentsError, read_arguments
from agent_server.tool_results import result_text
from agent_server.workflow_run import WorkflowRun
from mcp_bridge.bridge import DEPTH_META_KEY, Bridge
from mcp_bridge.catalogue import Tool
from mcp_bridge.results import ToolResult
from providers.chat_request import ToolCall, ToolSpec
from streaming.errors import BridgeError, BridgeTimeoutError, BridgeUnavailableError
from streaming.events import AgentToolCalled, AgentToolReturned, Event, JsonObject, JsonValue
from streaming.run_tokens import RunClaims

if TYPE_CHECKING:
    from agent_server.telemetry.spans import Telemetry

EXECUTE_TOOL = "execute_workflow"
CANCEL_TOOL = "cancel_run"
COMPILE_TOOL = "compile_workflow"
T = TypeVar("T")
WorkflowMode = Literal["run", "plan"]
Emit = Callable[[Event], Awaitable[None]]
# Told how each run has ended that a caller followed: its status, `refused` or `lost`, and seconds.
OnRunEnded = Callable[[str, float], None]

_CLOSE_SECONDS = 10.0

log = get_logger()


@dataclass(slots=True)
class AgentCaller:
    """Whose request the agent answers, and what it may do for them.

    `owner` is whom the runs belong to. `may_not_execute` is empty, or says why no workflow may be
    executed and which setting or scope would allow it. A detached run outlives its request,
    unless `detached` is taken back before that ends.
    `trace` are the headers of the trace context in which the agent works. `claims` are those of
    the run token of an agent step. `name` is who decides where the caller decides an approval;
    `may_not_approve` is empty, or says why they may not.
    """

    owner: str
    may_not_execute: str = ""
    detached: bool = False
    trace: Mapping[str, str] = field(default_factory=dict)
    claims: RunClaims | None = None
    name: str = ""
    may_not_approve: str = ""

    @property
    def meta(self) -> Mapping[str, JsonValue]:
        """What our own backend is told with each call: how many agents stand above it."""
        return {} if self.claims is None else {DEPTH_META_KEY: self.claims.depth}


@dataclass(frozen=True, slots=True)
class ToolboxLimits:
    """Seconds and characters that a tool may take.

    `resume_seconds` is how long a backend that died may stay away before its run is given up.
    """

    call_timeout_seconds: float = 120.0
    resume_seconds: float = 60.0
    max_result_characters: int = 32_000


class Toolbox:
    """All tools of one server process, and what may be done with them."""

    def __init__(
        self,
        bridge: Bridge,
        *,
        workflow_mode: WorkflowMode = "run",
        limits: ToolboxLimits | None = None,
        on_run_ended: OnRunEnded | None = None,
        telemetry: "Telemetry | None" = None,
    ) -> None:
        self._bridge = bridge
        self._on_run_ended = on_run_ended
        self._telemetry = telemetry
        self._workflow_mode = workflow_mode
        self._limits = limits or ToolboxLimits()
        self._background: set[asyncio.Task[object]] = set()

    @property
    def workflow_mode(self) -> WorkflowMode:
        """The most that the agent may do."""
        return self._workflow_mode

    @property
    def bridge(self) -> Bridge:
        """The way to the servers of the tools."""
        return self._bridge

    @property
    def resume_seconds(self) -> float:
        """How long a backend that died may stay away before its run is given up."""
        return self._limits.resume_seconds

    def specs(self, caller: AgentCaller | None = None) -> tuple[ToolSpec, ...]:
        """The tools as a model is told of them: all, or those that a caller may have called."""
        return tuple(
            ToolSpec(tool.name, tool.description, tool.input_schema, strict=False)
            for tool in self._tools(caller)
        )

    def may_not_execute(self, caller: AgentCaller, *, run_is_asked: bool) -> str:
        """Why a workflow may not be executed now, for a model to pass on; empty if it may."""
        if self._workflow_mode == "plan":
            return (
                "This server plans workflows and does not execute them: "
                "AGENT_SERVER_WORKFLOW_MODE is plan. Show the workflow and its plan."
            )
        if caller.may_not_execute:
            return f"{caller.may_not_execute} Show the workflow and its plan, and say so."
        if not run_is_asked and caller.claims is None:
            return (
                "The newest message of the user does not ask to run anything, so nothing was "
                'executed. Show the workflow and ask whether to run it ("run it" does).'
            )
        return ""

    async def call(
        self, call: ToolCall, caller: AgentCaller, *, run_is_asked: bool, emit: Emit
    ) -> AgentToolReturned:
        """Call a tool and give its result, whatever it is; its events go to `emit` meanwhile."""
        tools = {tool.name: tool for tool in self._tools(caller)}
        tool = tools.get(call.name)
        if tool is None:
            known = ", ".join(sorted(tools)) or "none"
            return await self._refuse(call, {}, f"No tool {call.name!r}. Tools: {known}.", emit)
        try:
            arguments = read_arguments(call.arguments, tool.input_schema)
        except ArgumentsError as exc:
            return await self._refuse(call, {}, str(exc), emit)
        executes = tool.is_own and tool.server_tool == EXECUTE_TOOL
        if executes and (reason := self.may_not_execute(caller, run_is_asked=run_is_asked)):
            return await self._refuse(call, arguments, reason, emit)
        if tool.is_own and tool.server_tool == CANCEL_TOOL and caller.may_not_execute:
            return await self._refuse(call, arguments, caller.may_not_execute, emit)
        await emit(AgentToolCalled(call.call_id, call.name, arguments))
        result = await self._traced(call, tool, arguments, caller, emit if executes else None)
        if tool.is_own and tool.server_tool == COMPILE_TOOL:
            _log_workflow(result)
        # Our own text is the object again, only longer.
        is_object = tool.is_own and result.structured is not None and not result.is_error
        own_text = "" if is_object else result.text
        text = result_text(own_text, result.structured, self._limits.max_result_characters)
        returned = AgentToolReturned(
            call.call_id, call.name, text, result.structured, result.is_error
        )
        await emit(returned)
        return returned

    async def aclose(self) -> None:
        """Wait for the cancels that are under way, for 10 s at the most."""
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()

    def _tools(self, caller: AgentCaller | None) -> Sequence[Tool]:
        tools = self._bridge.tools()
        if caller is None or caller.claims is None:
            return tools
        return [tool for tool in tools if tool.name in caller.claims.tools]

    async def _refuse(
        self, call: ToolCall, arguments: JsonObject, reason: str, emit: Emit
    ) -> AgentToolReturned:
        await emit(AgentToolCalled(call.call_id, call.name, arguments))
        returned = AgentToolReturned(call.call_id, call.name, reason, is_error=True)
        await emit(returned)
        return returned

    async def _traced(
        self,
        call: ToolCall,
        tool: Tool,
        arguments: JsonObject,
        caller: AgentCaller,
        emit: Emit | None,
    ) -> ToolResult:
        if self._telemetry is None:
            return await self._result(tool, arguments, caller, emit)
        span = self._telemetry.tool(call.name, call.call_id, caller.trace)
        try:
            inside = replace(caller, trace=span.headers)
            result = await self._result(tool, arguments, inside, emit)
        except BaseException as exc:
            span.end(exc)
            raise
        span.end("tool_error" if result.is_error else None)
        return result

    async def _result(
        self, tool: Tool, arguments: JsonObject, caller: AgentCaller, emit: Emit | None
    ) -> ToolResult:
        try:
            if emit is not None:
                return await self._execute(tool.server, arguments, caller, emit)
            return await self._bridge.call(
                tool.name,
                arguments,
                owner=caller.owner,
                meta=caller.meta,
                trace=caller.trace,
                timeout_seconds=self._limits.call_timeout_seconds,
            )
        except BridgeError as exc:
            log.warning("Tool call failed", tool=tool.name, error=exc.message, code=exc.code)
            return ToolResult(_in_words(tool.name, exc), None, is_error=True)

    async def _execute(
        self, server: str, arguments: JsonObject, caller: AgentCaller, emit: Emit
    ) -> ToolResult:
        began, status = time.monotonic(), "cancelled"
        try:
            result, status = await self._follow(server, arguments, caller, emit)
        finally:
            if self._on_run_ended is not None:
                self._on_run_ended(status, time.monotonic() - began)
        return result

    async def _follow(
        self, server: str, arguments: JsonObject, caller: AgentCaller, emit: Emit
    ) -> tuple[ToolResult, str]:
        """What became of a run, for the model, and its status in one word."""
        run = WorkflowRun(
            self._bridge,
            server,
            str(uuid.uuid4()),
            caller.owner,
            resume_seconds=self._limits.resume_seconds,
            trace=caller.trace,
            meta=caller.meta,
        )
        starting = self._in_background(run.start(arguments))
        try:
            started = await asyncio.shield(starting)
            if started.is_error:
                return started, "refused"
            log.info("Execution started: %s", run.run_id, detached=caller.detached)
            result = await run.follow(emit, until_rest=True)
        except asyncio.CancelledError:
            if not caller.detached and not run.has_asked:
                self._in_background(_give_up(run, starting))
            raise
        except BridgeError as exc:
            log.warning("Execution lost from sight", run_id=run.run_id, error=exc.message)
            lost = ToolResult(_lost(run.run_id), {"run_id": run.run_id}, is_error=True)
            return lost, "lost"
        state = result.structured or {}
        if state.get("is_waiting") is True:
            log.info("Execution waits: %s", run.run_id)
            return replace(result, structured={**state, "note": _WAITING_NOTE}), "waiting"
        status = str(state.get("status"))
        log.info("Execution finished: %s", run.run_id, status=status)
        return result, status

    def _in_background(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


_WAITING_NOTE = (
    "The run is not over: it waits for what `approvals` and `waits` say, and goes on by itself "
    "once it has that. You cannot decide it. Do not run it again. Tell the user each message, and "
    "that they decide by writing `approve <approval_id>` or `reject <approval_id>`."
)


async def _give_up(run: WorkflowRun, starting: asyncio.Task[ToolResult]) -> None:
    """Cancel a run whose caller has gone; one that is just starting is first let start."""
    await asyncio.gather(starting, return_exceptions=True)
    await run.cancel()
    log.info("Execution cancelled: its caller has gone", run_id=run.run_id)


def _log_workflow(compiled: ToolResult) -> None:
    answer = compiled.structured or {}
    if answer.get("valid"):
        log.info("Workflow created: %s", answer.get("name"))
    else:
        log.info("Workflow refused", problems=len(cast("list[object]", answer.get("problems", []))))


def _lost(run_id: str) -> str:
    return (
        f"The workflow backend does not answer. Run {run_id} may have begun; if so, it goes on "
        "when the backend is back. Do not start it again: tell the user its id."
    )


def _in_words(tool: str, error: BridgeError) -> str:
    if error.code == "unknown_tool":
        return f"{tool} is not there any more: its server is away. Nothing was called."
    if isinstance(error, BridgeTimeoutError):
        return f"{tool} did not answer in time. It may have done its work all the same."
    if isinstance(error, BridgeUnavailableError):
        return f"{tool} is not available now: its server is away. The call may have run."
    return f"{tool} failed: its server answered something unusable. The call may have run."
