"""What one detached answer writes, kept for its readers in place of a socket.

What this module promises: the answer never waits for a reader; an answer that has begun has an end,
which readers see when the answer's books are closed.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from starlette.types import Message

from agent_server.answers import RawHeaders
from agent_server.frame_log import FrameWindow, frames_of, lines_of
from streaming.encoder import EncoderClass, StreamHead
from streaming.errors import AgentServerError

MAX_STREAM_BYTES: Final = 16 * 1024 * 1024
_SSE: Final = "text/event-stream"


class DetachedStream:
    """The stream of one answer, as its readers get it: in server-sent events each has a number.

    `chat_id` is what the stream is found by; `is_delivered` tells whether a client was sent the
    whole of it.
    """

    def __init__(
        self,
        owner: str,
        chat_id: str,
        encoder: EncoderClass,
        head: StreamHead,
        *,
        max_bytes: int = MAX_STREAM_BYTES,
    ) -> None:
        self.owner = owner
        self.chat_id = chat_id
        self.keep_alive = encoder.keep_alive
        self.is_numbered = encoder.content_type.startswith(_SSE)
        self.is_delivered = False
        self.headers: RawHeaders = ()
        self.failure: AgentServerError | None = None
        self._encoder = encoder
        self._head = head
        self._log = FrameWindow(max_bytes, self._numbered if self.is_numbered else lines_of)
        self._last: bytes | None = None
        self._begun = asyncio.Event()

    @property
    def key(self) -> tuple[str, str]:
        """What it is found by."""
        return self.owner, self.chat_id

    @property
    def held_bytes(self) -> int:
        """How much memory its frames take."""
        return self._log.held_bytes

    @property
    def count(self) -> int:
        """How many frames it has so far, which is the number of the last one."""
        return self._log.count

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self._log.is_over

    def take(self, message: Message) -> None:
        """Take what the answer writes, which is ASGI's; silences are each reader's own matter."""
        if message["type"] == "http.response.start":
            self.headers = tuple(message["headers"])
            self._begun.set()
        elif message["more_body"]:
            self._log.append(message["body"])
        else:
            self._last = message["body"]

    def end(self, failure: AgentServerError | None) -> None:
        """Show the last frames; a failure is told in them, or to who waits for the beginning."""
        if self.is_over:
            return
        last = self._last
        if last is None:
            last = b"" if failure is None else self.fail(failure)
        if not self._begun.is_set():
            self.failure = failure
        self._log.end(last)
        self._begun.set()

    def delivered(self) -> None:
        """A client was sent all of it."""
        self.is_delivered = True

    def forget_oldest(self) -> None:
        """Give back some memory."""
        self._log.shrink()

    def fail(self, error: AgentServerError) -> bytes:
        """The frames that end the stream for a client that cannot read it to its end."""
        return self._encoder(self._head).fail(error)

    async def begun(self) -> None:
        """Wait until the stream has begun.

        Raises:
            AgentServerError: the answer failed before.
        """
        await self._begun.wait()
        if self.failure is not None:
            raise self.failure

    def read_after(self, number: int) -> AsyncGenerator[bytes, None]:
        """Yield the frames after the one of this number (0 for all), until the last.

        Raises:
            ConflictError: the next ones are not held any more.
        """
        return self._log.read_after(number - 1)

    def check_held_after(self, number: int) -> None:
        """Raise `ConflictError` if the frame after the one of this number is not held any more."""
        self._log.check_held(number)

    def _numbered(self, data: bytes) -> list[bytes]:
        first = self._log.count + 1
        return [b"id: %d\n%b" % numbered for numbered in enumerate(frames_of(data), first)]
