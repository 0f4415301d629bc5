"""`GET /v1/workflows/runs/{run_id}/artefacts` and `/logs`: what the steps of a run left and wrote.

Steps are hostile: whatever a file is called or holds, it goes out as a download of bytes, never as
something that a browser would show; an output goes out as plain text.
"""

import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_server.answers import JsonResponse
from agent_server.followed_stream import FollowedStream
from agent_server.live_log import LiveLog
from agent_server.routes.backend_calls import bridge_of, call_backend, run_id_of
from agent_server.run_feed import run_feed
from agent_server.services import caller_of, services_of
from streaming.errors import AgentServerError, BridgeError, InvalidRequestError
from streaming.events import JsonObject

MAX_NAME_CHARACTERS: Final = 1_000
MAX_STEP_CHARACTERS: Final = 200
MAX_CURSOR_CHARACTERS: Final = 100
_HARMLESS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cache-control": "private, no-cache",
}


async def list_artefacts(request: Request) -> Response:
    """The files that the steps of a run left, and the logs of long outputs: `?limit=&cursor=`."""
    caller_of(request).require("chat")
    arguments: JsonObject = {"run_id": run_id_of(request)}
    if "limit" in request.query_params:
        arguments["limit"] = _number(request, "limit", 1, 1_000)
    if "cursor" in request.query_params:
        arguments["cursor"] = _short(request, "cursor", MAX_CURSOR_CHARACTERS)
    page = await call_backend(request, "list_artefacts", arguments)
    cursor = page.get("next_cursor")
    return JsonResponse(
        {
            "object": "list",
            "data": page.get("artefacts", []),
            "has_more": cursor is not None,
            "next_cursor": cursor,
        }
    )


async def get_artefact(request: Request) -> Response | FollowedStream:
    """One file as a download; of several of this name in the step the newest."""
    caller_of(request).require("chat")
    name = request.path_params["name"][:MAX_NAME_CHARACTERS]
    arguments: JsonObject = {
        "run_id": run_id_of(request),
        "step": request.path_params["step"][:MAX_STEP_CHARACTERS],
        "name": name,
    }
    first = await call_backend(request, "read_artefact", arguments)
    headers = {
        **_HARMLESS,
        "content-type": "application/octet-stream",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(_base_name(name), safe='')}",
        "content-length": str(first["size"]),
        "etag": f'"{first["sha256"]}"',
    }
    if request.method == "HEAD":
        return Response(headers=headers)
    return _stream(request, _parts(request, arguments, first), headers, lambda _: b"")


async def get_logs(request: Request) -> Response | FollowedStream:
    """What the steps of a run wrote, whole: `?step=&attempt=&follow=`.

    With `follow=true` it is what they write while they do, until the run has ended.
    """
    caller_of(request).require("chat")
    arguments: JsonObject = {"run_id": run_id_of(request)}
    step, attempt = request.query_params.get("step"), None
    if step is not None:
        arguments["step"] = step = _short(request, "step", MAX_STEP_CHARACTERS)
    if "attempt" in request.query_params:
        arguments["attempt"] = attempt = _number(request, "attempt", 1, 1_000_000)
    headers = {**_HARMLESS, "content-type": "text/plain; charset=utf-8"}
    if _is_true(request, "follow"):
        await call_backend(request, "get_run", {"run_id": arguments["run_id"]})
        if request.method == "HEAD":
            return Response(headers=headers)
        headers |= {"x-accel-buffering": "no"}
        return _stream(request, _live(request, LiveLog(step, attempt)), headers, _failed)
    first = await call_backend(request, "read_log", arguments)
    if request.method == "HEAD":
        return Response(headers=headers)
    return _stream(request, _pages(request, arguments, first), headers, _failed)


async def _parts(
    request: Request, arguments: JsonObject, part: JsonObject
) -> AsyncGenerator[bytes, None]:
    """The parts of an artefact from its first one on."""
    size, sent = part["size"], 0
    while True:
        data = base64.b64decode(str(part["data"]))
        sent += len(data)
        if data:
            yield data
        if sent == size:
            return
        if not data:
            raise BridgeError("The workflow backend gave less of an artefact than there is.")
        further: JsonObject = {"offset": sent, "sha256": part["sha256"]}
        part = await call_backend(request, "read_artefact", {**arguments, **further})


async def _pages(
    request: Request, arguments: JsonObject, page: JsonObject
) -> AsyncGenerator[bytes, None]:
    """The pages of outputs from the first one on."""
    while True:
        if text := str(page["text"]):
            yield text.encode("utf-8", "replace")
        if page["is_end"]:
            return
        page = await call_backend(request, "read_log", {**arguments, "cursor": page["cursor"]})


async def _live(request: Request, log: LiveLog) -> AsyncGenerator[bytes, None]:
    owner = caller_of(request).owner
    async with aclosing(run_feed(bridge_of(request), run_id_of(request), owner)) as feed:
        async for event in feed:
            if text := log.text_of(event.data):
                yield text.encode("utf-8", "replace")


def _stream(
    request: Request,
    frames: AsyncGenerator[bytes, None],
    headers: dict[str, str],
    fail: Callable[[AgentServerError], bytes],
) -> FollowedStream:
    return FollowedStream(
        frames,
        headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        # Nothing may stand between the bytes of a file.
        keep_alive=b"",
        keep_alive_seconds=services_of(request).settings.keep_alive_seconds,
        fail=fail,
    )


def _failed(error: AgentServerError) -> bytes:
    """The last line of a text that cannot be read on; a file just ends too early."""
    return f"\n== the rest cannot be read: {error.message} ==\n".encode("utf-8", "replace")


def _base_name(name: str) -> str:
    return name.rpartition("/")[2] or "artefact"


def _number(request: Request, name: str, low: int, high: int) -> int:
    text = request.query_params[name]
    if text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high:
        return int(text)
    raise InvalidRequestError(f"'{name}' must be a whole number from {low} to {high}.", param=name)


def _short(request: Request, name: str, most: int) -> str:
    text = request.query_params[name]
    if len(text) > most:
        raise InvalidRequestError(f"'{name}' has {most} characters at most.", param=name)
    return text


def _is_true(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false")
    if text not in {"true", "false"}:
        raise InvalidRequestError(f"'{name}' must be true or false.", param=name)
    return text == "true"


_RUN = "/v1/workflows/runs/{run_id}"
ROUTES = (
    Route(f"{_RUN}/artefacts", list_artefacts, methods=["GET"]),
    Route(f"{_RUN}/artefacts/{{step}}/{{name:path}}", get_artefact, methods=["GET"]),
    Route(f"{_RUN}/logs", get_logs, methods=["GET"]),
)
