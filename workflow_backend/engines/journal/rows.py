"""Rows of the journal to and from the types of the engine's contract."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import AttemptResult, Run, RunEvent
from workflow_backend.interpreter import INTERPRETER_VERSION

RUN_COLUMNS = (
    "id, run_id, owner, workflow, definition, interpreter, status, inputs, outputs, error,"
    " cancel_reason, created_at, started_at, finished_at,"
    " coalesce((SELECT max(seq) FROM events WHERE events.run = runs.id), 0)"
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One row of `runs`, with the number of its last event."""

    id: int
    run_id: str
    owner: str
    workflow: str
    definition: str
    interpreter: int
    status: str
    inputs: bytes
    outputs: bytes
    error: str | None
    cancel_reason: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    last_seq: int

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> "RunRow":
        """The row as selected by `RUN_COLUMNS`."""
        return cls(*row)

    def to_run(self, steps: Iterable[Mapping[str, object]] = (), *, brief: bool = False) -> Run:
        """The run as a client sees it; `brief` leaves inputs and outputs out."""
        return Run(
            run_id=self.run_id,
            workflow=self.workflow,
            owner=self.owner,
            status=self.status,  # type: ignore[arg-type]  # written by this package alone
            created_at=self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            error=self.error,
            last_seq=self.last_seq,
            definition_sha256=self.definition,
            inputs={} if brief else orjson.loads(self.inputs),
            outputs={} if brief else orjson.loads(self.outputs),
            steps=tuple(steps),
        )


def new_row(
    run_id: str, owner: str, workflow: str, definition: str, inputs: Mapping[str, object]
) -> RunRow:
    """A run that was not recorded yet.

    Raises:
        ValueError: The inputs cannot be written as JSON.
    """
    try:
        encoded = orjson.dumps(dict(inputs))
    except orjson.JSONEncodeError as error:
        raise ValueError(f"the inputs cannot be written as JSON: {error}") from error
    return RunRow(
        id=0,
        run_id=run_id,
        owner=owner,
        workflow=workflow,
        definition=definition,
        interpreter=INTERPRETER_VERSION,
        status="queued",
        inputs=encoded,
        outputs=b"{}",
        error=None,
        cancel_reason=None,
        created_at=now(),
        started_at=None,
        finished_at=None,
        last_seq=0,
    )


def encode_workflow(workflow: Workflow) -> tuple[str, bytes]:
    """The definition as canonical JSON, and its sha256."""
    body = orjson.dumps(
        workflow.model_dump(mode="json", by_alias=True), option=orjson.OPT_SORT_KEYS
    )
    return hashlib.sha256(body).hexdigest(), body


def decode_workflow(body: bytes) -> Workflow:
    """The definition that was stored."""
    return Workflow.model_validate_json(body)


def encode_result(result: AttemptResult) -> bytes:
    """The record of one attempt."""
    return orjson.dumps(
        {
            "status": result.status,
            "outputs": result.outputs,
            "exit_code": result.exit_code,
            "error": result.error,
            "duration_seconds": result.duration_seconds,
            "will_retry": result.will_retry,
        }
    )


def decode_result(value: bytes) -> AttemptResult:
    """The attempt that was recorded."""
    return AttemptResult(**orjson.loads(value))


def now() -> str:
    """The time as events carry it: RFC 3339, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_between(start: str, end: str) -> float:
    """The time between two times that `now` gave."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def steps_of(names: Iterable[str], events: Iterable[RunEvent]) -> list[dict[str, object]]:
    """The state of each step, read from the events of its run."""
    steps: dict[str, dict[str, object]] = {
        name: {"name": name, "status": "pending"} for name in names
    }
    for event in events:
        step = steps.get(str(event.get("step")))
        if step is None:
            continue
        kind = event["type"]
        step["attempt"] = event.get("attempt", step.get("attempt"))
        if kind == "step_running":
            step["status"] = "running"
            step["started_at"] = event["time"]
        elif kind == "step_skipped":
            step.update(status="skipped", reason=event["reason"])
        elif kind in {"step_complete", "step_failed"}:
            step.update({key: event[key] for key in _ENDED_FIELDS if key in event})
            step["status"] = _status(event)
            step["finished_at"] = event["time"]
    return [
        {key: value for key, value in step.items() if value is not None} for step in steps.values()
    ]


def _status(event: RunEvent) -> str:
    if event["type"] == "step_complete":
        return "success"
    if event.get("will_retry"):
        return "pending"
    status = str(event.get("status", "failed"))
    return "failed" if status == "worker_lost" else status


_ENDED_FIELDS = ("duration", "output", "exit_code", "error", "will_retry")
