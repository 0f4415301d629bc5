"""A run that is interpreted again: what was recorded is told in its order, before anything begins.

Guarantees: nothing that was not recorded begins before all that was is told; a stop is told at the
place where it was told before; what a step asked before a stop never begins after it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from workflow_backend.engines.journal.turns import Turns

# A recorded answer leads to the next request within fewer turns of the loop.
QUIET_TURNS = 20
# After so long without an answer being told, what is recorded is taken not to fit.
STANDSTILL_SECONDS = 10.0

_logger = logging.getLogger(__name__)


class Replay:
    """The recorded answers of one run while they are told again; then it only counts stops."""

    def __init__(self, run_id: str, is_closing: Callable[[], bool]) -> None:
        self.turns = Turns()
        self._run_id = run_id
        self._is_closing = is_closing
        self._calls = 0
        # How often the run was told to stop: by a cancel, or because its time was over.
        self._stops = 0

    def called(self) -> None:
        """The interpreter asks for something."""
        self._calls += 1

    def stopped(self) -> None:
        """The run is told to stop."""
        self._stops += 1

    async def begin(self, is_stopping: Callable[[], bool] | None) -> None:
        """Wait until what is recorded was told, if this then may begin at all.

        What a step asked before the run was told to stop never begins: it is about to be ended.
        `is_stopping` tells of a stop that is about to be told; None is for what is no step's.
        """
        stops = self._stops
        await self.turns.over.wait()
        if is_stopping is not None and (is_stopping() or stops != self._stops):
            await asyncio.Event().wait()

    async def turn(self, key: str) -> None:
        """Tell a recorded answer in its turn, though what asked was stopped meanwhile."""
        if self.turns.knows(key):
            await self.surely(asyncio.ensure_future(self.turns.wait(key)))
            self.turns.tell(key)

    async def turn_of_stop(self, key: str) -> None:
        """Tell in its turn, and after all that came of what was told before, that the run stops."""
        await self.turns.wait(key)
        await self.quiet()
        self.stopped()
        self.turns.tell(key)

    async def surely(self, future: asyncio.Future[Any]) -> None:
        """Wait for it, however often we are cancelled, but for the engine's own end."""
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError:
                if self._is_closing():
                    raise

    async def quiet(self) -> None:
        """Wait until nothing more comes of what the interpreter was told."""
        calls = -1
        while self._calls != calls:
            calls = self._calls
            for _ in range(QUIET_TURNS):
                await asyncio.sleep(0)

    async def watch(self) -> None:
        """See that what is recorded is told again; if that stands still, it is let go of."""
        told = -1
        while not self.turns.over.is_set():
            if self.turns.told_count == told:
                _logger.error("run %s: what is recorded does not fit any more", self._run_id)
                self.turns.release()
            told = self.turns.told_count
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STANDSTILL_SECONDS):
                    await self.turns.over.wait()
