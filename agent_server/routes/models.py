"""`GET /v1/models` and `/v1/models/{id}`: OpenAI's list of the models that may be named.

Source: OpenAI API reference, "Models", 2026-10.
"""

from starlette.requests import Request
from starlette.responses import Response

from agent_server.answers import JsonResponse
from agent_server.gateway.names import AGENT_MODEL, AGENT_NAMES
from agent_server.services import Services, caller_of, services_of
from streaming.errors import NotFoundError

# The agent has no date of its own; a fixed one keeps the listing the same at every start.
AGENT_CREATED = 1_735_689_600


async def list_models(request: Request) -> Response:
    """The agent, then what each configured provider lists, as `provider/model`."""
    caller_of(request).require("chat")
    return JsonResponse({"object": "list", "data": await _models(services_of(request))})


async def get_model(request: Request) -> Response:
    """One model by its id, which may hold slashes."""
    caller_of(request).require("chat")
    wanted = request.path_params["model"]
    services = services_of(request)
    if wanted in AGENT_NAMES and services.settings.agent:
        wanted = AGENT_MODEL
    default = f"{services.providers.default.name}/{wanted}"
    for model in await _models(services):
        if model["id"] in (wanted, default):
            return JsonResponse({**model, "id": wanted})
    raise NotFoundError(
        f"No model '{wanted[:200]}'. GET /v1/models lists those that can be named.",
        code="model_not_found",
        param="model",
    )


async def _models(services: Services) -> list[dict[str, object]]:
    agent = [_entry(AGENT_MODEL, AGENT_CREATED, "agent-server")] if services.settings.agent else []
    listings = await services.providers.models()
    return agent + [
        _entry(f"{provider}/{model.model_id}", model.created, model.owned_by)
        for provider, models in listings.items()
        for model in models
    ]


def _entry(model_id: str, created: int, owned_by: str) -> dict[str, object]:
    return {"id": model_id, "object": "model", "created": created, "owned_by": owned_by}
