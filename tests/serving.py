"""The application on a real uvicorn in the test's own loop, for tests that script its upstream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn

from agent_server.app import create_app
from agent_server.http_protocol import HttpProtocol
from agent_server.process import bind, url_of
from agent_server.settings import Settings


@contextlib.asynccontextmanager
async def serving(data_dir: Path, **settings: Any) -> AsyncIterator[str]:
    """The URL of a server with these settings; without the agent unless they say otherwise."""
    given = {"agent": False, "provider": "offline", "data_dir": data_dir, **settings}
    config = uvicorn.Config(
        create_app(Settings(**given)), http=HttpProtocol, log_config=None, lifespan="on"
    )
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    listener = bind("127.0.0.1", 0)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield url_of(listener)
    finally:
        server.should_exit = True
        await running
