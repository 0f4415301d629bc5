"""The one HTTP client for all upstreams: asks, repeats before the first byte, bounds every wait.

What this module promises:

- No error of the HTTP library leaves it: callers see `streaming.errors` alone.
- An answer cut short raises `UpstreamConnectionError`; it never looks like a quiet end.
- Closing an answer, or cancelling who waits for one, drops its connection at once.
- Every wait is bounded by `Timeouts`, and the size of a body that is read whole by a cap.
- Headers, which carry keys, are in no error, log line or `repr`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import structlog

from providers.retry import RetryPolicy, retry_after_seconds, should_repeat
from streaming.errors import (
    UpstreamConnectionError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)

__all__ = ["RetryPolicy", "Timeouts", "Upstream", "UpstreamAnswer", "UpstreamCall"]

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_HEADER_BYTES = 32 * 1024
DRAIN_SECONDS = 0.2

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds of one call, in seconds.

    `connect_seconds` is for each connection (name, TCP, TLS); `first_byte_seconds` for each try,
    until the first byte of the body; `idle_seconds` for each silence after it; `total_seconds`
    for everything from the call to the last byte, repeats and their waits included.
    """

    connect_seconds: float = 5.0
    first_byte_seconds: float = 120.0
    idle_seconds: float = 120.0
    total_seconds: float = 1800.0


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One request to an upstream; `provider` names it in errors and logs."""

    provider: str
    url: str = field(repr=False)
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)


class UpstreamAnswer:
    """An answer whose head has come and, unless it is empty, the first bytes of its body.

    `headers` ignores case. Use it as an asynchronous context manager, or close it: an answer that
    was not read to its end gives its connection up, others give it back.
    """

    def __init__(
        self,
        call: UpstreamCall,
        response: aiohttp.ClientResponse,
        *,
        first: bytes,
        deadline: float,
        retry_after: float | None,
    ) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self.retry_after_seconds = retry_after
        self._call = call
        self._response = response
        self._first = first
        self._deadline = deadline

    @property
    def request_id(self) -> str | None:
        """The upstream's own id of the request, for logs and support."""
        return self.headers.get("x-request-id") or self.headers.get("request-id")

    @property
    def media_type(self) -> str:
        """The content type in lower case and without parameters, "" where there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """The next bytes as they came, b"" at the end.

        Raises:
            UpstreamConnectionError: the connection was lost before the end.
            UpstreamTimeoutError: the idle or the total time has passed.
        """
        if first := self._first:
            self._first = b""
            return first
        loop = asyncio.get_running_loop()
        idle = loop.time() + self._call.timeouts.idle_seconds
        try:
            async with asyncio.timeout_at(min(idle, self._deadline)):
                return await self._response.content.readany()
        except TimeoutError as exc:
            self.close()
            name = "total" if self._deadline <= idle else "idle"
            raise _timed_out(self._call, name) from exc
        except (aiohttp.ClientError, OSError) as exc:
            self.close()
            raise _failed(self._call, exc) from exc

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
        """Read the few bytes that may follow a known end, so that the connection can be kept.

        Never raises, and waits `DRAIN_SECONDS` at most: the answer itself is complete.
        """
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._response.content.readany():
                    pass

    def close(self) -> None:
        """End the upstream's request now; does nothing to an answer that was read to its end."""
        self._response.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Upstream:
    """The pooled client that all providers of a process share.

    `connection_limit` 0 sets none. `sleep`, `jitter` (a draw from 0 to 1) and `now` (Unix seconds)
    can be replaced, so that a test of waits does not wait.
    """

    def __init__(
        self,
        *,
        connection_limit: int = 0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._connection_limit = connection_limit
        self._sleep = sleep
        self._jitter = jitter
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def request(self, call: UpstreamCall) -> UpstreamAnswer:
        """Ask the upstream; an answer of any status is returned, after the repeats of its policy.

        Repeated are connections that fail before the first byte of a body, and answers 408, 429
        and 5xx; a first byte that does not come in time is not.

        Raises:
            UpstreamConnectionError: no connection, or one lost before the first byte.
            UpstreamTimeoutError: the connect, first-byte or total time has passed.
            UpstreamProtocolError: the answer is not HTTP.
        """
        deadline = asyncio.get_running_loop().time() + call.timeouts.total_seconds
        repeat = 0
        while True:
            try:
                answer = await self._attempt(call, deadline)
            except UpstreamError as exc:
                wait = self._wait_seconds(call, repeat, deadline, None) if _is_early(exc) else None
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

    async def aclose(self) -> None:
        """Close every connection, also of answers still being read."""
        if self._session is not None:
            await self._session.close()

    def _wait_seconds(
        self, call: UpstreamCall, repeat: int, deadline: float, retry_after: float | None
    ) -> float | None:
        wait = call.retry.wait_seconds(repeat, retry_after, self._jitter())
        if wait is None or asyncio.get_running_loop().time() + wait >= deadline:
            return None
        return wait

    async def _attempt(self, call: UpstreamCall, deadline: float) -> UpstreamAnswer:
        limit = asyncio.get_running_loop().time() + call.timeouts.first_byte_seconds
        try:
            with contextlib.ExitStack() as opened:
                async with asyncio.timeout_at(min(limit, deadline)):
                    response = await self._open_session().request(
                        call.method,
                        call.url,
                        data=call.body,
                        headers=call.headers,
                        allow_redirects=False,
                        timeout=_connect_timeout(call.timeouts.connect_seconds),
                    )
                    opened.callback(response.close)
                    first = await response.content.readany()
                opened.pop_all()
        except aiohttp.ConnectionTimeoutError as exc:
            raise _timed_out(call, "connect") from exc
        except TimeoutError as exc:
            raise _timed_out(call, "total" if deadline <= limit else "first_byte") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _failed(call, exc) from exc
        retry_after = retry_after_seconds(response.headers, self._now())
        return UpstreamAnswer(
            call, response, first=first, deadline=deadline, retry_after=retry_after
        )

    def _open_session(self) -> aiohttp.ClientSession:
        # A session belongs to the running loop, which does not exist where this object is made.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connection_limit),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Compression would hold back the events of a stream, and costs more than it saves.
                headers={"accept-encoding": "identity", "user-agent": "agent-server"},
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
                trust_env=False,
            )
        return self._session


