"""Tools by which somebody gives a run what it waits for: decisions, signals, webhooks.

All are for the server in front alone: no model approves anything. Guarantees: what is approved is
the call that the run recorded when it asked, whatever the decision says besides; the first decision
stays, and a second one is answered by it; an approval that was not requested yet is not decided;
a host that shows its model all tools decides nothing.
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from mcp.server import MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field

from workflow_backend.backend import Backend
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.definition.plain_text import plain_text
from workflow_backend.definition.problems import Problem, closest, listed
from workflow_backend.definition.values import resolve_values
from workflow_backend.engines.base import RunEvent, RunFilter, Signalled
from workflow_backend.events import time_text
from workflow_backend.json_depth import MAX_DEPTH, is_too_deep
from workflow_backend.tools.calls import (
    FOR_SERVER,
    RunId,
    ToolContext,
    owner_of,
    served_owner_of,
)
from workflow_backend.tools.engine_runs import EngineRuns
from workflow_backend.tools.refusals import RefusalError, engine_refusals, with_problems
from workflow_backend.tools.results import ApprovalsResult, Decision, OpenApproval, SignalResult
from workflow_backend.tools.runs import open_approval
from workflow_backend.tools.waits import Question, instance_of, open_waits, read_waits

MAX_REASON_CHARACTERS = 2_000
MAX_PAYLOAD_CHARACTERS = 256 * 1024
MAX_LISTED_RUNS = 200
_DECIDES = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
)
_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

Place = Annotated[str, Field(description="The step, with its item: `deploy[0]`.", max_length=200)]
# As text: of a string that holds JSON the SDK would make what it holds.
PayloadText = Annotated[str, Field(description="The data, any value as JSON text.")]


def register_decision_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tools to the server."""
    _register_approvals(server, Approvals(backend))
    _register_signals(server, Signals(backend))


def _register_approvals(server: MCPServer, approvals: "Approvals") -> None:
    @server.tool(title="Decide an approval", annotations=_DECIDES, meta=FOR_SERVER)
    async def decide_approval(
        run_id: RunId,
        step: Place,
        approved: bool,
        by: Annotated[str, Field(description="Who decides.", max_length=200)],
        ctx: ToolContext,
        values: Annotated[
            dict[str, Any] | None, Field(description="Values of the form, by name.")
        ] = None,
        reason: Annotated[str, Field(max_length=MAX_REASON_CHARACTERS)] = "",
    ) -> Decision:
        """Decide an approval of a run (for the server: no model approves).

        The first decision stays; a second call answers what was decided.
        """
        return await approvals.decide(
            run_id, served_owner_of(ctx), step, approved, values or {}, plain_text(reason), by
        )

    @server.tool(title="List open approvals", annotations=_READS)
    async def list_approvals(
        ctx: ToolContext,
        run_id: Annotated[
            RunId | None, Field(description="Only those of this run and the runs inside it.")
        ] = None,
    ) -> ApprovalsResult:
        """List what runs ask people to decide; people decide, by `approve <approval_id>`."""
        return await approvals.listed(owner_of(ctx), run_id)


def _register_signals(server: MCPServer, signals: "Signals") -> None:
    @server.tool(title="Send a signal", annotations=_DECIDES, meta=FOR_SERVER)
    async def signal_run(
        run_id: RunId,
        name: Annotated[str, Field(description="Name of the signal.", max_length=200)],
        ctx: ToolContext,
        payload_json: PayloadText = "null",
    ) -> SignalResult:
        """Give a run a signal that it waits for, or will wait for; the first one stays."""
        return await signals.send(run_id, owner_of(ctx), name, _payload(payload_json))

    @server.tool(title="Deliver a webhook", annotations=_DECIDES, meta=FOR_SERVER)
    async def deliver_webhook(
        token: Annotated[str, Field(max_length=2_000)], payload_json: PayloadText = "null"
    ) -> SignalResult:
        """Give a run the webhook that it waits for; whoever has the token may."""
        return await signals.deliver(token, _payload(payload_json))


class Approvals:
    """The approvals of the runs of one engine."""

    def __init__(self, backend: Backend) -> None:
        self._engine = backend.engine
        self._runs = EngineRuns(backend)

    async def decide(
        self,
        run_id: str,
        owner: str,
        step: str,
        approved: bool,
        values: Mapping[str, object],
        reason: str,
        by: str,
    ) -> Decision:
        """Record a decision, or answer the one that is recorded.

        Raises:
            RefusalError: There is no such approval, it is not open, or the values do not fit.
        """
        run = await self._runs.get(run_id, owner)
        workflow = await self._runs.workflow(run_id, owner)
        definition = _approval_step(workflow, step)
        question = (await read_waits(self._engine, run_id, owner)).questions.get(step)
        if question is not None and question.decision is not None:
            return _decided(question, question.decision, run.parent_run_id)
        if question is None or question.is_over:
            raise _not_open(run_id, step, question, is_over=run.finished_at is not None)
        fitting = _fitting(definition, values) if approved else {}
        payload = {
            "approved": approved,
            "by": by,
            "values": fitting,
            "reason": reason,
            "time": time_text(time.time()),
        }
        with engine_refusals(run_id):
            signalled = await self._engine.signal(run_id, owner, f"approval:{step}", payload)
        return _recorded(question, signalled, run.last_seq, run.parent_run_id)

    async def listed(self, owner: str, run_id: str | None) -> ApprovalsResult:
        """The open approvals of a run, or of the newest runs that are under way.

        Raises:
            RefusalError: The owner has no such run.
        """
        if run_id is not None:
            run = await self._runs.get(run_id, owner)
            waits = await open_waits(self._engine, run.run_id, owner)
            return ApprovalsResult(approvals=[*map(open_approval, waits.questions)], is_whole=True)
        page = await self._engine.list(RunFilter(owner, status="running", limit=MAX_LISTED_RUNS))
        found: list[OpenApproval] = []
        for run in page.runs:
            waits = await open_waits(self._engine, run.run_id, owner)
            found += map(open_approval, waits.questions)
        return ApprovalsResult(approvals=found, is_whole=page.next_cursor is None)


