"""`GET /discover`: what this server is and can do, as the product guide documents it, and more."""

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from agent_server.answers import JsonResponse
from agent_server.gateway.names import AGENT_MODEL
from agent_server.services import services_of
from streaming.formats import FORMATS

SERVER_NAME = "Kubiya MCP Agent Server"
API_VERSION = "v1"


async def discover(request: Request) -> Response:
    """The guide's body, with the provider and its model, the features, and the exact formats."""
    services = services_of(request)
    settings, provider = services.settings, services.providers.default
    return JsonResponse(
        {
            "name": SERVER_NAME,
            "version": version("agent-server"),
            "capabilities": {
                "streaming": True,
                "models": [AGENT_MODEL] if settings.agent else [],
                "formats": ["sse", "vercel"],
            },
            "provider": provider.name,
            "provider_is_llm": provider.name != "offline",
            "model": settings.model or provider.default_model,
            "features": {
                "agent": settings.agent,
                "workflow_mode": settings.workflow_mode,
                "api_keys": services.accounts.is_keyed,
                "stream_formats": list(FORMATS),
            },
            "api_version": API_VERSION,
        }
    )
