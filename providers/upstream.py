"""The one HTTP client for all upstreams: asks, repeats before the first byte, bounds every wait.

What this module promises:

- No error of the connection leaves it: callers see `streaming.errors` alone.
- An answer cut short raises `UpstreamConnectionError`; it never looks like a quiet end.
- Closing an answer, or cancelling who waits for one, drops its connection at once.
- Every wait is bounded by `Timeouts`, what has come and is not yet read by a mark above which the
  upstream has to wait, and the size of a body that is read whole by a cap.
- A request goes out a second time unasked only where a kept connection turns out to be closed
  before one byte of an answer came.
- Headers, which carry keys, are in no error, log line or `repr`.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

import structlog
from typing_extensions import override

from providers.http import (
    CodingError,
    Connection,
    Decoder,
    HttpError,
    Origin,
    Pool,
    decoder_for,
    request_head,
)
from providers.retry import RetryPolicy, retry_after_seconds, should_repeat
from providers.upstream_call import Timeouts, UpstreamCall
from providers.upstream_failures import failed, is_early, timed_out
from streaming.errors import AgentServerError, UpstreamError, UpstreamProtocolError

__all__ = ["RetryPolicy", "Timeouts", "Upstream", "UpstreamAnswer", "UpstreamCall"]

MAX_BODY_BYTES = 32 * 1024 * 1024
DRAIN_SECONDS = 0.2
FIRST_REFUSAL_STATUS = 300

_log = structlog.get_logger(__name__)


class UpstreamAnswer:
    """An answer whose head has come and, unless it is empty, the first bytes of its body.

    `headers` ignores case; `retry_after_seconds` is None for a success. Use it as an asynchronous
    context manager, or close it: an answer that was not read to its end gives its connection up,
    others give it back.
    """

    __slots__ = (
        "_call",
        "_connection",
        "_deadline",
        "_first",
        "_pool",
        "headers",
        "retry_after_seconds",
        "status",
    )

    def __init__(
        self,
        call: UpstreamCall,
        connection: Connection,
        pool: Pool,
        deadline: float,
        retry_after: float | None,
    ) -> None:
        self.status: int = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self.retry_after_seconds = retry_after
        self._call = call
        self._pool = pool
        self._deadline = deadline
        self._connection: Connection | None = connection
        self._first = self._take(connection)

    @property
    def is_over(self) -> bool:
        """Whether all of it was read."""
        return self._connection is None and not self._first

    @property
    def request_id(self) -> str | None:
        """The upstream's own id of the request, for logs and support."""
        return self.headers.get("x-request-id") or self.headers.get("request-id")

    @property
    def media_type(self) -> str:
        """The content type in lower case and without parameters, "" where there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """All bytes that have come since the last read, or the next ones; b"" at the end.

        Raises:
            UpstreamConnectionError: the connection was lost before the end.
            UpstreamTimeoutError: the idle or the total time has passed.
            UpstreamProtocolError: the answer stopped being HTTP.
        """
        if first := self._first:
            self._first = b""
            return first
        connection = self._connection
        if connection is None:
            return b""
        if not connection.has_news:
            idle = connection.loop.time() + self._call.timeouts.idle_seconds
            deadline = self._deadline
            try:
                has_come = await connection.arrival(min(idle, deadline))
            except asyncio.CancelledError:
                connection.abort()
                raise
            if not has_come:
                connection.abort()
                raise timed_out(self._call, "total" if deadline <= idle else "idle")
        data = self._take(connection)
        if not data and connection.error is not None:
            raise failed(self._call, connection.error)
        return data

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes; raises what `read` raises."""
        while chunk := await self.read():
            yield chunk

    async def body(self, max_bytes: int = MAX_BODY_BYTES) -> bytes:
        """The whole body; raises what `read` raises, and `UpstreamProtocolError` over the cap."""
        parts: list[bytes] = []
        size = 0
        while part := await self.read():
            size += len(part)
            if size > max_bytes:
                self.close()
                raise UpstreamProtocolError(
                    f"{self._call.provider} answered more than {max_bytes} bytes",
                    provider=self._call.provider,
                    status=self.status,
                )
            parts.append(part)
        return b"".join(parts)

    async def drain(self) -> None:
        """Read the few bytes that may follow a known end, so that the next call has the connection.

        Never raises, and waits `DRAIN_SECONDS` at most: the answer itself is complete.
        """
        self._first = b""
        deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
        while (connection := self._connection) is not None and connection.error is None:
            if not connection.has_news:
                try:
                    has_come = await connection.arrival(deadline)
                except asyncio.CancelledError:
                    connection.abort()
                    raise
                if not has_come:
                    return
            self._take(connection)

    def leave(self) -> None:
        """Do the same without a wait, where the next call can as well use another connection."""
        connection, self._connection, self._first = self._connection, None, b""
        if connection is not None:
            limit = connection.loop.time() + DRAIN_SECONDS
            _await_end(connection, self._pool, limit)

    def close(self) -> None:
        """End the upstream's request now; does nothing to an answer that was read to its end."""
        if self._connection is not None:
            self._connection.abort()

    def conceal(self, error: BaseException | None) -> None:
        """Take the call's secrets out of an error that quotes what the upstream said."""
        if isinstance(error, AgentServerError):
            for secret in self._call.secrets:
                error.message = error.message.replace(secret, "***")
            error.args = (error.message,)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        self.conceal(error)

    def _take(self, connection: Connection) -> bytes:
        """What has come; with the end of the answer the connection goes back."""
        data = connection.take()
        if connection.is_done:
            self._connection = None
            self._pool.give_back(connection)
        return data


