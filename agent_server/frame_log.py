"""The frames of one stream while it is made, for any number of readers that come and go.

What this module promises: every reader gets the frames after the number that it names, each once
and in order, those that are there and those that come, or an error; not much more than `max_bytes`
are held: a `FrameLog` takes no more, a `FrameWindow` forgets its oldest.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

from typing_extensions import override

from streaming.errors import AgentLimitError, ConflictError

MAX_LOG_BYTES: Final = 16 * 1024 * 1024
FRAME_END: Final = b"\n\n"
LINE_END: Final = b"\n"
# So much of a long stream is one write.
MAX_FRAMES_AT_ONCE: Final = 512


def frames_of(data: bytes) -> list[bytes]:
    """The single frames of some whole ones; comments between them are left out."""
    return [frame + FRAME_END for frame in data.split(FRAME_END) if frame and frame[:1] != b":"]


def lines_of(data: bytes) -> list[bytes]:
    """The single lines of some whole ones; empty ones are left out."""
    return [line + LINE_END for line in data.split(LINE_END) if line]


class FrameLog:
    """Frames by their number, which counts from 0 without a gap.

    `split` parts what is written into frames; `first` is the number of the oldest that is held,
    `count` how many there were.
    """

    def __init__(
        self,
        max_bytes: int = MAX_LOG_BYTES,
        split: Callable[[bytes], list[bytes]] = frames_of,
    ) -> None:
        self._max_bytes = max_bytes
        self._split = split
        self._frames: list[bytes] = []
        self._changed = asyncio.Event()
        self.first = 0
        self.held_bytes = 0
        self.is_over = False

    @property
    def count(self) -> int:
        """How many frames there were so far."""
        return self.first + len(self._frames)

    def append(self, data: bytes) -> None:
        """Add whole frames.

        Raises:
            AgentLimitError: there is no room for more.
        """
        self._add(data)
        if self.held_bytes > self._max_bytes:
            raise AgentLimitError(
                f"The response's stream grew over {self._max_bytes} bytes, more than the server "
                "holds of one that runs in the background.",
                code="response_too_large",
            )

    def end(self, data: bytes = b"") -> None:
        """Add the last frames, whatever their size."""
        self.is_over = True
        self._add(data)

    def whole(self) -> bytes:
        """All frames so far."""
        return b"".join(self._frames)

    async def read_after(self, number: int) -> AsyncGenerator[bytes, None]:
        """Yield the frames after the one of this number (-1 for all), until the last.

        Raises:
            ConflictError: the next ones are not held any more.
        """
        position = number + 1
        while True:
            changed = self._changed
            self.check_held(position)
            if position < self.count:
                begin = position - self.first
                frames = self._frames[begin : begin + MAX_FRAMES_AT_ONCE]
                position += len(frames)
                yield b"".join(frames)
            elif self.is_over:
                return
            else:
                await changed.wait()

    def check_held(self, number: int) -> None:
        """Raise `ConflictError` if the frame of this number was forgotten."""
        if number < self.first:
            raise ConflictError(
                f"The stream has become so long that its first {self.first} frames are not held "
                "any more. Every event of its workflow is at GET /v1/workflows/runs/{run_id}"
                f"/events; where frames have an id, those after {self.first} can be had with the "
                f"header 'Last-Event-ID: {self.first}'.",
                code="frames_not_held",
                param="Last-Event-ID",
            )

    def _add(self, data: bytes) -> None:
        frames = self._split(data)
        self._frames += frames
        self.held_bytes += sum(map(len, frames))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class FrameWindow(FrameLog):
    """The newest frames of a stream, which may be as long as it likes."""

    @override
    def append(self, data: bytes) -> None:
        """Add whole frames, and forget the oldest where there is no room for all."""
        self._add(data)
        if self.held_bytes > self._max_bytes:
            self.shrink()

    def shrink(self) -> None:
        """Forget the oldest quarter, so that room is not made for each frame; never the newest."""
        most = self.held_bytes - self.held_bytes // 4
        forgotten = 0
        while self.held_bytes > most and forgotten < len(self._frames) - 1:
            self.held_bytes -= len(self._frames[forgotten])
            forgotten += 1
        del self._frames[:forgotten]
        self.first += forgotten
