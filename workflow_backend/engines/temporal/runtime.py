"""The interpreter's `Runtime` inside a Temporal workflow: each call is a command of its own.

Guarantees: nothing here reads a clock, a random number or the environment of a machine, so that a
replay asks for the same again; an attempt is made again only when its worker was lost, a bounded
number of times, and never if its step says so; every event is one event of the history.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
)
from typing_extensions import override

from workflow_backend import events
from workflow_backend.engines.base import (
    AttemptResult,
    AttemptSpec,
    ChildResult,
    ChildSpec,
    RunEvent,
    Runtime,
)
from workflow_backend.engines.end_states import EndStates
from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.options import OWN_RUNNERS
from workflow_backend.engines.temporal.search_attributes import STATUS, attributes_of
from workflow_backend.step_state import StepState, states_from_json, states_to_json

# How often Temporal gives one attempt to another worker when the one that had it was lost.
MOST_WORKERS = 10
# The attempt has its own timeout; this one ends what a worker that lives has forgotten.
LONGEST_ATTEMPT = timedelta(days=7)
_LOST_WORKER = RetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=MOST_WORKERS,
    non_retryable_error_types=["ClaimError"],
)
_ONCE = RetryPolicy(maximum_attempts=1)


class TemporalRuntime(Runtime):
    """The runtime of one run."""

    def __init__(self, arguments: wire.RunArguments) -> None:
        self._arguments = arguments
        self._emitted: dict[str, float] = {}
        self._signals: dict[str, asyncio.Future[Mapping[str, object]]] = {}
        self._late: set[str] = set()
        self._cancelled: asyncio.Future[str] = asyncio.Future()
        self._stopped_for: str | None = None
        self._seq = 0
        self._started_at: float | None = None
        self._queue = self._task_queue()
        self._end_states = EndStates()
        self.outcome: wire.Json | None = None

    def load(self) -> Mapping[str, StepState]:
        """The steps that the run takes over."""
        kept = states_from_json(self._arguments.kept)
        for name, state in kept.items():
            self._end_states.note(state.outputs, f"{wire.KEPT}{name}")
        return kept

    @property
    def is_cancelled(self) -> bool:
        """Whether the run is to be cancelled."""
        return self._cancelled.done()

    def request_cancel(self, reason: str) -> None:
        """Let the interpreter know that the run is to be cancelled; the first reason stays."""
        if not self._cancelled.done():
            self._cancelled.set_result(reason)

    def deliver(self, key: str, payload: Mapping[str, object]) -> wire.Json:
        """Record a signal unless there is one; what is recorded, or that it came too late."""
        signal = self._signal(key)
        is_first = not signal.done()
        if is_first and (self.outcome is not None or key in self._late):
            return {"key": key, "is_late": True}
        if is_first:
            signal.set_result(payload)
        return {"key": key, "payload": signal.result(), "is_first": is_first}

    @override
    async def cancel_requested(self) -> str:
        return await asyncio.shield(self._cancelled)

    @override
    async def attempt(self, spec: AttemptSpec) -> AttemptResult:
        result = await self._attempt(spec)
        self._end_states.note(result.outputs, spec.key)
        return result

    async def _attempt(self, spec: AttemptSpec) -> AttemptResult:
        begun_at = workflow.info().get_current_history_length()
        handle = self._schedule(spec)
        self._seq += 0 if spec.is_hidden else 2
        try:
            return await self._result_of(asyncio.shield(handle))
        except asyncio.CancelledError as cancel:
            reason = str(cancel)
            if handle.cancelled():
                raise
        if begun_at == workflow.info().get_current_history_length():
            # Nobody will ever have heard of this attempt.
            self._seq -= 0 if spec.is_hidden else 2
            handle.cancel()
            await asyncio.gather(handle, return_exceptions=True)
            raise asyncio.CancelledError(reason)
        self._note_stop(reason)
        handle.cancel()
        result = await self._result_of(handle)
        if result.status == "cancelled":
            result = replace(result, error=wire.cancelled_text(self._stopped_for or ""))
        return result

    @override
    async def sleep(self, key: str, seconds: float) -> None:
        if seconds > 0:
            await workflow.sleep(seconds, summary=key)

    @override
    async def wait_signal(
        self, signal: str, key: str, seconds: float | None
    ) -> Mapping[str, object] | None:
        given = self._signal(signal)
        if given.done() or seconds is None:
            return await asyncio.shield(given)
        waiting: list[asyncio.Future[Any]] = [given]
        await workflow.wait(waiting, timeout=seconds)
        if given.done():
            return given.result()
        if key == signal:
            self._late.add(signal)
        return None

    @override
    async def child(self, key: str, spec: ChildSpec) -> ChildResult:
        result = await self._child(spec)
        self._end_states.note(result.states, spec.run_id)
        return result

    async def _child(self, spec: ChildSpec) -> ChildResult:
        begun: asyncio.Future[None] = asyncio.Future()
        running = asyncio.create_task(self._run_child(spec, begun))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError as cancel:
            if running.cancelled():
                raise
            reason = str(cancel) or "the run that it belongs to was cancelled"
        either: list[asyncio.Future[Any]] = [begun, running]
        await workflow.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await self._tell(spec.run_id, wire.CANCEL, reason)
        return await running

    @override
    async def emit(self, key: str, event: RunEvent) -> float:
        if key not in self._emitted:
            self._emitted[key] = workflow.time()
            self._record(event)
        return self._emitted[key]

    @override
    async def complete(self, event: RunEvent, states: Mapping[str, StepState]) -> None:
        outputs: Any = event.get("outputs") or {}
        self.outcome = {
            "status": event["status"],
            "error": event.get("error"),
            "outputs": dict(outputs),
            "states": orjson.loads(self._end_states.encode(states)),
        }
        if self._arguments.group is not None:
            # Before anybody knows of the end: whoever does may start the next one at once.
            await self._tell(self._arguments.group, wire.LEAVE, self._arguments.run_id)
        shown = {**event, "outputs": events.bounded_outputs(outputs)} if outputs else event
        await self.emit("run:complete", shown)
        workflow.upsert_search_attributes([STATUS.value_set(str(event["status"]))])
        if self._arguments.told is not None:
            await self._tell(self._arguments.told, wire.LEAVE, self._arguments.run_id)

    def _record(self, event: RunEvent) -> None:
        """One event of the history with the run's event, and with what lists tell of the run."""
        self._seq += 1
        now = workflow.time()
        if event["type"] == "workflow_started":
            self._started_at = now
            if not self._arguments.is_admitted:
                workflow.upsert_search_attributes([STATUS.value_set("running")])
        about: wire.Json = {"seq": self._seq, "at": now, "started_at": self._started_at}
        if event["type"] == "workflow_complete":
            about |= {"status": event["status"], "error": event.get("error")}
        workflow.upsert_memo({wire.EVENT: dict(event), wire.NOW: about})

    def _task_queue(self) -> str | None:
        """The queue of the steps: the runner's, or None for the workflow's own."""
        runner = str(self._arguments.workflow.get("runner", "local"))
        return None if runner in OWN_RUNNERS else runner

    def _queue_of(self, spec: AttemptSpec) -> str | None:
        """The queue of an attempt; None is the workflow's own, where the servers are."""
        if spec.is_hidden:
            return None
        if spec.step.kind == "agent":
            # It waits for a server, and perhaps for runs that it starts: it must not hold the
            # room that their steps need.
            return workflow.info().task_queue + wire.AGENTS
        return self._queue

    def _schedule(self, spec: AttemptSpec) -> workflow.ActivityHandle[Any]:
        policy = spec.step.retry
        may_repeat = policy is None or policy.on_worker_lost
        return workflow.start_activity(
            wire.HIDDEN_ATTEMPT if spec.is_hidden else wire.ATTEMPT,
            wire.spec_to_json(spec),
            activity_id=spec.key,
            # A message about the run is the server's own affair, wherever the steps run.
            task_queue=self._queue_of(spec),
            start_to_close_timeout=LONGEST_ATTEMPT,
            heartbeat_timeout=timedelta(seconds=self._arguments.heartbeat_timeout_seconds),
            retry_policy=_LOST_WORKER if may_repeat else _ONCE,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

    async def _result_of(self, activity: asyncio.Future[Any]) -> AttemptResult:
        """The attempt's result; what the activity did not give is read as `history` reads it."""
        try:
            return wire.result_from_json(await activity)
        except ActivityError as error:
            cause = error.cause
            if isinstance(cause, CancelledError):
                return wire.cancelled_result(self._stopped_for or "")
            if isinstance(cause, ApplicationError) and cause.type != wire.WORKER_STOPPED:
                return wire.failed_result(cause.message)
            return wire.lost_result()

    def _note_stop(self, reason: str) -> None:
        """Write down once why attempts are ended: their own results do not know it."""
        if self._stopped_for != reason:
            self._stopped_for = reason
            workflow.upsert_memo({wire.STOPPED: reason})

    def _signal(self, signal: str) -> asyncio.Future[Mapping[str, object]]:
        return self._signals.setdefault(signal, asyncio.Future())

    async def _run_child(self, spec: ChildSpec, begun: asyncio.Future[None]) -> ChildResult:
        own = self._arguments
        definition, sha256 = wire.workflow_to_json(spec.workflow)
        arguments = wire.RunArguments(
            run_id=spec.run_id,
            owner=own.owner,
            workflow=definition,
            sha256=sha256,
            inputs=dict(spec.inputs),
            interpreter=own.interpreter,
            heartbeat_timeout_seconds=own.heartbeat_timeout_seconds,
            depth=own.depth,
            trace=own.trace,
            kept=states_to_json(spec.kept),
            parent_run_id=own.run_id,
        )
        try:
            handle = await workflow.start_child_workflow(
                wire.RUN,
                arguments.to_json(),
                id=spec.run_id,
                task_timeout=workflow.info().task_timeout,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                search_attributes=attributes_of(
                    own.owner, spec.workflow.name, "running", own.run_id
                ),
            )
            begun.set_result(None)
            outcome = await handle
        except WorkflowAlreadyStartedError:
            reason = f"the run id {spec.run_id} is taken by another run"
        except ChildWorkflowError as error:
            reason = f"the run {spec.run_id} was ended in Temporal: {error.cause or error}"
        else:
            # Its states stay with it: ours refer to the run.
            return ChildResult(outcome["status"], outcome["error"], outcome["outputs"], {})
        return ChildResult("failed", reason)

    async def _tell(self, workflow_id: str, signal: str, argument: str) -> None:
        try:
            await workflow.get_external_workflow_handle(workflow_id).signal(signal, argument)
        except ApplicationError:
            # It has ended by itself meanwhile.
            return
