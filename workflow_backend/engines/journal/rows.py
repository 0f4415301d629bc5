"""Rows of the journal to and from the types of the engine's contract."""

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson

from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import Artefact, AttemptResult, Run, RunOptions
from workflow_backend.events import time_text
from workflow_backend.interpreter import INTERPRETER_VERSION

RUN_COLUMNS = (
    "id, run_id, owner, workflow, definition, interpreter, status, inputs, outputs, error,"
    " cancel_reason, created_at, started_at, finished_at, closed_at, parent, rerun_of,"
    " scheduled_by, depth, run_group, group_policy, trace,"
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
    closed_at: str | None
    parent: str | None
    rerun_of: str | None
    scheduled_by: str | None
    depth: int
    run_group: str | None
    group_policy: str
    trace: bytes
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
            parent_run_id=self.parent,
            rerun_of=self.rerun_of,
            scheduled_by=self.scheduled_by,
            depth=self.depth,
        )


def new_row(
    run_id: str,
    owner: str,
    workflow: str,
    definition: str,
    inputs: Mapping[str, object],
    options: RunOptions,
    parent: str | None = None,
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
        closed_at=None,
        parent=parent,
        rerun_of=options.rerun_of,
        scheduled_by=options.scheduled_by,
        depth=options.depth,
        run_group=options.group,
        group_policy=options.group_policy,
        trace=orjson.dumps(dict(options.trace)),
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
    record: dict[str, object] = {
        "status": result.status,
        "outputs": result.outputs,
        "exit_code": result.exit_code,
        "error": result.error,
        "duration_seconds": result.duration_seconds,
        "will_retry": result.will_retry,
    }
    if result.artefacts:
        record["artefacts"] = [asdict(artefact) for artefact in result.artefacts]
    return orjson.dumps(record)


def decode_result(value: bytes) -> AttemptResult:
    """The attempt that was recorded."""
    record = orjson.loads(value)
    artefacts = tuple(Artefact(**artefact) for artefact in record.pop("artefacts", ()))
    return AttemptResult(**record, artefacts=artefacts)


def now() -> str:
    """The time as events carry it: RFC 3339, UTC, milliseconds."""
    return time_text(time.time())


def seconds_between(start: str, end: str) -> float:
    """The time between two times that `now` gave."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
