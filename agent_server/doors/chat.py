"""The chat door: `POST /v1/chat/completions`, and `POST /api/chat` of the AI SDK's `useChat`.

Source: OpenAI API reference, "Chat", "Create chat completion", 2026-10.
"""

from collections.abc import Mapping
from typing import Final

from agent_server.doors.door import Door, ReadRequest
from agent_server.requests.chat import read_chat
from agent_server.requests.use_chat import is_use_chat_body, read_use_chat
from agent_server.stream_formats import StreamChoice, choose_format
from streaming.chat_completion import ChatCompletionBody
from streaming.events import JsonObject
from streaming.formats import FORMATS

# The formats in which an upstream's own frames may go out: its stream, and its JSON body.
_RELAYED = ("openai-sse", None)


def _read(body: JsonObject, _headers: Mapping[str, str]) -> ReadRequest:
    if is_use_chat_body(body):
        return ReadRequest(read_use_chat(body).request)
    return ReadRequest(read_chat(body))


def _read_use_chat(body: JsonObject, _headers: Mapping[str, str]) -> ReadRequest:
    return ReadRequest(read_use_chat(body).request)


def _may_relay(choice: StreamChoice, body: JsonObject) -> bool:
    return choice.format in _RELAYED and not is_use_chat_body(body)


CHAT: Final = Door(
    name="chat",
    wire="chat",
    id_prefix="chatcmpl-",
    choose=choose_format,
    read=_read,
    formats=FORMATS,
    make_body=ChatCompletionBody,
    may_relay=_may_relay,
)
USE_CHAT: Final = Door(
    name="chat",
    wire="chat",
    id_prefix="chatcmpl-",
    choose=choose_format,
    read=_read_use_chat,
    formats=FORMATS,
    make_body=ChatCompletionBody,
    may_relay=lambda _choice, _body: False,
)
