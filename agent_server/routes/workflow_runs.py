"""`/v1/workflows/runs`: the runs of the caller, which outlive the requests that began them."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator

import orjson
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from agent_server.answers import JsonResponse
from agent_server.error_responses import log_error
from agent_server.event_channel import EventChannel
from agent_server.mcp_servers import BACKEND
from agent_server.services import caller_of, services_of
from agent_server.workflow_run import WorkflowRun
from mcp_bridge.bridge import Bridge
from streaming.errors import (
    AgentServerError,
    BridgeError,
    InvalidRequestError,
    NotFoundError,
)
from streaming.events import JsonObject, WorkflowEvent
from streaming.openai_objects import error_object

STATUSES = ("queued", "running", "success", "failed", "cancelled", "timed_out")
MAX_LIMIT = 200
MAX_CHARACTERS = {"workflow": 200, "cursor": 500}
MAX_SEQ = 2**53
RESUME_SECONDS = 60.0

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


async def list_runs(request: Request) -> Response:
    """Runs, newest first: `?status=&workflow=&limit=&cursor=`, with the cursor of the next page."""
    caller_of(request).require("chat")
    arguments: JsonObject = {"limit": _number(request, "limit", 20, 1, MAX_LIMIT)}
    arguments |= {
        name: request.query_params[name]
        for name in ("status", "workflow", "cursor")
        if name in request.query_params
    }
    if "status" in arguments and arguments["status"] not in STATUSES:
        raise InvalidRequestError(f"'status' must be one of {', '.join(STATUSES)}.", param="status")
    for name, most in MAX_CHARACTERS.items():
        if len(str(arguments.get(name, ""))) > most:
            raise InvalidRequestError(f"'{name}' has {most} characters at most.", param=name)
    page = await _call(request, "list_runs", arguments)
    cursor = page.get("next_cursor")
    return JsonResponse(
        {
            "object": "list",
            "data": page.get("runs", []),
            "has_more": cursor is not None,
            "next_cursor": cursor,
        }
    )


async def get_run(request: Request) -> Response:
    """One run with its steps."""
    caller_of(request).require("chat")
    return JsonResponse(await _call(request, "get_run", _run_id(request)))


async def cancel_run(request: Request) -> Response:
    """Cancel a run; cancelling one that has ended changes nothing and answers its state."""
    caller_of(request).require_execution()
    return JsonResponse(await _call(request, "cancel_run", _run_id(request)))


async def run_events(request: Request) -> Response:
    """The run's events as SSE, each with its `seq` as id, live until the run has ended.

    `Last-Event-ID` (or `?after_seq=`) names the last event that the client has.
    """
    caller_of(request).require("chat")
    last = request.headers.get("last-event-id", "").strip()
    after_seq = _whole(last) if last else _number(request, "after_seq", 0, 0, MAX_SEQ)
    if after_seq is None or after_seq > MAX_SEQ:
        raise InvalidRequestError(
            "'Last-Event-ID' must be the id of an event of this run, a whole number.",
            param="Last-Event-ID",
        )
    await _call(request, "get_run", _run_id(request))
    owner, run_id = caller_of(request).owner, request.path_params["run_id"]
    return EventSourceResponse(
        _feed(_bridge(request), run_id, owner, after_seq),
        ping=max(1, round(services_of(request).settings.keep_alive_seconds)),
        headers={"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"},
    )


async def _feed(
    bridge: Bridge, run_id: str, owner: str, after_seq: int
) -> AsyncGenerator[ServerSentEvent, None]:
    run = WorkflowRun(
        bridge,
        BACKEND,
        run_id,
        owner,
        resume_seconds=RESUME_SECONDS,
        after_seq=after_seq,
    )
    channel = EventChannel()

    async def follow() -> None:
        try:
            await run.follow(channel.put)
        finally:
            await channel.end()

    following = asyncio.create_task(follow())
    try:
        async for event in channel.events():
            if isinstance(event, WorkflowEvent):
                yield ServerSentEvent(
                    orjson.dumps(dict(event.data)).decode(),
                    event=event.type,
                    id=str(event.data["seq"]),
                )
        await following
    except AgentServerError as exc:
        log_error(exc)
        yield ServerSentEvent(orjson.dumps(error_object(exc)).decode(), event="error")
    finally:
        channel.abandon()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError, AgentServerError):
            await following


async def _call(request: Request, tool: str, arguments: JsonObject) -> JsonObject:
    bridge = _bridge(request)
    owner = caller_of(request).owner
    result = await bridge.call_server(BACKEND, tool, arguments, owner=owner)
    if result.is_error:
        raise _refusal(tool, result.text)
    if result.structured is None:
        raise BridgeError("The workflow backend answered without a structured result.")
    return result.structured


def _bridge(request: Request) -> Bridge:
    agent = services_of(request).agent
    if agent is None:
        raise NotFoundError(
            "This server runs no workflows: the agent is off. Set AGENT_SERVER_AGENT=true."
        )
    return agent.bridge


def _refusal(tool: str, text: str) -> AgentServerError:
    """What the backend refuses: of a list the cursor, since all else was checked; else the id.

    The MCP SDK writes `Error executing tool <name>` before the tool's own words, and nothing behind
    it if the tool broke.
    """
    _, _, reason = text.partition(f"Error executing tool {tool}: ")
    if not reason:
        return BridgeError("The workflow backend failed on this request; the log tells why.")
    if tool == "list_runs":
        return InvalidRequestError(reason, code="invalid_cursor", param="cursor")
    return NotFoundError(reason, code="run_not_found", param="run_id")


def _run_id(request: Request) -> JsonObject:
    run_id = request.path_params["run_id"]
    if not _RUN_ID.fullmatch(run_id):
        raise NotFoundError(
            "A run id is 1 to 128 letters, digits, `_`, `.` and `-`.",
            code="run_not_found",
            param="run_id",
        )
    return {"run_id": run_id}


def _number(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    number = _whole(text)
    if number is None or not low <= number <= high:
        raise InvalidRequestError(
            f"'{name}' must be a whole number from {low} to {high}.", param=name
        )
    return number


def _whole(text: str) -> int | None:
    """The whole number that the text is, if it is one of at most 16 digits."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 16
    return int(text) if is_number else None
