"""One connection: requests out, answers in, one at a time.

What it promises:

- What has come and is not yet taken is bounded: reading pauses above `HIGH_WATER_BYTES`, and what
  brings no byte of a body (heads, trailers, interim answers) may be `MAX_HEAD_BYTES` long.
- A body ends where its framing says so, or with the connection where it has none; any other end
  is an error.
- A wait costs no task and seldom a timer: one is armed for the first deadline, and looks whether
  it has moved when it fires.
- An answer that comes before its request was written out counts; the connection is then not kept.

Source: RFC 9112, sections 6 to 9. The parser is llhttp, by httptools.
"""

import asyncio
from types import SimpleNamespace
from typing import Any, Protocol, cast

import httptools
from typing_extensions import override

from providers.http.errors import (
    AnswerError,
    CodingError,
    DisconnectedError,
    HttpError,
    TruncatedError,
)
from providers.http.headers import Headers
from providers.http.request_head import Origin

HIGH_WATER_BYTES = 256 * 1024
MAX_HEAD_BYTES = 32 * 1024
# Up to here a body is joined to its head, so that both are one write.
MAX_JOINED_BYTES = 64 * 1024
WRITE_BYTES = 128 * 1024
FIRST_FINAL_STATUS = 200

_NEVER = float("inf")
_NO_BYTES = memoryview(b"")


class _StopParsingError(Exception):
    """Ends the parser's work on bytes that are of no use."""


class Owner(Protocol):
    """Who is told of a connection's life."""

    def connection_opened(self, connection: "Connection") -> None:
        """Take note of a connection that was made, TLS included."""

    def connection_closed(self, connection: "Connection") -> None:
        """Take note of its end."""


