"""Step events: the JSON objects that tell what happens in a run.

The four of the product's guide ("Workflow Events"), with its fields, and more. The engine adds
`run_id`, `seq` and `time`. Pure: times and texts are arguments.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from workflow_backend.definition.durations import format_duration
from workflow_backend.definition.expressions import to_text
from workflow_backend.definition.model import Step
from workflow_backend.engines.base import AttemptResult, AttemptSpec, RunEvent
from workflow_backend.step_state import StepState

EVENT_HEAD_CHARACTERS = 4_096
EVENT_TAIL_CHARACTERS = 4_096
# An output up to this is whole in the last event of its attempt.
WHOLE_OUTPUT_CHARACTERS = EVENT_HEAD_CHARACTERS + EVENT_TAIL_CHARACTERS
MESSAGE_CHARACTERS = 500
MESSAGE_OUTPUTS_BYTES = 16 * 1024


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


def step_running(spec: AttemptSpec) -> RunEvent:
    """An attempt began; a repeat after a crash has the same number again."""
    return {
        "type": "step_running",
        "step": spec.name,
        "attempt": spec.attempt,
        **_iteration(spec.iteration),
        "message": clip(spec.step.description or _action(spec.step), MESSAGE_CHARACTERS, 0),
    }


def step_begun(step: str, message: str, *, iteration: int = 1, **fields: object) -> RunEvent:
    """`step_running` for a step that makes no attempts: a fan-out, or a run inside this one."""
    message = clip(message, MESSAGE_CHARACTERS, 0)
    return {
        "type": "step_running",
        "step": step,
        "attempt": 1,
        **_iteration(iteration),
        "message": message,
        **fields,
    }


def approval_requested(
    step: str,
    message: str,
    form: Mapping[str, object],
    seconds: float | None,
    approval_id: str,
) -> RunEvent:
    """A person is asked; `expires` is when the question falls, if it does."""
    event: dict[str, object] = {
        "type": "approval_requested",
        "step": step,
        "message": message,
        "approval_id": approval_id,
    }
    if form:
        event["form"] = dict(form)
    return event if seconds is None else {**event, "expires_in": seconds}


def approval_decided(step: str, approved: bool, by: str, reason: str) -> RunEvent:
    """The person answered."""
    return {
        "type": "approval_decided",
        "step": step,
        "approved": approved,
        "by": by,
        "reason": reason,
    }


def wait_started(
    step: str, kind: str, seconds: float | None, *, iteration: int = 1, **fields: object
) -> RunEvent:
    """The step waits for a `timer`, a `signal` or a `webhook`; `expires` is when it ends anyway."""
    event: dict[str, object] = {
        "type": "wait_started",
        "step": step,
        **_iteration(iteration),
        "kind": kind,
        **fields,
    }
    return event if seconds is None else {**event, "expires_in": seconds}


def step_output(step: str, attempt: int, text: str, *, iteration: int = 1) -> RunEvent:
    """A further part of what the attempt writes."""
    return {
        "type": "step_output",
        "step": step,
        "attempt": attempt,
        **_iteration(iteration),
        "text": text,
    }


def step_ended(spec: AttemptSpec, result: AttemptResult) -> RunEvent:
    """`step_complete` or `step_failed`, as the result says."""
    event: dict[str, object] = {
        "type": "step_complete" if result.status == "success" else "step_failed",
        "step": spec.name,
        "attempt": spec.attempt,
        **_iteration(spec.iteration),
        "duration": format_duration(result.duration_seconds),
        "output": _output(to_text(result.outputs.get("stdout"))),
    }
    if result.exit_code is not None:
        event["exit_code"] = result.exit_code
    if result.artefacts:
        event["artefacts"] = [
            {
                "name": artefact.name,
                "size": artefact.size,
                "sha256": artefact.sha256,
                **({"is_log": True} if artefact.is_log else {}),
            }
            for artefact in result.artefacts
        ]
    if result.status != "success":
        event["status"] = result.status
        event["error"] = result.error or result.status
        event["will_retry"] = result.will_retry
    return event


def step_settled(
    step: str, state: StepState, began: float, output: str = "", *, iteration: int = 1
) -> RunEvent:
    """`step_complete` or `step_failed` for a step that makes no attempts."""
    event: dict[str, object] = {
        "type": "step_complete" if state.status == "success" else "step_failed",
        "step": step,
        "attempt": 1,
        **_iteration(iteration),
        "began": began,
        "output": _output(output),
    }
    if state.status != "success":
        event["status"] = state.status
        event["error"] = state.error or state.status
        event["will_retry"] = False
    return event


def step_kept(step: str, state: StepState) -> RunEvent:
    """How a step had ended in an earlier run, whose result is taken over."""
    if state.status == "skipped":
        return {**step_skipped(step, state.reason), "kept": True}
    event: dict[str, object] = {
        "type": "step_complete" if state.status == "success" else "step_failed",
        "step": step,
        "attempt": state.attempts,
        "duration": format_duration(0),
        "output": _output(to_text(state.outputs.get("stdout"))),
        "kept": True,
    }
    if state.status != "success":
        event |= {"status": state.status, "error": state.error or "", "will_retry": False}
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


def stamped(event: RunEvent, run_id: str, at: float) -> dict[str, object]:
    """The event with `run_id` and `time`, at `at` in Unix seconds.

    `expires_in` (seconds) becomes the time `expires`, `began` (Unix seconds) the `duration`.
    """
    complete: dict[str, object] = {"run_id": run_id, "time": time_text(at), **event}
    expires_in, began = complete.pop("expires_in", None), complete.pop("began", None)
    if isinstance(expires_in, (int, float)):
        complete["expires"] = time_text(at + expires_in)
    if isinstance(began, (int, float)):
        complete["duration"] = format_duration(at - began)
    return complete


def time_text(at: float) -> str:
    """Unix seconds as events carry them: RFC 3339, UTC, milliseconds."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def bounded_outputs(outputs: Mapping[str, object]) -> dict[str, object]:
    """The outputs of a run as a message holds them: long ones as texts with their middle cut."""
    if len(orjson.dumps(dict(outputs))) <= MESSAGE_OUTPUTS_BYTES:
        return dict(outputs)
    return {name: _output(to_text(value)) for name, value in outputs.items()}


def clip(text: str, head: int, tail: int) -> str:
    """The text, or its head and tail and how much is left out between them."""
    if len(text) <= head + tail:
        return text
    if not tail:
        return text[:head] + "..."
    left_out = len(text) - head - tail
    return f"{text[:head]}\n... {left_out} characters left out ...\n{text[-tail:]}"


def _output(text: str) -> str:
    return clip(text, EVENT_HEAD_CHARACTERS, EVENT_TAIL_CHARACTERS)


def _iteration(number: int) -> dict[str, object]:
    return {} if number == 1 else {"iteration": number}


def _action(step: Step) -> str:
    if step.http is not None:
        return f"{step.http.method} {step.name}"
    if step.agent is not None:
        return f"Asking {step.agent.model or 'the agent'}"
    text = (step.run or step.python or step.name).strip()
    first = text.splitlines()[0] if text else step.name
    return f"Running {first}" if step.kind == "run" else f"Running {step.name}"
