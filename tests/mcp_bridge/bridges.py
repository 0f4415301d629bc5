"""Bridges to children of `tests/mcp_child.py`, paced for tests."""

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from mcp_bridge import Bridge, Pacing, ServerSpec

CHILD = Path(__file__).parents[1] / "mcp_child.py"
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
    flags = [] if "--sdk" in arguments else ["-I", "-S"]
    given = {
        "name": "child",
        "command": (sys.executable, *flags, str(CHILD), *arguments),
        "is_own": True,
        "mode": "legacy",
        "pacing": PACING,
        "env": {"PATH": os.defpath},
        **fields,
    }
    return ServerSpec(**given)


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


def texts(blocks: Sequence[str]) -> dict[str, Any]:
    """A result of text blocks as it goes over the wire."""
    return {"content": [{"type": "text", "text": block} for block in blocks]}
