"""Agents for tests: the real bridge and backend over stdio, and a model that follows a script."""

import contextlib
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent_server.agent_bounds import AgentLimits
from agent_server.agent_loop import AgentLoop
from agent_server.mcp_servers import HIDDEN_TOOLS
from agent_server.pending_calls import PendingCalls
from agent_server.toolbox import AgentCaller, Toolbox, ToolboxLimits, WorkflowMode
from mcp_bridge import Bridge, Pacing, ServerSpec
from providers.base import Provider
from providers.chat_request import ChatRequest, Message, TextPart, ToolSpec
from providers.offline import OfflineProvider
from providers.openai.adapter import OpenAIProvider
from providers.upstream import RetryPolicy, Upstream
from streaming.events import AgentToolReturned, Event, Finished, TextDelta, WorkflowEvent
from tests.scripted_model import Script, ScriptedModel, Turn, scripted_model

READY_SECONDS = 25
BACKEND = "workflow"
ROOT = Path(__file__).parents[1]
PACING = Pacing(backoff_first_seconds=0.01, backoff_max_seconds=0.05, sweep_grace_seconds=0.1)


def backend_spec(data_dir: Path, **fields: Any) -> ServerSpec:
    """The workflow backend with its journal in the folder."""
    given: dict[str, Any] = {
        "name": BACKEND,
        "command": (sys.executable, "-m", "workflow_backend"),
        "cwd": str(ROOT),
        "env": {
            "PATH": os.environ["PATH"],
            "HOME": str(data_dir),
            "AGENT_SERVER_DATA_DIR": str(data_dir),
            "AGENT_SERVER_ISOLATION": "none",
        },
        "is_own": True,
        "hidden_tools": HIDDEN_TOOLS,
        "max_in_flight": 1000,
        "pacing": PACING,
    }
    return ServerSpec(**{**given, **fields})


@contextlib.asynccontextmanager
async def running_bridge(*specs: ServerSpec) -> AsyncIterator[Bridge]:
    """A started bridge whose servers are ready."""
    bridge = Bridge(specs)
    await bridge.start()
    try:
        assert await bridge.wait_ready(READY_SECONDS), bridge.status()
        yield bridge
    finally:
        await bridge.stop(grace_seconds=0)


@contextlib.asynccontextmanager
async def running_model(
    script: Script | Sequence[Turn],
) -> AsyncIterator[tuple[ScriptedModel, Provider]]:
    """A scripted model, and the provider that asks it."""
    async with scripted_model(script) as model:
        upstream = Upstream()
        provider = OpenAIProvider(
            name="scripted",
            base_url=model.url,
            default_model="scripted",
            upstream=upstream,
            retry=RetryPolicy(limit=0),
        )
        try:
            yield model, provider
        finally:
            await upstream.aclose()


@dataclass
class AgentForTest:
    """An agent with its parts, and the shortest way to ask it."""

    loop: AgentLoop
    toolbox: Toolbox
    bridge: Bridge
    provider: Provider

    def ask(
        self,
        *messages: str | Message,
        owner: str = "tester",
        tools: Sequence[ToolSpec] = (),
        caller: AgentCaller | None = None,
        **fields: Any,
    ) -> AsyncGenerator[Event, None]:
        """The events of one answer; a text is a message of the user."""
        said = tuple(
            Message("user", (TextPart(message),)) if isinstance(message, str) else message
            for message in messages
        )
        request = ChatRequest("scripted", said, tools=tuple(tools))
        return self.loop.run(
            replace(request, **fields),
            provider=self.provider,
            caller=caller or AgentCaller(owner),
            response_id="chatcmpl-test",
            model="kubiya-workflow-agent",
        )


@contextlib.asynccontextmanager
async def agent_on(
    bridge: Bridge,
    provider: Provider | None = None,
    *,
    limits: AgentLimits | None = None,
    pending_calls: PendingCalls | None = None,
    workflow_mode: WorkflowMode = "run",
    toolbox_limits: ToolboxLimits | None = None,
    max_detached: int = 256,
) -> AsyncIterator[AgentForTest]:
    """An agent with the tools of the bridge; the provider is `offline` unless given."""
    toolbox = Toolbox(bridge, workflow_mode=workflow_mode, limits=toolbox_limits)
    loop = AgentLoop(toolbox, pending_calls, limits, max_detached=max_detached)
    try:
        yield AgentForTest(loop, toolbox, bridge, provider or OfflineProvider())
    finally:
        await loop.aclose()
        await toolbox.aclose()


def text_of(events: Sequence[Event]) -> str:
    """The text of an answer."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def workflow_events(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The workflow events of an answer."""
    return [dict(event.data) for event in events if isinstance(event, WorkflowEvent)]


def tool_results(events: Sequence[Event], name: str) -> list[AgentToolReturned]:
    """The results of one of the agent's own tools."""
    returned = [event for event in events if isinstance(event, AgentToolReturned)]
    return [event for event in returned if event.name == name]


def finish_of(events: Sequence[Event]) -> Finished:
    """The one end of an answer, which is its last event."""
    [finished] = [event for event in events if isinstance(event, Finished)]
    assert events[-1] is finished
    return finished
