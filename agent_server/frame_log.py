"""The frames of one stream while it is made, for any number of readers that come and go.

What this module promises: every reader gets the frames after the number that it names, each once
and in order, those that are there and those that come; not much more than
`MAX_LOG_BYTES` are held.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from streaming.errors import AgentLimitError

MAX_LOG_BYTES: Final = 16 * 1024 * 1024
FRAME_END: Final = b"\n\n"


def frames_of(data: bytes) -> list[bytes]:
    """The single frames of some whole ones; comments between them are left out."""
    return [frame + FRAME_END for frame in data.split(FRAME_END) if frame and frame[:1] != b":"]


class FrameLog:
    """Frames by their `sequence_number`, which counts from 0 without a gap."""

    def __init__(self, max_bytes: int = MAX_LOG_BYTES) -> None:
        self._max_bytes = max_bytes
        self._frames: list[bytes] = []
        self._bytes = 0
        self._is_over = False
        self._changed = asyncio.Event()

    def append(self, data: bytes) -> None:
        """Add whole frames.

        Raises:
            AgentLimitError: there is no room for more.
        """
        self._add(data)
        if self._bytes > self._max_bytes:
            raise AgentLimitError(
                f"The response's stream grew over {self._max_bytes} bytes, more than the server "
                "holds of one that runs in the background.",
                code="response_too_large",
            )

    def end(self, data: bytes = b"") -> None:
        """Add the last frames, whatever their size."""
        self._is_over = True
        self._add(data)

    def whole(self) -> bytes:
        """All frames so far."""
        return b"".join(self._frames)

    async def read_after(self, number: int) -> AsyncGenerator[bytes, None]:
        """Yield the frames after the one of this number (-1 for all), until the last."""
        position = number + 1
        while True:
            changed = self._changed
            if position < len(self._frames):
                frames = self._frames[position:]
                position += len(frames)
                yield b"".join(frames)
            elif self._is_over:
                return
            else:
                await changed.wait()

    def _add(self, data: bytes) -> None:
        self._frames += frames_of(data)
        self._bytes += len(data)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
