"""The changes that are made to the journal, as functions of its connection.

The writer's thread makes them. Each is made within a transaction and may be made again after a
rollback, so it keeps nothing but what `Sequences` can read from the file again.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from workflow_backend.engines.base import RunEvent
from workflow_backend.engines.journal.rows import RUN_COLUMNS, RunRow
from workflow_backend.engines.journal.writer import Change

_BEGIN_RUN = "UPDATE runs SET status = 'running', started_at = ? WHERE id = ?"
_FINISH_RUN = """
UPDATE runs SET status = ?, error = ?, outputs = ?, finished_at = ? WHERE id = ?
"""
_EXPIRED = """
SELECT id, run_id FROM runs WHERE finished_at IS NOT NULL AND (
  finished_at < ?
  OR id <= (SELECT id FROM runs WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET ?)
) ORDER BY id LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Appended:
    """An event that is in the journal, with its number."""

    run: int
    seq: int
    event: RunEvent


class Sequences:
    """The number of each run's last event, as this transaction sees it."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def next(self, connection: sqlite3.Connection, run: int) -> int:
        """The number of the run's next event."""
        last = self._last.get(run)
        if last is None:
            row = connection.execute("SELECT max(seq) FROM events WHERE run = ?", (run,)).fetchone()
            last = row[0] or 0
        self._last[run] = last + 1
        return last + 1

    def forget(self, run: int) -> None:
        """The run gets no more events."""
        self._last.pop(run, None)

    def clear(self) -> None:
        """Read all from the file again: a transaction was taken back."""
        self._last.clear()


def insert_run(row: RunRow, body: bytes) -> Change[tuple[RunRow, bool]]:
    """Add a run, or find the one that has its id; whether it was added."""

    def change(connection: sqlite3.Connection) -> tuple[RunRow, bool]:
        query = f"SELECT {RUN_COLUMNS} FROM runs WHERE run_id = ?"  # noqa: S608 - our own columns
        found = connection.execute(query, (row.run_id,)).fetchone()
        if found:
            return RunRow.of(found), False
        connection.execute(
            "INSERT OR IGNORE INTO definitions VALUES (?, ?)", (row.definition, body)
        )
        connection.execute(
            "INSERT INTO runs (run_id, owner, workflow, definition, interpreter, status, inputs,"
            " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.run_id,
                row.owner,
                row.workflow,
                row.definition,
                row.interpreter,
                row.status,
                row.inputs,
                row.created_at,
            ),
        )
        return RunRow.of(connection.execute(query, (row.run_id,)).fetchone()), True

    return change


def append(sequences: Sequences, run: int, event: RunEvent, key: str | None) -> Change[Appended]:
    """Append an event and, if there is a key, the record that it was emitted."""

    def change(connection: sqlite3.Connection) -> Appended:
        if key is not None:
            _record(connection, run, key, b"null")
        return _append(connection, sequences, run, event)

    return change


def append_result(
    sequences: Sequences, run: int, key: str, value: bytes, event: RunEvent, mark: str | None
) -> Change[Appended]:
    """Append an attempt's result and its final event."""

    def change(connection: sqlite3.Connection) -> Appended:
        _record(connection, run, key, value)
        if mark is not None:
            connection.execute("DELETE FROM process_groups WHERE mark = ?", (mark,))
        return _append(connection, sequences, run, event)

    return change


def begin(sequences: Sequences, run: int, event: RunEvent, key: str) -> Change[Appended]:
    """Append a run's first event; the run is running."""

    def change(connection: sqlite3.Connection) -> Appended:
        connection.execute(_BEGIN_RUN, (event["time"], run))
        _record(connection, run, key, b"null")
        return _append(connection, sequences, run, event)

    return change


def finish(
    sequences: Sequences, run: int, event: RunEvent, key: str, outputs: bytes
) -> Change[Appended]:
    """Append a run's last event; the run has ended as it says."""

    def change(connection: sqlite3.Connection) -> Appended:
        connection.execute(
            _FINISH_RUN, (event["status"], event.get("error"), outputs, event["time"], run)
        )
        _record(connection, run, key, b"null")
        appended = _append(connection, sequences, run, event)
        sequences.forget(run)
        return appended

    return change


def record(run: int, key: str, value: bytes) -> Change[None]:
    """Record a value by key, such as when a timer ends."""

    def change(connection: sqlite3.Connection) -> None:
        _record(connection, run, key, value)

    return change


def request_cancel(run: int, reason: str) -> Change[None]:
    """Note that the run is to be cancelled; the first reason stays."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE runs SET cancel_reason = ? WHERE id = ? AND cancel_reason IS NULL"
            " AND finished_at IS NULL",
            (reason, run),
        )

    return change


def add_group(mark: str, pgid: int, birth: str | None) -> Change[None]:
    """Note a process group that was started."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO process_groups VALUES (?, ?, ?)", (mark, pgid, birth)
        )

    return change


def clear_groups() -> Change[None]:
    """No noted process group is alive any more."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM process_groups")

    return change


def delete_expired(before: str, keep: int, limit: int) -> Change[Sequence[str]]:
    """Delete finished runs that are too old or too many; their run ids."""

    def change(connection: sqlite3.Connection) -> Sequence[str]:
        expired = connection.execute(_EXPIRED, (before, keep, limit)).fetchall()
        for run, _ in expired:
            connection.execute("DELETE FROM events WHERE run = ?", (run,))
            connection.execute("DELETE FROM records WHERE run = ?", (run,))
            connection.execute("DELETE FROM runs WHERE id = ?", (run,))
        if expired:
            connection.execute(
                "DELETE FROM definitions WHERE sha256 NOT IN (SELECT definition FROM runs)"
            )
        return [run_id for _, run_id in expired]

    return change


def _append(
    connection: sqlite3.Connection, sequences: Sequences, run: int, event: RunEvent
) -> Appended:
    seq = sequences.next(connection, run)
    numbered = {"type": event["type"], "run_id": event["run_id"], "seq": seq, **event}
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?)", (run, seq, event["type"], orjson.dumps(numbered))
    )
    return Appended(run, seq, numbered)


def _record(connection: sqlite3.Connection, run: int, key: str, value: bytes) -> None:
    connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (run, key, value))
