"""A door as an ASGI endpoint: reads the request, and has it answered while the client is there."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from agent_server.chat_streams import ChatStreams
from agent_server.client_watch import ClientWatch
from agent_server.doors.door import Door
from agent_server.gateway.call import ModelCall
from agent_server.gateway.names import may_be_agent
from agent_server.local_callers import confirmed
from agent_server.model_calls import ModelCalls
from agent_server.request_headers import headers_of
from agent_server.requests.json_body import read_json_object
from agent_server.requests.model_name import model_name
from agent_server.run_callers import hold_to_token
from streaming.events import JsonObject

IDEMPOTENCY_HEADER: Final = "idempotency-key"
LARGE_BODY_BYTES: Final = 1024 * 1024
# What goes on to an upstream of the same format.
FORWARDED_HEADERS: Final = (
    "anthropic-beta",
    "anthropic-version",
    IDEMPOTENCY_HEADER,
    "openai-beta",
    "traceparent",
    "tracestate",
)


class ModelEndpoint:
    """One door at one path, whose detached streams can be resumed where it has `streams`."""

    def __init__(self, door: Door, calls: ModelCalls, streams: ChatStreams | None = None) -> None:
        self._door = door
        self._calls = calls
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises what the door and its models raise."""
        caller = scope["state"]["caller"]
        caller.require("chat")
        raw, body = await read_json_body(receive)
        headers = headers_of(scope)
        model = model_name(body)
        if may_be_agent(model):
            caller = await confirmed(scope)
        call = ModelCall(
            door=self._door,
            caller=caller,
            raw=raw,
            body=body,
            choice=self._door.choose(scope["path"], headers, body),
            model=model,
            request_id=scope["state"].get("request_id", ""),
            forwarded=forwarded_headers(headers, caller.owner),
        )
        scope["state"]["log_fields"] = call.log_fields
        scope["state"]["trail"] = call.trail
        hold_to_token(call)
        with ClientWatch(scope, receive) as watch:
            streams = self._streams
            if streams is not None and call.choice.detached and call.is_stream:
                await streams.answer(call, headers, send, watch.end)
                return
            if streams is not None and streams.has_any:
                streams.supersede(call, headers)
            await self._calls.answer(call, send, watch.end)


async def read_json_body(receive: Receive) -> tuple[bytes, JsonObject]:
    """The whole body, as it came and as the object that it holds; raises what either reading does.

    A large one takes milliseconds at each step, so others get their turn between them.
    """
    raw = await read_body(receive)
    if len(raw) < LARGE_BODY_BYTES:
        return raw, read_json_object(raw)
    await asyncio.sleep(0)
    body = read_json_object(raw)
    await asyncio.sleep(0)
    return raw, body


async def read_body(receive: Receive) -> bytes:
    """The whole body; raises `ClientDisconnect` where the client left before its end."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body"):
        return body
    pieces = [body]
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
        pieces.append(message.get("body", b""))
    if message["type"] != "http.request":
        raise ClientDisconnect
    return b"".join(pieces)


def forwarded_headers(headers: Mapping[str, str], owner: str) -> Mapping[str, str]:
    """Those of a client's headers that go on to an upstream.

    To an upstream all clients are one account: an idempotency key is made the owner's own, so that
    nobody is given the answer to another's request.
    """
    sent = {name: headers[name] for name in FORWARDED_HEADERS if name in headers}
    if IDEMPOTENCY_HEADER in sent:
        own = f"{owner}\n{sent[IDEMPOTENCY_HEADER]}".encode()
        sent[IDEMPOTENCY_HEADER] = hashlib.sha256(own).hexdigest()
    return sent
