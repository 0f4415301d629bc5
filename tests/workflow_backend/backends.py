"""The real backend as a child process over stdio, driven by the SDK's own client."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import StdioServerParameters
from mcp.client import Client
from mcp.types import CallToolResult

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 20.0


@asynccontextmanager
async def backend(
    data_dir: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    """A client of a fresh backend on `data_dir`; usable from any task, closed in its own."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "workflow_backend"],
        cwd=ROOT,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "AGENT_SERVER_DATA_DIR": str(data_dir),
            **(environment or {}),
        },
    )
    ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def own() -> None:
        async with Client(parameters, raise_exceptions=True) as client:
            ready.set_result(client)
            await done.wait()

    owner = asyncio.create_task(own())
    try:
        either: list[asyncio.Future[Any]] = [owner, ready]
        await asyncio.wait(either, timeout=READY_SECONDS, return_when="FIRST_COMPLETED")
        if owner.done():
            await owner
        yield await asyncio.wait_for(ready, 1)
    finally:
        done.set()
        await owner


class Caller:
    """Calls tools for one owner, with the progress of each call kept."""

    def __init__(self, client: Client, owner: str | None = None, *, events: bool = True) -> None:
        self.client = client
        self.progress: list[tuple[float, str | None]] = []
        self.reported = asyncio.Event()
        self._meta: dict[str, Any] = {"ai.kubiya/events": 1} if events else {}
        if owner is not None:
            self._meta["ai.kubiya/owner"] = owner

    async def call(
        self, tool: str, arguments: Mapping[str, Any] | None = None, **meta: Any
    ) -> CallToolResult:
        """Call the tool, whatever comes of it."""
        return await self.client.call_tool(
            tool,
            dict(arguments or {}),
            meta={**self._meta, **{f"ai.kubiya/{key}": value for key, value in meta.items()}},  # type: ignore[arg-type]
            progress_callback=self._take,
            read_timeout_seconds=25,
        )

    async def answer(
        self, tool: str, arguments: Mapping[str, Any] | None = None, **meta: Any
    ) -> dict[str, Any]:
        """The structured result of a call that succeeds."""
        result = await self.call(tool, arguments, **meta)
        assert not result.is_error, text_of(result)
        content: dict[str, Any] | None = result.structured_content
        assert content is not None
        return content

    async def refusal(
        self, tool: str, arguments: Mapping[str, Any] | None = None, **meta: Any
    ) -> str:
        """The text of a call that fails."""
        result = await self.call(tool, arguments, **meta)
        assert result.is_error, result.structured_content
        return text_of(result)

    async def _take(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append((progress, message))
        self.reported.set()


def text_of(result: CallToolResult) -> str:
    """The text of a result."""
    return "".join(getattr(block, "text", "") for block in result.content)


async def begun(caller: Caller) -> None:
    """Wait until a step of the caller's run has written something."""
    async with asyncio.timeout(20):
        while not any('"step_output"' in (message or "") for _, message in caller.progress):
            caller.reported.clear()
            await caller.reported.wait()
