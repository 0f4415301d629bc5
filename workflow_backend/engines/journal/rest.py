"""Whether a run does nothing but wait: for a person, a signal, a time.

Guarantee: a run that begins to work again is told at once not to rest; one that only seems to rest
between two steps is not.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A step that has ended leads to the next within milliseconds.
QUIET_SECONDS = 0.05


class Rest:
    """What one run is at: `works` and `waits` are entered while it does, at several places."""

    def __init__(self, on_change: Callable[[bool], None]) -> None:
        self.is_resting = False
        self._on_change = on_change
        self._working = 0
        self._waiting = 0
        self._look: asyncio.TimerHandle | None = None

    @contextmanager
    def works(self) -> Iterator[None]:
        """The run is at work at one more place."""
        self.change_work(1)
        try:
            yield
        finally:
            self.change_work(-1)

    @contextmanager
    def waits(self) -> Iterator[None]:
        """The run waits at one more place."""
        self._waiting += 1
        self._look_soon()
        try:
            yield
        finally:
            self._waiting -= 1

    def change_work(self, by: int) -> None:
        """A run inside this one begins to work, or rests."""
        self._working += by
        if self._working and self.is_resting:
            self._set(is_resting=False)
        elif not self._working:
            self._look_soon()

    def close(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_soon(self) -> None:
        if self._look is None and not self._working and not self.is_resting:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(QUIET_SECONDS, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        if self._waiting and not self._working and not self.is_resting:
            self._set(is_resting=True)

    def _set(self, *, is_resting: bool) -> None:
        self.is_resting = is_resting
        self._on_change(is_resting)
