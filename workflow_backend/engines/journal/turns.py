"""The answers that a run had before, told again in the order in which they were given.

Guarantee: a resumed run is told nothing before what it was told before that: so it does the same
again, also where a cancel or a timeout came between two answers.
"""

import asyncio
from collections import deque
from collections.abc import Iterable


class Turns:
    """The recorded answers of one run, by key; `over` is set when all were told."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self.over = asyncio.Event()
        self.told_count = 0
        self._order = deque(keys)
        self._left = set(self._order)
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._settle()

    def knows(self, key: str) -> bool:
        """Whether this answer was recorded and is not told yet."""
        return key in self._left

    async def wait(self, key: str) -> None:
        """Until all that was told before this answer is told again."""
        if self.knows(key) and self._order[0] != key:
            turn = self._waiting.setdefault(key, asyncio.get_running_loop().create_future())
            await asyncio.shield(turn)

    def tell(self, key: str) -> None:
        """This answer is told now, or never will be: it is the next one's turn."""
        self._left.discard(key)
        self.told_count += 1
        self._settle()

    def release(self) -> None:
        """Let everything be told in any order: what is recorded does not fit any more."""
        self._left.clear()
        self._settle()
        for turn in self._waiting.values():
            if not turn.done():
                turn.set_result(None)

    def _settle(self) -> None:
        while self._order and self._order[0] not in self._left:
            self._order.popleft()
        if not self._order:
            self.over.set()
            return
        turn = self._waiting.get(self._order[0])
        if turn is not None and not turn.done():
            turn.set_result(None)
