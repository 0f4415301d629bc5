"""The application: the one place that knows every part."""

from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Protocol, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from agent_server.access import Access
from agent_server.accounts.accounts import Accounts
from agent_server.accounts.configured import accounts_of, cache_of, reconfigure
from agent_server.agent_bounds import AgentLimits
from agent_server.agent_loop import AgentLoop
from agent_server.call_books import CallBooks
from agent_server.call_traces import CallTraces
from agent_server.chat_streams import ChatStreams
from agent_server.cluster_access import check_cluster, cluster_refusal
from agent_server.doors.chat import CHAT, USE_CHAT
from agent_server.doors.embeddings import EMBEDDINGS
from agent_server.doors.messages import MESSAGES
from agent_server.error_responses import error_response, log_error
from agent_server.gateway.config_file import GatewayFile
from agent_server.gateway.configured import GatewayMaker
from agent_server.gateway.gateway import Gateway
from agent_server.gateway.kept_answers import KeptAnswers
from agent_server.gateway.reload import Watcher
from agent_server.guard import Gate, Guard, shown_path
from agent_server.hot_paths import HotPaths
from agent_server.log_config import mask_in_log
from agent_server.mcp_servers import mcp_servers
from agent_server.metrics import Metrics
from agent_server.model_calls import ModelCalls, StreamTimes
from agent_server.request_context import REQUEST_ID_HEADER, RequestContext
from agent_server.response_models import responses_of
from agent_server.routes import (
    discover,
    health,
    keys,
    metrics,
    models,
    run_commands,
    run_files,
    schedules,
    workflow_runs,
)
from agent_server.routes.chat_streams import chat_stream_routes
from agent_server.routes.count_tokens import CountTokensEndpoint
from agent_server.routes.model_call import ModelEndpoint
from agent_server.routes.responses import RESPONSES_PATH, CreateResponse, response_routes
from agent_server.run_callers import RunCallers
from agent_server.run_link import RunLink
from agent_server.services import Agent, Services
from agent_server.settings import Settings
from agent_server.stored_responses.responses import Responses
from agent_server.telemetry import start_telemetry
from agent_server.toolbox import Toolbox, ToolboxLimits
from mcp_bridge.bridge import Bridge
from mcp_bridge.server_spec import ServerSpec
from providers.upstream import Upstream
from streaming.errors import AgentServerError, CallerError, MethodNotAllowedError, NotFoundError

if TYPE_CHECKING:
    from agent_server.telemetry.spans import Telemetry

