"""`/v1/workflows/schedules`: the workflows of the caller that begin by themselves.

What begins runs needs the scope `run`, as starting one does; a run token, which is good for one
call, registers nothing that outlives it. Those of another owner are listed and deleted by the scope
`admin`, so that nothing fires that nobody can end.
"""

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_server.answers import JsonResponse
from agent_server.guard import RUN_OWNER_PATH
from agent_server.requests.run_bodies import read_schedule
from agent_server.routes.backend_calls import bridge_of, call_backend, call_for
from agent_server.routes.run_commands import require_execution_mode
from agent_server.services import caller_of
from streaming.errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from streaming.events import JsonObject

MAX_NAME_CHARACTERS: Final = 64
_OWNER: Final = re.compile(r"[\x21-\x7e]{1,200}")


async def run_owner(_: Request) -> Response:
    """That the owner of a run token may begin runs; the guard has looked."""
    return JsonResponse({"object": "workflow.run_owner", "may_run": True})


async def list_schedules(request: Request) -> Response:
    """The schedules by name: the caller's, or for administrators those of `owner`."""
    owner = _other_owner(request)
    if owner is None:
        caller_of(request).require("chat")
        owner = caller_of(request).owner
    found = await call_for(bridge_of(request), "list_schedules", {}, owner)
    return JsonResponse({"object": "list", "data": found.get("schedules", []), "has_more": False})


async def create_schedule(request: Request) -> Response:
    """Register a schedule: 201, or 200 for one whose workflow and inputs were changed."""
    _require(request)
    arguments = read_schedule(await request.body())
    made = await call_backend(request, "create_schedule", arguments)
    is_new = made.pop("is_new", True)
    headers = {"location": f"/v1/workflows/schedules/{made['name']}"}
    return JsonResponse(_object(made), 201 if is_new else 200, headers)


async def get_schedule(request: Request) -> Response:
    """One schedule with its workflow and its newest firings."""
    caller_of(request).require("chat")
    return JsonResponse(_object(await call_backend(request, "get_schedule", _named(request))))


async def delete_schedule(request: Request) -> Response:
    """Forget a schedule, for administrators one of `owner`; runs that it began go on."""
    owner = _other_owner(request)
    if owner is None:
        _require(request)
        owner = caller_of(request).owner
    deleted = await call_for(bridge_of(request), "delete_schedule", _named(request), owner)
    return JsonResponse(_object(deleted))


async def pause_schedule(request: Request) -> Response:
    """Leave the schedule's times out until it goes on."""
    _require(request)
    return JsonResponse(_object(await call_backend(request, "pause_schedule", _named(request))))


async def resume_schedule(request: Request) -> Response:
    """Let a paused schedule go on."""
    _require(request)
    return JsonResponse(_object(await call_backend(request, "resume_schedule", _named(request))))


async def trigger_schedule(request: Request) -> Response:
    """Begin a run of the schedule now, under its overlap policy: 201 with what became of it."""
    _require(request)
    fired = await call_backend(request, "trigger_schedule", _named(request))
    headers = {"location": f"/v1/workflows/runs/{fired['run_id']}"}
    return JsonResponse({"object": "workflow.firing", **fired}, 201, headers)


def _other_owner(request: Request) -> str | None:
    """The owner that an administrator names, None where nobody is named."""
    owner = request.query_params.get("owner")
    if owner is None:
        return None
    caller = caller_of(request)
    caller.require("admin")
    if caller.key is None:
        # Where no key is needed, those on this machine alone.
        caller.require_execution()
    if not _OWNER.fullmatch(owner):
        raise InvalidRequestError(
            "`owner` is 1 to 200 characters of ASCII, none of them a space.", param="owner"
        )
    return owner


def _require(request: Request) -> None:
    require_execution_mode(request)
    if caller_of(request).claims is not None:
        raise PermissionDeniedError(
            "A run token is good for one call of an agent step: what a schedule begins would"
            " outlive it. Use an API key with the scope run.",
            param="scopes",
        )


def _named(request: Request) -> JsonObject:
    name: str = request.path_params["name"]
    if len(name) > MAX_NAME_CHARACTERS:
        raise NotFoundError(
            "There is no schedule of such a name.", code="schedule_not_found", param="name"
        )
    return {"name": name}


def _object(found: JsonObject) -> JsonObject:
    return {"object": "workflow.schedule", **found}


_SCHEDULES = "/v1/workflows/schedules"
_ONE = f"{_SCHEDULES}/{{name}}"
ROUTES = (
    Route(RUN_OWNER_PATH, run_owner, methods=["GET"]),
    Route(_SCHEDULES, list_schedules, methods=["GET"]),
    Route(_SCHEDULES, create_schedule, methods=["POST"]),
    Route(_ONE, get_schedule, methods=["GET"]),
    Route(_ONE, delete_schedule, methods=["DELETE"]),
    Route(f"{_ONE}/pause", pause_schedule, methods=["POST"]),
    Route(f"{_ONE}/resume", resume_schedule, methods=["POST"]),
    Route(f"{_ONE}/trigger", trigger_schedule, methods=["POST"]),
)
