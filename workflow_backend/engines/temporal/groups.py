"""Concurrency groups: one workflow for each, which lets its runs in one after another.

Guarantees: of the runs of a group one is under way; a run that joined is let in once, in order,
unless it ended before; a run that was ended from outside, or never began, holds nobody up for long;
the workflow ends when nobody is there, and its history stays short.

The engine joins for a run before it starts it; the run tells when it has ended. Only while others
wait is it looked up now and then whether the one under way still is.
"""

import asyncio
import hashlib
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from workflow_backend.engines.temporal import wire

Answer = Literal["admitted", "waiting", "refused"]
Liveness = Literal["open", "closed", "unknown"]

# How long a run may take from joining to its start.
UNBORN_SECONDS = 15.0
UNBORN_PAUSE_SECONDS = 1.0
CHECK_SECONDS = 10.0
MOST_EVENTS = 2_000


@dataclass(slots=True)
class GroupState:
    """Who is under way, who waits in which order, and when each joined (Unix seconds)."""

    name: str
    holder: str | None = None
    line: list[str] = field(default_factory=list)
    joined: dict[str, float] = field(default_factory=dict)


def group_id(owner: str, group: str) -> str:
    """The id of a group's workflow; no run can have it."""
    digest = hashlib.sha256(f"{owner}\0{group}".encode()).hexdigest()
    return f"group:{digest[:32]}"


@workflow.defn(name=wire.GROUP)
class GroupWorkflow:
    """One group: `run` with what `GroupState` holds."""

    @workflow.init
    def __init__(self, document: wire.Json) -> None:
        self._state = GroupState(**document)
        self._lock = asyncio.Lock()
        self._changed = False
        self._pause_seconds = CHECK_SECONDS

    @workflow.run
    async def run(self, document: wire.Json) -> None:
        """Until nobody is in the group."""
        while True:
            self._changed = False
            async with self._lock:
                await self._let_in()
            if not self._state.holder and not self._state.line and self._is_quiet:
                return
            if workflow.info().get_current_history_length() > MOST_EVENTS and self._is_quiet:
                workflow.continue_as_new(asdict(self._state))
            try:
                seconds = self._pause_seconds if self._state.line else None
                await workflow.wait_condition(lambda: self._changed, timeout=seconds)
            except TimeoutError:
                continue

    @workflow.update(name=wire.JOIN)
    async def join(self, run_id: str, policy: str) -> Answer:
        """Stand in line; whether the run may begin at once. Joining twice is joining once."""
        async with self._lock:
            state = self._state
            if run_id not in state.joined:
                await self._drop_dead()
                if policy == "refuse" and (state.holder or state.line):
                    return "refused"
                if policy == "cancel_running":
                    await self._cancel_others(run_id)
                state.joined[run_id] = workflow.time()
                state.line.append(run_id)
            if state.holder is None and state.line[:1] == [run_id]:
                state.holder = state.line.pop(0)
            self._changed = True
            return "admitted" if state.holder == run_id else "waiting"

    @workflow.signal(name=wire.LEAVE)
    def leave(self, run_id: str) -> None:
        """The run has ended."""
        self._drop(run_id)

    @property
    def _is_quiet(self) -> bool:
        return workflow.all_handlers_finished() and not self._changed

    async def _let_in(self) -> None:
        """Drop a holder that is gone, then let the next one in that is there."""
        self._pause_seconds = CHECK_SECONDS
        if self._state.line:
            await self._drop_dead()
        while self._state.holder is None and self._state.line:
            following = self._state.line.pop(0)
            self._state.holder = following
            if await self._liveness(following) == "open":
                await _tell(following, wire.ADMIT)
                return
            if not self._is_unborn(following):
                self._drop(following)
            else:
                self._state.line.insert(0, following)
                self._state.holder = None
                self._pause_seconds = UNBORN_PAUSE_SECONDS
                return

    async def _drop_dead(self) -> None:
        holder = self._state.holder
        if holder is None:
            return
        liveness = await self._liveness(holder)
        is_gone = liveness == "closed" or (liveness == "unknown" and not self._is_unborn(holder))
        if is_gone and self._state.holder == holder:
            self._drop(holder)

    def _drop(self, run_id: str) -> None:
        state = self._state
        state.joined.pop(run_id, None)
        if state.holder == run_id:
            state.holder = None
        if run_id in state.line:
            state.line.remove(run_id)
        self._changed = True

    def _is_unborn(self, run_id: str) -> bool:
        """Whether a run that is not known may still be about to begin."""
        return workflow.time() - self._state.joined.get(run_id, 0.0) < UNBORN_SECONDS

    async def _liveness(self, run_id: str) -> Liveness:
        liveness: Liveness = await workflow.execute_local_activity(
            wire.PROBE,
            run_id,
            schedule_to_close_timeout=timedelta(hours=1),
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
        )
        return liveness

    async def _cancel_others(self, run_id: str) -> None:
        reason = f"run {run_id} of the group `{self._state.name}` took its place"
        for other in (self._state.holder, *self._state.line):
            if other is not None:
                await _tell(other, wire.CANCEL, reason)


async def _tell(run_id: str, signal: str, *arguments: str) -> None:
    try:
        await workflow.get_external_workflow_handle(run_id).signal(signal, args=arguments)
    except ApplicationError:
        # It ended just now; that will be found.
        return
