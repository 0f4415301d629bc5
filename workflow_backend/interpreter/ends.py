"""Ends of a step that no attempt gave: refused before one could be made, or stopped in between."""

import asyncio

from workflow_backend import events
from workflow_backend.interpreter.context import Place, RunContext
from workflow_backend.step_state import StepState


async def refused(
    place: Place, context: RunContext, error: str, last: StepState | None = None
) -> StepState:
    """The failure of a step for a reason that no attempt gave; `last` is what it had come to."""
    event = events.step_refused(place.instance, error)
    await context.runtime.emit(f"{place.instance}:refused", event)
    if last is None:
        return StepState("failed", error=error)
    return StepState("failed", last.outputs, error=error, attempts=last.attempts)


async def cancelled(place: Place, context: RunContext, attempts: int) -> StepState:
    """The end of a step that was stopped while nothing of it ran.

    Raises:
        asyncio.CancelledError: The engine itself ends, and the run will go on later.
    """
    if context.stop.reason is None:
        raise asyncio.CancelledError
    error = f"cancelled: {context.stop.reason}"
    event = events.step_cancelled(place.instance, attempts, error)
    await context.runtime.emit(f"{place.instance}:cancelled", event)
    return StepState("cancelled", error=error, attempts=attempts)
