"""`POST /v1/workflows/...`: runs are started, repeated, cancelled, decided and signalled.

What is executed needs the scope `run`, what is decided the scope `approve`; a webhook needs no key,
since its token is the secret.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_server.answers import JsonResponse
from agent_server.requests.run_bodies import (
    MAX_STEP_CHARACTERS,
    read_decision,
    read_payload,
    read_rerun,
    read_start,
)
from agent_server.routes.backend_calls import bridge_of, call_backend, call_for, run_id_of
from agent_server.services import caller_of, services_of
from streaming.errors import InvalidRequestError, NotFoundError
from streaming.events import JsonObject
from streaming.json_bytes import dump


async def start_run(request: Request) -> Response:
    """Start a run that goes on by itself: 201, or 200 for one that the same `run_id` started."""
    require_execution_mode(request)
    arguments = read_start(await request.body())
    started = await call_backend(request, "start_run", arguments)
    return _begun(started)


async def rerun(request: Request) -> Response:
    """Run an ended run again, from what failed or from `from_step` on; answers the new run."""
    require_execution_mode(request)
    arguments = read_rerun(await request.body())
    started = await call_backend(request, "rerun_run", {**arguments, "run_id": run_id_of(request)})
    return _begun(started)


async def cancel_run(request: Request) -> Response:
    """Cancel a run; cancelling one that has ended changes nothing and answers its state."""
    caller_of(request).require_execution()
    return JsonResponse(await call_backend(request, "cancel_run", {"run_id": run_id_of(request)}))


async def decide(request: Request) -> Response:
    """Decide an approval; the first decision stays, and a second is answered by it."""
    caller = caller_of(request)
    caller.require_approval()
    arguments = read_decision(await request.body())
    if arguments["approved"]:
        _require_mode(request)
    named: JsonObject = {"run_id": run_id_of(request), "step": _name_of(request, "step")}
    decided = await call_backend(
        request, "decide_approval", {**arguments, **named, "by": caller.name}
    )
    return JsonResponse({"object": "workflow.approval", **decided})


async def run_approvals(request: Request) -> Response:
    """The open approvals of a run and of the runs inside it."""
    caller_of(request).require("chat")
    return await _approvals(request, {"run_id": run_id_of(request)})


async def all_approvals(request: Request) -> Response:
    """The open approvals of the caller's newest runs."""
    caller_of(request).require("chat")
    return await _approvals(request, {})


async def send_signal(request: Request) -> Response:
    """Give a run a signal, whose data are the body; the first one stays."""
    require_execution_mode(request)
    arguments: JsonObject = {
        "run_id": run_id_of(request),
        "name": _name_of(request, "name"),
        "payload_json": dump(read_payload(await request.body())).decode(),
    }
    sent = await call_backend(request, "signal_run", arguments)
    return JsonResponse({"object": "workflow.signal", **sent})


async def deliver_hook(request: Request) -> Response:
    """Give a run the webhook that it waits for; it says no more than whether it was taken."""
    bridge = bridge_of(request)
    # The guard has looked at the shape of the token, and bounds the body and its time.
    payload = dump(read_payload(await request.body())).decode()
    arguments: JsonObject = {"token": request.path_params["token"], "payload_json": payload}
    await call_for(bridge, "deliver_webhook", arguments, None)
    return JsonResponse({"object": "workflow.hook", "accepted": True})


def require_execution_mode(request: Request) -> None:
    """Raise unless the caller may execute workflows, and this server does."""
    caller_of(request).require_execution()
    _require_mode(request)


def _require_mode(request: Request) -> None:
    agent = services_of(request).agent
    if agent is not None and agent.toolbox.workflow_mode == "plan":
        raise InvalidRequestError(
            "This server plans workflows and does not execute them: AGENT_SERVER_WORKFLOW_MODE is "
            "plan.",
            code="workflow_mode",
        )


def _name_of(request: Request, key: str) -> str:
    name: str = request.path_params[key]
    if len(name) > MAX_STEP_CHARACTERS:
        raise NotFoundError(f"There is no {key} of such a name.", param=key)
    return name


def _begun(started: JsonObject) -> Response:
    is_new = started.pop("is_new", True)
    headers = {"location": f"/v1/workflows/runs/{started['run_id']}"}
    return JsonResponse(started, 201 if is_new else 200, headers)


async def _approvals(request: Request, arguments: JsonObject) -> Response:
    found = await call_backend(request, "list_approvals", arguments)
    return JsonResponse(
        {
            "object": "list",
            "data": found.get("approvals", []),
            "has_more": not found.get("is_whole", True),
        }
    )


_RUNS = "/v1/workflows/runs"
_RUN = f"{_RUNS}/{{run_id}}"
ROUTES = (
    Route(_RUNS, start_run, methods=["POST"]),
    Route(f"{_RUN}/rerun", rerun, methods=["POST"]),
    Route(f"{_RUN}/cancel", cancel_run, methods=["POST"]),
    Route(f"{_RUN}/approvals", run_approvals, methods=["GET"]),
    Route(f"{_RUN}/approvals/{{step}}", decide, methods=["POST"]),
    Route(f"{_RUN}/signals/{{name}}", send_signal, methods=["POST"]),
    Route("/v1/workflows/approvals", all_approvals, methods=["GET"]),
    Route("/v1/workflows/hooks/{token}", deliver_hook, methods=["POST"]),
)
