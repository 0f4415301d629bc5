"""One step: once, again until a condition holds, or for each of several items."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from workflow_backend import events
from workflow_backend.definition.durations import parse_duration
from workflow_backend.definition.model import ActionKind, Step
from workflow_backend.interpreter.attempts import make_attempts
from workflow_backend.interpreter.calls import call_workflow
from workflow_backend.interpreter.context import FAILURES, NeverBegunError, Place, RunContext
from workflow_backend.interpreter.ends import cancelled, refused
from workflow_backend.interpreter.waits import ask_person, wait_for
from workflow_backend.rendering import ExpressionError
from workflow_backend.step_state import StepState


async def run_step(step: Step, context: RunContext) -> StepState:
    """The step as the workflow has it, and what it came to.

    Raises:
        NeverBegunError: The run was to stop before the step began.
    """
    if step.is_fanned_out:
        return await _FanOut(step, context).run()
    return await _run_instance(Place(step, step.name), context)


async def _run_instance(place: Place, context: RunContext) -> StepState:
    """The step for one item: once, or again and again."""
    repeat = place.step.repeat
    if repeat is None:
        return await _run_once(place, context)
    state = StepState()
    for iteration in range(1, repeat.limit + 1):
        place = Place(place.step, place.instance, iteration, place.extra)
        state = await _run_once(place, context)
        if state.status != "success":
            return state
        try:
            if context.renderer.until(place.step, context.states, state, place.extra):
                return state
        except ExpressionError as error:
            return await refused(place, context, f"repeat.until: {error}")
        if context.stop.reason is not None:
            # It ended by itself as it was about to be cancelled.
            return await cancelled(place, context, state.attempts)
        if iteration < repeat.limit:
            try:
                interval = parse_duration(repeat.interval)
                await context.runtime.sleep(f"{place.key}:interval", interval)
                if context.stop.is_requested():
                    return await cancelled(place, context, state.attempts)
            except asyncio.CancelledError:
                return await cancelled(place, context, state.attempts)
    times = f"{repeat.limit} time{'s' if repeat.limit > 1 else ''}"
    return await refused(
        place, context, f"`{repeat.until[:120]}` was not true after {times}", state
    )


async def _run_once(place: Place, context: RunContext) -> StepState:
    return await _ACTIONS.get(place.step.kind, make_attempts)(place, context)


_CUT_OFF = frozenset({"skipped", "cancelled"})


class _FanOut:
    """A step for each item of a list, so many at a time; it fails if one of them does."""

    def __init__(self, step: Step, context: RunContext) -> None:
        self._step = step
        self._context = context
        self._settled: dict[int, StepState] = {}

    async def run(self) -> StepState:
        """All items."""
        step, context = self._step, self._context
        whole = Place(step, step.name)
        try:
            items = context.renderer.items(step, context.states)
        except ExpressionError as error:
            return await refused(whole, context, str(error))
        begun = events.step_begun(step.name, f"{len(items)} items", items=len(items))
        began = await context.runtime.emit(f"{step.name}:begun", begun)
        places = [_place_of(step, index, item) for index, item in enumerate(items)]
        await self._run_items(places)
        for index, place in enumerate(places):
            if index not in self._settled:
                self._settled[index] = StepState("skipped", reason=context.stop.reason or "")
            context.items[place.instance] = self._settled[index]
        state = self._summary()
        done = sum(one.status == "success" for one in self._settled.values())
        ended = events.step_settled(
            step.name, state, began, f"{done} of {len(items)} items succeeded"
        )
        await context.runtime.emit(f"{step.name}:ended", ended)
        return state

    async def _run_items(self, places: list[Place]) -> None:
        """Run the items; those that never began because the run is to stop stay unsettled."""
        room = asyncio.Semaphore(self._step.max_parallel or self._context.workflow.max_parallel)

        async def run_one(index: int, place: Place) -> None:
            kept = self._context.kept.get(place.instance)
            if kept is not None:
                event = events.step_kept(place.instance, kept)
                await self._context.runtime.emit(f"{place.instance}:kept", event)
                self._settled[index] = kept
                return
            async with room:
                self._settled[index] = await _run_instance(place, self._context)

        tasks = [asyncio.create_task(run_one(index, place)) for index, place in enumerate(places)]
        ended = asyncio.gather(*tasks, return_exceptions=True)
        try:
            # Shielded: a cancel is for all items, not for the one that is waited for.
            results = await asyncio.shield(ended)
        except asyncio.CancelledError as reason:
            for task in tasks:
                task.cancel(str(reason) or self._context.stop.reason)
            results = await ended
            if self._context.stop.reason is None:
                raise
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, NeverBegunError):
                raise result

    def _summary(self) -> StepState:
        states = [self._settled[index] for index in sorted(self._settled)]
        outputs: Mapping[str, object] = {
            "stdout": "",
            "items": [state.outputs for state in states],
            "statuses": [state.status for state in states],
        }
        if any(state.status in _CUT_OFF for state in states) and self._context.stop.reason:
            error = f"cancelled: {self._context.stop.reason}"
            return StepState("cancelled", outputs, error=error, attempts=1)
        failed = [index for index, state in enumerate(states) if state.status in FAILURES]
        if not failed:
            return StepState("success", outputs, attempts=1)
        first = failed[0]
        more = f" (and {len(failed) - 1} more failed)" if len(failed) > 1 else ""
        error = f"item {first} failed: {states[first].error}{more}"
        return StepState("failed", outputs, error=error, attempts=1)


def _place_of(step: Step, index: int, item: object) -> Place:
    extra = {"item": item, "index": index}
    return Place(step, f"{step.name}[{index}]", extra=extra)


_ACTIONS: Mapping[ActionKind, Callable[[Place, RunContext], Awaitable[StepState]]] = {
    "approval": ask_person,
    "wait": wait_for,
    "workflow": call_workflow,
}
