"""The output items of an answer under way: what each kind gives when it begins, grows and ends.

Source: OpenAI API reference, "Responses", "Streaming events", 2026-10.
"""

from collections.abc import Sequence

from typing_extensions import override

from providers.json_fields import MalformedError, list_field, text_field
from providers.responses.reasoning import PART_BREAK, item_text, item_to_block
from streaming.events import (
    Event,
    JsonObject,
    JsonValue,
    ReasoningBlock,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)


class Item:
    """An item that gives nothing: a tool that the upstream runs itself, or an unknown kind."""

    def begin(self) -> Sequence[Event]:
        """The events of its beginning."""
        return ()

    def add_text(self, delta: str) -> Sequence[Event]:
        """The events of a further piece of text; as with the others, none where none belongs."""
        del delta
        return ()

    def add_refusal(self, delta: str) -> Sequence[Event]:
        """The events of a further piece of a refusal."""
        del delta
        return ()

    def add_arguments(self, delta: str) -> Sequence[Event]:
        """The events of a further piece of arguments."""
        del delta
        return ()

    def add_reasoning(self, delta: str, kind: str, part: JsonValue) -> Sequence[Event]:
        """The events of a further piece of thinking; `part` tells the parts of one kind apart."""
        del delta, kind, part
        return ()

    def end(self, item: JsonObject) -> Sequence[Event]:
        """The events of its end, `item` being the whole of it."""
        del item
        return ()

    def break_off(self) -> Sequence[Event]:
        """The events of an end before it was complete."""
        return ()


class MessageItem(Item):
    """Text and refusals. The whole item is read only if nothing of it was streamed."""

    def __init__(self) -> None:
        self._is_streamed = False

    @override
    def add_text(self, delta: str) -> Sequence[Event]:
        self._is_streamed = True
        return (TextDelta(delta),) if delta else ()

    @override
    def add_refusal(self, delta: str) -> Sequence[Event]:
        self._is_streamed = True
        return (RefusalDelta(delta),) if delta else ()

    @override
    def end(self, item: JsonObject) -> Sequence[Event]:
        if self._is_streamed:
            return ()
        return [event for part in list_field(item, "content") for event in _part_events(part)]


def _part_events(part: JsonValue) -> Sequence[Event]:
    if not isinstance(part, dict):
        raise MalformedError("content")
    match part.get("type"):
        case "output_text":
            text = text_field(part, "text")
            return (TextDelta(text),) if text else ()
        case "refusal":
            refusal = text_field(part, "refusal")
            return (RefusalDelta(refusal),) if refusal else ()
        case _:
            return ()


class ReasoningItem(Item):
    """Thinking, in full or as a summary; the parts of either are paragraphs.

    Of an item that has both, the kind that came first is shown. Its end gives no `ReasoningEnded`:
    `block` is then there, to be sent when it is known what follows.
    """

    def __init__(self) -> None:
        self.block: ReasoningBlock | None = None
        self._texts: list[str] = []
        self._kind = ""
        self._part: JsonValue = None

    @override
    def add_reasoning(self, delta: str, kind: str, part: JsonValue) -> Sequence[Event]:
        self._kind = self._kind or kind
        if not delta or kind != self._kind:
            return ()
        if self._texts and part != self._part:
            delta = PART_BREAK + delta
        self._part = part
        self._texts.append(delta)
        return (ReasoningDelta(delta),)

    @override
    def end(self, item: JsonObject) -> Sequence[Event]:
        events: Sequence[Event] = ()
        if not self._texts:
            events = self.add_reasoning(item_text(item), self._kind, None)
        self.block = item_to_block(item, "".join(self._texts))
        return events

    @override
    def break_off(self) -> Sequence[Event]:
        self.block = ReasoningBlock("".join(self._texts))
        return ()


class FunctionCallItem(Item):
    """A tool call; `tool_index` counts the calls of the answer, not its items."""

    def __init__(self, tool_index: int, item: JsonObject) -> None:
        self._index = tool_index
        self._call_id = text_field(item, "call_id")
        self._name = text_field(item, "name")
        self._pieces: list[str] = []

    @override
    def begin(self) -> Sequence[Event]:
        return (ToolCallStarted(self._index, self._call_id, self._name),)

    @override
    def add_arguments(self, delta: str) -> Sequence[Event]:
        if not delta:
            return ()
        self._pieces.append(delta)
        return (ToolCallDelta(self._index, delta),)

    @override
    def end(self, item: JsonObject) -> Sequence[Event]:
        events = () if self._pieces else self.add_arguments(text_field(item, "arguments") or "{}")
        return (*events, self._ended())

    @override
    def break_off(self) -> Sequence[Event]:
        events = () if self._pieces else self.add_arguments("{}")
        return (*events, self._ended())

    def _ended(self) -> ToolCallEnded:
        return ToolCallEnded(self._index, self._call_id, self._name, "".join(self._pieces))
