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
UPDATE runs SET status = ?, error = ?, outputs = ?, states = ?, finished_at = ?, closed_at = ?
WHERE id = ?
"""
_EXPIRED = """
SELECT id, run_id FROM runs WHERE closed_at IS NOT NULL AND parent IS NULL AND (
  closed_at < ?
  OR id <= (SELECT id FROM runs WHERE closed_at IS NOT NULL AND parent IS NULL
    ORDER BY id DESC LIMIT 1 OFFSET ?)
) ORDER BY id LIMIT ?
"""
_INSERT_RUN = """
INSERT INTO runs (run_id, owner, workflow, definition, interpreter, status, inputs, created_at,
  parent, rerun_of, scheduled_by, depth, run_group, group_policy, trace, kept)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_IN_GROUP = """
SELECT 1 FROM runs WHERE owner = ? AND run_group = ? AND closed_at IS NULL LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Appended:
    """An event that is in the journal, with its number."""

    run: int
    seq: int
    event: RunEvent


class Sequences:
    """The numbers of each run's last event and last answer, as this transaction sees them."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._turns: dict[int, int] = {}

    def next(self, connection: sqlite3.Connection, run: int) -> int:
        """The number of the run's next event."""
        last = self._last.get(run)
        if last is None:
            row = connection.execute("SELECT max(seq) FROM events WHERE run = ?", (run,)).fetchone()
            last = row[0] or 0
        self._last[run] = last + 1
        return last + 1

    def next_turn(self, connection: sqlite3.Connection, run: int) -> int:
        """The number of the run's next answer."""
        last = self._turns.get(run)
        if last is None:
            query = "SELECT max(turn) FROM records WHERE run = ?"
            last = connection.execute(query, (run,)).fetchone()[0] or 0
        self._turns[run] = last + 1
        return last + 1

    def forget(self, run: int) -> None:
        """The run gets no more events."""
        self._last.pop(run, None)
        self._turns.pop(run, None)

    def clear(self) -> None:
        """Read all from the file again: a transaction was taken back."""
        self._last.clear()
        self._turns.clear()


@dataclass(frozen=True, slots=True)
class Inserted:
    """The run that has the id now; or None, because its group is busy and it would not wait."""

    row: RunRow | None
    is_new: bool


def insert_run(row: RunRow, body: bytes, kept: bytes = b"{}") -> Change[Inserted]:
    """Add a run, or find the one that has its id."""

    def change(connection: sqlite3.Connection) -> Inserted:
        query = f"SELECT {RUN_COLUMNS} FROM runs WHERE run_id = ?"  # noqa: S608 - our own columns
        found = connection.execute(query, (row.run_id,)).fetchone()
        if found:
            return Inserted(RunRow.of(found), is_new=False)
        if row.run_group is not None and row.group_policy == "refuse":
            group = (row.owner, row.run_group)
            if connection.execute(_IN_GROUP, group).fetchone():
                return Inserted(None, is_new=False)
        connection.execute(
            "INSERT OR IGNORE INTO definitions VALUES (?, ?)", (row.definition, body)
        )
        connection.execute(_INSERT_RUN, (*_inserted_values(row), kept))
        return Inserted(RunRow.of(connection.execute(query, (row.run_id,)).fetchone()), is_new=True)

    return change


def _inserted_values(row: RunRow) -> tuple[object, ...]:
    return (
        row.run_id,
        row.owner,
        row.workflow,
        row.definition,
        row.interpreter,
        row.status,
        row.inputs,
        row.created_at,
        row.parent,
        row.rerun_of,
        row.scheduled_by,
        row.depth,
        row.run_group,
        row.group_policy,
        row.trace,
    )


def append(
    sequences: Sequences, run: int, event: RunEvent, key: str | None, at: float = 0.0
) -> Change[Appended]:
    """Append an event and, if there is a key, the record that it was emitted, and when."""

    def change(connection: sqlite3.Connection) -> Appended:
        if key is not None:
            _record(connection, run, key, orjson.dumps(at))
        return _append(connection, sequences, run, event)

    return change


def append_result(
    sequences: Sequences, run: int, key: str, value: bytes, event: RunEvent, mark: str | None
) -> Change[Appended]:
    """Append an attempt's result and its final event."""

    def change(connection: sqlite3.Connection) -> Appended:
        _record(connection, run, key, value, sequences.next_turn(connection, run))
        _forget_group(connection, mark)
        return _append(connection, sequences, run, event)

    return change


def record_result(
    sequences: Sequences, run: int, key: str, value: bytes, mark: str | None
) -> Change[None]:
    """Record the result of an attempt that has no events."""

    def change(connection: sqlite3.Connection) -> None:
        _record(connection, run, key, value, sequences.next_turn(connection, run))
        _forget_group(connection, mark)

    return change


