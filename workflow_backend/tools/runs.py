"""Runs of the engine as the tools answer them: plain texts, bounded sizes."""

from collections.abc import Mapping
from datetime import datetime
from typing import get_args

import orjson

from workflow_backend.definition.durations import format_duration
from workflow_backend.definition.plain_text import plain_json, plain_text
from workflow_backend.engines.base import Run, StepStatus
from workflow_backend.tools.results import RunResult, RunSummary, StepResult

MAX_OUTPUT_CHARACTERS = 16 * 1024
MIN_OUTPUT_CHARACTERS = 256
MAX_RESULT_BYTES = 1024 * 1024
MAX_STEPS = 5_000

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
    )


def run_result(run: Run) -> RunResult:
    """The run with its steps; long outputs are cut until the whole is at most 1 MiB."""
    limit = MAX_OUTPUT_CHARACTERS
    while True:
        result = _run_result(run, limit)
        # The result travels twice: as text and as structured content.
        size = len(orjson.dumps(result.model_dump()))
        if 2 * size <= MAX_RESULT_BYTES or limit <= MIN_OUTPUT_CHARACTERS:
            return result
        limit //= 4


def _run_result(run: Run, limit: int) -> RunResult:
    return RunResult(
        **dict(run_summary(run)),
        inputs=_values(run.inputs, limit),
        outputs=_values(run.outputs, limit),
        steps=[_step(step, limit) for step in run.steps[:MAX_STEPS]],
    )


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
