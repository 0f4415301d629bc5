"""The server's side of HTTP/1.1: uvicorn's, with a bound on what a client may send and how slowly.

What this module promises, whatever a client does before the application is called:

- the head of a request is at most `MAX_HEAD_BYTES`, or the answer is a 431;
- a head, and after it a body, comes within `receive_timeout_seconds`, or the answer is a 408;
- what cannot be read is a 400, and all these answers have the envelope of every other error and an
  `X-Request-Id`;
- whoever answers is told at once when the client has gone: `scope["extensions"]` has an entry
  `CLIENT_GONE_EXTENSION` whose `watch` takes what shall be called then, or None;
- `PEER_EXTENSION` has a `peer`, which gives the other end of the connection, always the same.

httptools bounds neither: one connection could take all memory with a header that never ends.
Source: RFC 9110, section 15.5; RFC 6585, section 5.
"""

import asyncio
import uuid
from collections.abc import Callable
from http import HTTPStatus

import orjson
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agent_server.client_watch import CLIENT_GONE_EXTENSION
from agent_server.http_answer import AnswerCycle
from agent_server.log_config import get_logger
from agent_server.peer_process import PEER_EXTENSION, LoopbackPeer
from streaming.errors import CallerError
from streaming.openai_objects import error_object

MAX_HEAD_BYTES = 64 * 1024

log = get_logger()


class HttpProtocol(HttpToolsProtocol):
    """One connection; a subclass sets the time."""

    receive_timeout_seconds = 60.0

    _deadline: asyncio.TimerHandle | None = None
    _peer: LoopbackPeer | None = None
    _on_gone: Callable[[], None] | None = None
    _is_in_body = False
    _is_whole = False
    _head_bytes = 0
    _fed_bytes = 0
    # Since when no request was under way, in the loop's time; None while one is.
    _idle_since: float | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._received()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)
        if self._on_gone is not None:
            self._on_gone()

    @override
    def data_received(self, data: bytes) -> None:
        self._is_whole = False
        self._fed_bytes = len(data)
        super().data_received(data)
        if self._is_whole:
            # As nearly all requests are after one piece, which so cost no timer.
            return
        if self._deadline is None and not self.transport.is_closing():
            self._wait()
        # Only a head that goes on past this piece: a whole one is measured when it is complete.
        if not self._is_in_body:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _too_large())

    @override
    def on_message_begin(self) -> None:
        self._is_whole = False
        self._head_bytes = 0
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        if self._head_bytes + self._fed_bytes > MAX_HEAD_BYTES and self._is_head_too_large():
            # The parser makes an error of its own of it, which `send_400_response` answers.
            raise _too_large()
        self.scope["extensions"] = {
            CLIENT_GONE_EXTENSION: {"watch": self._watch_client},
            PEER_EXTENSION: {"peer": self._peer_of_all},
        }
        super().on_headers_complete()
        # Its task has not begun yet. uvicorn has no other place for a cycle of one's own.
        self.cycle.__class__ = AnswerCycle
        self.cycle.loop = self.loop  # type: ignore[attr-defined]
        self._is_in_body = True
        # What is left of the body has the whole time again.
        self._received()

    @override
    def on_message_complete(self) -> None:
        self._is_in_body = False
        self._is_whole = True
        self._head_bytes = 0
        self._received()
        super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._keep_for(self.timeout_keep_alive)

    @override
    def _unset_keepalive_if_required(self) -> None:
        # The timer stays: when it fires, it looks how long the connection was idle.
        self._idle_since = None

    @override
    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._keep_for(left)
        else:
            super().timeout_keep_alive_handler()

    @override
    def send_400_response(self, msg: str) -> None:
        """Answer what the parser could not read."""
        if self._is_head_too_large():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _too_large())
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, CallerError(msg, code="invalid_http"))

    def _keep_for(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def _is_head_too_large(self) -> bool:
        return sum(len(name) + len(value) for name, value in self.headers or ()) > MAX_HEAD_BYTES

    def _watch_client(self, on_gone: Callable[[], None] | None) -> None:
        self._on_gone = on_gone
        if on_gone is not None and self.transport.is_closing():
            self.loop.call_soon(on_gone)

    def _peer_of_all(self) -> LoopbackPeer:
        if self._peer is None:
            self._peer = LoopbackPeer(self.transport)
        return self._peer

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self.receive_timeout_seconds, self._give_up)

    def _received(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        cycle = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            # The answer to an earlier request is on its way; it has bounds of its own.
            self._wait()
        elif not self._is_in_body and not self._head_bytes:
            self.transport.close()
        else:
            error = CallerError(
                f"The request did not come within {self.receive_timeout_seconds:g} seconds. Send "
                "it faster, or raise AGENT_SERVER_RECEIVE_TIMEOUT_SECONDS.",
                code="request_timeout",
            )
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, error)

    def _refuse(self, status: HTTPStatus, error: CallerError) -> None:
        """Answer in place of the application, unless it has begun to, and end the connection."""
        self._received()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or self._is_first_answer():
            self.transport.write(_answer(status, error))
        self.transport.close()

    def _is_first_answer(self) -> bool:
        """Whether the application has written nothing yet; it then takes the client for gone."""
        if self.cycle.response_started:
            return False
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        return True


def _too_large() -> CallerError:
    return CallerError(
        f"The head of the request is larger than {MAX_HEAD_BYTES} bytes; send fewer or shorter "
        "headers.",
        code="headers_too_large",
    )


def _answer(status: HTTPStatus, error: CallerError) -> bytes:
    request_id = f"req_{uuid.uuid4().hex}"
    log.warning("Request refused", status=status.value, code=error.code, request_id=request_id)
    body = orjson.dumps(error_object(error))
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-request-id: {request_id}",
        "cache-control: no-store",
        "connection: close",
    )
    return "\r\n".join((*head, "\r\n")).encode() + body
