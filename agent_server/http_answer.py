"""One request and its answer on a connection: uvicorn's, which writes for less.

What this module promises: no header that goes out holds a control character, so that no value can
begin a header or an answer of its own; what was sent has gone out when the turn of the loop ends.

uvicorn looks through every name and every value by a regular expression, which for the dozen
headers of a model's answer is more than all its other work, and asks the kernel to write the head
by itself. Here the names are remembered, the values are looked through at once, and the head goes
out with the first bytes of its body.
"""

import asyncio
import http
from functools import lru_cache
from typing import Any, Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

MOST_NAMES: Final = 256
# Up to here a body is joined to its head, so that both are one write.
MAX_JOINED_BYTES: Final = 64 * 1024
_LAST_CHUNK: Final = b"0\r\n\r\n"
_BODILESS: Final = frozenset({http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED})
# RFC 9110, section 5.5: what a value may hold is visible, or a blank, or a tab.
_TEXT: Final = bytes(byte for byte in range(256) if byte == 0x09 or byte not in {*range(32), 0x7F})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})


class AnswerCycle(RequestResponseCycle):
    """Writes an answer as the application sends it."""

    loop: asyncio.AbstractEventLoop
    # Waits for the first bytes of the body, until the end of the turn.
    _head = b""

    @override
    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if self.response_started:
            if kind != "http.response.body" or self.response_complete:
                raise RuntimeError(f"Unexpected ASGI message '{kind}'.")
            self._write(message.get("body", b""), is_last=not message.get("more_body"))
        elif kind == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
            self.loop.call_soon(self._write_head)
        else:
            raise RuntimeError(f"Expected 'http.response.start', but got '{kind}'.")

    def _write_head(self) -> None:
        head, self._head = self._head, b""
        if head and not self.transport.is_closing():
            self.transport.write(head)

    def _write(self, body: bytes, *, is_last: bool) -> None:
        if self.scope["method"] == "HEAD":
            data, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if is_last:
                data += _LAST_CHUNK
        else:
            data = body
            self.expected_content_length -= len(body)
        if self.expected_content_length < 0:
            raise RuntimeError("Response content longer than Content-Length")
        if self._head:
            if len(data) > MAX_JOINED_BYTES:
                self._write_head()
            data, self._head = self._head + data, b""
        if data:
            self.transport.write(data)
        if is_last:
            self._end()

    def _end(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _begin(self, status: int, headers: Any) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        is_closing = False
        for given, value in (*self.default_headers, *headers):
            name = _checked_name(given)
            if name in _FRAMING:
                is_closing |= self._take_framing(name, value)
            lines += (name, b": ", value, b"\r\n")
        count = len(self.default_headers) + len(headers)
        if not self.keep_alive and not is_closing:
            lines.append(b"connection: close\r\n")
            count += 1
        if (
            self.chunked_encoding is None
            and self.scope["method"] != "HEAD"
            and status not in _BODILESS
        ):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
            count += 1
        head = b"".join(lines)
        if head.translate(None, _TEXT) != b"\r\n" * (count + 1):
            raise RuntimeError("Invalid HTTP header value.")
        self._head = head + b"\r\n"

    def _take_framing(self, name: bytes, value: bytes) -> bool:
        """Take note of a header that frames the body; gives whether it ends the connection."""
        if name == b"content-length":
            if self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
        elif name == b"transfer-encoding":
            if value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
        elif b"close" in [token.lower().strip() for token in value.split(b",")]:
            self.keep_alive = False
            return True
        return False


@lru_cache(MOST_NAMES)
def _checked_name(name: bytes) -> bytes:
    """The name in lower case; raises RuntimeError for what is none."""
    if HEADER_RE.search(name):
        raise RuntimeError("Invalid HTTP header name.")
    return name.lower()
