"""Steps that wait for somebody or something: a person's decision, a timer, a signal, a webhook."""

import asyncio
from collections.abc import Mapping

from workflow_backend import events
from workflow_backend.definition.actions import Approval, Wait
from workflow_backend.definition.durations import parse_duration
from workflow_backend.interpreter.context import Place, RunContext
from workflow_backend.interpreter.ends import cancelled, refused
from workflow_backend.interpreter.notifications import notify_of_approval
from workflow_backend.rendering import ExpressionError
from workflow_backend.step_state import StepState


async def ask_person(place: Place, context: RunContext) -> StepState:
    """An approval: asked, decided under the signal `approval:<place>`, or left until its time."""
    try:
        resolved = context.renderer.resolve(place.step, context.states, place.extra)
    except ExpressionError as error:
        return await refused(place, context, str(error))
    approval = resolved.step.approval or Approval(message="")
    form = {name: spec.model_dump(exclude_defaults=True) for name, spec in approval.form.items()}
    approval_id = f"{context.run_id}/{place.key}"
    seconds = _seconds(approval.timeout)
    requested = events.approval_requested(place.key, approval.message, form, seconds, approval_id)
    began = await context.runtime.emit(f"{place.key}:requested", requested)
    notify_of_approval(context, place, requested)
    try:
        key = f"approval:{place.key}"
        decision = await context.runtime.wait_signal(key, key, seconds)
    except asyncio.CancelledError:
        return await cancelled(place, context, 0)
    if decision is None:
        state = _late(approval.on_timeout, f"nobody decided within {approval.timeout}")
        return await _end(place, context, state, began, state.error or state.reason)
    state = _decided(decision)
    decided = events.approval_decided(
        place.key, state.status == "success", _by(decision), str(decision.get("reason") or "")
    )
    await context.runtime.emit(f"{place.key}:decided", decided)
    word = "approved" if state.status == "success" else "rejected"
    return await _end(place, context, state, began, f"{word} by {_by(decision)}")


async def wait_for(place: Place, context: RunContext) -> StepState:
    """A wait: for a time, or for the signal `signal:<name>` or `webhook:<place>`."""
    wait = place.step.wait or Wait()
    try:
        if wait.for_ is not None:
            return await _wait_for_time(place, context, wait.for_)
        return await _wait_for_signal(place, context, wait)
    except asyncio.CancelledError:
        return await cancelled(place, context, 0)


async def _wait_for_time(place: Place, context: RunContext, length: str) -> StepState:
    seconds = parse_duration(length)
    started = events.wait_started(place.instance, "timer", seconds, iteration=place.iteration)
    began = await context.runtime.emit(f"{place.key}:waiting", started)
    await context.runtime.sleep(f"{place.key}:timer", seconds)
    return await _end(place, context, StepState("success", attempts=1), began, "")


async def _wait_for_signal(place: Place, context: RunContext, wait: Wait) -> StepState:
    seconds = _seconds(wait.timeout)
    if wait.signal is not None:
        signal, key = f"signal:{wait.signal}", f"{place.key}:wait"
        started = events.wait_started(
            place.instance, "signal", seconds, iteration=place.iteration, signal=wait.signal
        )
    else:
        signal = key = f"webhook:{place.key}"
        started = events.wait_started(
            place.instance, "webhook", seconds, iteration=place.iteration, hook=place.key
        )
    began = await context.runtime.emit(f"{place.key}:waiting", started)
    received = await context.runtime.wait_signal(signal, key, seconds)
    if received is None:
        state = _late(wait.on_timeout, f"nothing came within {wait.timeout}")
        return await _end(place, context, state, began, state.error or state.reason)
    outputs = {"stdout": "", "payload": received.get("payload")}
    return await _end(place, context, StepState("success", outputs, attempts=1), began, "")


def _decided(decision: Mapping[str, object]) -> StepState:
    approved = decision.get("approved") is True
    reason = str(decision.get("reason") or "")
    outputs: dict[str, object] = {
        "stdout": "",
        "approved": approved,
        "by": _by(decision),
        "reason": reason,
        "values": decision.get("values") or {},
    }
    if approved:
        return StepState("success", outputs, attempts=1)
    error = f"rejected by {_by(decision)}" + (f": {reason}" if reason else "")
    return StepState("failed", outputs, error=error, attempts=1)


def _late(on_timeout: str, why: str) -> StepState:
    """What a step comes to when its time is over."""
    if on_timeout == "fail":
        return StepState("timed_out", error=why, attempts=1)
    if on_timeout == "skip":
        return StepState("skipped", reason=why)
    outputs = {"stdout": "", "approved": True, "by": "", "reason": why, "values": {}}
    return StepState("success", outputs, attempts=1)


async def _end(
    place: Place, context: RunContext, state: StepState, began: float, output: str
) -> StepState:
    if state.status == "skipped":
        event = events.step_skipped(place.instance, state.reason)
    else:
        event = events.step_settled(place.instance, state, began, output, iteration=place.iteration)
    await context.runtime.emit(f"{place.key}:ended", event)
    return state


def _by(decision: Mapping[str, object]) -> str:
    return str(decision.get("by") or "somebody")


def _seconds(length: str | None) -> float | None:
    return None if length is None else parse_duration(length)
