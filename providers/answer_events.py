"""An upstream's answer as events, be it a stream of server-sent events or one JSON body."""

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Protocol

from providers.upstream import UpstreamAnswer
from streaming.events import Event
from streaming.sse import SSEDecoder


class FrameReader(Protocol):
    """Reads the frames of one stream in their order; see the readers of the formats."""

    @property
    def is_finished(self) -> bool:
        """Whether the answer is complete."""
        ...

    def read(self, data: bytes) -> Iterable[Event]:
        """The events of a frame, given its data."""
        ...

    def close(self) -> None:
        """Say that the stream has ended; raises where the answer is not complete."""
        ...


async def answer_events(
    answer: UpstreamAnswer, reader: FrameReader, read_body: Callable[[bytes], Iterable[Event]]
) -> AsyncGenerator[Event, None]:
    """Yield the events of an answer: `reader` reads a stream's frames, `read_body` a JSON body.

    Not every server between names the content type of a stream; a whole answer is an object. Raises
    what both raise, and what reading the answer does.
    """
    chunk = await first_bytes(answer)
    if chunk.startswith(b"{"):
        for event in read_body(chunk + await answer.body()):
            yield event
        return
    decoder = SSEDecoder()
    while chunk:
        for frame in decoder.feed(chunk):
            for event in reader.read(frame.data):
                yield event
        if reader.is_finished:
            await answer.drain()
            return
        chunk = await answer.read()
    for frame in decoder.flush():
        for event in reader.read(frame.data):
            yield event
    reader.close()


async def first_bytes(answer: UpstreamAnswer) -> bytes:
    """The first bytes of a body, from its first that is no white space; b"" if there is none."""
    while data := await answer.read():
        if head := data.lstrip():
            return head
    return b""
