"""Tools that register schedules and let them go (for the server).

What a schedule begins goes on without anybody: no model has these tools, and a host whose model
sees every tool is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from mcp.server import MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field

from workflow_backend.backend import Backend
from workflow_backend.engines.base import EngineBusyError, EngineUnavailableError
from workflow_backend.schedules.base import (
    NAME,
    ScheduleNotFoundError,
    Schedules,
    ScheduleUnfitError,
    TooManySchedulesError,
    name_of,
)
from workflow_backend.tools.calls import (
    FOR_SERVER,
    Inputs,
    ToolContext,
    WorkflowText,
    owner_of,
    served_owner_of,
)
from workflow_backend.tools.definition_tools import valid_workflow
from workflow_backend.tools.engine_runs import EngineRuns
from workflow_backend.tools.refusals import RefusalError
from workflow_backend.tools.schedule_results import (
    DeletedSchedule,
    FiringItem,
    RegisteredSchedule,
    ScheduleItem,
    SchedulePage,
    ScheduleResult,
    registered,
    schedule_item,
    schedule_result,
)

_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_CHANGES = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
)
_RUNS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
)

Name = Annotated[str, Field(description="Name of the schedule.", max_length=200)]


def register_schedule_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tools to the server."""
    _register_put(server, backend)
    _register_reading(server, backend)
    _register_changes(server, backend)


def _register_put(server: MCPServer, backend: Backend) -> None:
    runs = EngineRuns(backend)

    @server.tool(title="Register a schedule", annotations=_CHANGES, meta=FOR_SERVER)
    async def create_schedule(
        workflow: WorkflowText,
        ctx: ToolContext,
        inputs: Inputs = None,
        name: Name | None = None,
    ) -> RegisteredSchedule:
        """Register a workflow to begin at the times of its `schedule`, with these inputs.

        A schedule of the name gets this workflow and these inputs, and keeps its past.
        """
        owner = served_owner_of(ctx)
        checked = valid_workflow(workflow, backend)
        if checked.schedule is None:
            raise RefusalError(
                "no_schedule",
                "The workflow says nothing of when it runs: give it a `schedule`, such as"
                ' `schedule: {cron: "0 6 * * *", timezone: Europe/Berlin}`.',
            )
        chosen = name or name_of(checked.name)
        if not NAME.fullmatch(chosen):
            raise RefusalError(
                "invalid_name",
                "The name of a schedule is 1 to 64 letters, digits, `_`, `.` and `-`.",
            )
        runs.runnable(checked, inputs or {}, owner)
        with _refusals(chosen):
            found, is_new = await _schedules(backend).put(owner, chosen, checked, inputs or {})
        return registered(found, is_new=is_new)


def _register_reading(server: MCPServer, backend: Backend) -> None:
    @server.tool(title="List schedules", annotations=_READS, meta=FOR_SERVER)
    async def list_schedules(ctx: ToolContext) -> SchedulePage:
        """List the schedules by name."""
        with _refusals(""):
            found = await _schedules(backend).list(owner_of(ctx))
        return SchedulePage(schedules=[schedule_item(each) for each in found])

    @server.tool(title="Show a schedule", annotations=_READS, meta=FOR_SERVER)
    async def get_schedule(name: Name, ctx: ToolContext) -> ScheduleResult:
        """Give one schedule with its workflow and its newest firings."""
        with _refusals(name):
            return schedule_result(await _schedules(backend).get(owner_of(ctx), name))


def _register_changes(server: MCPServer, backend: Backend) -> None:
    @server.tool(title="Pause a schedule", annotations=_CHANGES, meta=FOR_SERVER)
    async def pause_schedule(name: Name, ctx: ToolContext) -> ScheduleItem:
        """Pause a schedule: its times are left out until it goes on."""
        owner = served_owner_of(ctx)
        with _refusals(name):
            found = await _schedules(backend).pause(owner, name, is_paused=True)
        return schedule_item(found)

    @server.tool(title="Let a schedule go on", annotations=_CHANGES, meta=FOR_SERVER)
    async def resume_schedule(name: Name, ctx: ToolContext) -> ScheduleItem:
        """Let a paused schedule go on, with its next time."""
        owner = served_owner_of(ctx)
        with _refusals(name):
            found = await _schedules(backend).pause(owner, name, is_paused=False)
        return schedule_item(found)

    @server.tool(title="Fire a schedule now", annotations=_RUNS, meta=FOR_SERVER)
    async def trigger_schedule(name: Name, ctx: ToolContext) -> FiringItem:
        """Begin a run of the schedule now, under its overlap policy, also while it is paused."""
        owner = served_owner_of(ctx)
        with _refusals(name):
            firing = await _schedules(backend).trigger(owner, name)
        if firing.state == "skipped":
            raise RefusalError("schedule_overlap", f"No run has begun: {firing.note}.")
        if firing.state == "refused":
            raise RefusalError("workflow_blocked", firing.note)
        return FiringItem.of(firing)

    @server.tool(title="Delete a schedule", annotations=_CHANGES, meta=FOR_SERVER)
    async def delete_schedule(name: Name, ctx: ToolContext) -> DeletedSchedule:
        """Forget a schedule; runs that it began go on."""
        owner = served_owner_of(ctx)
        with _refusals(name):
            await _schedules(backend).delete(owner, name)
        return DeletedSchedule(name=name)


def _schedules(backend: Backend) -> Schedules:
    if backend.schedules is None:
        raise RefusalError("engine_unavailable", "This server keeps no schedules.")
    return backend.schedules


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """What keeping schedules refuses, said in the words of the tools."""
    try:
        yield
    except ScheduleNotFoundError as error:
        message = f"There is no schedule {name!r}; the list of schedules gives the names."
        raise RefusalError("schedule_not_found", message) from error
    except ScheduleUnfitError as error:
        raise RefusalError(
            "no_schedule", f"This engine cannot keep the schedule: {error}."
        ) from error
    except TooManySchedulesError as error:
        raise RefusalError("too_many_schedules", f"No further schedule: {error}.") from error
    except (EngineBusyError, EngineUnavailableError) as error:
        message = f"Schedules cannot be reached now: {error}."
        raise RefusalError("engine_unavailable", message) from error
