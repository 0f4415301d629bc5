"""The file of schedules: one thread has it, and makes each call within a transaction.

The journal's lock lets one process at a time use the folder.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
File = TypeVar("File", bound="ScheduleFile")

FILE_NAME = "schedules.db"

_SCHEMA = """
CREATE TABLE schedules (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  mark TEXT NOT NULL,
  workflow BLOB NOT NULL,
  inputs BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  is_paused INTEGER NOT NULL DEFAULT 0,
  next_at INTEGER,
  missed INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  last_error_at INTEGER,
  UNIQUE (owner, name)
);
CREATE INDEX schedules_next ON schedules (next_at) WHERE is_paused = 0;
CREATE TABLE firings (
  schedule INTEGER NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
  run_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  state TEXT NOT NULL,
  is_manual INTEGER NOT NULL DEFAULT 0,
  is_over INTEGER NOT NULL DEFAULT 0,
  note TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (schedule, run_id)
);
CREATE INDEX firings_by_time ON firings (schedule, at);
CREATE INDEX firings_pending ON firings (schedule) WHERE state IN ('due', 'waiting');
"""


class ScheduleFileError(Exception):
    """The file of schedules cannot be used; the message says why."""


def in_thread(
    call: Callable[Concatenate[File, P], T],
) -> Callable[Concatenate[File, P], "asyncio.Future[T]"]:
    """The call, made in the file's thread within a transaction of its own."""

    def made(self: File, /, *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        return self.submit(lambda: call(self, *args, **kwargs))

    return made


class ScheduleFile:
    """The open file: `open`, use, `close`. What it answered is on the disk."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME
        self._thread = ThreadPoolExecutor(1, "schedules")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open or create the file.

        Raises:
            ScheduleFileError: It is of a newer program, no such file, or damaged.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def close(self) -> None:
        """Close the file, once what was asked for is done."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._connection is not None:
            self._connection.close()

    def submit(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """Make a call in the thread, within a transaction."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._transact, call)

    def execute(self, query: str, *values: object) -> None:
        """Change something; for calls in the thread alone, as are `all` and `one`."""
        self._open_connection.execute(query, values)

    def all(self, query: str, *values: object) -> list[Any]:
        """All rows of a query."""
        return self._open_connection.execute(query, values).fetchall()

    def one(self, query: str, *values: object) -> Any:
        """The first row of a query."""
        return self._open_connection.execute(query, values).fetchone()

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > 1:
                connection.close()
                raise ScheduleFileError(f"{self._path} was written by a newer version")
            if version == 0:
                connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = 1;COMMIT;")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise ScheduleFileError(f"{self._path} cannot be read: {error}") from error
        self._connection = connection

    def _transact(self, call: Callable[[], T]) -> T:
        connection = self._open_connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = call()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    @property
    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ScheduleFileError("the file of schedules is not open")
        return self._connection
