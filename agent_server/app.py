"""The application: the one place that knows every part."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_server.access import Access
from agent_server.agent_loop import AgentLimits, AgentLoop
from agent_server.error_responses import error_response, log_error
from agent_server.gateway.configured import configured_providers
from agent_server.gateway.names import ModelNames
from agent_server.guard import Gate, Guard
from agent_server.mcp_servers import mcp_servers
from agent_server.provider_choice import choose_provider
from agent_server.request_context import REQUEST_ID_HEADER, RequestContext
from agent_server.routes import chat, discover, health, models, workflow_runs
from agent_server.services import Agent, Services
from agent_server.settings import Settings
from agent_server.toolbox import Toolbox, ToolboxLimits
from mcp_bridge.bridge import Bridge
from providers.upstream import Upstream
from streaming.errors import AgentServerError, CallerError, MethodNotAllowedError, NotFoundError

# What a web page may read of an answer, and send with a request.
EXPOSED_HEADERS = (
    REQUEST_ID_HEADER,
    "retry-after",
    "x-should-retry",
    "x-vercel-ai-data-stream",
    "x-vercel-ai-ui-message-stream",
)
ACCEPTED_HEADERS = (
    "authorization",
    "content-type",
    "last-event-id",
    "user-agent",
    "x-api-key",
    REQUEST_ID_HEADER,
    "x-streaming-format",
    "x-workflow-detached",
    "x-workflow-progress",
)
ROUTES = (
    Route("/v1/chat/completions", chat.chat_completions, methods=["POST"]),
    Route("/api/chat", chat.use_chat, methods=["POST"]),
    Route("/v1/models", models.list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", models.get_model, methods=["GET"]),
    Route("/v1/workflows/runs", workflow_runs.list_runs, methods=["GET"]),
    Route("/v1/workflows/runs/{run_id}", workflow_runs.get_run, methods=["GET"]),
    Route("/v1/workflows/runs/{run_id}/events", workflow_runs.run_events, methods=["GET"]),
    Route("/v1/workflows/runs/{run_id}/cancel", workflow_runs.cancel_run, methods=["POST"]),
    Route("/discover", discover.discover, methods=["GET"]),
    Route("/health", health.health, methods=["GET"]),
    Route("/health/ready", health.ready, methods=["GET"]),
)


def create_app(settings: Settings) -> Starlette:
    """The server as an ASGI application; its children live as long as its lifespan.

    Raises:
        ProviderConfigError: the default provider is unknown, or lacks what it needs.
        McpConfigError: the file of MCP servers cannot be used.
    """
    upstream = Upstream()
    providers = configured_providers(settings, choose_provider(settings).provider, upstream)
    agent = _agent(settings) if settings.agent else None

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            if agent:
                await agent.bridge.start()
            yield
        finally:
            if agent:
                await agent.loop.aclose()
                await agent.toolbox.aclose()
                await agent.bridge.stop()
            await providers.aclose()
            await upstream.aclose()

    app = Starlette(
        routes=list(ROUTES),
        middleware=_middleware(settings),
        exception_handlers={HTTPException: _router_error, AgentServerError: _our_error},
        lifespan=lifespan,
    )
    names = ModelNames(providers, default_model=settings.model, agent=settings.agent)
    app.state.services = Services(settings, providers, names, agent)
    return app


def _agent(settings: Settings) -> Agent:
    bridge = Bridge(mcp_servers(settings))
    toolbox = Toolbox(
        bridge,
        workflow_mode=settings.workflow_mode,
        limits=ToolboxLimits(call_timeout_seconds=settings.mcp_call_timeout_seconds),
    )
    limits = AgentLimits(
        max_turns=settings.max_turns,
        max_tool_calls=settings.max_tool_calls,
        max_wall_seconds=settings.max_wall_seconds,
        max_tokens=settings.max_tokens,
    )
    return Agent(AgentLoop(toolbox, limits=limits), toolbox, bridge)


def _middleware(settings: Settings) -> list[Middleware]:
    access = Access(
        keys=settings.api_keys,
        is_loopback=settings.is_loopback,
        allowed_hosts=settings.allowed_hosts,
        cors_origins=settings.cors_origins,
    )
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=ACCEPTED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        allow_credentials=False,
    )
    guard = Middleware(
        Guard,
        access=access,
        max_body_bytes=settings.max_body_bytes,
        max_concurrent_requests=settings.max_concurrent_requests,
    )
    # CORS stands around the guard, so that a page can also read what the guard refuses.
    return [Middleware(RequestContext), Middleware(Gate, access=access), cors, guard]


async def _our_error(_: Request, exc: Exception) -> Response:
    error = cast("AgentServerError", exc)
    log_error(error)
    return error_response(error)


async def _router_error(request: Request, exc: Exception) -> Response:
    """What Starlette's router raises, in the shape of all errors."""
    raised = cast("HTTPException", exc)
    response = error_response(_router_error_of(raised.status_code, request))
    response.headers.update(raised.headers or {})
    return response


def _router_error_of(status: int, request: Request) -> AgentServerError:
    if status == 404:
        return NotFoundError(f"No route {request.method} {request.url.path[:200]}.")
    if status == 405:
        return MethodNotAllowedError(
            f"{request.url.path[:200]} does not take {request.method}; the Allow header says what "
            "it takes."
        )
    return CallerError("The request could not be read.")
