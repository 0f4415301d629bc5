"""The output items of a response while they are written: each opens, grows and closes in events.

Source: OpenAI API reference, "Responses", "Streaming events", 2026-11. A custom tool's text comes
in one delta: the model writes it inside of JSON, which is read when it is whole.
"""

import orjson

from streaming.events import JsonObject, JsonValue, ReasoningBlock
from streaming.json_bytes import dump
from streaming.responses_objects import (
    CalledTool,
    ItemStatus,
    call_item,
    encrypted_content,
    message_item,
    reasoning_item,
    refusal_part,
    summary_part,
    text_part,
)


class EventWriter:
    """Frames the events of one stream and numbers them from 0, without a gap."""

    __slots__ = ("next_number",)

    def __init__(self) -> None:
        self.next_number = 0

    def event(self, name: bytes, fields: bytes) -> bytes:
        """One event; `fields` are its members as JSON, without the braces."""
        number = self.next_number
        self.next_number = number + 1
        return b'event: %b\ndata: {"type":"%b",%b,"sequence_number":%d}\n\n' % (
            name,
            name,
            fields,
            number,
        )

    def item_added(self, output_index: int, item: JsonObject) -> bytes:
        """The event that opens an item."""
        return self._item(b"response.output_item.added", output_index, item)

    def item_done(self, output_index: int, item: JsonObject) -> bytes:
        """The event that closes an item."""
        return self._item(b"response.output_item.done", output_index, item)

    def _item(self, name: bytes, output_index: int, item: JsonObject) -> bytes:
        return self.event(name, b'"output_index":%d,"item":%b' % (output_index, dump(item)))


class MessageItem:
    """A message of the model; its parts are texts and refusals.

    `delta_prefix` is the frame of a text delta up to the text itself, or b"" while no text part is
    open: the encoder writes what comes most often by itself, and adds it to `pieces`.
    """

    def __init__(self, writer: EventWriter, item_id: str, output_index: int) -> None:
        self._writer = writer
        self._item_id = item_id
        self.output_index = output_index
        self._content: list[JsonValue] = []
        self._is_refusal = False
        self._part_is_open = False
        self.delta_prefix = b""
        self.pieces: list[str] = []

    def open(self) -> bytes:
        """The event that shows the message, still empty."""
        item = message_item(self._item_id, "in_progress", [])
        return self._writer.item_added(self.output_index, item)

    def open_text(self) -> bytes:
        """The events after which text can be added."""
        opening = self._open_part(is_refusal=False)
        self.delta_prefix = (
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
            b'%b,"delta":' % self._place()
        )
        return opening

    def refuse(self, text: str) -> bytes:
        """The events of a further part of a refusal."""
        opening = b"" if self._is_refusal else self._open_part(is_refusal=True)
        self.pieces.append(text)
        delta = b'%b,"delta":%b' % (self._place(), dump(text))
        return opening + self._writer.event(b"response.refusal.delta", delta)

    def close(self, status: ItemStatus) -> bytes:
        """The events that end the open part and the message."""
        closing = self._close_part()
        return closing + self._writer.item_done(self.output_index, self.object(status))

    def object(self, status: ItemStatus) -> JsonObject:
        """The message as it stands in the output."""
        return message_item(self._item_id, status, self._content)

    def _open_part(self, *, is_refusal: bool) -> bytes:
        closing = self._close_part()
        self._is_refusal = is_refusal
        self._part_is_open = True
        part = refusal_part("") if is_refusal else text_part("")
        added = b'%b,"part":%b' % (self._place(), dump(part))
        return closing + self._writer.event(b"response.content_part.added", added)

    def _close_part(self) -> bytes:
        if not self._part_is_open:
            return b""
        text = "".join(self.pieces)
        place, written = self._place(), dump(text)
        if self._is_refusal:
            part = refusal_part(text)
            done = self._writer.event(
                b"response.refusal.done", b'%b,"refusal":%b' % (place, written)
            )
        else:
            part = text_part(text)
            done = self._writer.event(
                b"response.output_text.done", b'%b,"text":%b,"logprobs":[]' % (place, written)
            )
        self._content.append(part)
        self.pieces = []
        self.delta_prefix = b""
        self._part_is_open = False
        self._is_refusal = False
        ended = b'%b,"part":%b' % (place, dump(part))
        return done + self._writer.event(b"response.content_part.done", ended)

    def _place(self) -> bytes:
        return b'"item_id":%b,"output_index":%d,"content_index":%d' % (
            dump(self._item_id),
            self.output_index,
            len(self._content),
        )