class _PackedAnswer(UpstreamAnswer):
    """An answer that came compressed, read unpacked."""

    __slots__ = ("_decoder",)

    def __init__(
        self,
        call: UpstreamCall,
        connection: Connection,
        pool: Pool,
        deadline: float,
        retry_after: float | None,
        decoder: Decoder,
    ) -> None:
        super().__init__(call, connection, pool, deadline, retry_after)
        # They tell of the bytes on the wire, which nobody sees.
        self.headers = connection.headers.without("content-encoding", "content-length")
        self._decoder = decoder

    @property
    @override
    def is_over(self) -> bool:
        # What was read may not be unpacked yet.
        return False

    @override
    async def read(self) -> bytes:
        try:
            while not (data := self._decoder.take()):
                if not (packed := await super().read()):
                    self._decoder.end()
                    return b""
                self._decoder.feed(packed)
        except CodingError as exc:
            self.close()
            raise failed(self._call, exc) from exc
        return data


def _await_end(connection: Connection, pool: Pool, limit: float) -> None:
    """Give a connection back as soon as its answer has come wholly; `limit` is the loop's time."""
    while connection.error is None:
        connection.take()
        if connection.is_done:
            pool.give_back(connection)
            return
        if not connection.has_news:
            arrival = connection.arrival(limit)
            arrival.add_done_callback(partial(_look_for_end, connection, pool, limit))
            return


def _look_for_end(
    connection: Connection, pool: Pool, limit: float, arrival: "asyncio.Future[bool]"
) -> None:
    if not arrival.cancelled() and arrival.result():
        _await_end(connection, pool, limit)
    else:
        connection.abort()


