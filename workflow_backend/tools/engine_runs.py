"""The engine as the tools use it; its errors become refusals that a caller can read.

Guarantees: a run belongs to the owner that started it, and for anybody else it does not exist;
events are reported in order, each once; a call that is cut off because the server ends cancels
no run.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import anyio

from workflow_backend.backend import Backend
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.plain_text import plain_json, plain_text
from workflow_backend.definition.problems import Problem
from workflow_backend.definition.values import resolve_inputs
from workflow_backend.engines.base import (
    Run,
    RunEvent,
    RunFilter,
    RunNotFoundError,
    RunOptions,
)
from workflow_backend.rendering import ExpressionError
from workflow_backend.run_options import options_of
from workflow_backend.tools.calls import ToolContext, checked_run_id, wants_events
from workflow_backend.tools.progress import sentence
from workflow_backend.tools.refusals import RefusalError, engine_refusals, with_problems
from workflow_backend.tools.results import RunPage, RunResult
from workflow_backend.tools.runs import run_result, run_summary
from workflow_backend.tools.waits import OpenWaits, may_wait, open_waits

MAX_EVENT_TEXT = 12_000
CANCEL_SECONDS = 10.0
# How long a run must have been silent before it may count as at rest: the next step begins within
# milliseconds. Runs inside it have feeds of their own, so they are looked at again and again.
REST_SECONDS = 0.5
CHILD_SECONDS = 2.0
_UNFINISHED = frozenset({"queued", "running"})


class EngineRuns:
    """The runs of the backend's engine."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._engine = backend.engine

    async def start(
        self,
        workflow: Workflow,
        inputs: Mapping[str, object] | None,
        run_id: str | None,
        owner: str,
        options: RunOptions | None = None,
    ) -> tuple[Run, bool]:
        """Check, plan and begin a run; whether it is new.

        Raises:
            RefusalError: It cannot run as it is; the message says what to mend.
        """
        chosen = run_id or str(uuid.uuid4())
        values, filled = await self.prepared(workflow, inputs or {}, chosen, owner, options)
        earlier = None if run_id is None else await self._earlier(chosen, owner)
        if earlier is not None and dict(earlier.inputs) != values:
            raise RefusalError(
                "run_conflict",
                f"The run {chosen} was started with other inputs; choose another run id.",
            )
        with engine_refusals(chosen):
            return await self._engine.start(chosen, workflow, values, owner, filled), not earlier

    async def prepared(
        self,
        workflow: Workflow,
        inputs: Mapping[str, object],
        run_id: str,
        owner: str,
        options: RunOptions | None = None,
    ) -> tuple[dict[str, object], RunOptions]:
        """The values of all inputs, and all options, of a run that can begin.

        Raises:
            RefusalError: It cannot run as it is; the message says what to mend.
        """
        await self._backend.know_runner(workflow.runner)
        values = self.runnable(workflow, inputs, owner)
        try:
            return values, options_of(workflow, values, run_id, options)
        except ExpressionError as error:
            problem = Problem("concurrency.group", str(error), "Mend the expression.")
            raise with_problems("invalid_inputs", "The run has no group:", [problem]) from error

    async def report_events(
        self,
        run_id: str,
        owner: str,
        after_seq: int,
        ctx: ToolContext,
        *,
        until_rest: bool = False,
    ) -> None:
        """Report each event after `after_seq` as progress, until the run has ended.

        With `until_rest` also until nothing of it goes on before somebody decides something.
        """
        show = _Reporter(self._backend, ctx, owner)
        can_rest = until_rest and may_wait(await self._engine.workflow(run_id, owner))
        async with aclosing(self._engine.events(run_id, owner, after_seq)) as events:
            if can_rest:
                await self._report_until_rest(events, show, run_id, owner)
                return
            async for event in events:
                await show(event)

    async def _report_until_rest(
        self,
        events: AsyncGenerator[RunEvent, None],
        show: "_Reporter",
        run_id: str,
        owner: str,
    ) -> None:
        coming = asyncio.create_task(_next(events))
        silence: float | None = REST_SECONDS
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=silence)
                if done:
                    event = coming.result()
                    if event is None:
                        return
                    await show(event)
                    coming, silence = asyncio.create_task(_next(events)), REST_SECONDS
                    continue
                waits = await open_waits(self._engine, run_id, owner)
                if waits.is_at_rest:
                    return
                # Without runs inside it, nothing changes but by an event of its own.
                silence = CHILD_SECONDS if waits.has_inner else None
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def get(self, run_id: str, owner: str) -> Run:
        """The run.

        Raises:
            RefusalError: The owner has no such run.
        """
        with engine_refusals(run_id):
            return await self._engine.get(checked_run_id(run_id), owner)

    async def workflow(self, run_id: str, owner: str) -> Workflow:
        """The definition that the run was started with.

        Raises:
            RefusalError: The owner has no such run.
        """
        with engine_refusals(run_id):
            return await self._engine.workflow(checked_run_id(run_id), owner)

    async def result(self, run_id: str, owner: str) -> RunResult:
        """The run as it is shown, with what it waits for.

        Raises:
            RefusalError: The owner has no such run.
        """
        run = await self.get(run_id, owner)
        is_waiting = run.status in _UNFINISHED
        waits = await open_waits(self._engine, run_id, owner) if is_waiting else OpenWaits()
        return run_result(run, waits)

    async def page(self, run_filter: RunFilter, cursor: str | None) -> RunPage:
        """Runs of the owner.

        Raises:
            RefusalError: The cursor is none of ours.
        """
        try:
            page = await self._engine.list(run_filter, cursor)
        except ValueError as error:
            message = "The cursor is not valid; begin without one."
            raise RefusalError("invalid_cursor", message) from error
        return RunPage(runs=[run_summary(run) for run in page.runs], next_cursor=page.next_cursor)

    async def cancel(self, run_id: str, owner: str, reason: str) -> Run:
        """The run after the cancel was asked for.

        Raises:
            RefusalError: The owner has no such run.
        """
        with engine_refusals(run_id):
            return await self._engine.cancel(checked_run_id(run_id), owner, plain_text(reason))

    async def cancel_with_call(self, run_id: str, owner: str) -> None:
        """Cancel the run of a call that was cancelled, but for one that waits for somebody.

        Nothing is cancelled when it is the server that ends.
        """
        if self._backend.is_closing:
            return
        with anyio.move_on_after(CANCEL_SECONDS, shield=True):
            waits = await open_waits(self._engine, run_id, owner)
            if not waits.questions and not waits.waits:
                await self._engine.cancel(run_id, owner, "the call that ran it was cancelled")

    def runnable(
        self, workflow: Workflow, inputs: Mapping[str, object], owner: str
    ) -> dict[str, object]:
        """The values of all inputs of a workflow that can run.

        Raises:
            RefusalError: It cannot; the message says what to mend.
        """
        values, problems = resolve_inputs(workflow, inputs)
        if problems:
            raise with_problems("invalid_inputs", "The workflow cannot run yet:", problems)
        planned = self._backend.plan(workflow, inputs, owner)
        if not planned.can_run:
            blockers = "\n".join(f"- {blocker}" for blocker in planned.blockers)
            message = plain_text(f"The workflow cannot run yet:\n{blockers}")
            raise RefusalError("workflow_blocked", message)
        return values

    async def _earlier(self, run_id: str, owner: str) -> Run | None:
        try:
            return await self._engine.get(run_id, owner)
        except RunNotFoundError:
            return None


class _Reporter:
    """Reports events as progress: JSON for our own server, sentences for other hosts."""

    def __init__(self, backend: Backend, ctx: ToolContext, owner: str) -> None:
        self._backend = backend
        self._ctx = ctx
        self._owner = owner
        self._as_json = wants_events(ctx)

    async def __call__(self, event: RunEvent) -> None:
        event = self._backend.hooks.shown(event, self._owner)
        shown = plain_json(event, MAX_EVENT_TEXT)
        message = json.dumps(shown, ensure_ascii=False) if self._as_json else sentence(event)
        await self._ctx.report_progress(float(str(event["seq"])), None, message)


async def _next(events: AsyncGenerator[RunEvent, None]) -> RunEvent | None:
    return await anext(events, None)
