"""The messages of the AI SDK's useChat, of every major version from 3.4 to 7.

Source: Vercel AI SDK, `Message` of 3.4 and 4.3, `UIMessage` of 5, 6 and 7, 2026-10. What a version
calls a part and we do not know, or what was only shown to people (`data-*`, sources, the agent's
own tools), is left out: a message comes back exactly as the client has it.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from agent_server.requests.attachments import file_part
from agent_server.requests.chat_messages import MAX_PARTS, MAX_TOOL_CALLS
from agent_server.requests.fields import (
    FieldError,
    json_object,
    name,
    read_items,
    read_member,
    string,
)
from providers.chat_request import Message, Part, TextPart, ToolCall
from streaming.approval_words import APPROVAL_TOOL
from streaming.events import JsonObject, JsonValue, ReasoningBlock
from streaming.json_bytes import dump
from streaming.ui_v1 import METADATA_KEY

_DENIED = "The user did not allow this tool call."


def read_ui_message(value: JsonValue) -> list[Message]:
    """What one message is for a model: none, one, or a turn for each of its steps."""
    data = json_object(value)
    role = read_member(data, "role", string)
    reader = _ROLE_READERS.get(role)
    if reader is None:
        raise FieldError(f"must be one of {', '.join(_ROLE_READERS)}, not {role[:80]!r}", "role")
    return reader(data)


def _system_message(data: JsonObject) -> list[Message]:
    return _plain_message("system", data)


def _user_message(data: JsonObject) -> list[Message]:
    return _plain_message("user", data)


def _data_message(_data: JsonObject) -> list[Message]:
    return []


def _plain_message(role: Literal["system", "user"], data: JsonObject) -> list[Message]:
    parts: list[Part] = []

    def add(value: JsonValue) -> None:
        part = json_object(value)
        if part.get("type") == "text":
            text = read_member(part, "text", string)
            if text:
                parts.append(TextPart(text))
        elif part.get("type") == "file":
            parts.append(_file(part))

    _read_parts(data, add)
    if not parts and (text := _content(data)):
        parts.append(TextPart(text))
    if data.get("experimental_attachments") is not None:
        # Version 3.4 and 4; neither repeats them among the parts.
        parts += read_member(data, "experimental_attachments", _attachments)
    return [Message(role, tuple(parts))] if parts else []


def _assistant_message(data: JsonObject) -> list[Message]:
    turns = _Turns()
    _read_parts(data, turns.add)
    if not turns.end():
        if text := _content(data):
            turns.add_text(text)
        if data.get("toolInvocations") is not None:
            read_member(
                data,
                "toolInvocations",
                lambda value: read_items(value, turns.add_invocation, MAX_TOOL_CALLS),
            )
    return turns.end()


class _Turns:
    """Builds the turns of one assistant's message: thoughts, text, calls, then their results."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._parts: list[Part] = []
        self._reasoning: list[ReasoningBlock] = []
        self._calls: list[ToolCall] = []
        self._results: list[Message] = []

    def add(self, value: JsonValue) -> None:
        """Take one part of the message."""
        part = json_object(value)
        kind = read_member(part, "type", string)
        if kind == "text":
            self.add_text(read_member(part, "text", string))
        elif kind == "reasoning":
            self._add_reasoning(part)
        elif kind == "tool-invocation":
            read_member(part, "toolInvocation", self.add_invocation)
        elif kind == "dynamic-tool":
            self._add_tool(part, read_member(part, "toolName", name))
        elif kind.startswith("tool-"):
            self._add_tool(part, kind.removeprefix("tool-"))
        elif kind == "step-start":
            self.end()

    def add_text(self, text: str) -> None:
        """Text of the model, which begins a turn where tool results came before it."""
        if self._results:
            self.end()
        if text:
            self._parts.append(TextPart(text))

    def add_invocation(self, value: JsonValue) -> None:
        """A tool call of version 3.4 or 4; one without its result says nothing yet."""
        call = json_object(value)
        if call.get("state") == "result":
            called = read_member(call, "toolName", name)
            self._add_call(call, called, call.get("args"), _text(call.get("result")), False)

    def end(self) -> list[Message]:
        """End the turn; gives all turns so far."""
        if self._parts or self._calls:
            self._messages.append(
                Message(
                    "assistant",
                    tuple(self._parts),
                    tool_calls=tuple(self._calls),
                    reasoning=tuple(self._reasoning),
                )
            )
            self._messages += self._results
        for held in (self._parts, self._reasoning, self._calls, self._results):
            held.clear()
        return self._messages

    def _add_reasoning(self, part: JsonObject) -> None:
        if self._results:
            self.end()
        self._reasoning += _reasoning_blocks(part)

    def _add_tool(self, part: JsonObject, called: str) -> None:
        # The agent's own calls are shown, not told: it keeps them itself where it needs them. So
        # are approvals, which no model shall take for a tool of its own.
        if part.get("providerExecuted") is True or called == APPROVAL_TOOL:
            return
        state = part.get("state")
        result = _OUTCOMES.get(state) if isinstance(state, str) else None
        if result is not None:
            given = part.get("input", part.get("rawInput"))
            self._add_call(part, called, given, result(part), state != "output-available")

    def _add_call(
        self, data: JsonObject, called: str, arguments: JsonValue, result: str, is_error: bool
    ) -> None:
        call_id = read_member(data, "toolCallId", name)
        self._calls.append(ToolCall(call_id, called, _arguments(arguments)))
        parts = (TextPart(result),) if result else ()
        self._results.append(Message("tool", parts, tool_call_id=call_id, is_error=is_error))


