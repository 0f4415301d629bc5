"""Schedules as they are kept: rows of the file to what is shown and computed of them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from workflow_backend.definition.durations import parse_duration
from workflow_backend.definition.model import Workflow
from workflow_backend.schedules.base import Firing, Registered
from workflow_backend.schedules.times import Times

SHOWN_TIMES = 5
# How late a time may be noticed and still fire, without `catch_up`.
GRACE_SECONDS = 60.0

COLUMNS = (
    "id, owner, name, mark, workflow, inputs, created_at, is_paused, next_at, missed, last_error,"
    " last_error_at"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A schedule as it is kept, with the number of its row."""

    id: int
    owner: str
    name: str
    mark: str
    workflow: Workflow
    inputs: Mapping[str, object]
    created_at: int
    is_paused: bool
    next_at: int | None
    missed: int
    last_error: str | None
    last_error_at: int | None

    @classmethod
    def of(cls, found: Sequence[Any]) -> "Row":
        """The row as selected by `COLUMNS`."""
        number, owner, name, mark, workflow, inputs, created_at, is_paused, *rest = found
        return cls(
            number, owner, name, mark, workflow_of(workflow), orjson.loads(inputs), created_at,
            bool(is_paused), *rest,
        )  # fmt: skip

    @property
    def times(self) -> Times:
        """When it fires."""
        return times_of(self.workflow)

    @property
    def window_seconds(self) -> float:
        """How old a time may be that is made up."""
        catch_up = self.workflow.schedule.catch_up if self.workflow.schedule else None
        return max(GRACE_SECONDS, parse_duration(catch_up)) if catch_up else GRACE_SECONDS

    def registered(self, now: float, firings: Sequence[Firing] = ()) -> Registered:
        """The schedule as it is shown."""
        upcoming: list[int] = []
        if not self.is_paused and self.next_at is not None:
            times = self.times.after(max(self.next_at - 1, now - 1))
            upcoming = [time for _, time in zip(range(SHOWN_TIMES), times, strict=False)]
        return Registered(
            owner=self.owner,
            name=self.name,
            mark=self.mark,
            workflow=self.workflow,
            inputs=self.inputs,
            created_at=self.created_at,
            is_paused=self.is_paused,
            next_at=None if self.is_paused else self.next_at,
            upcoming=tuple(upcoming),
            missed=self.missed,
            last_error=self.last_error,
            last_error_at=self.last_error_at,
            firings=tuple(firings),
        )


@functools.lru_cache(maxsize=256)
def workflow_of(body: bytes) -> Workflow:
    """The workflow that was kept."""
    return Workflow.model_validate_json(body)


def times_of(workflow: Workflow) -> Times:
    """When a workflow's schedule fires.

    Raises:
        ValueError: It has none.
    """
    if workflow.schedule is None:
        raise ValueError(f"the workflow {workflow.name!r} has no schedule")
    return Times(workflow.schedule)
