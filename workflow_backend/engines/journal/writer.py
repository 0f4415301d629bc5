"""The one thread that writes the journal: many changes, one synced transaction (group commit).

Guarantees: changes are made in the order in which they were given; a change that was answered is on
the disk; one that fails alone fails alone, and the ones given with it are still made; once the file
itself cannot be written, every later change is refused; the queue is bounded.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], T]

MAX_QUEUED = 10_000
MAX_BATCH = 1_000

_logger = logging.getLogger(__name__)


class JournalBrokenError(Exception):
    """The journal cannot be written (disk full, file damaged), or is closed."""


@dataclass(slots=True)
class _Job(Generic[T]):
    change: Change[T]
    answer: asyncio.Future[T]
    result: T | None = None
    error: Exception | None = None


class JournalWriter:
    """Writes changes: `put` them, await what it gives to know that they are durable."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        on_committed: Callable[[list[object]], None],
        on_rollback: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._on_committed = on_committed
        self._on_rollback = on_rollback
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._queued = 0
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._failure: sqlite3.Error | None = None
        self._has_failed = asyncio.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._write, name="journal-writer", daemon=True)
        self._thread.start()

    async def put(self, change: Change[T]) -> asyncio.Future[T]:
        """Give a change to the writer, waiting for room in the queue.

        The answer is a future: the change's result, once it is durable. Who does not await it
        learns of a failure from the next `put`.

        Raises:
            JournalBrokenError: An earlier change could not be written.
        """
        while self._queued >= MAX_QUEUED:
            self._has_room.clear()
            await self._has_room.wait()
        return self.put_now(change)

    def put_now(self, change: Change[T]) -> asyncio.Future[T]:
        """As `put`, without waiting for room: for what is bounded by other means."""
        if self._failure is not None or self._is_closed:
            raise JournalBrokenError(
                f"the journal cannot be written: {self._failure or 'it is closed'}"
            ) from self._failure
        answer: asyncio.Future[T] = self._loop.create_future()
        # Not awaited by everyone: the failure is kept for the next call instead of a warning.
        answer.add_done_callback(_look_at)
        self._queued += 1
        self._jobs.put(_Job(change, answer))  # type: ignore[arg-type]  # T is erased in the queue
        return answer

    async def failure(self) -> sqlite3.Error:
        """Wait until a change could not be written, and give the reason."""
        await self._has_failed.wait()
        if self._failure is None:
            raise RuntimeError("the journal has failed without a reason")
        return self._failure

    async def close(self) -> None:
        """Write what is queued, then end the thread and close the connection."""
        if self._is_closed:
            return
        self._is_closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _write(self) -> None:
        """The thread: take what is there, write it, hand the answers to the loop."""
        is_open = True
        while is_open:
            batch: list[_Job[object]] = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) >= MAX_BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            else:
                is_open = False
            if batch:
                self._commit(batch)
                self._loop.call_soon_threadsafe(self._deliver, batch)

    def _commit(self, batch: list[_Job[object]]) -> None:
        """All changes in one transaction; if that fails, each in its own."""
        try:
            self._run(batch)
        except Exception:
            # Whatever it was: the thread must outlive every change.
            for job in batch:
                try:
                    self._run([job])
                except Exception as error:
                    job.error = error

    def _run(self, batch: list[_Job[object]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for job in batch:
                job.result = job.change(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._on_rollback()
            raise

    def _deliver(self, batch: list[_Job[object]]) -> None:
        """On the loop: publish and answer."""
        self._queued -= len(batch)
        self._has_room.set()
        self._on_committed([job.result for job in batch if job.error is None])
        for job in batch:
            error = job.error
            if isinstance(error, sqlite3.Error):
                self._failure = self._failure or error
                self._has_failed.set()
                error = JournalBrokenError(f"the journal cannot be written: {error}")
            if error is not None:
                _logger.error("a change of the journal was not made: %s", error)
            if job.answer.done():
                continue
            if error is None:
                job.answer.set_result(job.result)
            else:
                job.answer.set_exception(error)


def _look_at(answer: asyncio.Future[T]) -> None:
    if not answer.cancelled():
        answer.exception()
