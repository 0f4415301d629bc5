"""What a schedule is, and what whoever keeps schedules owes: the journal's keeper, or Temporal.

A schedule belongs to an owner and has a name of its own there. It holds the workflow as it was when
it was registered, with its `schedule`, and the inputs of every run. Each of its times becomes at
most one run, whose id is made of the schedule and the time.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol, runtime_checkable

from workflow_backend.definition.control import Schedule
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import Run, RunOptions

__all__ = [
    "MAX_CATCH_UP_TIMES",
    "MAX_SCHEDULES",
    "NAME",
    "Firing",
    "FiringRefusedError",
    "FiringState",
    "KeepsSchedules",
    "PrepareRun",
    "Registered",
    "ScheduleNotFoundError",
    "ScheduleUnfitError",
    "Schedules",
    "StartRun",
    "TooManySchedulesError",
    "name_of",
    "new_mark",
    "run_id_of",
]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# Of one owner.
MAX_SCHEDULES = 200
# Made up at once: the newest ones.
MAX_CATCH_UP_TIMES = 100

# `due`: recorded, not begun; `waiting`: for the end of the run before; `skipped`: by the overlap
# policy; `refused`: it could not begin.
FiringState = Literal["due", "waiting", "started", "skipped", "refused"]


@dataclass(frozen=True, slots=True)
class Firing:
    """One time of a schedule, or one trigger, and what became of it. `at` is in Unix seconds."""

    at: int
    run_id: str
    state: FiringState
    is_manual: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """A schedule as it stands. Times are Unix seconds.

    `mark` tells its runs from those of another schedule of the name. `missed` counts the times that
    passed while nothing could run and were not made up. `firings` are the newest, the last first.
    """

    owner: str
    name: str
    mark: str
    workflow: Workflow
    inputs: Mapping[str, object]
    created_at: int
    is_paused: bool = False
    next_at: int | None = None
    upcoming: tuple[int, ...] = ()
    missed: int = 0
    last_error: str | None = None
    last_error_at: int | None = None
    firings: Sequence[Firing] = field(default_factory=tuple)

    @property
    def schedule(self) -> Schedule:
        """When it fires; a workflow without one is never registered."""
        if self.workflow.schedule is None:
            raise ValueError(f"the workflow of schedule {self.name!r} has no schedule")
        return self.workflow.schedule


class Schedules(Protocol):
    """Keeps schedules and begins their runs. Every call names the owner; others' are unknown.

    Raises `ScheduleNotFoundError` where the owner has none of the name.
    """

    async def open(self) -> None:
        """Begin to fire, with what is due."""
        ...

    async def close(self) -> None:
        """Stop firing; nothing that was recorded is lost."""
        ...

    async def put(
        self, owner: str, name: str, workflow: Workflow, inputs: Mapping[str, object]
    ) -> tuple[Registered, bool]:
        """Register a schedule, or give one of the name another workflow; whether it is new.

        Raises:
            TooManySchedulesError: The owner has as many as may be.
        """
        ...

    async def list(self, owner: str) -> Sequence[Registered]:
        """The owner's schedules by name, without their firings."""
        ...

    async def get(self, owner: str, name: str) -> Registered:
        """One schedule with its newest firings."""
        ...

    async def pause(self, owner: str, name: str, *, is_paused: bool) -> Registered:
        """Pause a schedule, or let it go on; the times in between are left out."""
        ...

    async def trigger(self, owner: str, name: str) -> Firing:
        """Fire now, under the overlap policy, also while it is paused; what became of it."""
        ...

    async def delete(self, owner: str, name: str) -> None:
        """Forget a schedule; runs that it began go on."""
        ...


class StartRun(Protocol):
    """Checks, plans and begins a run, as for a caller who asks for it."""

    async def __call__(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions,
    ) -> Run:
        """The run that was begun.

        Raises:
            FiringRefusedError: It cannot run as things are.
        """
        ...


class PrepareRun(Protocol):
    """Checks and plans a run, as for a caller who asks for it; does not begin it."""

    async def __call__(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions,
    ) -> tuple[Mapping[str, object], RunOptions]:
        """The values of all inputs, and the options that the run begins with.

        Raises:
            FiringRefusedError: It cannot run as things are.
        """
        ...


@runtime_checkable
class KeepsSchedules(Protocol):
    """An engine that keeps schedules itself."""

    def schedules(self, prepare: PrepareRun) -> Schedules | None:
        """The schedules of the engine, whose runs are checked by `prepare`; None: it has none."""
        ...


class FiringRefusedError(Exception):
    """A run cannot begin; the message says why. `is_temporary`: trying again may help."""

    def __init__(self, message: str, *, is_temporary: bool = False) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary


class ScheduleNotFoundError(Exception):
    """The owner has no schedule of this name."""


class TooManySchedulesError(Exception):
    """The owner has as many schedules as may be."""


class ScheduleUnfitError(Exception):
    """The engine has no counterpart for the schedule; the message says for what of it."""


def name_of(workflow: str) -> str:
    """The name that a schedule has if it was given none: the workflow's, without spaces."""
    return workflow.replace(" ", "-")[:64]


def new_mark() -> str:
    """What tells a schedule from all others of its name; nobody can guess its runs' ids."""
    return secrets.token_hex(4)


def run_id_of(name: str, mark: str, at: int, *, is_manual: bool = False) -> str:
    """The id of the run of a time, or a trigger: always the same, so that it begins once."""
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M")
    return f"{name}-{stamp}{at % 60:02d}Z-{mark}" if is_manual else f"{name}-{stamp}Z-{mark}"
