"""`GET /health` and `GET /health/ready`: whether the process lives, and whether it can work."""

from starlette.requests import Request
from starlette.responses import Response

from agent_server.answers import JsonResponse
from agent_server.services import services_of


async def health(request: Request) -> Response:
    """`{"status": "healthy"}` as long as the process answers, and the state of its parts."""
    services = services_of(request)
    agent = services.agent
    states = {server.name: server.state for server in agent.bridge.status()} if agent else {}
    parts: dict[str, object] = {
        "status": "healthy",
        "mcp_servers": states,
        # Whether limits hold for this process alone, or for all servers together.
        "limits": services.accounts.limits_scope(),
    }
    if (file := services.watcher.status()) is not None:
        parts["gateway_config"] = file
    return JsonResponse(parts)


async def ready(request: Request) -> Response:
    """200 once every required MCP server is ready, else 503 with what is missing.

    Anybody may ask, so the reason, which may hold paths and a server's own words, is in the log.
    """
    agent = services_of(request).agent
    if agent is None or agent.bridge.is_ready:
        return JsonResponse({"status": "ready"})
    missing = [
        {"mcp_server": server.name, "state": server.state}
        for server in agent.bridge.status()
        if server.is_required and server.state != "ready"
    ]
    return JsonResponse({"status": "not ready", "missing": missing}, 503, {"retry-after": "1"})