class Signals:
    """The signals and webhooks of the runs of one engine."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._engine = backend.engine
        self._runs = EngineRuns(backend)

    async def send(self, run_id: str, owner: str, name: str, payload: object) -> SignalResult:
        """Record a signal, or answer that there is one.

        Raises:
            RefusalError: No step of the run waits for it, or the run has ended.
        """
        workflow = await self._runs.workflow(run_id, owner)
        names = sorted(_signal_names(workflow))
        if name not in names:
            meant = closest(name, names)
            hint = f"Did you mean {meant!r}?" if meant else f"Its signals: {listed(names)}."
            raise RefusalError(
                "signal_not_found",
                plain_text(f"No step of the run {run_id} waits for a signal {name!r}. {hint}"),
            )
        return await self._give(run_id, owner, f"signal:{name}", name, payload)

    async def deliver(self, token: str, payload: object) -> SignalResult:
        """Record the webhook of a token, or answer that there is one.

        Raises:
            RefusalError: The token is none, or the run waits for it no more.
        """
        target = self._backend.hooks.target(token)
        if target is None:
            raise _no_hook()
        key = f"webhook:{target.place}"
        try:
            return await self._give(target.run_id, target.owner, key, target.place, payload)
        except RefusalError as error:
            if error.code == "run_not_found":
                # Retention has forgotten it.
                raise _no_hook() from error
            raise

    async def _give(
        self, run_id: str, owner: str, key: str, name: str, payload: object
    ) -> SignalResult:
        with engine_refusals(run_id):
            signalled = await self._engine.signal(
                run_id, owner, key, {"payload": payload, "time": time_text(time.time())}
            )
        return SignalResult(
            run_id=run_id,
            name=name,
            is_first=signalled.is_first,
            time=str(signalled.payload.get("time")),
        )


def _payload(text: str) -> object:
    """The value of the text.

    Raises:
        RefusalError: It is too long, or no JSON.
    """
    problem = None
    if len(text) > MAX_PAYLOAD_CHARACTERS:
        size = f"{MAX_PAYLOAD_CHARACTERS // 1024} KiB"
        problem = Problem("payload", f"it is over {size}.", "Send where the data are.")
    else:
        try:
            value: object = orjson.loads(text)
        except ValueError as error:
            problem = Problem("payload", f"it is no JSON: {error}.", "Send JSON.")
        else:
            if not is_too_deep(value):
                return value
            problem = Problem("payload", f"it is nested over {MAX_DEPTH} levels.", "Flatten it.")
    raise with_problems("invalid_values", "The payload cannot be taken:", [problem])


def _approval_step(workflow: Workflow, place: str) -> Step:
    """The approval of the recorded definition that a place names."""
    name = instance_of(place).partition("[")[0]
    steps = {step.name: step for step in workflow.all_steps() if step.kind == "approval"}
    if name not in steps:
        meant = closest(name, steps)
        hint = f"Did you mean {meant!r}?" if meant else f"Its approvals: {listed(steps)}."
        message = f"The step {place!r} of this run is no approval. {hint}"
        raise RefusalError("approval_not_found", plain_text(message))
    return steps[name]


def _not_open(run_id: str, step: str, question: Question | None, *, is_over: bool) -> RefusalError:
    if question is None and not is_over:
        return RefusalError(
            "approval_not_open",
            f"The run {run_id} has not asked for the approval {step!r} yet: what is to be approved"
            " is not known before.",
        )
    if question is None:
        return RefusalError("run_ended", f"The run {run_id} has ended without asking for {step!r}.")
    return RefusalError(
        "approval_not_open",
        f"The approval {step!r} of the run {run_id} is over: nobody decided it in time, or the run"
        " was ended.",
    )


def _fitting(step: Step, values: Mapping[str, object]) -> dict[str, object]:
    form = step.approval.form if step.approval else {}
    fitting, problems = resolve_values(form, values, "values", "the form has no such value.")
    if problems:
        raise with_problems("invalid_values", "The values do not fit the form:", problems)
    return fitting


def _decided(question: Question, event: RunEvent, parent: str | None) -> Decision:
    """The decision that an event of the run tells."""
    return Decision(
        run_id=question.run_id,
        step=str(event["step"]),
        approved=event.get("approved") is True,
        by=str(event.get("by") or ""),
        reason=str(event.get("reason") or ""),
        time=str(event.get("time")),
        is_first=False,
        after_seq=int(str(event["seq"])) - 1,
        parent_run_id=parent,
    )


def _recorded(
    question: Question, signalled: Signalled, last_seq: int, parent: str | None
) -> Decision:
    payload = signalled.payload
    values = payload.get("values")
    return Decision(
        run_id=question.run_id,
        step=str(question.asked["step"]),
        approved=payload.get("approved") is True,
        by=str(payload.get("by") or ""),
        reason=str(payload.get("reason") or ""),
        values=dict(values) if isinstance(values, Mapping) else {},
        time=str(payload.get("time")),
        is_first=signalled.is_first,
        after_seq=last_seq,
        parent_run_id=parent,
    )


def _signal_names(workflow: Workflow) -> set[str]:
    waits = (step.wait for step in workflow.all_steps())
    return {wait.signal for wait in waits if wait is not None and wait.signal is not None}


def _no_hook() -> RefusalError:
    return RefusalError("hook_not_found", "There is no such webhook.")
