"""Calls of the workflow backend for a request, and its refusals as errors of ours."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from starlette.requests import Request

from agent_server.mcp_servers import BACKEND
from agent_server.services import caller_of, services_of
from mcp_bridge.bridge import Bridge
from mcp_bridge.results import ToolResult
from streaming.errors import (
    AgentServerError,
    BridgeError,
    BridgeUnavailableError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProblemsError,
)
from streaming.events import JsonObject, JsonValue

RETRY_SECONDS: Final = 5.0
# The trace context of the caller (W3C), in which a run's steps are seen.
TRACE_HEADERS: Final = ("traceparent", "tracestate")

RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


async def call_backend(request: Request, tool: str, arguments: JsonObject) -> JsonObject:
    """What a tool of the backend gives the caller.

    Raises:
        AgentServerError: the tool refused, or the backend failed.
    """
    headers = request.headers
    trace = {name: headers[name] for name in TRACE_HEADERS if name in headers}
    owner = caller_of(request).owner
    return await call_for(bridge_of(request), tool, arguments, owner, trace)


async def call_for(
    bridge: Bridge,
    tool: str,
    arguments: JsonObject,
    owner: str | None,
    trace: Mapping[str, str] | None = None,
) -> JsonObject:
    """What a tool of the backend gives an owner; raises as `call_backend`."""
    result = await bridge.call_server(BACKEND, tool, arguments, owner=owner, trace=trace)
    if result.is_error:
        raise refusal_of(result)
    if result.structured is None:
        raise BridgeError("The workflow backend answered without a structured result.")
    return result.structured


def bridge_of(request: Request) -> Bridge:
    """The way to the backend.

    Raises:
        NotFoundError: this server has none.
    """
    agent = services_of(request).agent
    if agent is None:
        raise NotFoundError(
            "This server runs no workflows: the agent is off. Set AGENT_SERVER_AGENT=true."
        )
    return agent.bridge


def run_id_of(request: Request) -> str:
    """The run that the path names.

    Raises:
        NotFoundError: it is no run's name.
    """
    run_id: str = request.path_params["run_id"]
    if not RUN_ID.fullmatch(run_id):
        raise NotFoundError(
            "A run id is 1 to 128 letters, digits, `_`, `.` and `-`.",
            code="run_not_found",
            param="run_id",
        )
    return run_id


def refusal_of(result: ToolResult) -> AgentServerError:
    """The error for a result that is one: by its code, or else the backend's own failure."""
    refused = result.structured or {}
    code, message = refused.get("code"), refused.get("message")
    if not isinstance(code, str) or not isinstance(message, str) or code not in _ERRORS:
        return BridgeError("The workflow backend failed on this request; the log tells why.")
    return _ERRORS[code](code, message, refused.get("problems"))


def _error(
    kind: type[AgentServerError], param: str | None = None
) -> Callable[[str, str, JsonValue], AgentServerError]:
    return lambda code, message, _: kind(message, code=code, param=param)


def _later(kind: type[AgentServerError]) -> Callable[[str, str, JsonValue], AgentServerError]:
    return lambda code, message, _: kind(
        message, code=code, is_retryable=True, retry_after_seconds=RETRY_SECONDS
    )


def _problems(param: str) -> Callable[[str, str, JsonValue], AgentServerError]:
    def error(code: str, message: str, problems: JsonValue) -> AgentServerError:
        listed = problems if isinstance(problems, list) else []
        found = [
            {key: str(value) for key, value in problem.items()}
            for problem in listed
            if isinstance(problem, dict)
        ]
        return ProblemsError(message, code=code, param=param, problems=found)

    return error


# The codes of `workflow_backend.tools.refusals`.
_ERRORS: Final[Mapping[str, Callable[[str, str, JsonValue], AgentServerError]]] = {
    "run_not_found": _error(NotFoundError, "run_id"),
    "approval_not_found": _error(NotFoundError, "step"),
    "signal_not_found": _error(NotFoundError, "name"),
    "hook_not_found": _error(NotFoundError, "token"),
    "artefact_not_found": _error(NotFoundError, "name"),
    "artefact_gone": _error(NotFoundError, "name"),
    "log_not_found": _error(NotFoundError, "step"),
    "schedule_not_found": _error(NotFoundError, "name"),
    "schedule_overlap": _error(ConflictError, "name"),
    "too_many_schedules": _error(ConflictError, "name"),
    "no_schedule": _error(InvalidRequestError, "workflow"),
    "invalid_name": _error(InvalidRequestError, "name"),
    "run_conflict": _error(ConflictError, "run_id"),
    "run_ended": _error(ConflictError, "run_id"),
    "run_not_ended": _error(ConflictError, "run_id"),
    "approval_not_open": _error(ConflictError, "step"),
    "invalid_run_id": _error(InvalidRequestError, "run_id"),
    "invalid_cursor": _error(InvalidRequestError, "cursor"),
    "invalid_step": _error(InvalidRequestError, "from_step"),
    "workflow_blocked": _error(InvalidRequestError, "workflow"),
    "invalid_workflow": _problems("workflow"),
    "invalid_inputs": _problems("inputs"),
    "invalid_values": _problems("values"),
    "server_only": _error(PermissionDeniedError),
    "engine_busy": _later(OverloadedError),
    "engine_unavailable": _later(BridgeUnavailableError),
}
