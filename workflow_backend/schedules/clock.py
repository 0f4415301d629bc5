"""The clock by which schedules fire; tests give another."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A wall clock, which people and networks may set forward and back."""

    def now(self) -> float:
        """The time in Unix seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for so long; the clock may have been set meanwhile."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """The time in Unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait for so long."""
        await asyncio.sleep(seconds)
