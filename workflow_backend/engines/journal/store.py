"""The journal's file: runs, their events, and the records that a resumed run goes on from.

Guarantees: an attempt's result and its final event are one transaction; events of a run are
numbered from 1 without gaps, in the order in which they were given; a reader sees only what is
durable.
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson

from workflow_backend.engines.base import RunEvent, RunFilter
from workflow_backend.engines.journal import changes
from workflow_backend.engines.journal.changes import Appended, RunEnd, Sequences
from workflow_backend.engines.journal.rows import RUN_COLUMNS, RunRow
from workflow_backend.engines.journal.schema import prepare
from workflow_backend.engines.journal.writer import Change, JournalBrokenError, JournalWriter
from workflow_backend.run_steps import STEP_EVENTS

T = TypeVar("T")
Row = tuple[Any, ...]

FILE_NAME = "journal.db"
PAGE_EVENTS = 500

_READERS = 2


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """A process group that an engine started and did not see end."""

    mark: str
    pgid: int
    birth: str | None


class JournalStore:
    """The open file: one writer, a few readers."""

    def __init__(
        self,
        data_dir: Path,
        publish: Callable[[Sequence[Appended]], None],
        file_name: str = FILE_NAME,
    ) -> None:
        self._path = data_dir / file_name
        self._publish = publish
        self._sequences = Sequences()
        self._writer: JournalWriter | None = None
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(_READERS, "journal-reader")

    async def open(self) -> None:
        """Open or create the file.

        Raises:
            JournalVersionError: The file is newer than this program.
            JournalBrokenError: It is no journal, or damaged.
        """
        connection = await asyncio.to_thread(self._open_for_writing)
        self._writer = JournalWriter(connection, self._committed, self._sequences.clear)

    async def failure(self) -> sqlite3.Error:
        """Wait until the file cannot be written any more, and give the reason."""
        return await self._open_writer.failure()

    async def close(self) -> None:
        """Write what is queued and close the file."""
        if self._writer is not None:
            await self._writer.close()
        self._readers.shutdown(wait=True)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def put(self, change: Change[T]) -> asyncio.Future[T]:
        """Write a change in its turn (see `JournalWriter.put`)."""
        return await self._open_writer.put(change)

    def put_now(self, change: Change[T]) -> asyncio.Future[T]:
        """Write a change in its turn, without waiting for room in the queue."""
        return self._open_writer.put_now(change)

    async def append(
        self, run: int, event: RunEvent, key: str | None = None, at: float = 0.0
    ) -> asyncio.Future[Appended]:
        """Append an event to a run, with the record that `key` was done at this time."""
        return await self.put(changes.append(self._sequences, run, event, key, at))

    async def append_result(
        self, run: int, key: str, value: bytes, event: RunEvent, mark: str | None
    ) -> asyncio.Future[Appended]:
        """Append an attempt's result and its final event; its process group is gone."""
        return await self.put(changes.append_result(self._sequences, run, key, value, event, mark))

    async def finish(
        self, run: int, event: RunEvent, key: str, end: RunEnd
    ) -> asyncio.Future[Appended]:
        """Append a run's last event and end the run as it says."""
        return await self.put(changes.finish(self._sequences, run, event, key, end))

    async def begin(
        self, run: int, event: RunEvent, key: str, at: float
    ) -> asyncio.Future[Appended]:
        """Append a run's first event; the run is running."""
        return await self.put(changes.begin(self._sequences, run, event, key, at))

    async def find(self, run_id: str, owner: str) -> RunRow | None:
        """The run of this owner."""
        query = f"SELECT {RUN_COLUMNS} FROM runs WHERE run_id = ? AND owner = ?"  # noqa: S608
        rows = await self._read(query, (run_id, owner))
        return RunRow.of(rows[0]) if rows else None

    async def is_taken(self, run_id: str) -> bool:
        """Whether a run has this id, whoever owns it."""
        return bool(await self._read("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)))

    async def open_runs(self) -> list[RunRow]:
        """The runs of which something may still go on, oldest first."""
        query = f"SELECT {RUN_COLUMNS} FROM runs WHERE closed_at IS NULL ORDER BY id"  # noqa: S608
        return [RunRow.of(row) for row in await self._read(query)]

    async def by_id(self, run: int) -> RunRow:
        """A run that is there, as it is now."""
        query = f"SELECT {RUN_COLUMNS} FROM runs WHERE id = ?"  # noqa: S608 - our own columns
        return RunRow.of((await self._read(query, (run,)))[0])

    async def kept(self, run: int) -> bytes:
        """The steps whose results the run takes over, as JSON."""
        return await self._blob("kept", run)

    async def states(self, run: int) -> bytes:
        """What the steps of an ended run came to, as JSON."""
        return await self._blob("states", run)

    async def page(self, wanted: RunFilter, before: int | None, limit: int) -> list[RunRow]:
        """Runs of an owner, newest first."""
        query, values = page_query(wanted, before, limit)
        return [RunRow.of(row) for row in await self._read(query, values)]

    async def events(self, run: int, after_seq: int) -> list[RunEvent]:
        """The next events of a run, a page at most."""
        rows = await self._read(
            "SELECT data FROM events WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?",
            (run, after_seq, PAGE_EVENTS),
        )
        return [orjson.loads(row[0]) for row in rows]

    async def step_events(self, run: int) -> list[RunEvent]:
        """The events that change a step's state, in order."""
        marks = ", ".join("?" * len(STEP_EVENTS))
        rows = await self._read(
            f"SELECT data FROM events WHERE run = ? AND type IN ({marks}) ORDER BY seq",  # noqa: S608
            (run, *STEP_EVENTS),
        )
        return [orjson.loads(row[0]) for row in rows]

    async def records(self, run: int) -> dict[str, bytes]:
        """What a run recorded, by key."""
        rows = await self._read("SELECT key, value FROM records WHERE run = ?", (run,))
        return dict(rows)

    async def records_and_answers(self, run: int) -> tuple[dict[str, bytes], list[str]]:
        """What a run recorded, and the keys of its answers in the order of their turns."""
        rows = await self._read("SELECT key, value, turn FROM records WHERE run = ?", (run,))
        turns = sorted((turn, key) for key, _, turn in rows if turn is not None)
        return {key: value for key, value, _ in rows}, [key for _, key in turns]

    async def answer(self, run: int, key: str, value: bytes) -> asyncio.Future[None]:
        """Record what a run was answered, in its order."""
        return await self.put(changes.answer(self._sequences, run, key, value))

    async def answer_late(self, run: int, signal: str, key: str) -> asyncio.Future[bytes | None]:
        """Record that a wait's time is over, unless the signal has come (see `record_late`)."""
        return await self.put(changes.record_late(self._sequences, run, signal, key))

    async def record_result(
        self, run: int, key: str, value: bytes, mark: str | None
    ) -> asyncio.Future[None]:
        """Record the result of an attempt that has no events."""
        return await self.put(changes.record_result(self._sequences, run, key, value, mark))

    async def record_like(self, run: int, low: str, high: str) -> list[tuple[str, bytes]]:
        """The records of a run whose keys lie between two."""
        rows = await self._read(
            "SELECT key, value FROM records WHERE run = ? AND key >= ? AND key < ? ORDER BY key",
            (run, low, high),
        )
        return [(key, value) for key, value in rows]

    async def definition(self, sha256: str) -> bytes:
        """A stored definition."""
        rows = await self._read("SELECT body FROM definitions WHERE sha256 = ?", (sha256,))
        body: bytes = rows[0][0]
        return body

    async def process_groups(self) -> list[ProcessGroup]:
        """The groups whose end was not recorded."""
        rows = await self._read("SELECT mark, pgid, birth FROM process_groups")
        return [ProcessGroup(*row) for row in rows]

    async def _blob(self, column: Literal["kept", "states"], run: int) -> bytes:
        query = f"SELECT {column} FROM runs WHERE id = ?"  # noqa: S608 - one of two names
        value: bytes = (await self._read(query, (run,)))[0][0]
        return value

    async def _read(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._select, query, values)

    def _select(self, query: str, values: Sequence[object]) -> list[Row]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            self._local.connection = connection
            self._connections.append(connection)
        return connection.execute(query, values).fetchall()

    def _open_for_writing(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            prepare(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise JournalBrokenError(
                f"{self._path} cannot be read: {error}; move it away to begin a new journal"
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _committed(self, results: list[object]) -> None:
        self._publish([result for result in results if isinstance(result, Appended)])

    @property
    def _open_writer(self) -> JournalWriter:
        if self._writer is None:
            raise JournalBrokenError("the journal is not open")
        return self._writer


def page_query(wanted: RunFilter, before: int | None, limit: int) -> tuple[str, list[object]]:
    """The query for runs of an owner, newest first; each combination of filters has its index."""
    conditions: list[tuple[str, object]] = [("owner = ?", wanted.owner)]
    if wanted.workflow is not None:
        conditions.append(("workflow = ?", wanted.workflow))
    if wanted.status is not None:
        conditions.append(("status = ?", wanted.status))
    if before is not None:
        conditions.append(("id < ?", before))
    inside = "parent IS NULL"
    if wanted.parent_run_id is not None:
        inside = "parent IS NOT NULL"
        conditions.append(("parent = ?", wanted.parent_run_id))
    where = " AND ".join([*(condition for condition, _ in conditions), inside])
    query = f"SELECT {RUN_COLUMNS} FROM runs WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
    return query, [*(value for _, value in conditions), limit]
