"""The input of a Responses request: its items as the messages of a conversation.

What the model did in one turn is several items there (thinking, texts, calls) and one message here.

Source: OpenAI API reference, "Responses", "Create a model response", `input`, 2026-11.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from agent_server.requests.chat_messages import MAX_MESSAGES
from agent_server.requests.fields import (
    FieldError,
    json_object,
    kind,
    name,
    read_items,
    read_member,
    string,
)
from agent_server.requests.responses_parts import (
    read_input_content,
    read_instructions_content,
    read_output_content,
)
from agent_server.requests.responses_tools import function_name
from providers.chat_request import Message, Part, ToolCall
from providers.responses.reasoning import item_text, item_to_block
from streaming.events import JsonObject, JsonValue, ReasoningBlock
from streaming.responses_objects import decrypted_block


def input_items(value: JsonValue) -> list[JsonValue]:
    """The input as a list of items, whichever way it was given."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if not isinstance(value, list):
        raise FieldError(f"must be a string or a list of items, not {kind(value)}")
    return value


def item_type(item: JsonObject) -> JsonValue:
    """What an item is; those without a `type` are messages, or references that hold an id alone."""
    given = item.get("type")
    if given is not None:
        return given
    return "message" if "role" in item or "id" not in item else "item_reference"


@dataclass
class _Turn:
    """What the model said in one turn, until something else comes."""

    parts: list[Part] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    reasoning: list[ReasoningBlock] = field(default_factory=list)
    refusal: str | None = None

    def message(self) -> Message:
        return Message(
            "assistant",
            parts=tuple(self.parts),
            tool_calls=tuple(self.calls),
            reasoning=tuple(self.reasoning),
            refusal=self.refusal,
        )


class Conversation:
    """Puts messages together from items; `dropped` names the items that say nothing here."""

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self._messages: list[Message] = []
        self._turn: _Turn | None = None
        self._call_ids: set[str] = set()

    def add_instructions(self, text: str) -> None:
        """What the model is told before anything else."""
        self._messages.append(Message("system", read_instructions_content(text)))

    def add(self, items: Sequence[JsonValue]) -> None:
        """Further items, each by the rules of its type; errors are told by the item's index."""
        read_items(list(items), self._add, MAX_MESSAGES)

    def messages(self) -> tuple[Message, ...]:
        """All messages so far."""
        self._end_turn()
        return tuple(self._messages)

    def _add(self, value: JsonValue) -> None:
        item = json_object(value)
        given = item_type(item)
        reader = _READERS.get(given) if isinstance(given, str) else None
        if reader is not None:
            reader(self, item)
        elif given in _TRACES:
            self.dropped.append(str(given))
        else:
            raise FieldError(
                f"is {str(given)[:80]!r}, which only the provider that made it understands; "
                f"must be one of {', '.join(_READERS)}",
                "type",
            )

    def _message(self, item: JsonObject) -> None:
        role = read_member(item, "role", string)
        if role == "assistant":
            parts, refusal = read_member(item, "content", read_output_content)
            turn = self._open_turn()
            turn.parts.extend(parts)
            turn.refusal = refusal or turn.refusal
        elif role == "user":
            self._say(Message("user", read_member(item, "content", read_input_content)))
        elif role in {"system", "developer"}:
            self._say(Message("system", read_member(item, "content", read_instructions_content)))
        else:
            raise FieldError(
                f"must be one of user, assistant, system, developer, not {role[:80]!r}", "role"
            )

    def _function_call(self, item: JsonObject) -> None:
        self._call(item, read_member(item, "arguments", string))

    def _custom_call(self, item: JsonObject) -> None:
        text = read_member(item, "input", string)
        self._call(item, orjson.dumps({"input": text}).decode())

    def _call(self, item: JsonObject, arguments: str) -> None:
        call_id = read_member(item, "call_id", name)
        called = read_member(item, "name", name)
        namespace = item.get("namespace")
        if namespace is not None:
            called = function_name(called, read_member(item, "namespace", name))
        self._call_ids.add(call_id)
        self._open_turn().calls.append(ToolCall(call_id, called, arguments))

    def _call_output(self, item: JsonObject) -> None:
        call_id = read_member(item, "call_id", name)
        if call_id not in self._call_ids:
            raise FieldError(
                f"is {call_id[:80]!r}, but no call of that id comes before; send the call too, or "
                "the `previous_response_id` of the response that made it",
                "call_id",
            )
        parts = read_member(item, "output", read_input_content)
        self._say(Message("tool", parts, tool_call_id=call_id))

    def _reasoning(self, item: JsonObject) -> None:
        text = item_text(item)
        block = ReasoningBlock(text)
        if item.get("encrypted_content"):
            encrypted = read_member(item, "encrypted_content", string)
            block = decrypted_block(text, encrypted) or item_to_block(item, text)
        if block.text or block.signature or block.redacted_data:
            self._open_turn().reasoning.append(block)

    def _reference(self, item: JsonObject) -> None:
        item_id = read_member(item, "id", string)
        raise FieldError(
            f"is {item_id[:80]!r}, but no item of that id is stored for you; send the item itself",
            "id",
        )

    def _say(self, message: Message) -> None:
        self._end_turn()
        self._messages.append(message)

    def _open_turn(self) -> _Turn:
        if self._turn is None:
            self._turn = _Turn()
        return self._turn

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            self._messages.append(turn.message())


_READERS: Final[Mapping[str, Callable[[Conversation, JsonObject], None]]] = {
    "message": Conversation._message,
    "function_call": Conversation._function_call,
    "function_call_output": Conversation._call_output,
    "custom_tool_call": Conversation._custom_call,
    "custom_tool_call_output": Conversation._call_output,
    "reasoning": Conversation._reasoning,
    "item_reference": Conversation._reference,
}
# What a provider's own tools did: the text that came of it is a message of its own.
_TRACES: Final = frozenset(
    {
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_call",
        "mcp_list_tools",
        "web_search_call",
    }
)
