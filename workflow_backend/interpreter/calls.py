"""Steps that run another workflow of the document, as a run of its own inside this one."""

import asyncio
from collections.abc import Mapping
from hashlib import sha256

from workflow_backend import events
from workflow_backend.definition.values import resolve_inputs
from workflow_backend.engines.base import ChildSpec
from workflow_backend.interpreter.context import Place, RunContext
from workflow_backend.interpreter.ends import cancelled, refused
from workflow_backend.rendering import ExpressionError
from workflow_backend.step_state import RunStatus, StepState, StepStatus

MAX_RUN_ID_CHARACTERS = 128
_STATUSES: Mapping[RunStatus, StepStatus] = {
    "queued": "failed",
    "running": "failed",
    "success": "success",
    "failed": "failed",
    "cancelled": "cancelled",
    "timed_out": "timed_out",
}


async def call_workflow(place: Place, context: RunContext) -> StepState:
    """The run that the step makes, to its end; its outputs by name are those of the step."""
    call = place.step.workflow
    if call is None:
        return await refused(place, context, "the step calls no workflow")
    workflow = context.workflow.called(call.ref)
    try:
        resolved = context.renderer.resolve(place.step, context.states, place.extra).step
    except ExpressionError as error:
        return await refused(place, context, str(error))
    given = resolved.workflow.inputs if resolved.workflow else {}
    inputs, problems = resolve_inputs(workflow, given)
    if problems:
        return await refused(place, context, "; ".join(map(str, problems)))
    prefix = f"{place.instance}/"
    kept = {
        name.removeprefix(prefix): state
        for name, state in context.kept.items()
        if name.startswith(prefix)
    }
    spec = ChildSpec(child_run_id(context.run_id, place), workflow, inputs, kept)
    begun = events.step_begun(
        place.instance,
        f"Running the workflow {call.ref}",
        child_run_id=spec.run_id,
        iteration=place.iteration,
    )
    began = await context.runtime.emit(f"{place.key}:begun", begun)
    try:
        result = await context.runtime.child(f"{place.key}:child", spec)
    except asyncio.CancelledError:
        return await cancelled(place, context, 1)
    status, why = _STATUSES[result.status], result.error
    if status == "cancelled" and context.stop.reason is None:
        # Somebody cancelled the inner run alone: this one goes on, without what it should give.
        status, why = "failed", f"its run {spec.run_id} was cancelled: {result.error}"
    state = StepState(
        status,
        {"stdout": "", **result.outputs, "run_id": spec.run_id},
        error=why,
        attempts=1,
        inner=result.states,
    )
    ended = events.step_settled(place.instance, state, began, iteration=place.iteration)
    await context.runtime.emit(f"{place.key}:ended", ended)
    return state


def child_run_id(run_id: str, place: Place) -> str:
    """The id of the run that a step makes: the parent's, the step's, its item, its time."""
    name = place.instance.replace("[", ".").rstrip("]")
    child = f"{run_id}.{name}" if place.iteration == 1 else f"{run_id}.{name}..{place.iteration}"
    if len(child) <= MAX_RUN_ID_CHARACTERS:
        return child
    return f"{run_id[:80]}.{sha256(child.encode()).hexdigest()[:32]}"
