"""Deadlines that are seldom reached, kept by one timer for all.

What this module promises: who waits is called at its deadline, once, unless it was dropped before;
what is kept has the size of what is under way. To arm a timer of the loop for each attempt, and to
cancel it, costs more than all else that is done for its time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

_NEVER: Final = float("inf")


class Deadlines:
    """Calls by their deadlines. Belongs to the event loop that uses it first."""

    __slots__ = ("_at", "_calls", "_loop", "_timer")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: dict[Callable[[], None], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = _NEVER

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, whose clock the deadlines are of."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def keep(self, call: Callable[[], None], deadline: float) -> None:
        """Call it at the deadline, in seconds of the loop's clock."""
        self._calls[call] = deadline
        if deadline < self._at:
            self._arm(deadline)

    def drop(self, call: Callable[[], None]) -> None:
        """Do not call it any more. The timer stays, and looks who is left when it fires."""
        self._calls.pop(call, None)

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = deadline
        self._timer = self.loop.call_at(deadline, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        self._timer, self._at = None, _NEVER
        for call in [call for call, deadline in self._calls.items() if deadline <= now]:
            del self._calls[call]
            call()
        if self._calls:
            self._arm(min(self._calls.values()))
