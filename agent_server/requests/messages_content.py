"""The turns of a conversation in Anthropic's format, as messages of ours.

Source: Anthropic API documentation, "Create a Message", `messages` and `system`, and the types of
its Python SDK 2.12, 2026-10. One turn may become several messages: each tool result is one, and a
turn of the assistant goes on in a further one where its blocks stand in another order than ours
(thinking, content, tool calls). Blocks that only the format itself knows stay as they are.
"""

from collections.abc import Callable, Mapping
from typing import Final

from agent_server.requests.chat_messages import MAX_PARTS, read_image_url
from agent_server.requests.fields import (
    FieldError,
    boolean,
    json_object,
    kind,
    name,
    read_items,
    read_member,
    string,
)
from providers.chat_request import ImagePart, Message, OpaquePart, Part, TextPart, ToolCall
from streaming.events import JsonObject, JsonValue, ReasoningBlock
from streaming.json_bytes import dump

# The API's own limit.
MAX_TURNS: Final = 100_000
ROLES: Final = ("user", "assistant", "system")
_BLOCKS_OF_OTHER_APIS: Mapping[str, str] = {
    "image_url": "type 'image' with a `source`",
    "input_text": "type 'text'",
    "output_text": "type 'text'",
    "input_image": "type 'image' with a `source`",
    "file": "type 'document' with a `source`",
    "function_call": "type 'tool_use'",
    "function_call_output": "type 'tool_result'",
}


def read_conversation(value: JsonValue) -> tuple[Message, ...]:
    """The messages of a conversation, which has at least one turn."""
    turns = read_items(value, _read_turn, MAX_TURNS)
    if not turns:
        raise FieldError("must hold at least one message")
    return tuple(message for turn in turns for message in turn)


def read_system(value: JsonValue) -> tuple[Message, ...]:
    """The system prompt: a string, or blocks of text, each of which is a message."""
    if isinstance(value, str):
        return (Message("system", (TextPart(value),)),) if value else ()
    if not isinstance(value, list):
        raise FieldError(f"must be a string or a list of blocks, not {kind(value)}")
    return tuple(Message("system", (part,)) for part in read_items(value, _system_part, MAX_PARTS))


def _read_turn(value: JsonValue) -> list[Message]:
    data = json_object(value)
    role = read_member(data, "role", string)
    if role not in ROLES:
        raise FieldError(f"must be one of {', '.join(ROLES)}, not {role[:80]!r}", "role")
    return read_member(data, "content", _READERS[role])


def _system_turn(value: JsonValue) -> list[Message]:
    parts = tuple(part for message in read_system(value) for part in message.parts)
    return [Message("system", parts)]


def _user_turn(value: JsonValue) -> list[Message]:
    turn = _UserTurn()
    _read_blocks(value, turn.add)
    return turn.end()


def _assistant_turn(value: JsonValue) -> list[Message]:
    turn = _AssistantTurn()
    _read_blocks(value, turn.add)
    return turn.end()


def _read_blocks(value: JsonValue, add: Callable[[JsonValue], None]) -> None:
    if isinstance(value, str):
        add({"type": "text", "text": value})
    elif isinstance(value, list):
        read_items(value, add, MAX_PARTS)
    else:
        raise FieldError(f"must be a string or a list of blocks, not {kind(value)}")


class _UserTurn:
    """The messages of one turn of the user: the results of tools, then what they say."""

    def __init__(self) -> None:
        self._results: list[Message] = []
        self._parts: list[Part] = []

    def add(self, value: JsonValue) -> None:
        """Take the next block."""
        block = json_object(value)
        given = read_member(block, "type", name)
        if given == "tool_result":
            self._results.append(_tool_message(block))
        elif given in ("tool_use", "thinking", "redacted_thinking"):
            raise FieldError(f"is {given!r}, which belongs to messages of role 'assistant'", "type")
        else:
            self._parts.append(_part(block, given))

    def end(self) -> list[Message]:
        """The messages of all blocks."""
        said = [Message("user", tuple(self._parts))] if self._parts else []
        return self._results + said


