"""The answer to a decision: the server decides, says so, and shows what comes of it.

What this module promises: no model is asked and no tool of a model decides; who lacks the scope is
told so, and nothing is decided; the first decision stays; a reader that goes away, or a time that
is over, ends the answer and never the run.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from agent_server.approval_answers import ApprovalAnswer
from agent_server.event_channel import EventChannel
from agent_server.log_config import get_logger
from agent_server.mcp_servers import BACKEND
from agent_server.toolbox import AgentCaller, Toolbox
from agent_server.workflow_run import WorkflowRun
from mcp_bridge.results import ToolResult
from providers.code_blocks import fenced
from streaming.approval_words import decide_words
from streaming.errors import BridgeError
from streaming.events import Finished, JsonObject, JsonValue, TextDelta

# Runs may stand inside one another; as deep as workflows may call one another.
MAX_LEVELS = 6

log = get_logger()


@dataclass(slots=True)
class _Followed:
    """A run that is to be shown, from where it stood."""

    run_id: str
    after_seq: int


class DecidedAnswer:
    """One answer to decisions of one caller."""

    def __init__(
        self,
        answers: Sequence[ApprovalAnswer],
        caller: AgentCaller,
        toolbox: Toolbox,
        max_wall_seconds: float,
    ) -> None:
        self.caller = caller
        self._answers = answers
        self._toolbox = toolbox
        self._max_wall_seconds = max_wall_seconds

    async def drive(self, channel: EventChannel) -> None:
        """Put the whole answer into the channel and end it; raises what ended it early."""
        try:
            try:
                async with asyncio.timeout(self._max_wall_seconds) as wall:
                    await self._answer(channel)
            except TimeoutError:
                if not wall.expired():
                    raise
                await channel.put(TextDelta("\nThe answer ends here; the run goes on by itself.\n"))
            await channel.put(Finished("stop"))
        except Exception:
            await channel.end()
            raise
        await channel.end()

    async def _answer(self, channel: EventChannel) -> None:
        if refusal := self._refusal():
            await channel.put(TextDelta(f"Nothing was decided. {refusal}\n"))
            return
        chains: dict[str, list[_Followed]] = {}
        for answer in self._answers:
            text, chain = await self._decide(answer)
            await channel.put(TextDelta(f"{text}\n"))
            if chain and chain[0].run_id not in chains:
                chains[chain[0].run_id] = chain
        for chain in chains.values():
            await channel.put(TextDelta(await self._follow(chain, channel)))

    def _refusal(self) -> str:
        if self.caller.may_not_approve:
            return self.caller.may_not_approve
        if self._toolbox.workflow_mode == "plan" and any(one.approved for one in self._answers):
            return (
                "This server plans workflows and does not execute them: "
                "AGENT_SERVER_WORKFLOW_MODE is plan."
            )
        return ""

    async def _decide(self, answer: ApprovalAnswer) -> tuple[str, list[_Followed]]:
        """What became of a decision, and the runs to follow: its own, then those around it."""
        chain = await self._chain(answer.run_id)
        result = await self._call(
            "decide_approval",
            {
                "run_id": answer.run_id,
                "step": answer.step,
                "approved": answer.approved,
                "by": self.caller.name,
                "reason": answer.reason,
            },
        )
        decided = result.structured or {}
        if result.is_error:
            return f"Nothing was decided of `{answer.approval_id}`: {_refused(decided)}", []
        if chain:
            # So that the event of the decision is shown, also of one that was taken before.
            after_seq = decided.get("after_seq")
            chain[0].after_seq = after_seq if isinstance(after_seq, int) else 0
        log.info("Approval decided", approval=answer.approval_id, first=decided.get("is_first"))
        return _decided(answer.approval_id, decided), chain

    async def _chain(self, run_id: str) -> list[_Followed]:
        """The run and those around it, each from where it stands now."""
        chain: list[_Followed] = []
        wanted: JsonValue = run_id
        while isinstance(wanted, str) and len(chain) < MAX_LEVELS:
            result = await self._call("get_run", {"run_id": wanted})
            state = result.structured or {}
            if result.is_error:
                break
            last_seq = state.get("last_seq")
            chain.append(_Followed(wanted, last_seq if isinstance(last_seq, int) else 0))
            wanted = state.get("parent_run_id")
        return chain

    async def _follow(self, chain: Sequence[_Followed], channel: EventChannel) -> str:
        """Show the run until it ends or asks again, then the one around it; what that came to."""
        text = ""
        for followed in chain:
            run = WorkflowRun(
                self._toolbox.bridge,
                BACKEND,
                followed.run_id,
                self.caller.owner,
                resume_seconds=self._toolbox.resume_seconds,
                trace=self.caller.trace,
                after_seq=followed.after_seq,
            )
            try:
                result = await run.follow(channel.put, until_rest=True)
            except BridgeError as exc:
                log.warning("Run lost from sight", run_id=followed.run_id, error=exc.message)
                return f"\nThe run `{followed.run_id}` goes on when the backend is back.\n"
            state = result.structured or {}
            if result.is_error:
                return f"\n{_refused(state)}\n"
            text = _stands(state)
            if state.get("is_waiting") is True:
                return text
        return text

    async def _call(self, tool: str, arguments: JsonObject) -> ToolResult:
        return await self._toolbox.bridge.call_server(
            BACKEND, tool, arguments, owner=self.caller.owner, trace=self.caller.trace
        )


def _refused(refusal: JsonObject) -> str:
    return str(refusal.get("message") or "the workflow backend failed; the log tells why.")


def _decided(approval_id: str, decision: JsonObject) -> str:
    word = "approved" if decision.get("approved") is True else "rejected"
    reason = f": {decision['reason']}" if decision.get("reason") else ""
    if decision.get("is_first") is True:
        return f"`{approval_id}` is {word}{reason}."
    return f"`{approval_id}` had been {word} by {decision.get('by')} already{reason}."


def _stands(run: JsonObject) -> str:
    """What a run has come to: its end, or what it waits for."""
    name = f"The workflow `{run.get('workflow')}` (run `{run.get('run_id')}`)"
    if run.get("is_waiting") is True:
        return f"\n{name} waits:\n\n{waits_words(run)}\n"
    parts = [f"\n{name} ended with **{run.get('status')}**."]
    if run.get("error"):
        parts.append(f"Error: {run['error']}")
    if run.get("outputs"):
        outputs = json.dumps(run["outputs"], indent=2, ensure_ascii=False)
        parts.append(f"Outputs:\n\n{fenced(outputs, 'json')}")
    return "\n\n".join(parts) + "\n"


def waits_words(run: JsonObject) -> str:
    """What a run waits for, a line each, and how to give it."""
    approvals, waits = run.get("approvals"), run.get("waits")
    lines = [
        f"- {' '.join(str(approval.get('message')).split())} To decide, "
        f"{decide_words(str(approval.get('approval_id')))}."
        for approval in (approvals if isinstance(approvals, list) else [])
        if isinstance(approval, dict)
    ]
    for wait in waits if isinstance(waits, list) else []:
        if isinstance(wait, dict):
            kind = f"the signal `{wait['signal']}`" if wait.get("signal") else "its webhook"
            lines.append(f"- The step `{wait.get('step')}` waits for {kind}.")
    return "\n".join(lines)
