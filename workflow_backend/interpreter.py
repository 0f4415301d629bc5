"""The interpreter: walks a workflow's graph and asks a `Runtime` for everything that has an effect.

Pure and deterministic: no clock, no random, no environment, no IO. What it does depends on the
workflow, its inputs and the answers of the runtime, which are asked for by stable keys: so a run
goes on after a crash by being interpreted again from its beginning.

Rules: a step without `if` runs when all its dependencies succeeded (one with `continue_on_error`
counts as succeeded though it failed); `failure()` is true where a dependency failed, or was skipped
because of a failure before it. A run has failed if a step without `continue_on_error` has.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from workflow_backend import events
from workflow_backend.definition.durations import parse_duration
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import AttemptSpec, RunStatus, Runtime, StepStatus
from workflow_backend.rendering import ExpressionError, Renderer, ResolvedStep, StepState
from workflow_backend.retries import delay_seconds

INTERPRETER_VERSION = 1

_FAILURES = frozenset({"failed", "timed_out"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    status: RunStatus
    error: str | None
    outputs: Mapping[str, object]
    steps: Mapping[str, StepStatus]


async def interpret(
    workflow: Workflow, inputs: Mapping[str, object], runtime: Runtime, *, run_id: str
) -> Outcome:
    """Run the workflow to its end; its last event is `workflow_complete`.

    Cancelling the task stops it where it is, without an event: a later interpretation of the same
    run goes on from there. To end a run as cancelled, let `Runtime.cancel_requested` answer.
    """
    return await _Interpreter(workflow, inputs, runtime, run_id).run()


class _Interpreter:
    def __init__(
        self, workflow: Workflow, inputs: Mapping[str, object], runtime: Runtime, run_id: str
    ) -> None:
        self._workflow = workflow
        self._runtime = runtime
        self._run_id = run_id
        self._renderer = Renderer(workflow, inputs, run_id)
        self._states: dict[str, StepState] = {}
        self._missing = {step.name: len(set(step.depends)) for step in workflow.steps}
        self._dependents: dict[str, list[Step]] = {step.name: [] for step in workflow.steps}
        for step in workflow.steps:
            for name in set(step.depends):
                self._dependents[name].append(step)
        self._ready = deque(step for step in workflow.steps if not step.depends)
        self._waiting: deque[Step] = deque()
        self._running: dict[asyncio.Task[StepState], Step] = {}
        self._finished: deque[asyncio.Task[StepState]] = deque()
        self._changed = asyncio.Event()
        self._stop_reason: str | None = None
        self._stop_status: RunStatus = "cancelled"

    async def run(self) -> Outcome:
        """The whole run."""
        started = events.workflow_started(self._workflow.name, len(self._workflow.steps))
        await self._runtime.emit("run:started", started)
        watches = [asyncio.create_task(self._watch_cancel())]
        if self._workflow.timeout is not None:
            watches.append(asyncio.create_task(self._watch_time(self._workflow.timeout)))
        try:
            # A cancellation asked for before a restart is known before any step begins.
            await asyncio.sleep(0)
            await self._walk()
            if self._stop_reason is not None:
                await self._stop(self._stop_reason)
        finally:
            await _cancel([*watches, *self._running])
        outcome = self._outcome()
        complete = events.workflow_complete(
            self._workflow.name, outcome.status, outcome.error, outcome.outputs
        )
        await self._runtime.emit("run:complete", complete)
        return outcome

    async def _watch_cancel(self) -> None:
        self._request_stop("cancelled", await self._runtime.cancel_requested())

    async def _watch_time(self, limit: str) -> None:
        await self._runtime.sleep("run:timeout", parse_duration(limit))
        self._request_stop("timed_out", f"the run's timeout of {limit} passed")

    def _request_stop(self, status: RunStatus, reason: str) -> None:
        if self._stop_reason is None:
            self._stop_status, self._stop_reason = status, reason
            self._changed.set()

    async def _walk(self) -> None:
        """Start what can start and settle what has ended, until all is settled or to be stopped."""
        while self._stop_reason is None:
            await self._decide_ready()
            if not self._running:
                return
            await self._changed.wait()
            self._changed.clear()
            self._settle_finished()

    async def _decide_ready(self) -> None:
        """Skip or start each step whose dependencies are settled."""
        queued: list[Step] = []
        while self._ready:
            step = self._ready.popleft()
            state = self._decide(step)
            if state is None:
                self._waiting.append(step)
                queued.append(step)
            elif state.status == "skipped":
                await self._emit_skipped(step, state.reason)
                self._settle(step, state)
            else:
                await self._refuse(step, state)
                self._settle(step, state)
        while self._waiting and len(self._running) < self._workflow.max_parallel:
            self._start(self._waiting.popleft())
        for step in queued[len(queued) - min(len(queued), len(self._waiting)) :]:
            await self._runtime.emit(f"{step.name}:queued", events.step_queued(step.name))

    def _decide(self, step: Step) -> StepState | None:
        """None: the step runs. Else what it is settled as."""
        before = [self._states[name] for name in dict.fromkeys(step.depends)]
        failed = any(state.has_failed_before for state in before)
        unmet = next((state for state in before if not _counts_as_success(state)), None)
        try:
            if self._renderer.condition(step, self._states, succeeded=unmet is None, failed=failed):
                return None
        except ExpressionError as error:
            return StepState("failed", error=f"if: {error}", has_failed_before=True)
        reason = _skip_reason(step, self._states) if unmet else "its condition `if` is false"
        return StepState("skipped", reason=reason, has_failed_before=failed)

    def _start(self, step: Step) -> None:
        task = asyncio.create_task(self._run_step(step))
        self._running[task] = step
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[StepState]) -> None:
        self._finished.append(task)
        self._changed.set()

    def _settle_finished(self) -> None:
        while self._finished:
            task = self._finished.popleft()
            step = self._running.pop(task)
            if task.cancelled() and self._stop_reason is not None:
                # It was stopped before its first line ran: the step never began.
                continue
            self._settle(step, task.result())

    def _settle(self, step: Step, state: StepState) -> None:
        """Note how the step ended; its dependents may be ready now."""
        if state.status in _FAILURES:
            state.has_failed_before = not step.continue_on_error
        self._states[step.name] = state
        for dependent in self._dependents[step.name]:
            self._missing[dependent.name] -= 1
            if not self._missing[dependent.name]:
                self._ready.append(dependent)

    async def _run_step(self, step: Step) -> StepState:
        """All attempts at one step."""
        attempt = 0
        try:
            resolved = self._renderer.resolve(step, self._states)
            while True:
                attempt += 1
                result = await self._runtime.attempt(self._spec(resolved, attempt))
                if not (result.will_retry and step.retry is not None):
                    break
                delay = delay_seconds(step.retry, attempt)
                await self._runtime.sleep(f"{step.name}#{attempt}:sleep", delay)
        except ExpressionError as error:
            state = StepState("failed", error=str(error))
            await self._refuse(step, state)
            return state
        except asyncio.CancelledError:
            if self._stop_reason is None:
                raise
            return await self._cancelled(step, attempt, self._stop_reason)
        return StepState(
            status="failed" if result.status == "worker_lost" else result.status,
            outputs=result.outputs,
            error=result.error,
            exit_code=result.exit_code,
            attempts=attempt,
        )

    def _spec(self, resolved: ResolvedStep, attempt: int) -> AttemptSpec:
        step = resolved.step
        return AttemptSpec(
            run_id=self._run_id,
            step=step,
            attempt=attempt,
            env=resolved.env,
            secrets=resolved.secrets,
            timeout_seconds=None if step.timeout is None else parse_duration(step.timeout),
            retries_left=0 if step.retry is None else step.retry.limit - (attempt - 1),
        )

    async def _refuse(self, step: Step, state: StepState) -> None:
        """Say that no attempt could be made."""
        refused = events.step_refused(step.name, state.error or "")
        await self._runtime.emit(f"{step.name}:refused", refused)

    async def _emit_skipped(self, step: Step, reason: str) -> None:
        await self._runtime.emit(f"{step.name}:skipped", events.step_skipped(step.name, reason))

    async def _cancelled(self, step: Step, attempt: int, reason: str) -> StepState:
        """The end of a step that was stopped between attempts, or before its first."""
        error = f"cancelled: {reason}"
        event = events.step_cancelled(step.name, attempt, error)
        await self._runtime.emit(f"{step.name}:cancelled", event)
        return StepState("cancelled", error=error, attempts=attempt)

    async def _stop(self, reason: str) -> None:
        """End what runs; what has not begun never will."""
        for task in self._running:
            task.cancel(reason)
        if self._running:
            await asyncio.wait(self._running)
        self._settle_finished()
        for step in self._workflow.steps:
            if step.name not in self._states:
                await self._emit_skipped(step, reason)
                self._states[step.name] = StepState("skipped", reason=reason)

    def _outcome(self) -> Outcome:
        status, error = self._verdict()
        outputs: dict[str, object] = {}
        for name, template in self._workflow.outputs.items():
            try:
                outputs[name] = self._renderer.output(template, self._states)
            except ExpressionError as reason:
                if status == "success":
                    status, error = "failed", f"outputs.{name}: {reason}"
        steps = {step.name: self._states[step.name].status for step in self._workflow.steps}
        return Outcome(status, error, outputs, steps)

    def _verdict(self) -> tuple[RunStatus, str | None]:
        if self._stop_reason is not None:
            return self._stop_status, self._stop_reason
        failed = [
            (step.name, self._states[step.name].error)
            for step in self._workflow.steps
            if self._states[step.name].status in _FAILURES and not step.continue_on_error
        ]
        if not failed:
            return "success", None
        name, error = failed[0]
        more = f" (and {len(failed) - 1} more failed)" if len(failed) > 1 else ""
        return "failed", f"step `{name}` failed: {error}{more}"


def _counts_as_success(state: StepState) -> bool:
    forgiven = state.status in _FAILURES and not state.has_failed_before
    return state.status == "success" or forgiven


def _skip_reason(step: Step, states: Mapping[str, StepState]) -> str:
    words = {"skipped": "was skipped", "timed_out": "timed out", "cancelled": "was cancelled"}
    for name in step.depends:
        if not _counts_as_success(states[name]):
            return f"step `{name}` {words.get(states[name].status, 'failed')}"
    return "a dependency did not succeed"


async def _cancel(tasks: list[asyncio.Task[None] | asyncio.Task[StepState]]) -> None:
    """Cancel the tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
