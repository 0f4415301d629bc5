"""Lines out of a byte stream, in linear time and bounded memory; no IO.

The stdio transport frames each JSON-RPC message as one line of UTF-8 without embedded newlines.
Source: Model Context Protocol, "Transports", section "stdio", 2025-11-25.
"""

import re
from dataclasses import dataclass
from typing import Final

EDGE_BYTES: Final = 4096

_SCALAR: Final = rb'(?:"(?:[^"\\]|\\.){0,256}"|-?[0-9]{1,18})'
# Python servers write the id first, TypeScript ones last; anything between is data.
_ID_FIRST: Final = re.compile(
    rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(' + _SCALAR + rb")\s*,"
)
_ID_LAST: Final = re.compile(
    rb'"id"\s*:\s*(' + _SCALAR + rb')\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$'
)
# The server's own requests and notifications have ids of another counter than ours.
_METHOD: Final = re.compile(
    rb'\s*\{\s*(?:"(?:jsonrpc|id)"\s*:\s*' + _SCALAR + rb'\s*,\s*){0,2}"(?:method|params)"\s*:'
)


@dataclass(frozen=True, slots=True)
class OversizeLine:
    """A line that was dropped because it is too long: its size, first and last 4 KiB."""

    size: int
    head: bytes
    tail: bytes

    def response_id(self) -> int | str | None:
        """The id of the request that the line answers, or None if it cannot be told."""
        if _METHOD.match(self.head):
            return None
        found = _ID_FIRST.match(self.head) or _ID_LAST.search(self.tail)
        if found is None:
            return None
        raw = found.group(1)
        return raw[1:-1].decode(errors="replace") if raw.startswith(b'"') else int(raw)


class LineAssembler:
    """Cuts chunks of bytes into lines without their newline.

    A line over `max_line_bytes` is never held: its middle is dropped as it comes, and an
    `OversizeLine` stands in its place.
    """

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._line = bytearray()
        self._size = 0
        self._head = b""

    def feed(self, data: bytes) -> list[bytes | OversizeLine]:
        """The lines that `data` completes."""
        lines: list[bytes | OversizeLine] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._append(data[start:end])
            lines.append(self._take())
            start = end + 1
        self._append(data[start:])
        return lines

    def _append(self, piece: bytes) -> None:
        self._size += len(piece)
        self._line += piece
        if self._size > self._max_line_bytes:
            if not self._head:
                self._head = bytes(self._line[:EDGE_BYTES])
            del self._line[:-EDGE_BYTES]

    def _take(self) -> bytes | OversizeLine:
        line: bytes | OversizeLine = bytes(self._line)
        if self._size > self._max_line_bytes:
            line = OversizeLine(self._size, self._head, bytes(self._line))
        self._line.clear()
        self._size = 0
        self._head = b""
        return line
