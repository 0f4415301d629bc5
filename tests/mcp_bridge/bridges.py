"""Bridges to children of `tests/mcp_child.py`, paced for tests."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from mcp_bridge import Bridge, Pacing, ServerSpec, ServerStatus, ToolResult

CHILD = Path(__file__).parents[1] / "mcp_child.py"
SDK_CHILD = Path(__file__).parent / "sdk_child.py"
READY_SECONDS = 20
PACING = Pacing(
    stdin_grace_seconds=5,
    term_grace_seconds=5,
    kill_wait_seconds=5,
    sweep_grace_seconds=0.1,
    backoff_first_seconds=0.01,
    backoff_max_seconds=0.05,
    fast_failures=3,
    failed_retry_seconds=0.05,
)


def child_spec(*arguments: str, **fields: Any) -> ServerSpec:
    """A server of the test child, by default our own backend named `child`."""
    given = {
        "name": "child",
        "command": (sys.executable, "-I", "-S", str(CHILD), *arguments),
        "is_own": True,
        "mode": "legacy",
        "pacing": PACING,
        "env": {"PATH": os.defpath},
        **fields,
    }
    return ServerSpec(**given)


def sdk_spec(**fields: Any) -> ServerSpec:
    """A server of the MCP SDK itself, which takes seconds to start."""
    command = (sys.executable, str(SDK_CHILD))
    return child_spec(**{"command": command, "mode": "auto", **fields})


@asynccontextmanager
async def running(*specs: ServerSpec, must_be_ready: bool = True) -> AsyncIterator[Bridge]:
    """A started bridge; afterwards it is stopped and none of its processes may be left."""
    bridge = Bridge(specs)
    await bridge.start()
    try:
        if must_be_ready:
            assert await bridge.wait_ready(READY_SECONDS), bridge.status()
        yield bridge
    finally:
        await bridge.stop(grace_seconds=0)
    for status in bridge.status():
        assert status.state == "stopped"
        assert status.pid is None


def is_alive(pid: int) -> bool:
    """Whether the process lives; a zombie that nobody buries does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def death(pid: int) -> None:
    """Wait until the process has ended, buried or not."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop.add_reader(descriptor, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), READY_SECONDS)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def state(bridge: Bridge, wanted: str, *, not_pid: int | None = None) -> ServerStatus:
    """Wait until the first server is in the state, and a process other than the given one."""
    (server, *_) = bridge._servers.values()
    async with asyncio.timeout(READY_SECONDS):
        while server.status.state != wanted or (
            not_pid is not None and server.status.pid == not_pid
        ):
            await server._state_changed.wait()
    return server.status


async def counts(bridge: Bridge) -> tuple[int, int]:
    """How many calls the child holds, and how many it was told to cancel."""
    held, cancelled = json.loads((await bridge.call("counts", {})).text)
    return held, cancelled


async def held_calls(bridge: Bridge, number: int) -> list[asyncio.Task[ToolResult]]:
    """So many calls that the child has got and does not answer."""
    calls = [asyncio.create_task(bridge.call("hold", {})) for _ in range(number)]
    async with asyncio.timeout(READY_SECONDS):
        while (await counts(bridge))[0] < number:
            pass
    return calls
