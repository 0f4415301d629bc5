"""What the routes share: made once by `create_app`, read from the request."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from agent_server.access import Caller
from agent_server.accounts.accounts import Accounts
from agent_server.agent_loop import AgentLoop
from agent_server.gateway.names import ModelNames
from agent_server.gateway.providers import ProviderPool
from agent_server.gateway.reload import Watcher
from agent_server.metrics import Metrics
from agent_server.settings import Settings
from agent_server.toolbox import Toolbox
from mcp_bridge.bridge import Bridge

if TYPE_CHECKING:
    from agent_server.model_calls import ModelCalls


@dataclass(frozen=True, slots=True)
class Agent:
    """The workflow agent and the MCP servers that it calls."""

    loop: AgentLoop
    toolbox: Toolbox
    bridge: Bridge

    async def start(self) -> None:
        """Start its MCP servers, and look after them from now on."""
        await self.bridge.start()

    async def aclose(self) -> None:
        """End what runs without a reader, then the MCP servers."""
        await self.loop.aclose()
        await self.toolbox.aclose()
        await self.bridge.stop()


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one server. `agent` is None where it is off."""

    settings: Settings
    calls: "ModelCalls"
    agent: Agent | None
    accounts: Accounts
    metrics: Metrics
    watcher: Watcher

    @property
    def providers(self) -> ProviderPool:
        """The providers as they are configured now."""
        return self.calls.gateway.providers

    @property
    def names(self) -> ModelNames:
        """What names mean now."""
        return self.calls.gateway.names


def services_of(request: Request) -> Services:
    """The parts of the server that got the request."""
    services: Services = request.app.state.services
    return services


def caller_of(request: Request) -> Caller:
    """Who sent the request; the guard found it."""
    caller: Caller = request.state.caller
    return caller