def _read_parts(data: JsonObject, reader: Callable[[JsonValue], None]) -> None:
    if data.get("parts") is not None:
        read_member(data, "parts", lambda value: read_items(value, reader, MAX_PARTS))


def _content(data: JsonObject) -> str:
    return read_member(data, "content", string) if data.get("content") is not None else ""


def _file(part: JsonObject) -> Part:
    if "url" in part:
        return _attachment(part, "mediaType", "filename")
    # Version 4: the base64 content by itself.
    media_type = read_member(part, "mimeType", string)
    return read_member(
        part,
        "data",
        lambda value: file_part(f"data:{media_type};base64,{string(value)}", media_type, None),
    )


def _attachments(value: JsonValue) -> list[Part]:
    return read_items(
        value, lambda item: _attachment(json_object(item), "contentType", "name"), MAX_PARTS
    )


def _attachment(data: JsonObject, type_key: str, name_key: str) -> Part:
    media_type, file_name = data.get(type_key), data.get(name_key)
    return read_member(
        data,
        "url",
        lambda url: file_part(
            string(url),
            media_type if isinstance(media_type, str) else None,
            file_name if isinstance(file_name, str) else None,
        ),
    )


def _reasoning_blocks(part: JsonObject) -> list[ReasoningBlock]:
    details = part.get("details")
    if isinstance(details, list):
        # Version 4.
        return [_reasoning_detail(item) for item in details if isinstance(item, dict)]
    metadata = part.get("providerMetadata")
    ours = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    ours = ours if isinstance(ours, dict) else {}
    text = part.get("text", part.get("reasoning"))
    return [
        ReasoningBlock(
            text if isinstance(text, str) else "",
            _string_or_none(ours.get("signature")),
            _string_or_none(ours.get("redactedData")),
        )
    ]


def _reasoning_detail(detail: JsonObject) -> ReasoningBlock:
    if detail.get("type") == "redacted":
        return ReasoningBlock("", redacted_data=read_member(detail, "data", string))
    return ReasoningBlock(
        _string_or_none(detail.get("text")) or "", _string_or_none(detail.get("signature"))
    )


def _string_or_none(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else dump(value).decode()


def _arguments(value: JsonValue) -> str:
    """The JSON text of a call's arguments; useChat keeps what the model wrote only parsed."""
    return "{}" if value is None else _text(value)


_OUTCOMES: Mapping[str, Callable[[JsonObject], str]] = {
    "output-available": lambda part: _text(part.get("output")),
    "output-error": lambda part: _text(part.get("errorText")),
    "output-denied": lambda _part: _DENIED,
}
_ROLE_READERS: Mapping[str, Callable[[JsonObject], list[Message]]] = {
    "system": _system_message,
    "user": _user_message,
    "assistant": _assistant_message,
    # Version 3.4: data of the stream, never meant for a model.
    "data": _data_message,
}