def _connect_timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=seconds, sock_connect=seconds)


def _is_early(error: UpstreamError) -> bool:
    """Whether a try failed so early that the upstream can hardly have worked on it."""
    if isinstance(error, UpstreamTimeoutError):
        return error.param == _TIMEOUT_FIELDS["connect"]
    return error.is_retryable


def _timed_out(call: UpstreamCall, name: str) -> UpstreamTimeoutError:
    field_name = _TIMEOUT_FIELDS[name]
    reason = f"{_TIMEOUT_TEXTS[name]} {getattr(call.timeouts, field_name):g} s ({field_name})"
    _log_failure(call, reason)
    return UpstreamTimeoutError(
        f"{call.provider} {reason}", provider=call.provider, param=field_name
    )


def _failed(call: UpstreamCall, exc: Exception) -> UpstreamError:
    """Our error for one of the HTTP library, whose own text may hold URLs and is left out."""
    kind, text, is_retryable = next(
        (row[1:] for row in _FAILURES if isinstance(exc, row[0])), _CONNECTION_LOST
    )
    _log_failure(call, text)
    return kind(f"{call.provider}: {text}", provider=call.provider, is_retryable=is_retryable)


def _log_failure(call: UpstreamCall, reason: str) -> None:
    """The one place that names the address: a caller need not know where the upstream is."""
    _log.warning("Upstream failed", provider=call.provider, host=_host(call), reason=reason)


def _host(call: UpstreamCall) -> str:
    return urlsplit(call.url).netloc.rpartition("@")[2] or "an address without a host"


_TIMEOUT_FIELDS = {
    "connect": "connect_seconds",
    "first_byte": "first_byte_seconds",
    "idle": "idle_seconds",
    "total": "total_seconds",
}
_TIMEOUT_TEXTS = {
    "connect": "could not be reached in",
    "first_byte": "did not begin to answer in",
    "idle": "stopped in the middle of its answer and sent nothing for",
    "total": "did not finish its answer in",
}
# The first row that matches, so subclasses come before their bases.
_FAILURES: tuple[
    tuple[type[Exception] | tuple[type[Exception], ...], type[UpstreamError], str, bool], ...
] = (
    (
        (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError),
        UpstreamConnectionError,
        "the base URL is not a valid http(s) URL",
        False,
    ),
    (
        ValueError,
        UpstreamConnectionError,
        "the base URL or the key holds what no HTTP request can",
        False,
    ),
    (
        aiohttp.ClientConnectorDNSError,
        UpstreamConnectionError,
        "the host name could not be resolved",
        True,
    ),
    (
        (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError),
        UpstreamConnectionError,
        "no trusted TLS connection could be made; check the certificate and the base URL",
        False,
    ),
    (
        aiohttp.ClientConnectorError,
        UpstreamConnectionError,
        "the connection was refused or the host is down",
        True,
    ),
    (
        aiohttp.ServerDisconnectedError,
        UpstreamConnectionError,
        "the connection was closed before an answer came",
        True,
    ),
    (
        aiohttp.ClientPayloadError,
        UpstreamConnectionError,
        "the connection was lost in the middle of the answer",
        True,
    ),
    (aiohttp.ClientResponseError, UpstreamProtocolError, "the answer is not HTTP", False),
)
_CONNECTION_LOST = (UpstreamConnectionError, "the connection was lost", True)
