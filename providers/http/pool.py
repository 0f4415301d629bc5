"""The connections of one client: kept while they can be used again, and closed after.

What it promises:

- A connection is kept only if its last answer came wholly, for `idle_seconds` and at most
  `idle_limit` to one origin; one that the server closes, or speaks on unasked, is dropped.
- One timer sweeps all of them, and there is none while none is idle.
- `aclose` ends every connection, also those being read; one still being made ends when it is made.
"""

import asyncio
import contextlib

from providers.http.connection import Connection
from providers.http.dialing import Dialer
from providers.http.errors import ClosedError
from providers.http.request_head import Origin

IDLE_SECONDS = 30.0
IDLE_LIMIT = 256
CLOSING_SECONDS = 1.0


class Pool:
    """Connections by origin. Belongs to the event loop that uses it first."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS, idle_limit: int = IDLE_LIMIT) -> None:
        self._idle_seconds = idle_seconds
        self._idle_limit = idle_limit
        self._dialer = Dialer()
        # The oldest first; the newest is used first, as it is the least likely to have been closed.
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._emptied: asyncio.Event | None = None

    @property
    def idle_count(self) -> int:
        """How many connections wait for a request."""
        return sum(len(connections) for connections in self._idle.values())

    def take(self, origin: Origin) -> Connection | None:
        """A connection that served before, None if there is none."""
        idle = self._idle.get(origin)
        return idle.pop() if idle else None

    async def connect(self, origin: Origin) -> Connection:
        """A new connection; who waits bounds the time. Raises what `Dialer.dial` raises.

        Raises:
            ClosedError: the pool is closed, or was while the connection was made.
        """
        self._check_open()
        connection = await self._dialer.dial(origin, self)
        try:
            self._check_open()
        except ClosedError:
            connection.abort()
            raise
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer was taken, or close it."""
        idle = self._idle.get(connection.origin)
        if idle is None:
            idle = self._idle[connection.origin] = []
        if not connection.is_reusable or self._is_closed or len(idle) >= self._idle_limit:
            connection.abort()
            return
        connection.rest()
        idle.append(connection)
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._idle_seconds, self._close_idle)

    async def aclose(self) -> None:
        """End every connection, and wait for it a moment."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        if self._open:
            self._emptied = asyncio.Event()
            for connection in self._open:
                connection.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_SECONDS):
                    await self._emptied.wait()

    def connection_opened(self, connection: Connection) -> None:
        """Take note of a connection, which `aclose` will end."""
        self._open.add(connection)

    def connection_closed(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle is not None and connection in idle:
            idle.remove(connection)
        if self._emptied is not None and not self._open:
            self._emptied.set()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError

    def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._idle_seconds
        oldest = loop.time()
        for origin, idle in list(self._idle.items()):
            while idle and idle[0].idle_since <= latest:
                idle.pop(0).abort()
            if idle:
                oldest = min(oldest, idle[0].idle_since)
            else:
                del self._idle[origin]
        self._sweep = None
        if self._idle:
            self._sweep = loop.call_at(oldest + self._idle_seconds, self._close_idle)