def begin(sequences: Sequences, run: int, event: RunEvent, key: str, at: float) -> Change[Appended]:
    """Append a run's first event; the run is running."""

    def change(connection: sqlite3.Connection) -> Appended:
        connection.execute(_BEGIN_RUN, (event["time"], run))
        _record(connection, run, key, orjson.dumps(at))
        return _append(connection, sequences, run, event)

    return change


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What a run has come to besides its last event: outputs and states as JSON.

    `closes`: nothing of the run goes on after that.
    """

    outputs: bytes
    states: bytes
    closes: bool


def finish(
    sequences: Sequences, run: int, event: RunEvent, key: str, end: RunEnd
) -> Change[Appended]:
    """Append a run's last event; the run has ended as it says."""
    at = event["time"]
    values = (event["status"], event.get("error"), end.outputs, end.states, at)

    def change(connection: sqlite3.Connection) -> Appended:
        connection.execute(_FINISH_RUN, (*values, at if end.closes else None, run))
        _record(connection, run, key, b"null")
        appended = _append(connection, sequences, run, event)
        sequences.forget(run)
        return appended

    return change


def close(run: int, at: str) -> Change[None]:
    """Note that nothing of the run goes on any more, its notifications included."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE runs SET closed_at = ? WHERE id = ? AND closed_at IS NULL", (at, run)
        )

    return change


@dataclass(frozen=True, slots=True)
class Delivered:
    """What is recorded under a signal's name: nothing if it came too late."""

    value: bytes | None
    is_first: bool


def record_signal(run: int, signal: str, value: bytes) -> Change[Delivered]:
    """Record a signal, unless there is one, or the run or its wait is over."""

    def change(connection: sqlite3.Connection) -> Delivered:
        found = _recorded(connection, run, signal)
        if found is not None:
            return Delivered(found, is_first=False)
        ended = connection.execute("SELECT finished_at FROM runs WHERE id = ?", (run,)).fetchone()
        if ended is None or ended[0] is not None or _recorded(connection, run, f"{signal}:late"):
            return Delivered(None, is_first=False)
        _record(connection, run, signal, value)
        return Delivered(value, is_first=True)

    return change


def record_late(sequences: Sequences, run: int, signal: str, key: str) -> Change[bytes | None]:
    """Record that a wait's time is over; or give the signal, if it came before that."""

    def change(connection: sqlite3.Connection) -> bytes | None:
        found = _recorded(connection, run, signal)
        if found is None:
            turn = sequences.next_turn(connection, run)
            _record(connection, run, f"{key}:late", b"true", turn)
        return found

    return change


def answer(sequences: Sequences, run: int, key: str, value: bytes) -> Change[None]:
    """Record what a run was answered, in its order."""

    def change(connection: sqlite3.Connection) -> None:
        _record(connection, run, key, value, sequences.next_turn(connection, run))

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


def find_expired(before: str, keep: int, limit: int) -> Change[list[tuple[int, str]]]:
    """Finished runs that are too old or too many, and the runs inside them; nothing changes."""

    def change(connection: sqlite3.Connection) -> list[tuple[int, str]]:
        expired = connection.execute(_EXPIRED, (before, keep, limit)).fetchall()
        for _, run_id in expired:
            # Those inside it stand after it in the list, and are looked at in their turn.
            expired += connection.execute(
                "SELECT id, run_id FROM runs WHERE parent = ?", (run_id,)
            ).fetchall()
        return list(dict.fromkeys(expired))

    return change


def delete_runs(expired: Sequence[tuple[int, str]]) -> Change[None]:
    """Delete runs with all that was recorded of them."""

    def change(connection: sqlite3.Connection) -> None:
        for run, _ in expired:
            connection.execute("DELETE FROM events WHERE run = ?", (run,))
            connection.execute("DELETE FROM records WHERE run = ?", (run,))
            connection.execute("DELETE FROM runs WHERE id = ?", (run,))
        if expired:
            connection.execute(
                "DELETE FROM definitions WHERE sha256 NOT IN (SELECT definition FROM runs)"
            )

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


def _recorded(connection: sqlite3.Connection, run: int, key: str) -> bytes | None:
    row = connection.execute(
        "SELECT value FROM records WHERE run = ? AND key = ?", (run, key)
    ).fetchone()
    return None if row is None else row[0]


def _forget_group(connection: sqlite3.Connection, mark: str | None) -> None:
    if mark is not None:
        connection.execute("DELETE FROM process_groups WHERE mark = ?", (mark,))


def _record(
    connection: sqlite3.Connection, run: int, key: str, value: bytes, turn: int | None = None
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO records (run, key, value, turn) VALUES (?, ?, ?, ?)",
        (run, key, value, turn),
    )
