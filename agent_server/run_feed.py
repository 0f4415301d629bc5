"""The events of a run for one reader, live until the run has ended.

What this module promises: a reader that goes away leaves no task behind, and does not touch the
run.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from agent_server.event_channel import EventChannel
from agent_server.mcp_servers import BACKEND
from agent_server.workflow_run import WorkflowRun
from mcp_bridge.bridge import Bridge
from streaming.errors import AgentServerError
from streaming.events import WorkflowEvent

RESUME_SECONDS = 60.0


async def run_feed(
    bridge: Bridge, run_id: str, owner: str, after_seq: int = 0
) -> AsyncGenerator[WorkflowEvent, None]:
    """The events after `after_seq`, each once and in order.

    Raises:
        AgentServerError: the run cannot be followed (any more).
    """
    run = WorkflowRun(
        bridge, BACKEND, run_id, owner, resume_seconds=RESUME_SECONDS, after_seq=after_seq
    )
    channel = EventChannel()

    async def follow() -> None:
        try:
            await run.follow(channel.put)
        finally:
            await channel.end()

    following = asyncio.create_task(follow())
    try:
        async for event in channel.events():
            if isinstance(event, WorkflowEvent):
                yield event
        await following
    finally:
        channel.abandon()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError, AgentServerError):
            await following
