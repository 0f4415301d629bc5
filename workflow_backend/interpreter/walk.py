"""The walk over a graph of steps: each starts when what it depends on is settled.

Rules: a step without `if` runs when all its dependencies succeeded (one with `continue_on_error`
counts as succeeded though it failed); `failure()` is true where a dependency failed, or was skipped
because of a failure before it.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

from workflow_backend import events
from workflow_backend.definition.model import Step
from workflow_backend.interpreter.context import FAILURES, NeverBegunError, RunContext
from workflow_backend.interpreter.step import run_step
from workflow_backend.rendering import ExpressionError
from workflow_backend.step_state import StepState


class Walk:
    """Settles a list of steps, whose dependencies are among themselves."""

    def __init__(self, steps: Sequence[Step], context: RunContext) -> None:
        self._steps = steps
        self._context = context
        self._runtime = context.runtime
        self._stop = context.stop
        self._states = context.states
        self._missing = {step.name: len(set(step.depends)) for step in steps}
        self._dependents: dict[str, list[Step]] = {step.name: [] for step in steps}
        for step in steps:
            for name in dict.fromkeys(step.depends):
                self._dependents[name].append(step)
        self._ready = deque(step for step in steps if not step.depends)
        self._running: dict[asyncio.Task[StepState], Step] = {}
        self._finished: deque[asyncio.Task[StepState]] = deque()

    async def run(self) -> None:
        """Until all steps are settled; after a stop, those that never began are skipped."""
        try:
            while self._stop.reason is None:
                await self._decide_ready()
                if not self._running:
                    break
                await self._stop.changed.wait()
                self._stop.changed.clear()
                self._settle_finished()
            if self._stop.reason is not None:
                await self._end(self._stop.reason)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _decide_ready(self) -> None:
        """Skip or start each step whose dependencies are settled."""
        while self._ready:
            step = self._ready.popleft()
            state = self._decide(step)
            if state is None:
                self._start(step)
                continue
            if step.name in self._context.kept:
                await self._runtime.emit(f"{step.name}:kept", events.step_kept(step.name, state))
            elif state.status == "skipped":
                await self._emit_skipped(step, state.reason)
            else:
                refused = events.step_refused(step.name, state.error or "")
                await self._runtime.emit(f"{step.name}:refused", refused)
            self._settle(step, state)

    def _decide(self, step: Step) -> StepState | None:
        """None: the step runs. Else what it is settled as."""
        kept = self._context.kept.get(step.name)
        if kept is not None:
            return kept
        before = [self._states[name] for name in dict.fromkeys(step.depends)]
        failed = any(state.has_failed_before for state in before)
        unmet = next((state for state in before if not _counts_as_success(state)), None)
        renderer = self._context.renderer
        try:
            if renderer.condition(step, self._states, succeeded=unmet is None, failed=failed):
                return None
        except ExpressionError as error:
            return StepState("failed", error=f"if: {error}", has_failed_before=True)
        reason = _skip_reason(step, self._states) if unmet else "its condition `if` is false"
        return StepState("skipped", reason=reason, has_failed_before=failed)

    def _start(self, step: Step) -> None:
        task = asyncio.create_task(run_step(step, self._context))
        self._running[task] = step
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[StepState]) -> None:
        self._finished.append(task)
        self._stop.changed.set()

    def _settle_finished(self) -> None:
        while self._finished:
            task = self._finished.popleft()
            step = self._running.pop(task)
            if self._stop.reason is not None and _never_began(task):
                continue
            self._settle(step, task.result())

    def _settle(self, step: Step, state: StepState) -> None:
        """Note how the step ended; its dependents may be ready now."""
        if state.status in FAILURES:
            state.has_failed_before = not step.continue_on_error
        self._states[step.name] = state
        for dependent in self._dependents[step.name]:
            self._missing[dependent.name] -= 1
            if not self._missing[dependent.name]:
                self._ready.append(dependent)

    async def _emit_skipped(self, step: Step, reason: str) -> None:
        await self._runtime.emit(f"{step.name}:skipped", events.step_skipped(step.name, reason))

    async def _end(self, reason: str) -> None:
        """End what runs; what has not begun never will."""
        for task in self._running:
            task.cancel(reason)
        await asyncio.gather(*self._running, return_exceptions=True)
        # The callbacks that note the ends run after the tasks themselves.
        await asyncio.sleep(0)
        self._settle_finished()
        for step in self._steps:
            if step.name not in self._states:
                await self._emit_skipped(step, reason)
                self._states[step.name] = StepState("skipped", reason=reason)


def _never_began(task: asyncio.Task[StepState]) -> bool:
    return task.cancelled() or isinstance(task.exception(), NeverBegunError)


def _counts_as_success(state: StepState) -> bool:
    forgiven = state.status in FAILURES and not state.has_failed_before
    return state.status == "success" or forgiven


def _skip_reason(step: Step, states: Mapping[str, StepState]) -> str:
    words = {"skipped": "was skipped", "timed_out": "timed out", "cancelled": "was cancelled"}
    for name in step.depends:
        if not _counts_as_success(states[name]):
            return f"step `{name}` {words.get(states[name].status, 'failed')}"
    return "a dependency did not succeed"
