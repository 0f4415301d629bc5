"""The attempts at one step: tried, retried after a delay, given up."""

import asyncio

from workflow_backend import events
from workflow_backend.definition.durations import parse_duration
from workflow_backend.engines.base import AttemptSpec
from workflow_backend.interpreter.context import NeverBegunError, Place, RunContext
from workflow_backend.interpreter.ends import cancelled, refused
from workflow_backend.rendering import ExpressionError, ResolvedStep
from workflow_backend.retries import delay_seconds
from workflow_backend.step_state import StepState


async def make_attempts(place: Place, context: RunContext) -> StepState:
    """All attempts at a step that does something itself.

    Raises:
        NeverBegunError: The run was to stop before there was room for the first.
    """
    if context.slots.locked():
        queued = events.step_queued(place.instance)
        await context.runtime.emit(f"{place.key}:queued", queued)
    try:
        await context.slots.acquire()
    except asyncio.CancelledError:
        if context.stop.reason is not None and place.iteration == 1:
            raise NeverBegunError from None
        return await cancelled(place, context, 0)
    try:
        return await _make(place, context)
    finally:
        context.slots.release()


async def _make(place: Place, context: RunContext) -> StepState:
    step, attempt = place.step, 0
    try:
        resolved = context.renderer.resolve(step, context.states, place.extra)
        while True:
            attempt += 1
            result = await context.runtime.attempt(_spec(resolved, place, attempt, context))
            if not (result.will_retry and step.retry is not None):
                break
            if context.stop.reason is not None:
                # The attempt ended by itself as it was about to be cancelled.
                return await cancelled(place, context, attempt)
            delay = delay_seconds(step.retry, attempt)
            await context.runtime.sleep(f"{place.key}#{attempt}:sleep", delay)
            if context.stop.is_requested():
                return await cancelled(place, context, attempt)
    except ExpressionError as error:
        return await refused(place, context, str(error))
    except asyncio.CancelledError:
        return await cancelled(place, context, attempt)
    return StepState(
        status="failed" if result.status == "worker_lost" else result.status,
        outputs=result.outputs,
        error=result.error,
        exit_code=result.exit_code,
        attempts=attempt,
    )


def _spec(resolved: ResolvedStep, place: Place, attempt: int, context: RunContext) -> AttemptSpec:
    step = resolved.step
    return AttemptSpec(
        run_id=context.run_id,
        step=step,
        attempt=attempt,
        env=resolved.env,
        secrets=resolved.secrets,
        timeout_seconds=None if step.timeout is None else parse_duration(step.timeout),
        retries_left=0 if step.retry is None else step.retry.limit - (attempt - 1),
        instance=place.instance,
        iteration=place.iteration,
        owner=context.owner,
        depth=context.depth,
        trace=context.trace,
    )
