"""The live feed of one run: its newest events in memory, and the news that there are more.

Guarantee: publishing never waits; who reads too slowly for the memory finds the rest in the store.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from workflow_backend.engines.base import RunEvent

KEPT_EVENTS = 256


class LiveFeed:
    """What the followers of one unfinished run share."""

    def __init__(self, last_seq: int = 0) -> None:
        self.last_seq = last_seq
        self.closed_because: Exception | None = None
        self.has_ended = False
        self._recent: deque[tuple[int, RunEvent]] = deque(maxlen=KEPT_EVENTS)
        self._changed = asyncio.Event()

    def publish(self, seq: int, event: RunEvent) -> None:
        """A further event is in the store."""
        self.last_seq = seq
        self._recent.append((seq, event))
        self._wake()

    def end(self) -> None:
        """The event that was published last is the run's last one."""
        self.has_ended = True
        self._wake()

    def close(self, because: Exception) -> None:
        """No event will come any more, though the run has not ended."""
        self.closed_because = because
        self._wake()

    def after(self, seq: int) -> Sequence[RunEvent] | None:
        """The events after this one, or None if they are not all in memory any more."""
        if seq >= self.last_seq:
            return ()
        if not self._recent or self._recent[0][0] > seq + 1:
            return None
        skip = seq + 1 - self._recent[0][0]
        return [event for _, event in list(self._recent)[skip:]]

    async def wait(self, seq: int) -> None:
        """Wait until there is an event after this one, or never will be.

        Raises:
            Exception: What `close` was given.
        """
        while self.last_seq <= seq and not self.has_ended:
            if self.closed_because is not None:
                raise self.closed_because
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class LiveFeeds:
    """The feeds of all unfinished runs, by row id."""

    def __init__(self) -> None:
        self._feeds: dict[int, LiveFeed] = {}

    def open(self, run: int, last_seq: int) -> LiveFeed:
        """The run has not ended, and will get events; who follows it already goes on."""
        return self._feeds.setdefault(run, LiveFeed(last_seq))

    def discard(self, run: int) -> None:
        """The run had ended before its feed was opened."""
        self._feeds.pop(run, None)

    def get(self, run: int) -> LiveFeed | None:
        """The feed of a run, None if the run has ended."""
        return self._feeds.get(run)

    def publish(self, run: int, seq: int, event: RunEvent) -> None:
        """A further event of a run is in the store."""
        feed = self._feeds.get(run)
        if feed is None:
            return
        feed.publish(seq, event)
        if event["type"] == "workflow_complete":
            feed.end()
            del self._feeds[run]

    def close(self, run: int, because: Exception) -> None:
        """The run gets no more events from this process."""
        feed = self._feeds.get(run)
        if feed is not None:
            feed.close(because)

    def close_all(self, because: Exception) -> None:
        """No run gets events any more."""
        for run in list(self._feeds):
            self.close(run, because)
