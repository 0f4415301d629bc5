"""The content blocks of an answer under way: what each kind gives when it starts, grows and stops.

Source: Messages API, "Streaming messages", section "Content block delta types", 2026-10.
"""

from collections.abc import Sequence

import orjson
from typing_extensions import override

from providers.json_fields import text_field
from streaming.events import (
    Event,
    JsonObject,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)


class Block:
    """A block that gives nothing: one of Anthropic's own tools, or of a kind not known here."""

    def start(self) -> Sequence[Event]:
        """The events of its beginning."""
        return ()

    def add(self, delta: JsonObject) -> Sequence[Event]:
        """The events of a further piece; deltas not known here give none."""
        del delta
        return ()

    def stop(self) -> Sequence[Event]:
        """The events of its end."""
        return ()


class TextBlock(Block):
    """Text of the answer."""

    def __init__(self, content: JsonObject) -> None:
        self._text = text_field(content, "text")

    @override
    def start(self) -> Sequence[Event]:
        return (TextDelta(self._text),) if self._text else ()

    @override
    def add(self, delta: JsonObject) -> Sequence[Event]:
        if delta.get("type") == "text_delta" and (text := text_field(delta, "text")):
            return (TextDelta(text),)
        return ()


class ThinkingBlock(Block):
    """Thinking with its signature, which comes last."""

    def __init__(self, content: JsonObject) -> None:
        self._parts = [text_field(content, "thinking")]
        self._signature = text_field(content, "signature") if "signature" in content else ""

    @override
    def start(self) -> Sequence[Event]:
        return (ReasoningDelta(self._parts[0]),) if self._parts[0] else ()

    @override
    def add(self, delta: JsonObject) -> Sequence[Event]:
        kind = delta.get("type")
        if kind == "signature_delta":
            self._signature = text_field(delta, "signature")
        elif kind == "thinking_delta" and (text := text_field(delta, "thinking")):
            self._parts.append(text)
            return (ReasoningDelta(text),)
        return ()

    @override
    def stop(self) -> Sequence[Event]:
        return (ReasoningEnded(ReasoningBlock("".join(self._parts), self._signature or None)),)


class RedactedBlock(Block):
    """Thinking that is kept from the reader."""

    def __init__(self, content: JsonObject) -> None:
        self._data = text_field(content, "data")

    @override
    def stop(self) -> Sequence[Event]:
        return (ReasoningEnded(ReasoningBlock("", redacted_data=self._data)),)


class ToolUseBlock(Block):
    """A tool call; its input comes in pieces of JSON, or whole at the start, or not at all.

    `tool_index` counts the tool calls of the answer, not its blocks.
    """

    def __init__(self, tool_index: int, content: JsonObject) -> None:
        self._index = tool_index
        self._call_id = text_field(content, "id")
        self._name = text_field(content, "name")
        self._input = content.get("input") or {}
        self._pieces: list[str] = []

    @override
    def start(self) -> Sequence[Event]:
        return (ToolCallStarted(self._index, self._call_id, self._name),)

    @override
    def add(self, delta: JsonObject) -> Sequence[Event]:
        if delta.get("type") == "input_json_delta" and (piece := text_field(delta, "partial_json")):
            self._pieces.append(piece)
            return (ToolCallDelta(self._index, piece),)
        return ()

    @override
    def stop(self) -> Sequence[Event]:
        if self._pieces:
            return (self._ended("".join(self._pieces)),)
        arguments = orjson.dumps(self._input).decode()
        return (ToolCallDelta(self._index, arguments), self._ended(arguments))

    def _ended(self, arguments: str) -> ToolCallEnded:
        return ToolCallEnded(self._index, self._call_id, self._name, arguments)