VERSION: Final = version("agent-server")
RATE_WORDS = ("limit", "remaining", "reset")
# What a web page may read of an answer, and send with a request.
EXPOSED_HEADERS = (
    REQUEST_ID_HEADER,
    "retry-after",
    "x-attempts",
    "x-cache",
    "x-chat-id",
    "x-dropped-fields",
    "x-provider",
    *(f"x-ratelimit-{what}-{kind}" for what in RATE_WORDS for kind in ("requests", "tokens")),
    "x-route",
    "x-should-retry",
    "x-token-count",
    "x-vercel-ai-data-stream",
    "x-vercel-ai-ui-message-stream",
)
# What the SDKs of OpenAI and Anthropic say of themselves on every request.
STAINLESS_HEADERS = (
    "arch",
    "helper-method",
    "lang",
    "os",
    "package-version",
    "retry-count",
    "runtime",
    "runtime-version",
    "timeout",
)
ACCEPTED_HEADERS = (
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "authorization",
    "content-type",
    "last-event-id",
    "user-agent",
    "x-api-key",
    "x-chat-id",
    REQUEST_ID_HEADER,
    *(f"x-stainless-{name}" for name in STAINLESS_HEADERS),
    "x-streaming-format",
    "x-workflow-approvals",
    "x-workflow-detached",
    "x-workflow-progress",
)
# Which door is at which path.
DOORS = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": MESSAGES,
    "/v1/embeddings": EMBEDDINGS,
    "/api/chat": USE_CHAT,
}
COUNT_TOKENS_PATH = "/v1/messages/count_tokens"
ROUTES = (
    Route("/v1/models", models.list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", models.get_model, methods=["GET"]),
    *workflow_runs.ROUTES,
    *run_commands.ROUTES,
    *run_files.ROUTES,
    *schedules.ROUTES,
    Route("/v1/keys", keys.list_keys, methods=["GET"]),
    Route("/v1/keys", keys.create_key, methods=["POST"]),
    Route("/v1/keys/{key_id}", keys.revoke_key, methods=["DELETE"]),
    Route("/metrics", metrics.metrics, methods=["GET"]),
    Route("/discover", discover.discover, methods=["GET"]),
    Route("/health", health.health, methods=["GET"]),
    Route("/health/ready", health.ready, methods=["GET"]),
)


def create_app(settings: Settings, url: str | None = None) -> ASGIApp:
    """The server as an ASGI application; its children live as long as its lifespan.

    `url` is where this machine reaches it; without one the steps of runs have no agents.

    Raises:
        ProviderConfigError: the default provider is unknown, or lacks what it needs.
        ConfigFileError: the gateway's file cannot be used.
        McpConfigError: the file of MCP servers cannot be used.
        AccountsConfigError: the store, or the cache, cannot be used as it is configured.
        TelemetryError: OpenTelemetry is on, and cannot be started.
        StartError: Temporal's cluster would be open to the steps of callers who have keys.
    """
    upstream = Upstream()
    numbers = Metrics(VERSION)
    telemetry = start_telemetry(VERSION) if settings.otel else None
    maker = GatewayMaker(settings, upstream)
    file = maker.read()
    mask_in_log(file.secret_values())
    gateway = maker.make(file)
    accounts = accounts_of(settings, keys=file.keys, prices=file.prices)
    link = RunLink.of(settings, url) if settings.agent and url else None
    servers = _mcp_servers(settings, file, accounts, link) if settings.agent else []
    agent = _agent(settings, servers, numbers, telemetry) if settings.agent else None
    cache = cache_of(settings)
    _watch(numbers, gateway, accounts)
    calls = ModelCalls(
        gateway,
        agent,
        CallBooks(accounts, numbers),
        StreamTimes(settings.keep_alive_seconds, settings.stream_grace_seconds),
        CallTraces(telemetry) if telemetry else None,
        KeptAnswers(cache) if cache else None,
    )
    responses = responses_of(calls, accounts)
    streams = ChatStreams(calls.answer, keep_alive_seconds=calls.times.keep_alive_seconds)
    endpoints = _endpoints(calls, responses, streams)

    watcher = _watcher(settings, maker, file, calls, accounts)
    # In the order in which they are closed: who asks before who is asked.
    parts = (responses, streams, agent, accounts, cache, calls, upstream, telemetry)
    router = Starlette(
        routes=[
            *(Route(path, to, methods=["POST"]) for path, to in endpoints.items()),
            *response_routes(responses, calls.times),
            *chat_stream_routes(streams),
            *ROUTES,
        ],
        exception_handlers={HTTPException: _router_error, AgentServerError: _our_error},
        lifespan=_lifespan(accounts, agent, watcher, [part for part in parts if part]),
    )
    router.state.services = Services(settings, calls, agent, accounts, numbers, watcher)
    return _guarded(HotPaths(router, endpoints=endpoints), settings, accounts, link, endpoints)


class Closable(Protocol):
    """A part of the server that holds something."""

    async def aclose(self) -> None:
        """Let go of it, in bounded time."""
        ...


def _lifespan(
    accounts: Accounts, agent: Agent | None, watcher: Watcher, parts: Sequence[Closable]
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:
            for part in reversed(parts):
                closing.push_async_callback(part.aclose)
            await accounts.start()
            if agent:
                await agent.start()
            async with watcher.watching():
                yield

    return lifespan


def _watcher(
    settings: Settings,
    maker: GatewayMaker,
    file: GatewayFile,
    calls: ModelCalls,
    accounts: Accounts,
) -> Watcher:
    """Takes the gateway's file anew when it changes."""

    def apply(changed: GatewayFile) -> None:
        refusal = cluster_refusal(settings, is_keyed=bool(changed.keys))
        if settings.agent and refusal:
            raise ValueError(refusal)
        mask_in_log(changed.secret_values())
        made = maker.make(changed)
        reconfigure(accounts, settings, keys=changed.keys, prices=changed.prices)
        calls.gateway = made

    return Watcher(file, load=maker.read, apply=apply)


def _watch(metrics: Metrics, gateway: Gateway, accounts: Accounts) -> None:
    metrics.watch_breakers(gateway.breaker_states)
    if (usage := accounts.usage) is not None:
        metrics.watch_usage_rows(lambda: (usage.waiting, usage.lost))


def _mcp_servers(
    settings: Settings, file: GatewayFile, accounts: Accounts, link: RunLink | None
) -> list[ServerSpec]:
    # A store may have keys, or get some.
    is_keyed = bool(file.keys) or accounts.ledger is not None
    check_cluster(settings, is_keyed=is_keyed)
    return mcp_servers(settings, is_keyed=is_keyed, hidden=file.files, link=link)


def _agent(
    settings: Settings,
    servers: list[ServerSpec],
    metrics: Metrics,
    telemetry: "Telemetry | None",
) -> Agent:
    bridge = Bridge(servers, on_called=metrics.tool_called)
    toolbox = Toolbox(
        bridge,
        workflow_mode=settings.workflow_mode,
        limits=ToolboxLimits(call_timeout_seconds=settings.mcp_call_timeout_seconds),
        on_run_ended=metrics.workflow_ended,
        telemetry=telemetry,
    )
    limits = AgentLimits(
        max_turns=settings.max_turns,
        max_tool_calls=settings.max_tool_calls,
        max_wall_seconds=settings.max_wall_seconds,
        max_tokens=settings.max_tokens,
    )
    loop = AgentLoop(toolbox, limits=limits, telemetry=telemetry)
    return Agent(loop, toolbox, bridge)


def _endpoints(
    calls: ModelCalls, responses: Responses, streams: ChatStreams
) -> Mapping[str, ASGIApp]:
    doors: dict[str, ASGIApp] = {
        path: ModelEndpoint(door, calls, streams if door.name == CHAT.name else None)
        for path, door in DOORS.items()
    }
    return {
        **doors,
        COUNT_TOKENS_PATH: CountTokensEndpoint(calls),
        RESPONSES_PATH: CreateResponse(responses, calls.times),
    }


def _guarded(
    app: ASGIApp,
    settings: Settings,
    accounts: Accounts,
    link: RunLink | None,
    model_paths: Container[str],
) -> ASGIApp:
    """The application behind everything that stands before it, from the inside out.

    It is put together here, not by Starlette, whose own outermost layers cost every request.
    """
    access = Access(
        book=accounts.book,
        is_loopback=settings.is_loopback,
        allowed_hosts=settings.allowed_hosts,
        cors_origins=settings.cors_origins,
        run_callers=RunCallers(link.key, accounts.book) if link else None,
    )
    app = Guard(
        app,
        access=access,
        max_body_bytes=settings.max_body_bytes,
        max_concurrent_requests=settings.max_concurrent_requests,
        model_paths=model_paths,
    )
    if settings.cors_origins:
        # Around the guard, so that a page can also read what the guard refuses.
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=ACCEPTED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
            allow_credentials=False,
        )
    return RequestContext(Gate(app, access=access))


async def _our_error(request: Request, exc: Exception) -> Response:
    error = cast("AgentServerError", exc)
    log_error(error)
    return error_response(error, request.scope)


async def _router_error(request: Request, exc: Exception) -> Response:
    """What Starlette's router raises, in the shape of all errors."""
    raised = cast("HTTPException", exc)
    response = error_response(_router_error_of(raised.status_code, request), request.scope)
    response.headers.update(raised.headers or {})
    return response


def _router_error_of(status: int, request: Request) -> AgentServerError:
    if status == 404:
        return NotFoundError(f"No route {request.method} {shown_path(request.url.path)}.")
    if status == 405:
        return MethodNotAllowedError(
            f"{shown_path(request.url.path)} does not take {request.method}; the Allow header says "
            "what it takes."
        )
    return CallerError("The request could not be read.")
