"""One run: its steps, what follows a failure, what comes last, and what it has come to.

Rules: `on_failure` runs if a step without `continue_on_error` has failed, or the run's time was
over; `finally` runs whatever happened, a cancelled run too, for at most `FINALLY_SECONDS`. A step
of `finally` that fails makes a run fail that had succeeded.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workflow_backend import events
from workflow_backend.definition.durations import parse_duration
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import DEFAULT_OWNER, Runtime
from workflow_backend.interpreter.context import FAILURES, RunContext, Stop
from workflow_backend.interpreter.notifications import notify_of_end
from workflow_backend.interpreter.walk import Walk
from workflow_backend.rendering import ExpressionError, Renderer
from workflow_backend.step_state import RunStatus, StepState, StepStatus

INTERPRETER_VERSION = 2
# Runs of version 1 have the same keys, and definitions without what came with version 2.
SUPPORTED_VERSIONS = frozenset({1, 2})
FINALLY_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to; `states` are its steps and their items, whole."""

    status: RunStatus
    error: str | None
    outputs: Mapping[str, object]
    steps: Mapping[str, StepStatus]
    states: Mapping[str, StepState]


async def interpret(
    workflow: Workflow,
    inputs: Mapping[str, object],
    runtime: Runtime,
    *,
    run_id: str,
    owner: str = DEFAULT_OWNER,
    depth: int = 0,
    trace: Mapping[str, str] | None = None,
    kept: Mapping[str, StepState] | None = None,
) -> Outcome:
    """Run the workflow to its end; its last event is `workflow_complete`.

    `kept` are steps, by instance, whose results are taken over instead of doing them. Cancelling
    the task stops it where it is, without an event: a later interpretation of the same run goes on
    from there. To end a run as cancelled, let `Runtime.cancel_requested` answer.
    """
    context = RunContext(
        workflow=workflow,
        runtime=runtime,
        renderer=Renderer(workflow, inputs, run_id),
        run_id=run_id,
        owner=owner,
        depth=depth,
        trace=trace or {},
        kept=kept or {},
        slots=asyncio.Semaphore(workflow.max_parallel),
        stop=Stop(),
    )
    return await _Run(context).run()


class _Run:
    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._workflow = context.workflow
        self._runtime = context.runtime
        self._watches: list[asyncio.Task[None]] = []

    async def run(self) -> Outcome:
        """The whole run."""
        context = self._context
        started = events.workflow_started(self._workflow.name, len(self._workflow.steps))
        await self._runtime.emit("run:started", started)
        try:
            outcome = await self._run_all()
            complete = events.workflow_complete(
                self._workflow.name, outcome.status, outcome.error, outcome.outputs
            )
            await self._runtime.complete(complete, outcome.states)
            notify_of_end(context, outcome.status, outcome.error, outcome.outputs)
            await asyncio.gather(*context.deliveries)
        finally:
            await _cancel([*self._watches, *context.deliveries])
        return outcome

    async def _run_all(self) -> Outcome:
        context, workflow = self._context, self._workflow
        self._watches.append(asyncio.create_task(self._watch_cancel()))
        if workflow.timeout is not None:
            self._watches.append(asyncio.create_task(self._watch_time(workflow.timeout)))
        # Who watches for a cancel begins to before any step does.
        await asyncio.sleep(0)
        await Walk(workflow.steps, context).run()
        status, error = self._verdict(context.stop)
        context.renderer.end_main(status, error)
        if status in FAILURES:
            await self._handle(workflow.on_failure)
        elif workflow.on_failure:
            await self._leave_out(workflow.on_failure, "the run has not failed")
        if workflow.finally_:
            status, error = await self._run_last(status, error)
        return self._outcome(status, error)

    async def _run_last(self, status: RunStatus, error: str | None) -> tuple[RunStatus, str | None]:
        """The steps of `finally`, and the verdict with them."""
        context, steps = self._context, self._workflow.finally_
        context.stop = Stop()
        limit = asyncio.create_task(self._watch_last(context.stop))
        try:
            await self._handle(steps, context.stop)
        finally:
            await _cancel([limit])
        if status == "success" and context.stop.reason is not None:
            return context.stop.status, context.stop.reason
        if status == "success":
            status, error = _failure_of(steps, context.states) or (status, error)
        return status, error

    async def _handle(self, steps: Sequence[Step], stop: Stop | None = None) -> None:
        """Run handlers, which the end of the steps before them does not stop."""
        self._context.stop = stop or Stop()
        await Walk(steps, self._context).run()

    async def _leave_out(self, steps: Sequence[Step], reason: str) -> None:
        for step in steps:
            skipped = events.step_skipped(step.name, reason)
            await self._runtime.emit(f"{step.name}:skipped", skipped)
            self._context.states[step.name] = StepState("skipped", reason=reason)

    async def _watch_cancel(self) -> None:
        reason = await self._runtime.cancel_requested()
        self._context.stop.request("cancelled", reason)

    async def _watch_time(self, limit: str) -> None:
        stop = self._context.stop
        await self._runtime.sleep("run:timeout", parse_duration(limit))
        stop.request("timed_out", f"the run's timeout of {limit} passed")

    async def _watch_last(self, stop: Stop) -> None:
        await self._runtime.sleep("run:finally", FINALLY_SECONDS)
        stop.request("timed_out", f"`finally` took longer than {FINALLY_SECONDS:g} s")

    def _verdict(self, stop: Stop) -> tuple[RunStatus, str | None]:
        if stop.reason is not None:
            return stop.status, stop.reason
        failed = _failure_of(self._workflow.steps, self._context.states)
        return failed or ("success", None)

    def _outcome(self, status: RunStatus, error: str | None) -> Outcome:
        context = self._context
        outputs: dict[str, object] = {}
        for name, template in self._workflow.outputs.items():
            try:
                outputs[name] = context.renderer.output(template, context.states)
            except ExpressionError as reason:
                if status == "success":
                    status, error = "failed", f"outputs.{name}: {reason}"
        steps = {step.name: context.states[step.name].status for step in self._workflow.all_steps()}
        return Outcome(status, error, outputs, steps, {**context.states, **context.items})


def _failure_of(
    steps: Sequence[Step], states: Mapping[str, StepState]
) -> tuple[RunStatus, str] | None:
    """The failure of a run in which these steps were settled so, or None."""
    failed = [
        (step.name, states[step.name].error)
        for step in steps
        if states[step.name].status in FAILURES and not step.continue_on_error
    ]
    if not failed:
        return None
    name, error = failed[0]
    more = f" (and {len(failed) - 1} more failed)" if len(failed) > 1 else ""
    return "failed", f"step `{name}` failed: {error}{more}"


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
