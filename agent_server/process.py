"""The process of the server: its lock, its socket, uvicorn, and its end.

What this module promises:

- a second server on the same data folder, or on a port in use, does not start, and says why;
- nothing is accepted before the socket and the folder are ours;
- SIGTERM or SIGINT stops accepting, lets running answers finish within the grace time, and then
  runs the application's shutdown, which ends every child; a second SIGINT ends at once, and so
  does a shutdown that hangs;
- other processes of the same user cannot read the server's memory or environment.
"""

import ctypes
import faulthandler
import gc
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from agent_server.app import create_app
from agent_server.data_dir import DataDirLock
from agent_server.http_protocol import HttpProtocol
from agent_server.listener import StartError, bind, url_of
from agent_server.log_config import configure_logging
from agent_server.settings import Settings

PR_SET_DUMPABLE = 4
# What the application's shutdown may take after the grace time before the process ends anyway.
CLOSE_SECONDS = 30
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# New objects until cycles are looked for among them, and how often among those that survived. What
# is under way at once is more than Python's 700, and none of it is garbage.
COLLECT_AFTER = (20_000, 10, 10)


class _Server(uvicorn.Server):
    """Uvicorn's server, which says when it answers."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        settle_memory()
        self._on_started()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        grace_seconds = self.config.timeout_graceful_shutdown or 0
        faulthandler.dump_traceback_later(grace_seconds + CLOSE_SECONDS, exit=True)
        await super().shutdown(sockets)


def serve(settings: Settings, on_started: Callable[[str], None]) -> None:
    """Serve until a signal; `on_started` gets the URL once the server answers.

    Raises:
        StartError: the port cannot be had, or the application could not start.
        DataDirError: the data folder cannot be had.
    """
    disable_dumps()
    configure_logging(
        settings.log_level,
        settings.log_format,
        secrets=settings.secret_values(),
        mcp_debug=settings.mcp_debug,
    )
    with DataDirLock.acquire(settings.data_dir) as lock:
        listener = bind(settings.host, settings.port)
        url = url_of(listener)

        def started() -> None:
            lock.announce(url)
            on_started(url)

        _run(create_app(settings, url), settings, listener, started)


def settle_memory() -> None:
    """Spare the collector what lives as long as the process, and the answers under way."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def disable_dumps() -> None:
    """Keep other processes of this user from reading our memory (Linux; prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _run(
    app: ASGIApp, settings: Settings, listener: socket.socket, started: Callable[[], None]
) -> None:
    class Protocol(HttpProtocol):
        receive_timeout_seconds = settings.receive_timeout_seconds

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.shutdown_grace_seconds),
    )
    server = _Server(config, started)
    # From here on a signal is a wish to stop, also before uvicorn listens for it, and also when
    # uvicorn raises it again after the stop: that end is a clean one.
    for number in STOP_SIGNALS:
        signal.signal(number, server.handle_exit)
    try:
        server.run(sockets=[listener])
    except SystemExit as exc:
        raise StartError("the server could not start; the log above says why") from exc
    finally:
        faulthandler.cancel_dump_traceback_later()
