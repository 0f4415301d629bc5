"""What is registered, and what became of each time.

Guarantee: the times that are due and the next one are one transaction, so that a crash neither
loses a time nor gives it twice.
"""

import contextlib

from workflow_backend.schedules.base import (
    MAX_CATCH_UP_TIMES,
    MAX_SCHEDULES,
    Firing,
    FiringState,
    ScheduleNotFoundError,
    TooManySchedulesError,
    new_mark,
    run_id_of,
)
from workflow_backend.schedules.file import ScheduleFile, in_thread
from workflow_backend.schedules.rows import COLUMNS, Row, times_of, workflow_of

SHOWN_FIRINGS = 20
KEPT_FIRINGS = 200

_PENDING = "state IN ('due', 'waiting')"
_ACTIVE = "(state = 'started' AND is_over = 0)"


class ScheduleStore(ScheduleFile):
    """The open file of schedules."""

    @in_thread
    def put(
        self, owner: str, name: str, workflow: bytes, inputs: bytes, now: float
    ) -> tuple[Row, bool]:
        """Add a schedule, or change the one of the name; whether it is new."""
        found = self._find(owner, name)
        next_at = times_of(workflow_of(workflow)).next(now)
        if found is None:
            (count,) = self.one("SELECT count(*) FROM schedules WHERE owner = ?", owner)
            if count >= MAX_SCHEDULES:
                raise TooManySchedulesError(
                    f"{MAX_SCHEDULES} schedules are the most; delete one first"
                )
            self.execute(
                "INSERT INTO schedules (owner, name, mark, workflow, inputs, created_at, next_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(owner, name, new_mark(), workflow, inputs, int(now), next_at),
            )
        else:
            self.execute(
                "UPDATE schedules SET workflow = ?, inputs = ?, next_at = ?, last_error = NULL,"
                " last_error_at = NULL WHERE id = ?",
                *(workflow, inputs, next_at, found.id),
            )
        return self._require(owner, name), found is None

    @in_thread
    def of_owner(self, owner: str) -> list[Row]:
        """The schedules of an owner, by name."""
        query = f"SELECT {COLUMNS} FROM schedules WHERE owner = ? ORDER BY name"  # noqa: S608
        return [Row.of(found) for found in self.all(query, owner)]

    @in_thread
    def find(self, owner: str, name: str) -> tuple[Row, list[Firing]]:
        """A schedule with its newest firings, the last first.

        Raises:
            ScheduleNotFoundError: The owner has none of the name.
        """
        row = self._require(owner, name)
        return row, self._firings(row.id, "1", "at DESC, rowid DESC", SHOWN_FIRINGS)

    @in_thread
    def pause(self, owner: str, name: str, is_paused: bool, now: float) -> Row:
        """Pause a schedule, or let it go on from now; raises as `find`."""
        row = self._require(owner, name)
        if row.is_paused != is_paused:
            self.execute(
                "UPDATE schedules SET is_paused = ?, next_at = ? WHERE id = ?",
                *(is_paused, row.times.next(now), row.id),
            )
        return self._require(owner, name)

    @in_thread
    def delete(self, owner: str, name: str) -> int:
        """Forget a schedule with its firings; the number of its row; raises as `find`."""
        row = self._require(owner, name)
        self.execute("DELETE FROM schedules WHERE id = ?", row.id)
        return row.id

    @in_thread
    def add_manual(self, owner: str, name: str, now: float) -> tuple[Row, Firing]:
        """Record a firing that was asked for; raises as `find`."""
        row = self._require(owner, name)
        # Of several in one second each is another.
        run_id = run_id_of(name, new_mark(), int(now), is_manual=True)
        firing = Firing(int(now), run_id, "due", is_manual=True)
        self._add(row.id, firing)
        return row, firing

    @in_thread
    def record_due(self, now: float) -> None:
        """Record the times that are due, and the next ones."""
        query = f"SELECT {COLUMNS} FROM schedules WHERE is_paused = 0 AND next_at <= ?"  # noqa: S608
        for found in self.all(query, now):
            row = Row.of(found)
            try:
                self._record_due(row, now)
            except (ValueError, LookupError, OSError) as error:
                # Such as a time zone that the machine has no more; the others go on.
                self.execute(
                    "UPDATE schedules SET next_at = NULL, last_error = ?, last_error_at = ?"
                    " WHERE id = ?",
                    *(f"the times cannot be computed any more: {error}", int(now), row.id),
                )

    @in_thread
    def look_again(self, now: float) -> None:
        """Let no schedule wait for longer than until its first time after now.

        The clock may have been ahead when its next time was computed.
        """
        query = f"SELECT {COLUMNS} FROM schedules WHERE next_at > ?"  # noqa: S608
        for found in self.all(query, now):
            row = Row.of(found)
            with contextlib.suppress(ValueError, LookupError, OSError):
                next_at = row.times.next(now)
                if next_at is not None and next_at < (row.next_at or 0):
                    self.execute("UPDATE schedules SET next_at = ? WHERE id = ?", next_at, row.id)

    @in_thread
    def earliest(self) -> int | None:
        """The next time of all schedules."""
        query = "SELECT min(next_at) FROM schedules WHERE is_paused = 0"
        found: int | None = self.one(query)[0]
        return found

    @in_thread
    def pending_schedules(self) -> list[int]:
        """The schedules of which something has not begun."""
        query = f"SELECT DISTINCT schedule FROM firings WHERE {_PENDING}"  # noqa: S608
        return [found[0] for found in self.all(query)]

    @in_thread
    def pending(self, schedule: int) -> tuple[Row, list[Firing]] | None:
        """A schedule and what of it has not begun, the oldest first; None if it is gone."""
        query = f"SELECT {COLUMNS} FROM schedules WHERE id = ?"  # noqa: S608
        found = self.all(query, schedule)
        if not found:
            return None
        return Row.of(found[0]), self._firings(schedule, _PENDING, "at, rowid", KEPT_FIRINGS)

    @in_thread
    def started(self, schedule: int) -> list[Firing]:
        """The runs of a schedule that are not known to have ended, the oldest first."""
        return self._firings(schedule, _ACTIVE, "at, rowid", 1_000)

    @in_thread
    def settle(
        self, schedule: int, run_id: str, state: FiringState, now: float, note: str = ""
    ) -> None:
        """Note what became of a firing."""
        self.execute(
            "UPDATE firings SET state = ?, note = ? WHERE schedule = ? AND run_id = ?",
            *(state, note, schedule, run_id),
        )
        if state == "refused":
            self.execute(
                "UPDATE schedules SET last_error = ?, last_error_at = ? WHERE id = ?",
                *(note, int(now), schedule),
            )
        elif state == "started":
            self.execute(
                "UPDATE schedules SET last_error = NULL, last_error_at = NULL WHERE id = ?",
                schedule,
            )

    @in_thread
    def end(self, schedule: int, run_id: str) -> None:
        """Note that a run has ended."""
        self.execute(
            "UPDATE firings SET is_over = 1 WHERE schedule = ? AND run_id = ?", schedule, run_id
        )

    @in_thread
    def firing(self, schedule: int, run_id: str) -> Firing | None:
        """One firing."""
        condition = "run_id = ?"
        found = self._firings(schedule, condition, "at", 1, run_id)
        return found[0] if found else None

    def _record_due(self, row: Row, now: float) -> None:
        first = row.next_at or 0
        passed = row.times.passed(first, now, row.window_seconds, MAX_CATCH_UP_TIMES)
        for at in passed.times:
            self._add(row.id, Firing(at, run_id_of(row.name, row.mark, at), "due"))
        self.execute(
            "UPDATE schedules SET next_at = ?, missed = missed + ? WHERE id = ?",
            *(row.times.next(now), passed.older, row.id),
        )
        self._trim(row.id)

    def _require(self, owner: str, name: str) -> Row:
        found = self._find(owner, name)
        if found is None:
            raise ScheduleNotFoundError(f"there is no schedule {name!r}")
        return found

    def _find(self, owner: str, name: str) -> Row | None:
        query = f"SELECT {COLUMNS} FROM schedules WHERE owner = ? AND name = ?"  # noqa: S608
        found = self.all(query, owner, name)
        return Row.of(found[0]) if found else None

    def _add(self, schedule: int, firing: Firing) -> None:
        """Record a firing, unless it was recorded before."""
        self.execute(
            "INSERT OR IGNORE INTO firings (schedule, run_id, at, state, is_manual)"
            " VALUES (?, ?, ?, ?, ?)",
            *(schedule, firing.run_id, firing.at, firing.state, firing.is_manual),
        )

    def _firings(
        self, schedule: int, condition: str, order: str, limit: int, *values: object
    ) -> list[Firing]:
        query = (
            "SELECT at, run_id, state, is_manual, note FROM firings WHERE schedule = ?"  # noqa: S608
            f" AND {condition} ORDER BY {order} LIMIT ?"
        )
        return [
            Firing(at, run_id, state, bool(is_manual), note)
            for at, run_id, state, is_manual, note in self.all(query, schedule, *values, limit)
        ]

    def _trim(self, schedule: int) -> None:
        """Forget old firings, but for what goes on."""
        self.execute(
            f"DELETE FROM firings WHERE schedule = ? AND NOT {_PENDING} AND NOT {_ACTIVE}"  # noqa: S608
            " AND run_id NOT IN"
            " (SELECT run_id FROM firings WHERE schedule = ? ORDER BY at DESC LIMIT ?)",
            *(schedule, schedule, KEPT_FIRINGS),
        )
