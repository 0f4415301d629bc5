"""The words of Kubiya's API for what happens to steps and runs, and ours for the same."""

from collections.abc import Mapping
from typing import Literal

from workflow_backend.definition.expressions import to_text
from workflow_backend.step_state import RunStatus

Ending = Literal["success", "failed", "cancelled", "timed_out", "skipped"]

MAX_NAME_CHARACTERS = 200

STEP_BEGINS = frozenset({"step_running", "step_started", "step_start"})
STEP_ENDS = frozenset({"step_finished", "step_complete", "step_completed"})
STEP_FAILS = frozenset({"step_failed", "step_error"})
STEP_SKIPS = frozenset({"step_skipped"})
STEP_WRITES = frozenset({"step_output", "step_log"})
RUN_ENDS = frozenset({"workflow_complete", "workflow_completed", "workflow_finished"})
RUN_FAILS = frozenset({"workflow_failed", "workflow_error"})
ERRORS = frozenset({"error"})

_ENDINGS: dict[str, Ending] = {
    "finished": "success",
    "completed": "success",
    "complete": "success",
    "success": "success",
    "succeeded": "success",
    "ok": "success",
    "done": "success",
    "passed": "success",
    "failed": "failed",
    "failure": "failed",
    "error": "failed",
    "errored": "failed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "aborted": "cancelled",
    "timeout": "timed_out",
    "timed_out": "timed_out",
    "timedout": "timed_out",
    "skipped": "skipped",
}


def ending_of(fields: Mapping[str, object]) -> Ending | None:
    """How something ended, by its `success` and `status`; None where neither says."""
    told = _ENDINGS.get(str(fields.get("status") or "").strip().lower())
    if fields.get("success") is False and told in {None, "success"}:
        return "failed"
    return "success" if told is None and fields.get("success") is True else told


def run_status_of(ending: Ending | None) -> RunStatus | None:
    """The status of a run that ended in this way."""
    return "success" if ending == "skipped" else ending


def finish_status(reason: object) -> RunStatus | None:
    """The status that a `finishReason` tells; `stop` and others only say that there was an end."""
    ending = _ENDINGS.get(str(reason).strip().lower())
    return run_status_of(ending) if ending in {"failed", "cancelled", "timed_out"} else None


def step_name(fields: Mapping[str, object]) -> str:
    """The name of the step that an event is about, or an empty text."""
    for key in ("step", "step_name", "stepName"):
        value = fields.get(key)
        if isinstance(value, Mapping):
            value = value.get("name") or value.get("id")
        if isinstance(value, str) and value:
            return value[:MAX_NAME_CHARACTERS]
    return ""


def step_fields(fields: Mapping[str, object]) -> Mapping[str, object]:
    """What an event says of its step: the object `step`, and the event's own fields."""
    step = fields.get("step")
    return {**fields, **step} if isinstance(step, Mapping) else fields


def first_text(fields: Mapping[str, object], *keys: str) -> str:
    """The first of these fields that says something, as text."""
    for key in keys:
        value = fields.get(key)
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            value = "\n".join(value)
        if isinstance(value, Mapping):
            value = value.get("message") or to_text(dict(value))
        if value not in (None, "", False):
            return to_text(value)
    return ""
