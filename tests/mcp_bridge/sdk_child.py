"""A server of the MCP SDK: over stdio, or over HTTP on the inherited socket that it is given."""

import asyncio
import json
import os
import socket
import sys

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("child", log_level="ERROR")
cancelled_labels: list[str] = []
cancelled_one = asyncio.Event()


@server.tool()
async def echo(text: str, times: int = 1) -> str:
    """Repeat a text."""
    return text * times


@server.tool()
async def run(events: int, context: Context) -> dict[str, int]:
    """Report so many events."""
    for number in range(1, events + 1):
        event = {"type": "step_running", "seq": number}
        await context.report_progress(number, None, json.dumps(event))
    return {"events": events}


@server.tool()
async def wait(label: str, context: Context) -> str:
    """Wait until cancelled."""
    await context.report_progress(1, None, "waiting")
    try:
        await asyncio.Event().wait()
    finally:
        cancelled_labels.append(label)
        cancelled_one.set()
    return label


@server.tool()
async def cancelled() -> list[str]:
    """The labels of the waits that were cancelled, once there is one."""
    await cancelled_one.wait()
    return cancelled_labels


@server.tool()
async def fail() -> str:
    """Fail with words for the model."""
    raise ToolError("the disk is full")


@server.tool()
async def die() -> str:
    """End the whole process."""
    os._exit(3)


def main() -> None:
    if len(sys.argv) == 1:
        server.run("stdio")
        return
    app = server.streamable_http_app()
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
