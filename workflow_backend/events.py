"""Step events: the JSON objects that tell what happens in a run.

The four of the product's guide ("Workflow Events"), with its fields, and four more. The engine adds
`run_id`, `seq` and `time`. Pure: durations and texts are arguments.
"""

from collections.abc import Mapping

from workflow_backend.definition.durations import format_duration
from workflow_backend.definition.expressions import to_text
from workflow_backend.definition.model import Step
from workflow_backend.engines.base import AttemptResult, RunEvent

EVENT_HEAD_CHARACTERS = 4_096
EVENT_TAIL_CHARACTERS = 4_096
MESSAGE_CHARACTERS = 500


def workflow_started(workflow: str, step_count: int) -> RunEvent:
    """The run began."""
    return {"type": "workflow_started", "workflow": workflow, "steps": step_count}


def workflow_complete(
    workflow: str, status: str, error: str | None, outputs: Mapping[str, object]
) -> RunEvent:
    """The run ended; always its last event. The engine adds `duration`."""
    event: dict[str, object] = {
        "type": "workflow_complete",
        "workflow": workflow,
        "status": status,
    }
    if error:
        event["error"] = error
    if outputs:
        event["outputs"] = dict(outputs)
    return event


def step_queued(step: str) -> RunEvent:
    """The step could begin, but as many as may run at once are running."""
    return {"type": "step_queued", "step": step}


def step_skipped(step: str, reason: str) -> RunEvent:
    """The step will not run."""
    return {"type": "step_skipped", "step": step, "reason": reason}


def step_running(step: Step, attempt: int) -> RunEvent:
    """An attempt began; a repeat after a crash has the same number again."""
    return {
        "type": "step_running",
        "step": step.name,
        "attempt": attempt,
        "message": clip(step.description or _action(step), MESSAGE_CHARACTERS, 0),
    }


def step_output(step: str, attempt: int, text: str) -> RunEvent:
    """A further part of what the attempt writes."""
    return {"type": "step_output", "step": step, "attempt": attempt, "text": text}


def step_ended(step: str, attempt: int, result: AttemptResult) -> RunEvent:
    """`step_complete` or `step_failed`, as the result says."""
    event: dict[str, object] = {
        "type": "step_complete" if result.status == "success" else "step_failed",
        "step": step,
        "attempt": attempt,
        "duration": format_duration(result.duration_seconds),
        "output": clip(
            to_text(result.outputs.get("stdout")), EVENT_HEAD_CHARACTERS, EVENT_TAIL_CHARACTERS
        ),
    }
    if result.exit_code is not None:
        event["exit_code"] = result.exit_code
    if result.status != "success":
        event["status"] = result.status
        event["error"] = result.error or result.status
        event["will_retry"] = result.will_retry
    return event


def step_refused(step: str, error: str) -> RunEvent:
    """`step_failed` for a step whose attempt could not even be made."""
    return {
        "type": "step_failed",
        "step": step,
        "attempt": 0,
        "status": "failed",
        "error": error,
        "will_retry": False,
        "duration": format_duration(0),
    }


def step_cancelled(step: str, attempt: int, error: str) -> RunEvent:
    """`step_failed` for a step that was stopped while no attempt of it ran."""
    return {**step_refused(step, error), "attempt": attempt, "status": "cancelled"}


def clip(text: str, head: int, tail: int) -> str:
    """The text, or its head and tail and how much is left out between them."""
    if len(text) <= head + tail:
        return text
    if not tail:
        return text[:head] + "..."
    left_out = len(text) - head - tail
    return f"{text[:head]}\n... {left_out} characters left out ...\n{text[-tail:]}"


def _action(step: Step) -> str:
    if step.kind == "http" and step.http is not None:
        return f"{step.http.method} {step.name}"
    text = (step.run or step.python or step.name).strip()
    first = text.splitlines()[0] if text else step.name
    return f"Running {first}" if step.kind == "run" else f"Running {step.name}"
