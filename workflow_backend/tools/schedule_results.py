"""The shapes of what the tools answer about schedules. Times are RFC 3339 in UTC."""

from pydantic import BaseModel, ConfigDict, Field

from workflow_backend.definition.control import Schedule
from workflow_backend.definition.normal_form import to_yaml
from workflow_backend.definition.plain_text import plain_json, plain_text
from workflow_backend.events import time_text
from workflow_backend.schedules.base import Firing, FiringState, Registered

MAX_INPUT_CHARACTERS = 16 * 1024


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class FiringItem(_Result):
    """One time of a schedule, or one trigger, and what became of it."""

    at: str
    run_id: str
    state: FiringState
    is_manual: bool = False
    note: str = ""

    @classmethod
    def of(cls, firing: Firing) -> "FiringItem":
        """The firing as a result."""
        return cls(
            at=time_text(firing.at),
            run_id=firing.run_id,
            state=firing.state,
            is_manual=firing.is_manual,
            note=plain_text(firing.note),
        )


class ScheduleItem(_Result):
    """A schedule as it stands."""

    name: str
    workflow: str = Field(description="Name of the workflow.")
    schedule: Schedule
    inputs: dict[str, object] = {}
    is_paused: bool
    created_at: str
    next_at: str | None = Field(default=None, description="Its next time, if it fires.")
    upcoming: list[str] = []
    missed: int = Field(default=0, description="Times that passed and were not made up.")
    last_error: str | None = Field(default=None, description="Why its last run did not begin.")
    last_error_at: str | None = None


class ScheduleResult(ScheduleItem):
    """A schedule with its workflow and its newest firings, the last first."""

    definition: str = Field(description="The workflow as YAML.")
    firings: list[FiringItem] = []


class RegisteredSchedule(ScheduleItem):
    """A schedule that was registered; `is_new` unless there was one of its name."""

    is_new: bool


class SchedulePage(_Result):
    """The schedules of the caller, by name."""

    schedules: list[ScheduleItem]


class DeletedSchedule(_Result):
    """A schedule that is no more."""

    name: str
    deleted: bool = True


def schedule_item(found: Registered) -> ScheduleItem:
    """The schedule without its workflow and firings."""
    inputs = plain_json(found.inputs, MAX_INPUT_CHARACTERS)
    return ScheduleItem(
        name=found.name,
        workflow=found.workflow.name,
        schedule=found.schedule,
        inputs=inputs if isinstance(inputs, dict) else {},
        is_paused=found.is_paused,
        created_at=time_text(found.created_at),
        next_at=_time(found.next_at),
        upcoming=[time_text(at) for at in found.upcoming],
        missed=found.missed,
        last_error=None if found.last_error is None else plain_text(found.last_error),
        last_error_at=_time(found.last_error_at),
    )


def schedule_result(found: Registered) -> ScheduleResult:
    """The schedule with all that there is to say of it."""
    return ScheduleResult(
        **dict(schedule_item(found)),
        definition=to_yaml(found.workflow),
        firings=[FiringItem.of(firing) for firing in found.firings],
    )


def registered(found: Registered, *, is_new: bool) -> RegisteredSchedule:
    """The answer to a registration."""
    return RegisteredSchedule(**dict(schedule_item(found)), is_new=is_new)


def _time(at: int | None) -> str | None:
    return None if at is None else time_text(at)
