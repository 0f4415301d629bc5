"""What every call used: rows that wait in a bounded queue and are written in batches.

What this module promises: adding a row never waits and never fails; a store that is down stops no
call: its rows wait, and where the queue is full the oldest are lost, counted, and told in the log;
a batch that may have been written already is not written twice; the end of the server writes what
it can within `STOP_SECONDS`.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agent_server.accounts.meters import Period
from agent_server.log_config import get_logger
from streaming.events import Usage

MAX_WAITING = 10_000
BATCH_ROWS = 500
GATHER_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
STOP_SECONDS = 5.0
# The low bits of a row's id are random, so that servers that share a store do not meet.
RANDOM_BITS = 10

WriteRows = Callable[[Sequence["UsageRow"]], Awaitable[bool]]

log = get_logger()


def _new_id() -> int:
    return (time.time_ns() >> RANDOM_BITS << RANDOM_BITS) | random.getrandbits(RANDOM_BITS)


# Not frozen: one is made for each call, and freezing makes that three times as dear.
@dataclass(slots=True)
class UsageRow:
    """One call on a door: who, what, how it ended, what it used.

    `outcome` is one word: `ok`, `error`, `aborted` (the client went away), `truncated`, `cached`.
    `cost_nano_usd` is None where the price is not known. `row_id` is when the call came, in
    nanoseconds since 1970, but for its last bits, which are random.
    """

    key_id: str
    door: str
    provider: str
    model: str
    outcome: str
    status: int
    usage: Usage
    cost_nano_usd: int | None
    duration_ms: int
    first_token_ms: int | None
    attempts: int
    request_id: str
    row_id: int = field(default_factory=_new_id)

    @property
    def time(self) -> float:
        """When the call came, in Unix seconds."""
        return self.row_id / 1e9


class UsageLog:
    """The queue of rows and the one task that writes them.

    `write` writes a batch in one transaction and tells whether that succeeded; it never raises.
    """

    def __init__(self, write: WriteRows, *, max_waiting: int = MAX_WAITING) -> None:
        self._write = write
        self._max_waiting = max_waiting
        self._waiting: deque[UsageRow] = deque()
        self._batch: list[UsageRow] = []
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.lost = 0

    @property
    def waiting(self) -> int:
        """How many rows are not written yet."""
        return len(self._waiting) + len(self._batch)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what waits, if the store takes it in time."""
        self._stopping.set()
        self._arrived.set()
        if self._task is not None:
            _, running = await asyncio.wait([self._task], timeout=STOP_SECONDS)
            for task in running:
                task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.waiting:
            self._lose(self.waiting, "the store took them not in time")

    def add(self, row: UsageRow) -> None:
        """Queue a row."""
        if len(self._waiting) >= self._max_waiting:
            self._waiting.popleft()
            self._lose(1, "the queue is full")
        self._waiting.append(row)
        self._arrived.set()

    def waiting_cost(self, key_id: str, day: Period, month: Period) -> tuple[int, int]:
        """What a key spent in a day and a month by the rows that are not written yet."""
        costs = [0, 0]
        for row in (*self._batch, *self._waiting):
            if row.key_id == key_id:
                for number, period in enumerate((day, month)):
                    if period.holds(row.time):
                        costs[number] += row.cost_nano_usd or 0
        return costs[0], costs[1]

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._arrived.wait()
            if len(self._waiting) < BATCH_ROWS:
                await self._rest(GATHER_SECONDS)
            if not self._batch:
                count = min(BATCH_ROWS, len(self._waiting))
                self._batch = [self._waiting.popleft() for _ in range(count)]
            if not self._batch or await self._write(self._batch):
                self._batch = []
                pause = FIRST_PAUSE_SECONDS
            elif self._stopping.is_set():
                return
            else:
                await self._rest(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
                continue
            if not self._waiting:
                if self._stopping.is_set():
                    return
                self._arrived.clear()

    async def _rest(self, seconds: float) -> None:
        """Wait, but not for a server that stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _lose(self, rows: int, reason: str) -> None:
        if self.lost == 0 or (self.lost + rows) // 1000 > self.lost // 1000:
            log.warning("Usage rows lost", rows=self.lost + rows, reason=reason)
        self.lost += rows
