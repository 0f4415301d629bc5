"""The workflow of a run, as Temporal's workers execute it.

Guarantees: it ends with a result whatever the interpreter comes to; a cancellation by signal or by
Temporal's own means ends the run in order; an execution that this program cannot continue is ended
with the reason.
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from workflow_backend import events
    from workflow_backend.engines.temporal import wire
    from workflow_backend.engines.temporal.runtime import TemporalRuntime
    from workflow_backend.interpreter import SUPPORTED_VERSIONS, interpret

_NATIVELY = "cancelled in Temporal"


@workflow.defn(name=wire.RUN, failure_exception_types=[workflow.NondeterminismError])
class RunWorkflow:
    """One run: `run` with `RunArguments`; its result is `TemporalRuntime.outcome`."""

    @workflow.init
    def __init__(self, document: wire.Json) -> None:
        self._arguments = wire.RunArguments.from_json(document)
        self._runtime = TemporalRuntime(self._arguments)
        self._admitted = self._arguments.is_admitted
        self._changed = asyncio.Event()

    @workflow.run
    async def run(self, document: wire.Json) -> wire.Json:
        """The whole run, whatever happens."""
        version = self._arguments.interpreter
        if version not in SUPPORTED_VERSIONS:
            raise ApplicationError(
                f"the run began with version {version} of the interpreter, which this program"
                f" (versions {min(SUPPORTED_VERSIONS)} to {max(SUPPORTED_VERSIONS)}) cannot"
                " continue; start it again",
                type=wire.CANNOT_CONTINUE,
            )
        interpreting = asyncio.create_task(self._interpret())
        while not interpreting.done():
            try:
                await workflow.wait([interpreting])
            except asyncio.CancelledError:
                self._cancel(workflow.cancellation_reason() or _NATIVELY)
        return interpreting.result()

    @workflow.signal(name=wire.CANCEL)
    def cancel(self, reason: str) -> None:
        """End the run."""
        self._cancel(reason)

    @workflow.signal(name=wire.ADMIT)
    def admit(self) -> None:
        """The run's turn in its group has come."""
        self._admitted = True
        self._changed.set()

    @workflow.update(name=wire.DELIVER)
    def deliver(self, key: str, payload: wire.Json) -> wire.Json:
        """Give the run what it waits for, or will wait for."""
        return self._runtime.deliver(key, payload)

    @workflow.query(name=wire.RESULT)
    def result(self) -> wire.Json | None:
        """What the run came to, once it has ended; it may still have messages to deliver."""
        return self._runtime.outcome

    def _cancel(self, reason: str) -> None:
        self._runtime.request_cancel(reason)
        self._changed.set()

    async def _interpret(self) -> wire.Json:
        arguments, runtime = self._arguments, self._runtime
        try:
            if not self._admitted:
                await self._changed.wait()
            await interpret(
                wire.workflow_from_json(arguments.workflow),
                arguments.inputs,
                runtime,
                run_id=arguments.run_id,
                owner=arguments.owner,
                depth=arguments.depth,
                trace=arguments.trace,
                kept=runtime.load(),
            )
        except Exception as error:
            if not workflow.in_workflow() or workflow.instance() is not self:
                # Nobody evicted this execution, and it is collected in the middle of another one.
                raise
            workflow.logger.exception("run %s failed inside the engine", arguments.run_id)
            if runtime.outcome is None:
                reason = f"the engine failed: {type(error).__name__}; see the server's log"
                name = str(arguments.workflow.get("name"))
                await runtime.complete(events.workflow_complete(name, "failed", reason, {}), {})
        if runtime.outcome is None:
            raise ApplicationError("the interpretation has no outcome", type="NoOutcome")
        return runtime.outcome
