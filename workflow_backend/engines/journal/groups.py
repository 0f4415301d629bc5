"""Concurrency groups: of the runs of one group, one is under way; the others stand in line.

Guarantee: a run that was put in line is let in exactly once, in order, or taken out of it.
"""

from collections import deque

from workflow_backend.engines.journal.rows import RunRow

Group = tuple[str, str]


class Groups:
    """The groups of which something is under way, by owner and name."""

    def __init__(self) -> None:
        self._holders: dict[Group, int] = {}
        self._lines: dict[Group, deque[RunRow]] = {}

    def enter(self, row: RunRow) -> bool:
        """Whether the run may begin; if not, it stands in line."""
        group = _group_of(row)
        if group is None or self._holders.get(group, row.id) == row.id:
            if group is not None:
                self._holders[group] = row.id
            return True
        self._lines.setdefault(group, deque()).append(row)
        return False

    def hold(self, row: RunRow) -> None:
        """The run was under way in its group before, and is not over."""
        group = _group_of(row)
        if group is not None:
            self._holders.setdefault(group, row.id)

    def before(self, row: RunRow) -> list[int]:
        """The runs that stand before this one: who is under way, and who waits for that."""
        group = _group_of(row)
        if group is None:
            return []
        holder = self._holders.get(group)
        line = [other.id for other in self._lines.get(group, ()) if other.id != row.id]
        return line if holder is None else [holder, *line]

    def leave(self, row: RunRow) -> RunRow | None:
        """The run has ended; the one that may begin now, if one waits."""
        group = _group_of(row)
        if group is None or self._holders.get(group) != row.id:
            return None
        line = self._lines.get(group)
        if not line:
            del self._holders[group]
            self._lines.pop(group, None)
            return None
        following = line.popleft()
        self._holders[group] = following.id
        return following

    def take_out(self, run: int) -> RunRow | None:
        """Take a run out of its line, if it stands in one."""
        for line in self._lines.values():
            for row in line:
                if row.id == run:
                    line.remove(row)
                    return row
        return None

    @property
    def waiting_count(self) -> int:
        """How many runs stand in line."""
        return sum(len(line) for line in self._lines.values())

    def clear(self) -> None:
        """Let nobody in any more."""
        self._lines.clear()


def _group_of(row: RunRow) -> Group | None:
    return None if row.run_group is None else (row.owner, row.run_group)
