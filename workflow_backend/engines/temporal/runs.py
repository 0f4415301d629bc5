"""A run of the engine's contract, read from its history. Pure."""

from collections.abc import Sequence

from workflow_backend.engines.base import Run, RunEvent
from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.history import RunHistory
from workflow_backend.events import time_text
from workflow_backend.run_steps import steps_of

_GOES_ON = frozenset({"running", "waiting", "pending"})


def run_of(history: RunHistory, events: Sequence[RunEvent]) -> Run:
    """The run with its steps, as its history and its events tell."""
    arguments = history.arguments
    if arguments is None:
        raise ValueError("the history has no beginning")
    workflow = wire.workflow_from_json(arguments.workflow)
    steps = steps_of([step.name for step in workflow.all_steps()], events)
    if history.was_cut_off:
        # Nobody told of their ends, because the execution was ended in Temporal.
        for step in steps:
            if step["status"] in _GOES_ON:
                step["status"] = "cancelled"
    return Run(
        run_id=arguments.run_id,
        workflow=workflow.name,
        owner=arguments.owner,
        status=history.status,
        created_at=time_text(history.created_at),
        started_at=None if history.started_at is None else time_text(history.started_at),
        finished_at=None if history.finished_at is None else time_text(history.finished_at),
        error=history.error,
        last_seq=history.last_seq,
        definition_sha256=arguments.sha256,
        engine="temporal",
        inputs=arguments.inputs,
        outputs=history.outputs,
        steps=tuple(steps),
        parent_run_id=arguments.parent_run_id,
        rerun_of=arguments.rerun_of,
        scheduled_by=arguments.scheduled_by,
        depth=arguments.depth,
    )