class Upstream:
    """The pooled client that all providers of a process share.

    It belongs to the event loop that uses it first. `sleep`, `jitter` (a draw from 0 to 1) and
    `now` (Unix seconds) can be replaced, so that a test of waits does not wait.
    """

    def __init__(
        self,
        *,
        pool: Pool | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool or Pool()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleep = sleep
        self._jitter = jitter
        self._now = now

    async def request(self, call: UpstreamCall) -> UpstreamAnswer:
        """Ask the upstream; an answer of any status is returned, after the repeats of its policy.

        Repeated are connections that fail before the first byte of a body, and answers 408, 429
        and 5xx; a first byte that does not come in time is not.

        Raises:
            UpstreamConnectionError: no connection, or one lost before the first byte.
            UpstreamTimeoutError: the connect, first-byte or total time has passed.
            UpstreamProtocolError: the answer is not HTTP.
        """
        if not call.retry.limit:
            return await self.attempt(call)
        deadline = asyncio.get_running_loop().time() + call.timeouts.total_seconds
        repeat = 0
        while True:
            try:
                answer = await self.attempt(call, deadline)
            except UpstreamError as exc:
                wait = self._wait_seconds(call, repeat, deadline, None) if is_early(exc) else None
                if wait is None:
                    raise
                reason = exc.message
            else:
                wait = None
                if should_repeat(answer.status, answer.headers):
                    wait = self._wait_seconds(call, repeat, deadline, answer.retry_after_seconds)
                if wait is None:
                    return answer
                answer.close()
                reason = f"status {answer.status}"
            repeat += 1
            _log.warning(
                "Repeating an upstream request",
                provider=call.provider,
                reason=reason,
                repeat=repeat,
                wait_seconds=round(wait, 3),
            )
            await self._sleep(wait)

    async def attempt(self, call: UpstreamCall, deadline: float | None = None) -> UpstreamAnswer:
        """Ask once, whatever the policy of the call; raises what `request` raises.

        `deadline` (the loop's time) is when all has to be over, if the total time is not before.
        """
        timeouts = call.timeouts
        now = (self._loop or self._bind()).time()
        total = now + timeouts.total_seconds
        deadline = total if deadline is None else min(total, deadline)
        limit = min(now + timeouts.first_byte_seconds, deadline)
        try:
            origin, head = request_head(call.method, call.url, call.headers, call.body)
            connection = self._pool.take(origin)
            is_kept = connection is not None
            while True:
                if connection is None:
                    connection = await self._connect(origin, call, limit, deadline)
                try:
                    has_come = await connection.ask(head, call.body, limit, call.method == "HEAD")
                except asyncio.CancelledError:
                    connection.abort()
                    raise
                if connection.error is None or connection.has_bytes or not is_kept:
                    break
                # It was closed while it was idle, so nobody has read the request.
                connection, is_kept = None, False
            if not has_come:
                connection.abort()
                raise timed_out(call, "total" if limit == deadline else "first_byte")
            return self._answer(call, connection, deadline)
        except HttpError as exc:
            raise failed(call, exc) from exc

    async def aclose(self) -> None:
        """Close every connection, also of answers still being read."""
        await self._pool.aclose()

    def _bind(self) -> asyncio.AbstractEventLoop:
        # The loop does not exist where this object is made.
        self._loop = asyncio.get_running_loop()
        return self._loop

    async def _connect(
        self, origin: Origin, call: UpstreamCall, limit: float, deadline: float
    ) -> Connection:
        connect_limit = asyncio.get_running_loop().time() + call.timeouts.connect_seconds
        try:
            async with asyncio.timeout_at(min(connect_limit, limit)):
                return await self._pool.connect(origin)
        except TimeoutError as exc:
            if connect_limit < limit:
                raise timed_out(call, "connect") from exc
            raise timed_out(call, "total" if limit == deadline else "first_byte") from exc

    def _answer(
        self, call: UpstreamCall, connection: Connection, deadline: float
    ) -> UpstreamAnswer:
        if connection.error is not None and not connection.has_parts:
            raise connection.error
        retry_after = None
        if connection.status >= FIRST_REFUSAL_STATUS:
            retry_after = retry_after_seconds(connection.headers, self._now())
        if connection.content_coding and connection.has_parts:
            try:
                decoder = decoder_for(connection.content_coding.decode("latin-1"))
            except CodingError:
                connection.abort()
                raise
            if decoder is not None:
                return _PackedAnswer(call, connection, self._pool, deadline, retry_after, decoder)
        return UpstreamAnswer(call, connection, self._pool, deadline, retry_after)

    def _wait_seconds(
        self, call: UpstreamCall, repeat: int, deadline: float, retry_after: float | None
    ) -> float | None:
        wait = call.retry.wait_seconds(repeat, retry_after, self._jitter())
        if wait is None or asyncio.get_running_loop().time() + wait >= deadline:
            return None
        return wait
