"""What Kubiya's API streams while a workflow runs: bytes to messages. Pure.

Source: `kubiya-workflow-sdk`, `execute_workflow` with `native_sse=true`, and the vendor's command
line, 2026-11. Its lines are `data: {json}`, `data: 2:{json}`, `data: d:{json}`, `data: [DONE]` and
`event: error`, with or without blank lines between them. So each `data:` line is a message of its
own as soon as it is whole JSON, which `streaming.sse` would wait with; lines that are JSON only
together are put together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import orjson

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_HELD_LINES = 500

MessageKind = Literal["data", "done", "error"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_KINDS: dict[bytes, MessageKind] = {b"d": "done", b"3": "error"}
_EVENT_KINDS: dict[str, MessageKind] = {"error": "error", "end": "done", "done": "done"}


class MessageTooLargeError(Exception):
    """One message is larger than any answer of the API should be."""


@dataclass(frozen=True, slots=True)
class VendorMessage:
    """One message. `body` is its JSON object; what is no JSON object is `text`.

    A `done` without a body is the mark `[DONE]` (or an `event: end`), which says nothing of how the
    run ended.
    """

    kind: MessageKind
    body: Mapping[str, object]
    text: str = ""


class MessageDecoder:
    """Gives the messages of a stream that arrives in chunks with any borders."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._is_first_line = True
        self._skip_line_feed = False
        self._event = ""
        self._has_spoken = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_kind: MessageKind = "data"

    def feed(self, chunk: bytes) -> list[VendorMessage]:
        """The messages that `chunk` completes.

        Raises:
            MessageTooLargeError: A message is larger than `max_bytes`.
        """
        messages: list[VendorMessage] = []
        for line in self._lines(chunk):
            messages.extend(self._take(line))
        if self._line_bytes + self._held_bytes > self._max_bytes:
            raise MessageTooLargeError(f"one message is larger than {self._max_bytes} bytes")
        return messages

    def finish(self) -> list[VendorMessage]:
        """What the end of the stream leaves: the last line and event need not be closed."""
        line = b"".join(self._line)
        self._line.clear()
        messages = list(self._take(line)) if line else []
        messages.extend(self._end_event())
        return messages

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in this chunk; LF, CRLF and CR end one."""
        if self._skip_line_feed and chunk:
            self._skip_line_feed = False
            chunk = chunk.removeprefix(b"\n")
        if not chunk:
            return
        lines = chunk.splitlines()
        rest = b""
        if chunk.endswith(b"\r"):
            self._skip_line_feed = True
        elif not chunk.endswith(b"\n"):
            rest = lines.pop()
        for line in lines:
            whole = b"".join([*self._line, line])
            self._line.clear()
            self._line_bytes = 0
            if self._is_first_line:
                self._is_first_line = False
                whole = whole.removeprefix(_BYTE_ORDER_MARK)
            yield whole
        if rest:
            self._line.append(rest)
            self._line_bytes += len(rest)

    def _take(self, line: bytes) -> Iterator[VendorMessage]:
        if not line.strip():
            yield from self._end_event()
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            yield from self._data(value.strip())
        elif name == b"event":
            yield from self._end_event()
            self._event = value.strip().decode("utf-8", "replace")
        elif len(name) == 1 and name in b"0123456789abcdefg":
            # The stream of the same API without `native_sse`: `2:{json}` as a line.
            yield from self._data(line.strip())

    def _data(self, value: bytes) -> Iterator[VendorMessage]:
        kind = _EVENT_KINDS.get(self._event, "data")
        if value[1:2] == b":" and value[:1] in b"0123456789abcdefg":
            kind = _KINDS.get(value[:1], kind)
            value = value[2:].strip()
        if value == b"[DONE]":
            yield from self._flush()
            yield from self._messages("done", {})
            return
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            yield from self._hold(kind, value)
            return
        yield from self._flush()
        yield from self._messages(kind, found)

    def _hold(self, kind: MessageKind, value: bytes) -> Iterator[VendorMessage]:
        """Keep the beginning of a JSON value until it is whole; all else is text."""
        if not self._held and not value.startswith((b"{", b"[")):
            yield from self._messages(kind, value.decode("utf-8", "replace"))
            return
        if not self._held:
            self._held_kind = kind
        self._held.append(value)
        self._held_bytes += len(value)
        if not value.endswith((b"}", b"]")):
            return
        try:
            found = orjson.loads(b"\n".join(self._held))
        except orjson.JSONDecodeError:
            if len(self._held) > MAX_HELD_LINES:
                yield from self._flush()
            return
        self._forget_held()
        yield from self._messages(self._held_kind, found)

    def _flush(self) -> Iterator[VendorMessage]:
        """What was held, as text."""
        if self._held:
            text = b"\n".join(self._held).decode("utf-8", "replace")
            self._forget_held()
            yield from self._messages(self._held_kind, text)

    def _forget_held(self) -> None:
        self._held.clear()
        self._held_bytes = 0

    def _end_event(self) -> Iterator[VendorMessage]:
        """A blank line, or the next event: an `error` or `end` without data counts as well."""
        yield from self._flush()
        kind = _EVENT_KINDS.get(self._event)
        if kind is not None and not self._has_spoken:
            yield VendorMessage(kind, {})
        self._event = ""
        self._has_spoken = False

    def _messages(self, kind: MessageKind, found: object) -> Iterator[VendorMessage]:
        self._has_spoken = True
        for item in found if isinstance(found, list) else [found]:
            if isinstance(item, dict):
                yield VendorMessage(kind, item)
            elif item is not None:
                text = item if isinstance(item, str) else orjson.dumps(item).decode()
                yield VendorMessage(kind, {}, text)
