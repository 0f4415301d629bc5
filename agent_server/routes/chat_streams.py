"""`GET /api/chat/{id}/stream` and `GET /api/chat?chatId=`: a detached stream is read again.

Source: Vercel AI SDK, `DefaultChatTransport.reconnectToStream` of 5, 6 and 7 and
`experimental_resume` of 4.3, 2026-11; WHATWG HTML, section 9.2 "Server-sent events", by which a
client names the last event that it has in `Last-Event-ID`, and takes a 204 for the end.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from agent_server.chat_streams import ChatStreams
from agent_server.detached_stream import DetachedStream
from agent_server.services import caller_of
from agent_server.stream_formats import USE_CHAT_PATH
from streaming.errors import AgentServerError, InvalidRequestError
from streaming.vercel_data import DataV1Encoder

# An id may hold slashes, which the path shows as they are.
STREAM_PATH: Final = f"{USE_CHAT_PATH}/{{chat_id:path}}/stream"
LAST_EVENT_ID: Final = "Last-Event-ID"
MAX_DIGITS: Final = 16


class ChatStreamResources:
    """The endpoints of the router."""

    def __init__(self, streams: ChatStreams) -> None:
        self._streams = streams

    async def by_path(self, request: Request) -> ASGIApp:
        """The stream of the chat that the path names, whole or after `Last-Event-ID`; else 204."""
        owner = _owner(request)
        return await self._resumed(request, owner, request.path_params["chat_id"]) or _nothing()

    async def by_query(self, request: Request) -> ASGIApp:
        """As by path, of the chat that `chatId` names."""
        owner = _owner(request)
        chat_id = request.query_params.get("chatId")
        if not chat_id:
            raise InvalidRequestError(
                "Name the chat whose stream is to be resumed: ?chatId=ID.", param="chatId"
            )
        resumed = await self._resumed(request, owner, chat_id)
        if resumed is None and "content-type" in request.headers:
            # The hook of AI SDK 4, which has a content type on its GET, takes a 204 for an error.
            return Response(media_type=DataV1Encoder.content_type, headers=DataV1Encoder.headers)
        return resumed or _nothing()

    async def _resumed(self, request: Request, owner: str, chat_id: str) -> ASGIApp | None:
        last_id = _last_event_id(request)
        stream = self._streams.find(owner, chat_id)
        if stream is None:
            return None
        try:
            await stream.begun()
        except AgentServerError:
            # It was told to who asked for the answer, and nothing of one was ever there.
            return None
        after = _first_wanted(stream, last_id)
        if after is None:
            return None
        stream.check_held_after(after)
        return self._streams.follow(stream, after)


def chat_stream_routes(streams: ChatStreams) -> list[Route]:
    """The routes of detached chat streams."""
    resources = ChatStreamResources(streams)
    routes = [
        Route(USE_CHAT_PATH, resources.by_query, methods=["GET"]),
        Route(STREAM_PATH, resources.by_path, methods=["GET"]),
    ]
    for route in routes:
        # Starlette adds it to GET, and who asks for a head alone has read nothing of the stream.
        route.methods = {"GET"}
    return routes


def _owner(request: Request) -> str:
    caller = caller_of(request)
    caller.require("chat")
    return caller.owner


def _first_wanted(stream: DetachedStream, last_id: int | None) -> int | None:
    """The number of the event after which to begin, None where nothing is left to tell."""
    if last_id is None or not stream.is_numbered:
        # Who gets a message twice shows it twice, and runs the page's tools again.
        return None if stream.is_over and stream.is_delivered else 0
    if last_id > stream.count:
        raise InvalidRequestError(
            f"This stream has {stream.count} events so far: send as '{LAST_EVENT_ID}' the id of "
            "the last one that you have, or leave it out to get all.",
            param=LAST_EVENT_ID,
        )
    return None if stream.is_over and last_id == stream.count else last_id


def _last_event_id(request: Request) -> int | None:
    text = request.headers.get(LAST_EVENT_ID, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise InvalidRequestError(
            f"'{LAST_EVENT_ID}' must be the id of an event of this stream, a whole number; leave "
            "it out to get all.",
            param=LAST_EVENT_ID,
        )
    return int(text)


def _nothing() -> Response:
    return Response(status_code=204, headers={"cache-control": "no-store"})
