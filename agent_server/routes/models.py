"""`GET /v1/models` and `/v1/models/{id}`: the models that may be named.

Anthropic's clients, known by their header `anthropic-version`, get its lists, all others OpenAI's.
"""

from starlette.requests import Request
from starlette.responses import Response

from agent_server.answers import JsonResponse
from agent_server.error_responses import speaks_anthropic
from agent_server.gateway.names import AGENT_MODEL, AGENT_NAMES
from agent_server.model_lists import (
    anthropic_model,
    anthropic_page,
    listed_models,
    openai_list,
    openai_model,
)
from agent_server.services import Services, caller_of, services_of
from providers.base import ModelInfo
from streaming.errors import NotFoundError


async def list_models(request: Request) -> Response:
    """The agent, configured names, then what each provider lists, as `provider/model`."""
    caller_of(request).require("chat")
    models = await _models(services_of(request))
    if speaks_anthropic(request.scope):
        return JsonResponse(anthropic_page(models, request.query_params))
    return JsonResponse(openai_list(models))


async def get_model(request: Request) -> Response:
    """One model by its id, which may hold slashes."""
    caller_of(request).require("chat")
    wanted = request.path_params["model"]
    services = services_of(request)
    listed = AGENT_MODEL if wanted in AGENT_NAMES and services.settings.agent else wanted
    default = f"{services.providers.default.name}/{listed}"
    for model in await _models(services):
        if model.model_id in (listed, default):
            # Both APIs answer the id that was asked for.
            found = ModelInfo(listed, model.owned_by, model.created)
            is_anthropic = speaks_anthropic(request.scope)
            return JsonResponse(anthropic_model(found) if is_anthropic else openai_model(found))
    raise NotFoundError(
        f"No model '{wanted[:200]}'. GET /v1/models lists those that can be named.",
        code="model_not_found",
        param="model",
    )


async def _models(services: Services) -> list[ModelInfo]:
    return listed_models(
        await services.providers.models(),
        configured=services.names.configured(),
        agent=services.settings.agent,
    )
