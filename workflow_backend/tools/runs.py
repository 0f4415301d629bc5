"""Runs of the engine as the tools answer them: plain texts, bounded sizes."""

from collections.abc import Mapping
from datetime import datetime
from typing import get_args

import orjson

from workflow_backend.definition.durations import format_duration
from workflow_backend.definition.plain_text import plain_json, plain_text
from workflow_backend.engines.base import Run, RunEvent, StepStatus
from workflow_backend.tools.results import (
    OpenApproval,
    OpenWait,
    RunResult,
    RunSummary,
    StartedRun,
    StepResult,
)
from workflow_backend.tools.waits import OpenWaits, Question

MAX_OUTPUT_CHARACTERS = 16 * 1024
MIN_OUTPUT_CHARACTERS = 256
MAX_RESULT_BYTES = 1024 * 1024
MAX_STEPS = 5_000
MAX_WAITS = 1_000

_STATUSES = frozenset(get_args(StepStatus))


def run_summary(run: Run) -> RunSummary:
    """The run without its steps."""
    return RunSummary(
        run_id=run.run_id,
        workflow=run.workflow,
        status=run.status,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        duration=_duration(run),
        error=None if run.error is None else plain_text(run.error, MAX_OUTPUT_CHARACTERS),
        last_seq=run.last_seq,
        parent_run_id=run.parent_run_id,
        rerun_of=run.rerun_of,
        scheduled_by=run.scheduled_by,
        engine=run.engine,
    )


def started_run(run: Run, is_new: bool) -> StartedRun:
    """A run that was started, or had been before."""
    return StartedRun(**dict(run_summary(run)), is_new=is_new)


def run_result(run: Run, waits: OpenWaits | None = None) -> RunResult:
    """The run with its steps; long outputs are cut until the whole is at most 1 MiB."""
    limit = MAX_OUTPUT_CHARACTERS
    while True:
        result = _run_result(run, waits or OpenWaits(), limit)
        # The result travels twice: as text and as structured content.
        size = len(orjson.dumps(result.model_dump()))
        if 2 * size <= MAX_RESULT_BYTES or limit <= MIN_OUTPUT_CHARACTERS:
            return result
        limit //= 4


def open_approval(question: Question, limit: int = MAX_OUTPUT_CHARACTERS) -> OpenApproval:
    """An approval as it is shown."""
    asked = question.asked
    step = str(asked["step"])
    form = asked.get("form")
    return OpenApproval(
        approval_id=f"{question.run_id}/{step}",
        run_id=question.run_id,
        step=step,
        message=plain_text(str(asked.get("message", "")), limit),
        form=_values(form, limit) if isinstance(form, Mapping) else {},
        requested_at=_text(asked.get("time")),
        expires=_text(asked.get("expires")),
    )


def _run_result(run: Run, waits: OpenWaits, limit: int) -> RunResult:
    return RunResult(
        **dict(run_summary(run)),
        inputs=_values(run.inputs, limit),
        outputs=_values(run.outputs, limit),
        steps=[_step(step, limit) for step in run.steps[:MAX_STEPS]],
        is_waiting=waits.is_at_rest,
        approvals=[open_approval(question, limit) for question in waits.questions[:MAX_WAITS]],
        waits=[_wait(wait) for wait in waits.waits[:MAX_WAITS]],
    )


def _wait(event: RunEvent) -> OpenWait:
    return OpenWait(
        run_id=str(event["run_id"]),
        step=str(event["step"]),
        kind="signal" if event.get("kind") == "signal" else "webhook",
        signal=_text(event.get("signal")),
        expires=_text(event.get("expires")),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _duration(run: Run) -> str | None:
    if run.started_at is None or run.finished_at is None:
        return None
    between = datetime.fromisoformat(run.finished_at) - datetime.fromisoformat(run.started_at)
    return format_duration(between.total_seconds())


def _values(values: Mapping[str, object], limit: int) -> dict[str, object]:
    shown = plain_json(values, limit)
    return shown if isinstance(shown, dict) else {}


def _step(step: Mapping[str, object], limit: int) -> StepResult:
    status = str(step.get("status"))
    error = step.get("error") or step.get("reason")
    return StepResult(
        name=str(step["name"]),
        status=status if status in _STATUSES else "failed",  # type: ignore[arg-type]  # checked
        output=plain_text(str(step.get("output") or ""), limit),
        error=None if error is None else plain_text(str(error), limit),
        duration=None if step.get("duration") is None else str(step["duration"]),
        attempts=int(str(step.get("attempt") or 0)),
    )
