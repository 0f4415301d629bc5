"""What becomes of a time that comes while the run before has not ended. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workflow_backend.schedules.base import Firing

Overlap = Literal["skip", "queue", "cancel_running", "allow"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with the firings that have not begun.

    At most one of `start` and `wait` is set, and `cancels` says whether the active run is to end
    for the one that waits.
    """

    start: Firing | None = None
    wait: Firing | None = None
    skip: tuple[tuple[Firing, str], ...] = ()
    cancels: bool = False


def decide(overlap: Overlap, pending: Sequence[Firing], active_run: str | None) -> Decision:
    """The next thing to do; `pending` are those that have not begun, the oldest first.

    After a start it is asked again, with that run as the active one.
    """
    if not pending:
        return Decision()
    if active_run is None or overlap == "allow":
        return Decision(start=pending[0])
    if overlap == "skip":
        reason = f"run {active_run} was under way"
        return Decision(skip=tuple((firing, reason) for firing in pending))
    if overlap == "queue":
        reason = "another one waits already"
        rest = tuple((firing, reason) for firing in pending[1:])
        return Decision(wait=pending[0], skip=rest)
    reason = "a later one took its place"
    rest = tuple((firing, reason) for firing in pending[:-1])
    return Decision(wait=pending[-1], skip=rest, cancels=True)
