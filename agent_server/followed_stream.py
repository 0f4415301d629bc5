"""A stream that is made elsewhere, as an answer to one of its readers.

What this module promises: a reader that goes away, or reads nothing, ends its own answer alone.
"""

from collections.abc import AsyncGenerator, Callable

from starlette.types import Receive, Scope, Send

from agent_server.answers import RawHeaders, StreamWriter
from agent_server.client_watch import ClientWatch
from streaming.errors import AgentServerError


class FollowedStream:
    """The frames that a generator gives, as an ASGI application.

    `fail` gives the last frames where they cannot be read on; `on_whole` is called once the client
    was sent all of them.
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        headers: RawHeaders,
        keep_alive: bytes,
        keep_alive_seconds: float,
        fail: Callable[[AgentServerError], bytes],
        on_whole: Callable[[], None] | None = None,
    ) -> None:
        self._frames = frames
        self._headers = headers
        self._keep_alive = keep_alive
        self._keep_alive_seconds = keep_alive_seconds
        self._fail = fail
        self._on_whole = on_whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, for as long as its client is there."""
        with ClientWatch(scope, receive) as watch:
            await self.write(send, watch.end)

    async def write(self, send: Send, give_up: Callable[[], None]) -> None:
        """Write it to a client that somebody watches; `give_up` ends that for who reads nothing."""
        writer = StreamWriter(
            send,
            self._headers,
            keep_alive=self._keep_alive,
            keep_alive_seconds=self._keep_alive_seconds,
            give_up=give_up,
        )
        try:
            await writer.begin()
            failure = await writer.write_all(self, self._fail)
        finally:
            writer.close()
            await self._frames.aclose()
        if failure is None and self._on_whole is not None:
            self._on_whole()

    async def read(self) -> bytes:
        """The next frames, b"" at the end; raises `AgentServerError`."""
        return await anext(self._frames, b"")