class _AssistantTurn:
    """The messages of one turn of the assistant; a new one begins where the order would be lost."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._begin()

    def add(self, value: JsonValue) -> None:
        """Take the next block."""
        block = json_object(value)
        given = read_member(block, "type", name)
        if given in ("thinking", "redacted_thinking"):
            if self._parts or self._calls:
                self._flush()
            self._reasoning.append(_thinking(block, given))
        elif given == "tool_use":
            self._calls.append(_tool_call(block))
            if (mark := block.get("cache_control")) is not None:
                # The mark stands at the end of a message, so the message ends here.
                self._flush({"cache_control": mark})
        elif given == "tool_result":
            raise FieldError("is 'tool_result', which belongs to messages of role 'user'", "type")
        else:
            if self._calls:
                self._flush()
            self._parts.append(_part(block, given))

    def end(self) -> list[Message]:
        """The messages of all blocks."""
        if self._reasoning or self._parts or self._calls:
            self._flush()
        return self._messages

    def _begin(self) -> None:
        self._reasoning: list[ReasoningBlock] = []
        self._parts: list[Part] = []
        self._calls: list[ToolCall] = []

    def _flush(self, extra: Mapping[str, JsonValue] | None = None) -> None:
        self._messages.append(
            Message(
                "assistant",
                tuple(self._parts),
                tool_calls=tuple(self._calls),
                reasoning=tuple(self._reasoning),
                extra=extra or {},
            )
        )
        self._begin()


def _part(block: JsonObject, given: str) -> Part:
    if given == "text":
        return _text(block)
    if given == "image":
        return _image(block)
    if given in _BLOCKS_OF_OTHER_APIS:
        hint = _BLOCKS_OF_OTHER_APIS[given]
        raise FieldError(f"is {given!r}, which is of another API; use {hint}", "type")
    return OpaquePart(block)


def _text(block: JsonObject) -> TextPart:
    text = read_member(block, "text", string)
    if len(block) == 2:
        return TextPart(text)
    others = {k: v for k, v in block.items() if k not in {"type", "text"} and v is not None}
    return TextPart(text, others)


def _system_part(value: JsonValue) -> TextPart:
    block = json_object(value)
    given = read_member(block, "type", name)
    if given != "text":
        raise FieldError(f"must be 'text' in a system prompt, not {given[:80]!r}", "type")
    return _text(block)


def _image(block: JsonObject) -> Part:
    url = read_member(block, "source", _image_url)
    if url is None or any(block[key] is not None for key in block.keys() - {"type", "source"}):
        return OpaquePart(block)
    return ImagePart(url)


def _image_url(value: JsonValue) -> str | None:
    """The address or data URL of an image; None for one that only Anthropic has."""
    source = json_object(value)
    given = read_member(source, "type", string)
    if given == "url":
        return read_member(source, "url", read_image_url)
    if given != "base64":
        return None
    return (
        f"data:{read_member(source, 'media_type', name)};base64,{read_member(source, 'data', name)}"
    )


def _thinking(block: JsonObject, given: str) -> ReasoningBlock:
    if given == "redacted_thinking":
        return ReasoningBlock("", redacted_data=read_member(block, "data", string))
    # Without a signature it is the thinking of a model that signs nothing.
    signature = read_member(block, "signature", string) if block.get("signature") else None
    return ReasoningBlock(read_member(block, "thinking", string), signature)


def _tool_call(block: JsonObject) -> ToolCall:
    arguments = dump(read_member(block, "input", json_object)).decode()
    return ToolCall(read_member(block, "id", name), read_member(block, "name", name), arguments)


def _tool_message(block: JsonObject) -> Message:
    content = block.get("content")
    mark = block.get("cache_control")
    is_error = block.get("is_error") is not None and read_member(block, "is_error", boolean)
    return Message(
        "tool",
        () if content is None else read_member(block, "content", _result_parts),
        tool_call_id=read_member(block, "tool_use_id", name),
        is_error=is_error,
        extra={} if mark is None else {"cache_control": mark},
    )


def _result_parts(value: JsonValue) -> tuple[Part, ...]:
    parts: list[Part] = []

    def add(item: JsonValue) -> None:
        block = json_object(item)
        parts.append(_part(block, read_member(block, "type", name)))

    if value != "":
        _read_blocks(value, add)
    return tuple(parts)


_READERS: Mapping[str, Callable[[JsonValue], list[Message]]] = {
    "user": _user_turn,
    "assistant": _assistant_turn,
    "system": _system_turn,
}
