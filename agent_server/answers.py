"""The two ways an answer goes out: as a stream of frames, or as one JSON body.

What this module promises:

- no silence in a stream is longer than the keep-alive time, and every write is bounded;
- a failure before the first byte is raised, to become an HTTP error; one after it is the stream's
  last frame: never a silent end;
- what the status is held back for may take `grace_seconds`: then head and keep-alives go out, so
  that nothing between takes the connection for dead.

A stream has one task, the one that answers: silences are looked after by a timer that looks at the
time of the last write and arms itself again, so that no frame pays for a timer of its own.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import orjson
from starlette.responses import Response
from starlette.types import Send

from agent_server.error_responses import INTERNAL_ERROR, log_error, stopping
from agent_server.log_config import get_logger
from streaming.errors import AgentServerError

WRITE_TIMEOUT_SECONDS: Final = 60.0
# What a client that reads nothing may hold up a server that stops.
LAST_WORD_SECONDS: Final = 1.0
RawHeaders = Iterable[tuple[bytes, bytes]]

log = get_logger()


class Frames(Protocol):
    """An answer as bytes of its format.

    `read()` gives the next whole frames and b"" at the end, or raises `AgentServerError`. One that
    knows has `is_over`: whether nothing follows what was read last.
    """

    async def read(self) -> bytes:
        """The next frames, b"" at the end."""
        ...


class StreamWriter:
    """Writes one stream to one client, and is to be closed in any case.

    `give_up` is called where the client has read nothing for `write_timeout_seconds`.
    """

    def __init__(
        self,
        send: Send,
        headers: RawHeaders,
        *,
        keep_alive: bytes,
        keep_alive_seconds: float,
        give_up: Callable[[], None],
        write_timeout_seconds: float = WRITE_TIMEOUT_SECONDS,
    ) -> None:
        self._send = send
        self._headers = list(headers)
        self._keep_alive = keep_alive
        self._keep_alive_seconds = keep_alive_seconds
        self._give_up = give_up
        self._write_timeout_seconds = write_timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._last_write = 0.0
        self._is_writing = False
        self.is_begun = False
        self.bytes_written = 0

    def hold(self, grace_seconds: float) -> None:
        """Begin by itself after the grace time, if nothing has come by then."""
        self._timer = self._loop.call_later(grace_seconds, self._begin_early)

    async def begin(self, headers: RawHeaders = ()) -> None:
        """Write the head, with further headers; does nothing if it has gone out."""
        if self.is_begun:
            return
        self.is_begun = True
        self._last_write = time.monotonic()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._keep_alive_seconds, self._look)
        head = [*self._headers, *headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": head})

    async def write(self, data: bytes) -> None:
        """Write frames."""
        self.bytes_written += len(data)
        self._last_write = time.monotonic()
        self._is_writing = True
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._is_writing = False

    async def write_all(
        self, frames: Frames, fail: Callable[[AgentServerError], bytes]
    ) -> AgentServerError | None:
        """Write everything and the end; a failure on the way becomes the last frames, by `fail`.

        The failure, or None where the answer was whole.
        """
        failure = None
        try:
            while data := await frames.read():
                if getattr(frames, "is_over", False):
                    # The last frames and the end of the answer are one write.
                    self.bytes_written += len(data)
                    await self.end(data)
                    return None
                await self.write(data)
        except asyncio.CancelledError:
            # The client has gone, and reads nothing of it; or the server stops, and it shall know.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_SECONDS):
                    await self.end(fail(stopping()))
            raise
        except AgentServerError as exc:
            log_error(exc)
            failure = exc
        except Exception as exc:
            log.exception("Stream failed", error_type=type(exc).__name__)
            failure = AgentServerError(INTERNAL_ERROR, code="internal_error")
        await self.end(b"" if failure is None else fail(failure))
        return failure

    async def end(self, last: bytes = b"") -> None:
        """Write the last frames and end the answer."""
        self._last_write = time.monotonic()
        self._is_writing = True
        await self._send({"type": "http.response.body", "body": last, "more_body": False})
        self._is_writing = False

    def close(self) -> None:
        """Stop looking after silences."""
        if self._timer is not None:
            self._timer.cancel()
        if self._pinging is not None:
            self._pinging.cancel()

    def _begin_early(self) -> None:
        self._timer = None
        self._pinging = self._loop.create_task(self._begin_and_ping())

    async def _begin_and_ping(self) -> None:
        await self.begin()
        await self._ping()

    def _look(self) -> None:
        silent = time.monotonic() - self._last_write
        wait = self._keep_alive_seconds
        if silent < wait:
            wait -= silent
        elif not self._is_writing:
            self._pinging = self._loop.create_task(self._ping())
        elif silent >= self._write_timeout_seconds:
            log.warning("Client reads nothing, answer given up", code="client_stalled")
            self._give_up()
            return
        self._timer = self._loop.call_later(wait, self._look)

    async def _ping(self) -> None:
        await self.write(self._keep_alive)


class JsonResponse(Response):
    """A JSON body, written by orjson."""

    media_type = "application/json"

    def __init__(
        self, content: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(orjson.dumps(content), status, headers)


async def send_body(send: Send, body: bytes, headers: RawHeaders) -> None:
    """Answer 200 with one body, whose type and further headers are given."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
