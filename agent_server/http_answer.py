"""One request and its answer on a connection: uvicorn's, whose head costs less to write.

What this module promises: no header that goes out holds a control character, so that no value can
begin a header or an answer of its own.

uvicorn looks through every name and every value by a regular expression, which for the dozen
headers of a model's answer is more than all its other work. Here the names are remembered, and the
values are looked through at once.
"""

import http
from functools import lru_cache
from typing import Any, Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

MOST_NAMES: Final = 256
_BODILESS: Final = frozenset({http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED})
# RFC 9110, section 5.5: what a value may hold is visible, or a blank, or a tab.
_TEXT: Final = bytes(byte for byte in range(256) if byte == 0x09 or byte not in {*range(32), 0x7F})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})


class AnswerCycle(RequestResponseCycle):
    """Writes the head and the pieces of a stream by itself, and leaves the rest to uvicorn."""

    @override
    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started and message["type"] == "http.response.start":
            self._write_head(message["status"], message.get("headers", ()))
        elif self.chunked_encoding and message.get("more_body") and not self.response_complete:
            if (body := message["body"]) and self.scope["method"] != "HEAD":
                self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        else:
            await super().send(message)

    def _write_head(self, status: int, headers: Any) -> None:
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
        self.transport.write(head + b"\r\n")

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
