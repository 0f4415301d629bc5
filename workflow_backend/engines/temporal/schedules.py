"""Schedules of the Temporal engine: kept and fired by the cluster.

Guarantees: times pass whether a server runs or not, and what they begin waits for one; each time
begins one run. A schedule's id is made of its owner and name, so that an owner finds only his own.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionResult,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode
from typing_extensions import override

from workflow_backend.definition.durations import parse_duration
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.calendars import CalendarError, calendars_of
from workflow_backend.engines.temporal.link import Link
from workflow_backend.engines.temporal.options import TemporalSettings
from workflow_backend.engines.temporal.schedule_document import (
    ScheduleDocument,
    ScheduleTooLargeError,
)
from workflow_backend.engines.temporal.search_attributes import OWNER, attribute_text
from workflow_backend.schedules.base import (
    MAX_SCHEDULES,
    Firing,
    FiringState,
    Registered,
    ScheduleNotFoundError,
    Schedules,
    ScheduleUnfitError,
    TooManySchedulesError,
    new_mark,
    run_id_of,
)
from workflow_backend.schedules.rows import GRACE_SECONDS, SHOWN_TIMES

TRIGGER_SECONDS = 15.0
WAITS_AFTER_SECONDS = 3.0
POLL_SECONDS = 0.1
# How many are asked for at a time.
CALLS = 10

_STATES: Mapping[str, FiringState] = {"started": "started", "refused": "refused"}
_OVERLAPS = {
    "skip": ScheduleOverlapPolicy.SKIP,
    "queue": ScheduleOverlapPolicy.BUFFER_ONE,
    "cancel_running": ScheduleOverlapPolicy.CANCEL_OTHER,
    "allow": ScheduleOverlapPolicy.ALLOW_ALL,
}


class TemporalSchedules(Schedules):
    """The schedules of one namespace whose runs begin on one task queue."""

    def __init__(self, link: Link, settings: TemporalSettings) -> None:
        self._link = link
        self._settings = settings
        self._timeout = link.call_timeout

    @override
    async def open(self) -> None:
        """Nothing to do: the cluster keeps the time."""

    @override
    async def close(self) -> None:
        """Nothing to do: what is due waits for the next server."""

    @override
    async def put(
        self, owner: str, name: str, workflow: Workflow, inputs: Mapping[str, object]
    ) -> tuple[Registered, bool]:
        client = await self._link.client()
        handle = client.get_schedule_handle(schedule_id(owner, name))
        try:
            described = await self._describe(handle)
        except ScheduleNotFoundError:
            await self._create(client, ScheduleDocument(owner, name, new_mark(), workflow, inputs))
            return await self.get(owner, name), True
        found = await ScheduleDocument.of(client, described)
        document = ScheduleDocument(owner, name, found.mark, workflow, inputs)
        schedule = self._schedule(document, described.schedule.state)
        await self._link.call(
            handle.update(lambda _: ScheduleUpdate(schedule), rpc_timeout=self._timeout)
        )
        return await self.get(owner, name), False

    @override
    async def list(self, owner: str) -> Sequence[Registered]:
        client = await self._link.client()
        gate = asyncio.Semaphore(CALLS)

        async def one(handle: ScheduleHandle) -> Registered | None:
            async with gate:
                # It may have been deleted since it was listed.
                with suppress(ScheduleNotFoundError):
                    described = await self._describe(handle)
                    return self._registered(await ScheduleDocument.of(client, described), described)
            return None

        ids = await self._ids(client, owner)
        found = await asyncio.gather(*(one(client.get_schedule_handle(each)) for each in ids))
        return sorted(filter(None, found), key=lambda each: each.name)

    @override
    async def get(self, owner: str, name: str) -> Registered:
        client = await self._link.client()
        described = await self._describe(client.get_schedule_handle(schedule_id(owner, name)))
        document = await ScheduleDocument.of(client, described)
        recent = reversed(described.info.recent_actions)
        firings = [await self._firing(client, document, action) for action in recent]
        return self._registered(document, described, firings)

    @override
    async def pause(self, owner: str, name: str, *, is_paused: bool) -> Registered:
        client = await self._link.client()
        handle = client.get_schedule_handle(schedule_id(owner, name))
        await self._describe(handle)
        change = handle.pause if is_paused else handle.unpause
        await self._link.call(change(rpc_timeout=self._timeout))
        return await self.get(owner, name)

    @override
    async def trigger(self, owner: str, name: str) -> Firing:
        """Fire now; the answer is `due` if the run could not begin within a bounded time."""
        client = await self._link.client()
        handle = client.get_schedule_handle(schedule_id(owner, name))
        before = await self._describe(handle)
        document = await ScheduleDocument.of(client, before)
        await self._link.call(handle.trigger(rpc_timeout=self._timeout))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        firing = Firing(0, "", "due", is_manual=True)
        while loop.time() - begun < TRIGGER_SECONDS:
            now = await self._describe(handle)
            running = [_workflow_id(action) for action in now.info.running_actions]
            if now.info.num_actions > before.info.num_actions and now.info.recent_actions:
                firing = await self._firing(client, document, now.info.recent_actions[-1])
                if firing.state != "due":
                    return firing
            elif now.info.num_actions_skipped_overlap > before.info.num_actions_skipped_overlap:
                note = "a run of the schedule was under way"
                return Firing(0, "", "skipped", is_manual=True, note=note)
            elif running and loop.time() - begun > WAITS_AFTER_SECONDS:
                note = "for the end of the run that is under way"
                return Firing(0, "", "waiting", is_manual=True, note=note)
            await asyncio.sleep(POLL_SECONDS)
        return firing

    @override
    async def delete(self, owner: str, name: str) -> None:
        client = await self._link.client()
        handle = client.get_schedule_handle(schedule_id(owner, name))
        try:
            await self._link.call(handle.delete(rpc_timeout=self._timeout))
        except RPCError as error:
            raise _explained(error) from error

    async def _create(self, client: Client, document: ScheduleDocument) -> None:
        if len(await self._ids(client, document.owner)) >= MAX_SCHEDULES:
            raise TooManySchedulesError(f"{MAX_SCHEDULES} schedules are the most; delete one first")
        attributes = [SearchAttributePair(OWNER, attribute_text(document.owner))]
        making = client.create_schedule(
            schedule_id(document.owner, document.name),
            self._schedule(document, ScheduleState()),
            search_attributes=TypedSearchAttributes(attributes),
            rpc_timeout=self._timeout,
        )
        # Of two that register one name at once the first stays; nobody was answered before.
        with suppress(ScheduleAlreadyRunningError):
            await self._link.call(making)

    def _schedule(self, document: ScheduleDocument, state: ScheduleState) -> Schedule:
        """What the cluster keeps.

        Raises:
            ScheduleUnfitError: Temporal has no counterpart for it.
        """
        given = document.workflow.schedule
        if given is None:
            raise ValueError("the workflow has no schedule")
        identity = schedule_id(document.owner, document.name)
        catch_up = parse_duration(given.catch_up) if given.catch_up else 0.0
        try:
            calendars, memo = calendars_of(given.cron), document.to_memo()
        except (CalendarError, ScheduleTooLargeError) as error:
            raise ScheduleUnfitError(str(error)) from error
        return Schedule(
            action=ScheduleActionStartWorkflow(
                wire.FIRING,
                identity,
                id=f"firing:{identity}",
                task_queue=self._settings.task_queue,
                memo=memo,
            ),
            spec=ScheduleSpec(calendars=calendars, time_zone_name=given.timezone),
            policy=SchedulePolicy(
                overlap=_OVERLAPS[given.overlap],
                catchup_window=timedelta(seconds=max(GRACE_SECONDS, catch_up)),
            ),
            state=state,
        )

    async def _ids(self, client: Client, owner: str) -> tuple[str, ...]:
        query = f"{OWNER.name} = '{attribute_text(owner)}'"
        with self._link.explained():
            listing = await client.list_schedules(query, rpc_timeout=self._timeout)
            return tuple([listed.id async for listed in listing])

    async def _describe(self, handle: ScheduleHandle) -> ScheduleDescription:
        try:
            return await self._link.call(handle.describe(rpc_timeout=self._timeout))
        except RPCError as error:
            raise _explained(error) from error

    async def _firing(
        self, client: Client, document: ScheduleDocument, action: ScheduleActionResult
    ) -> Firing:
        """What became of a time, as its workflow says."""
        at = int(action.scheduled_at.timestamp())
        is_manual = not document.plans(at)
        fired: Mapping[str, object] = {}
        handle = client.get_workflow_handle(_workflow_id(action.action))
        with suppress(RPCError):
            described = await self._link.call(handle.describe(rpc_timeout=self._timeout))
            fired = await described.memo_value(wire.FIRED, {})
        planned = run_id_of(document.name, document.mark, at, is_manual=is_manual)
        return Firing(
            at,
            str(fired.get("run_id") or planned),
            _STATES.get(str(fired.get("state")), "due"),
            is_manual=is_manual,
            note=str(fired.get("note", "")),
        )

    def _registered(
        self,
        document: ScheduleDocument,
        described: ScheduleDescription,
        firings: Sequence[Firing] = (),
    ) -> Registered:
        info, state = described.info, described.schedule.state
        upcoming = [int(at.timestamp()) for at in info.next_action_times[:SHOWN_TIMES]]
        if state.paused:
            upcoming = []
        last = next((firing for firing in firings if firing.state != "due"), None)
        is_refused = last is not None and last.state == "refused"
        return Registered(
            owner=document.owner,
            name=document.name,
            mark=document.mark,
            workflow=document.workflow,
            inputs=document.inputs,
            created_at=int(info.created_at.timestamp()),
            is_paused=state.paused,
            next_at=upcoming[0] if upcoming else None,
            upcoming=tuple(upcoming),
            missed=info.num_actions_missed_catchup_window,
            last_error=last.note if last and is_refused else None,
            last_error_at=last.at if last and is_refused else None,
            firings=tuple(firings),
        )


def schedule_id(owner: str, name: str) -> str:
    """The id of an owner's schedule."""
    digest = hashlib.sha256(f"{owner}\0{name}".encode()).hexdigest()
    return f"schedule-{digest[:32]}"


def _workflow_id(action: object) -> str:
    return action.workflow_id if isinstance(action, ScheduleActionExecutionStartWorkflow) else ""


def _explained(error: RPCError) -> Exception:
    if error.status is RPCStatusCode.NOT_FOUND:
        return ScheduleNotFoundError("there is no such schedule")
    return error
