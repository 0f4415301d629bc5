"""`/v1/workflows/schedules`: the workflows of the caller that begin by themselves.

What begins runs needs the scope `run`, as starting one does; a run token, which is good for one
call, registers nothing that outlives it.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_server.answers import JsonResponse
from agent_server.requests.run_bodies import read_schedule
from agent_server.routes.backend_calls import call_backend
from agent_server.routes.run_commands import require_execution_mode
from agent_server.services import caller_of
from streaming.errors import NotFoundError, PermissionDeniedError
from streaming.events import JsonObject

MAX_NAME_CHARACTERS: Final = 64


async def list_schedules(request: Request) -> Response:
    """The schedules by name."""
    caller_of(request).require("chat")
    found = await call_backend(request, "list_schedules", {})
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
    """Forget a schedule; runs that it began go on."""
    _require(request)
    return JsonResponse(_object(await call_backend(request, "delete_schedule", _named(request))))


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
    Route(_SCHEDULES, list_schedules, methods=["GET"]),
    Route(_SCHEDULES, create_schedule, methods=["POST"]),
    Route(_ONE, get_schedule, methods=["GET"]),
    Route(_ONE, delete_schedule, methods=["DELETE"]),
    Route(f"{_ONE}/pause", pause_schedule, methods=["POST"]),
    Route(f"{_ONE}/resume", resume_schedule, methods=["POST"]),
    Route(f"{_ONE}/trigger", trigger_schedule, methods=["POST"]),
)
