"""The messages door: `POST /v1/messages`.

Source: Anthropic API documentation, "Create a Message", 2026-10.
"""

from collections.abc import Mapping
from typing import Final

from agent_server.doors.door import Door, ReadRequest
from agent_server.requests.messages import read_messages
from agent_server.requests.messages_foreign import to_foreign
from agent_server.stream_formats import choose_own_format
from providers.chat_request import ChatRequest
from streaming.events import JsonObject
from streaming.messages_body import MessageBody
from streaming.messages_sse import MessagesEncoder


def _read(body: JsonObject, headers: Mapping[str, str]) -> ReadRequest:
    betas = [beta.strip() for beta in headers.get("anthropic-beta", "").split(",")]
    return ReadRequest(read_messages(body, [beta for beta in betas if beta]))


def _say_elsewhere(request: ChatRequest) -> ReadRequest:
    said = to_foreign(request)
    return ReadRequest(said.request, said.dropped)


MESSAGES: Final = Door(
    name="messages",
    wire="messages",
    id_prefix="msg_",
    choose=lambda _path, headers, body: choose_own_format("messages", headers, body),
    read=_read,
    formats={"messages": MessagesEncoder},
    make_body=MessageBody,
    may_relay=lambda _choice, _body: True,
    say_elsewhere=_say_elsewhere,
)
