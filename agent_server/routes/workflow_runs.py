"""`GET /v1/workflows/runs...`: the runs of the caller, which outlive the requests that began them.

What can be done with them is in `run_commands`.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agent_server.answers import JsonResponse
from agent_server.error_responses import log_error
from agent_server.routes.backend_calls import bridge_of, call_backend, run_id_of
from agent_server.run_feed import run_feed
from agent_server.services import caller_of, services_of
from mcp_bridge.bridge import Bridge
from streaming.errors import AgentServerError, InvalidRequestError
from streaming.events import JsonObject
from streaming.openai_objects import error_object

STATUSES = ("queued", "running", "success", "failed", "cancelled", "timed_out")
MAX_LIMIT = 200
MAX_CHARACTERS = {"workflow": 200, "cursor": 500, "parent": 128}
MAX_SEQ = 2**53


async def list_runs(request: Request) -> Response:
    """Runs, newest first: `?status=&workflow=&parent=&limit=&cursor=`, with the next page's cursor.

    Runs that other runs made are left out; `parent` names the run whose own are listed.
    """
    caller_of(request).require("chat")
    arguments: JsonObject = {"limit": _number(request, "limit", 20, 1, MAX_LIMIT)}
    arguments |= {
        name: request.query_params[name]
        for name in ("status", "workflow", "cursor", "parent")
        if name in request.query_params
    }
    if "status" in arguments and arguments["status"] not in STATUSES:
        raise InvalidRequestError(f"'status' must be one of {', '.join(STATUSES)}.", param="status")
    for name, most in MAX_CHARACTERS.items():
        if len(str(arguments.get(name, ""))) > most:
            raise InvalidRequestError(f"'{name}' has {most} characters at most.", param=name)
    page = await call_backend(request, "list_runs", arguments)
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
    return JsonResponse(await call_backend(request, "get_run", {"run_id": run_id_of(request)}))


async def get_graph(request: Request) -> Response:
    """The run's steps as a Mermaid flowchart, coloured by what they have come to."""
    caller_of(request).require("chat")
    drawn = await call_backend(request, "get_run_graph", {"run_id": run_id_of(request)})
    return PlainTextResponse(
        str(drawn.get("mermaid")), headers={"x-content-type-options": "nosniff"}
    )


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
    run_id = run_id_of(request)
    await call_backend(request, "get_run", {"run_id": run_id})
    return EventSourceResponse(
        _feed(bridge_of(request), run_id, caller_of(request).owner, after_seq),
        ping=max(1, round(services_of(request).settings.keep_alive_seconds)),
        headers={"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"},
    )


async def _feed(
    bridge: Bridge, run_id: str, owner: str, after_seq: int
) -> AsyncGenerator[ServerSentEvent, None]:
    try:
        async with aclosing(run_feed(bridge, run_id, owner, after_seq)) as feed:
            async for event in feed:
                yield ServerSentEvent(
                    orjson.dumps(dict(event.data)).decode(),
                    event=event.type,
                    id=str(event.data["seq"]),
                )
    except AgentServerError as exc:
        log_error(exc)
        yield ServerSentEvent(orjson.dumps(error_object(exc)).decode(), event="error")


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


_RUNS = "/v1/workflows/runs"
ROUTES = (
    Route(_RUNS, list_runs, methods=["GET"]),
    Route(f"{_RUNS}/{{run_id}}", get_run, methods=["GET"]),
    Route(f"{_RUNS}/{{run_id}}/graph", get_graph, methods=["GET"]),
    Route(f"{_RUNS}/{{run_id}}/events", run_events, methods=["GET"]),
)