class ReasoningItem:
    """A block of thinking; what may be shown of it is its one summary part."""

    def __init__(self, writer: EventWriter, item_id: str, output_index: int) -> None:
        self._writer = writer
        self._item_id = item_id
        self.output_index = output_index
        self._place = b'"item_id":%b,"output_index":%d,"summary_index":0' % (
            dump(item_id),
            output_index,
        )
        self._pieces: list[str] = []
        self._encrypted: str | None = None

    def open(self) -> bytes:
        """The event that shows the item, still empty."""
        item = reasoning_item(self._item_id, "", None)
        return self._writer.item_added(self.output_index, item)

    def add(self, text: str) -> bytes:
        """The events of a further part of the thinking."""
        opening = b""
        if not self._pieces:
            part = b'%b,"part":%b' % (self._place, dump(summary_part("")))
            opening = self._writer.event(b"response.reasoning_summary_part.added", part)
        self._pieces.append(text)
        delta = b'%b,"delta":%b' % (self._place, dump(text))
        return opening + self._writer.event(b"response.reasoning_summary_text.delta", delta)

    def end(self, block: ReasoningBlock) -> bytes:
        """The events that end the item with what its provider needs to see again."""
        self._encrypted = encrypted_content(block)
        return self.close("completed")

    def close(self, status: ItemStatus) -> bytes:
        """The events that end the item."""
        closing = b""
        if self._pieces:
            text = "".join(self._pieces)
            done = b'%b,"text":%b' % (self._place, dump(text))
            part = b'%b,"part":%b' % (self._place, dump(summary_part(text)))
            closing = self._writer.event(b"response.reasoning_summary_text.done", done)
            closing += self._writer.event(b"response.reasoning_summary_part.done", part)
        return closing + self._writer.item_done(self.output_index, self.object(status))

    def object(self, _status: ItemStatus) -> JsonObject:
        """The item as it stands in the output."""
        return reasoning_item(self._item_id, "".join(self._pieces), self._encrypted)


class CallItem:
    """A tool call of the client's tools."""

    def __init__(
        self, writer: EventWriter, item_id: str, output_index: int, call_id: str, tool: CalledTool
    ) -> None:
        self._writer = writer
        self._item_id = item_id
        self.output_index = output_index
        self._call_id = call_id
        self._tool = tool
        self._place = b'"item_id":%b,"output_index":%d' % (dump(item_id), output_index)
        self._pieces: list[str] = []
        self._arguments: str | None = None

    def open(self) -> bytes:
        """The event that shows the call, still without arguments."""
        item = call_item(self._item_id, "in_progress", self._call_id, self._tool, "")
        return self._writer.item_added(self.output_index, item)

    def add(self, arguments: str) -> bytes:
        """The event of a further part of the arguments."""
        if not arguments:
            return b""
        self._pieces.append(arguments)
        return b"" if self._tool.is_custom else self._delta(arguments)

    def end(self, arguments: str) -> bytes:
        """The events that end the call; `arguments` is the whole JSON text."""
        # A model that calls a tool without arguments may send no delta at all, and some clients
        # put the arguments together from deltas alone.
        whole = self._delta(arguments) if not self._pieces and not self._tool.is_custom else b""
        self._arguments = arguments
        return whole + self.close("completed")

    def close(self, status: ItemStatus) -> bytes:
        """The events that end the call as it is."""
        given = self._given()
        if self._tool.is_custom:
            closing = self._delta(given) if given else b""
            done = b'%b,"input":%b' % (self._place, dump(given))
            closing += self._writer.event(b"response.custom_tool_call_input.done", done)
        else:
            done = b'%b,"arguments":%b' % (self._place, dump(given))
            closing = self._writer.event(b"response.function_call_arguments.done", done)
        return closing + self._writer.item_done(self.output_index, self.object(status))

    def object(self, status: ItemStatus) -> JsonObject:
        """The call as it stands in the output."""
        return call_item(self._item_id, status, self._call_id, self._tool, self._given())

    def _delta(self, text: str) -> bytes:
        name = (
            b"response.custom_tool_call_input.delta"
            if self._tool.is_custom
            else b"response.function_call_arguments.delta"
        )
        return self._writer.event(name, b'%b,"delta":%b' % (self._place, dump(text)))

    def _given(self) -> str:
        arguments = "".join(self._pieces) if self._arguments is None else self._arguments
        return _free_text(arguments) if self._tool.is_custom else arguments


def _free_text(arguments: str) -> str:
    """What the model wrote for a custom tool; its whole arguments if it kept to no form."""
    try:
        given = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    text = given.get("input") if isinstance(given, dict) else None
    return text if isinstance(text, str) else arguments
