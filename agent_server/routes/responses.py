"""`/v1/responses`: OpenAI's Responses, made at once or in the background, kept and continued.

Source: OpenAI API reference, "Responses" (create, get, delete, cancel, list input items) and the
guide "Background mode", 2026-11.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_server.answers import JsonResponse, RawHeaders, StreamWriter, send_body
from agent_server.client_watch import ClientWatch
from agent_server.dropped_fields import dropped_headers
from agent_server.followed_stream import FollowedStream
from agent_server.gateway.names import may_be_agent
from agent_server.local_callers import confirmed
from agent_server.model_calls import StreamTimes
from agent_server.request_headers import headers_of
from agent_server.requests.model_name import model_name
from agent_server.routes.model_call import forwarded_headers, read_json_body
from agent_server.services import caller_of
from agent_server.stored_responses.background import no_events
from agent_server.stored_responses.items import item_page
from agent_server.stored_responses.keeper import not_found
from agent_server.stored_responses.port import OpenedResponse, ResponseCall
from agent_server.stored_responses.record import StoredResponse
from agent_server.stored_responses.responses import Responses
from agent_server.stream_formats import PROGRESS_HEADER
from streaming.errors import AgentServerError, InvalidRequestError, NotFoundError
from streaming.json_bytes import dump
from streaming.responses_objects import response_error
from streaming.responses_sse import ResponsesEncoder

RESPONSES_PATH: Final = "/v1/responses"
MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 20
MAX_NUMBER: Final = 2**31
_PROGRESS: Final = {"text": True, "none": False}
_STREAM_HEADERS: Final[RawHeaders] = (
    (b"content-type", ResponsesEncoder.content_type.encode()),
    *((name.encode(), value.encode()) for name, value in ResponsesEncoder.headers.items()),
)
_JSON: Final = (b"content-type", b"application/json")


class CreateResponse:
    """`POST /v1/responses` as a raw ASGI endpoint."""

    def __init__(self, responses: Responses, times: StreamTimes) -> None:
        self._responses = responses
        self._times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises what is wrong with it, and what its model raises."""
        caller = scope["state"]["caller"]
        caller.require("chat")
        raw, body = await read_json_body(receive)
        headers = headers_of(scope)
        if may_be_agent(model_name(body)):
            caller = await confirmed(scope)
        call = await self._responses.prepare(
            caller,
            body,
            headers,
            progress_text=_progress_text(headers),
            forwarded=forwarded_headers(headers, caller.owner),
        )
        call.raw = raw
        call.request_id = scope["state"].get("request_id", "")
        scope["state"]["log_fields"] = call.log_fields
        with ClientWatch(scope, receive) as watch:
            if self._responses.runs_here(call):
                await self._begin(call, send, watch.end)
            elif call.body.get("stream") is True:
                await self._stream(call, send, watch.end)
            else:
                await self._answer(call, send)

    async def _begin(self, call: ResponseCall, send: Send, give_up: Callable[[], None]) -> None:
        """Begin a response in the background, and show it or its stream."""
        response = await self._responses.start(call)
        headers = dropped_headers(call.dropped)
        if call.body.get("stream") is not True:
            await send_body(send, dump(response), [_JSON, *headers])
            return
        owner, response_id = call.caller.owner, call.head.response_id
        stream = _followed(self._responses, self._times, owner, response_id, headers=headers)
        await stream.write(send, give_up)

    async def _answer(self, call: ResponseCall, send: Send) -> None:
        answer = await self._responses.open(call)
        try:
            body = await answer.read()
        finally:
            await answer.aclose()
        await send_body(send, body, [_JSON, *_headers_of(answer, call)])

    async def _stream(self, call: ResponseCall, send: Send, give_up: Callable[[], None]) -> None:
        writer = StreamWriter(
            send,
            _STREAM_HEADERS,
            keep_alive=ResponsesEncoder.keep_alive,
            keep_alive_seconds=self._times.keep_alive_seconds,
            give_up=give_up,
        )
        writer.hold(self._times.grace_seconds)
        try:
            try:
                answer = await self._responses.open(call)
            except AgentServerError as exc:
                if not writer.is_begun:
                    raise
                encoder = ResponsesEncoder(call.head)
                await writer.end(encoder.open() + encoder.fail(exc))
                return
            try:
                await writer.begin(_headers_of(answer, call))
                await writer.write_all(answer, answer.fail)
            finally:
                await answer.aclose()
        finally:
            writer.close()


