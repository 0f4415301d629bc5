"""The one way by which the parts of an agent's answer reach its reader.

What this module promises: events come out in the order they were put in; at most `capacity` wait,
then `put` does; nobody waits for a reader that has gone.
"""

import asyncio
from collections.abc import AsyncGenerator

from streaming.events import Event

CAPACITY = 256


class EventChannel:
    """A bounded queue of events with one reader and many writers."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(capacity)
        self._abandoned = asyncio.Event()

    async def put(self, event: Event) -> None:
        """Hand an event over, waiting for room; after `abandon` it is dropped."""
        await self._put(event)

    async def end(self) -> None:
        """Tell the reader that nothing follows."""
        await self._put(None)

    def abandon(self) -> None:
        """The reader has gone: release the writers that wait, drop what they write from now on."""
        self._abandoned.set()
        self._empty()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events until `end`."""
        while (event := await self._queue.get()) is not None:
            yield event

    async def _put(self, event: Event | None) -> None:
        if self._abandoned.is_set():
            return
        await self._queue.put(event)
        if self._abandoned.is_set():
            # This writer waited for room; the next one may still.
            self._empty()

    def _empty(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