class Connection(asyncio.Protocol):
    """A connection to `origin`, on the `loop` that it was made on.

    Of the answer at hand: `status` is 0 before its head, `is_done` says that all of it has come,
    `error` why the rest will not, `has_bytes` whether any byte came; `content_coding` is the value
    of that header, b"" where there is none.
    """

    def __init__(self, origin: Origin, owner: Owner) -> None:
        self.origin = origin
        self.status = 0
        self.headers = Headers({})
        self.is_done = False
        self.has_bytes = False
        self._is_ended = False
        self.content_coding = b""
        self.error: HttpError | None = None
        self.idle_since = 0.0
        self._owner = owner
        self.loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", None)
        # Called by the parser for each header and piece without a Python frame between.
        self._raw_headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._parser: Any = httptools.HttpResponseParser(
            SimpleNamespace(
                on_message_begin=self._message_began,
                on_header=self._raw_headers.__setitem__,
                on_headers_complete=self._head_came,
                on_body=self._parts.append,
                on_message_complete=self._message_ended,
            )
        )
        # Servers that end a line by LF alone, or pad the size of a chunk, are common enough.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._is_busy = False
        self._is_bodiless = False
        self._keeps_alive = False
        self._unsent = _NO_BYTES
        self._is_writing_paused = False
        self._is_reading_paused = False
        self._buffered_bytes = 0
        self._fed_bytes = 0
        self._bare_bytes = 0
        self._waiter: asyncio.Future[bool] | None = None
        self._deadline = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow the one whose answer has come wholly."""
        return self._keeps_alive and not self._is_ended and not self._unsent

    @property
    def has_parts(self) -> bool:
        """Whether bytes of the body have come that were not taken."""
        return bool(self._parts)

    @property
    def has_news(self) -> bool:
        """Whether a wait would be none: there is something to take, the end, or an error."""
        return bool(self._parts) or self.is_done or self.error is not None

    def ask(
        self, head: bytes, body: bytes | None, deadline: float, is_bodiless: bool
    ) -> asyncio.Future[bool]:
        """Send a request, and wait as `arrival` does.

        `is_bodiless`: its answer has no body, whatever the head says.
        """
        self._is_busy = True
        self._is_bodiless = is_bodiless
        self._keeps_alive = self.is_done = self.has_bytes = False
        self.status = self._bare_bytes = self._buffered_bytes = 0
        self._raw_headers.clear()
        waiting = self.arrival(deadline)
        if self._is_ended:
            # It ended, or its server spoke first, before anybody asked.
            self.error = self.error or DisconnectedError()
            self._wake()
        elif not body:
            self._transport.write(head)
        elif len(body) <= MAX_JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._write_on()
        return waiting

    def arrival(self, deadline: float) -> asyncio.Future[bool]:
        """True as soon as there `has_news`, False once `deadline` (the loop's time) has passed.

        To be called where there are none, and awaited at once. Who is cancelled in it aborts.
        """
        if deadline < self._timer_at:
            self._arm(deadline)
        self._deadline = deadline
        self._waiter = self.loop.create_future()
        return self._waiter

    def take(self) -> bytes:
        """What has come of the body since the last call, b"" if nothing has."""
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._buffered_bytes = 0
        if self._is_reading_paused and not self._is_ended:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return data

    def rest(self) -> None:
        """Say that the answer was taken; bytes that come from now on end the connection."""
        self._is_busy = False
        self.idle_since = self.loop.time()

    def abort(self) -> None:
        """End the connection now. An answer not yet whole ends by an error, never quietly."""
        if self.error is None and not self.is_done:
            self.error = TruncatedError() if self.status else DisconnectedError()
        self._is_ended = True
        self._unsent = _NO_BYTES
        self._transport.abort()

    # Called by the event loop.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._owner.connection_opened(self)

    @override
    def data_received(self, data: bytes) -> None:
        if not self._is_busy:
            self.error = AnswerError()
            self.abort()
            return
        self.has_bytes = True
        self._fed_bytes = len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._stop()
        if self._parts:
            self._bare_bytes = 0
            self._buffered_bytes += len(data)
            if self._buffered_bytes > HIGH_WATER_BYTES:
                self._pause_reading()
        elif not self.is_done and self.error is None:
            self._bare_bytes += len(data)
            if self._bare_bytes <= MAX_HEAD_BYTES:
                return
            self.error = AnswerError()
            self.abort()
        self._wake()

    @override
    def eof_received(self) -> None:
        # A close would first write out what nobody reads any more.
        self._transport.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._is_ended = True
        if self._is_busy and not self.is_done and self.error is None:
            framing = ("content-length", "transfer-encoding")
            if not self.status:
                self.error = DisconnectedError()
            elif exc is not None or any(name in self.headers for name in framing):
                self.error = TruncatedError()
            else:
                self.is_done = True
        self._wake()
        if self._timer is not None:
            self._timer.cancel()
        # The parser holds this object, and this object the parser.
        self._parser = self._timer = None
        self._unsent = _NO_BYTES
        self._owner.connection_closed(self)

    @override
    def pause_writing(self) -> None:
        self._is_writing_paused = True

    @override
    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._write_on()

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self._is_ended:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _write_on(self) -> None:
        while self._unsent and not self._is_writing_paused:
            # Before the write, which may come back here.
            piece, self._unsent = self._unsent[:WRITE_BYTES], self._unsent[WRITE_BYTES:]
            self._transport.write(piece)

    def _stop(self) -> None:
        """Take note that the parser gave up: what follows a whole answer spoils no answer."""
        self._keeps_alive = False
        if not self.is_done:
            if self.error is None:
                self.error = AnswerError()
            self.abort()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(True)

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(deadline, self._look_at_deadline)
        self._timer_at = deadline

    def _look_at_deadline(self) -> None:
        self._timer = None
        self._timer_at = _NEVER
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._deadline > self.loop.time():
            self._arm(self._deadline)
            return
        self._waiter = None
        waiter.set_result(False)

    # Called by the parser.

    def _message_began(self) -> None:
        if self.is_done:
            raise _StopParsingError

    def _head_came(self) -> None:
        status: int = self._parser.get_status_code()
        raw = self._raw_headers
        if status >= FIRST_FINAL_STATUS:
            self.status = status
            values = {name.lower(): value for name, value in raw.items()}
            self.headers = Headers(values)
            if self._bare_bytes + self._fed_bytes > MAX_HEAD_BYTES:
                self._check_size(raw)
            self.content_coding = values.get(b"content-encoding", b"")
            coding = values.get(b"transfer-encoding")
            if coding is not None and coding.lower() != b"chunked":
                self.error = CodingError("its body has a transfer coding other than chunked")
                raise _StopParsingError
            if self._is_bodiless:
                self.is_done = True
                raise _StopParsingError
        raw.clear()

    def _check_size(self, raw: dict[bytes, bytes]) -> None:
        if sum(len(name) + len(value) for name, value in raw.items()) > MAX_HEAD_BYTES:
            self.error = AnswerError()
            raise _StopParsingError

    def _message_ended(self) -> None:
        # An interim answer (1xx) is a message too.
        if self.status:
            self.is_done = True
            self._keeps_alive = self._parser.should_keep_alive()