class ResponseResources:
    """What can be done with a response that was made: endpoints of the router."""

    def __init__(self, responses: Responses, times: StreamTimes) -> None:
        self._responses = responses
        self._times = times

    async def get(self, request: Request) -> ASGIApp:
        """A response, or, with `?stream=true&starting_after=`, its events."""
        record = await self._record(request)
        wants_stream = _flag(request, "stream")
        after = _number(request, "starting_after", -1, -1, MAX_NUMBER)
        if record.provider is not None:
            return await self._relayed(record, request, "GET", "")
        if not wants_stream:
            return JsonResponse(await self._responses.shown(record))
        if not record.is_background or (record.is_final and record.events is None):
            raise no_events()
        owner, response_id = record.owner, record.response_id
        return _followed(self._responses, self._times, owner, response_id, after)

    async def input_items(self, request: Request) -> Response:
        """The items that a response was made of, newest first unless `?order=asc`."""
        record = await self._record(request)
        limit = _number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        order = request.query_params.get("order", "desc")
        if order not in {"asc", "desc"}:
            raise InvalidRequestError("`order` must be asc or desc.", param="order")
        if record.provider is not None:
            return await self._relayed(record, request, "GET", "/input_items")
        items = await self._responses.keeper.earlier(record)
        after = request.query_params.get("after")
        return JsonResponse(item_page(items, after=after, limit=limit, order=order))

    async def delete(self, request: Request) -> Response:
        """Delete a response."""
        record = await self._record(request)
        if record.provider is not None:
            answer = await self._relayed(record, request, "DELETE", "")
            if answer.status_code not in {200, 404}:
                return answer
            await self._responses.keeper.forget(record.owner, record.response_id)
            return answer
        await self._responses.forget(record)
        return JsonResponse({"id": record.response_id, "object": "response", "deleted": True})

    async def cancel(self, request: Request) -> Response:
        """Cancel a response that runs in the background."""
        record = await self._record(request)
        if record.provider is not None:
            return await self._relayed(record, request, "POST", "/cancel")
        return JsonResponse(await self._responses.cancel(record))

    async def unknown(self, request: Request) -> Response:
        """OpenAI has more below this path, such as `compact`; clients take a 404 for its lack."""
        raise NotFoundError(f"No route POST {request.url.path[:200]}.")

    async def _record(self, request: Request) -> StoredResponse:
        caller = caller_of(request)
        caller.require("chat")
        response_id = str(request.path_params["response_id"])
        if len(response_id) > 128:
            raise not_found(response_id)
        return await self._responses.keeper.require(caller.owner, response_id)

    async def _relayed(
        self, record: StoredResponse, request: Request, method: str, path: str
    ) -> Response:
        """What the provider says that keeps the response."""
        answer = await self._responses.models.ask_provider(record, method, path, request.url.query)
        return StreamingResponse(
            _closing(answer.body),
            answer.status,
            {"x-provider": record.provider or "", "cache-control": "no-store"},
            media_type=answer.content_type,
        )


def response_routes(responses: Responses, times: StreamTimes) -> list[Route]:
    """The routes of responses that were made."""
    resources = ResponseResources(responses, times)
    one = f"{RESPONSES_PATH}/{{response_id}}"
    return [
        Route(one, resources.get, methods=["GET"]),
        Route(one, resources.delete, methods=["DELETE"]),
        Route(one, resources.unknown, methods=["POST"]),
        Route(f"{one}/input_items", resources.input_items, methods=["GET"]),
        Route(f"{one}/cancel", resources.cancel, methods=["POST"]),
    ]


def _followed(
    responses: Responses,
    times: StreamTimes,
    owner: str,
    response_id: str,
    after: int = -1,
    headers: RawHeaders = (),
) -> FollowedStream:
    """The events of a response after a number, those that are there and those that come."""
    return FollowedStream(
        responses.background.read_after(owner, response_id, after),
        headers=(*_STREAM_HEADERS, *headers),
        keep_alive=ResponsesEncoder.keep_alive,
        keep_alive_seconds=times.keep_alive_seconds,
        fail=error_event,
    )


def error_event(error: AgentServerError) -> bytes:
    """The event that ends a stream of which the frames could not be read.

    It has no number: it is no event of the response, which a later reading may still give.
    """
    told = response_error(error)
    fields = {"type": "error", **told, "param": error.param, "sequence_number": -1, "error": told}
    return b"event: error\ndata: %b\n\n" % dump(fields)


def _headers_of(answer: OpenedResponse, call: ResponseCall) -> RawHeaders:
    return (*answer.headers, *dropped_headers(call.dropped))


def _progress_text(headers: Mapping[str, str]) -> bool | None:
    given = headers.get(PROGRESS_HEADER.lower())
    if given is None:
        return None
    if given not in _PROGRESS:
        raise InvalidRequestError(
            f"The header {PROGRESS_HEADER} must be text or none.", param=PROGRESS_HEADER
        )
    return _PROGRESS[given]


def _flag(request: Request, name: str) -> bool:
    given = request.query_params.get(name, "false")
    if given not in {"true", "false"}:
        raise InvalidRequestError(f"`{name}` must be true or false.", param=name)
    return given == "true"


def _number(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else low - 1
    if not low <= number <= high:
        raise InvalidRequestError(
            f"`{name}` must be a whole number from {max(low, 0)} to {high}.", param=name
        )
    return number


async def _closing(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The body, closed when it is not read to its end."""
    async with aclosing(body):
        async for data in body:
            yield data
