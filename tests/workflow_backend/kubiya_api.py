"""A server on loopback that speaks as Kubiya's API does: one stream a start, runners, health."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

KEY = "kub-0123456789-secret"


@dataclass
class Started:
    """One start as it came."""

    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]
    client_left: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Stream:
    """What one start is answered: each piece in a write of its own, an event is waited for.

    `whole` ends the answer in order, `cut` resets the connection in the middle, `silence` says
    nothing more until the client leaves.
    """

    pieces: Sequence[bytes | asyncio.Event] = ()
    ending: Literal["whole", "cut", "silence"] = "whole"
    status: int = 200
    content_type: str = "text/event-stream"
    location: str | None = None


class KubiyaApi:
    """Answers starts with one stream after the other, the last again and again."""

    def __init__(
        self, *streams: Stream, runners: object = None, health: Mapping[str, object] | None = None
    ) -> None:
        self.url = ""
        self.started: list[Started] = []
        self.asked: list[str] = []
        self.has_started = asyncio.Event()
        self.arrivals: asyncio.Queue[Started] = asyncio.Queue()
        self.runners: object = {"kubiya-hosted": {}, "gke": {}} if runners is None else runners
        self.health = {"kubiya-hosted": "true"} if health is None else health
        self._streams = streams or (Stream(),)

    async def _start(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"UserKey {KEY}":
            return web.Response(status=401, text="unauthorized")
        stream = self._streams[min(len(self.started), len(self._streams) - 1)]
        started = Started(dict(request.query), dict(request.headers), await request.json())
        self.started.append(started)
        self.has_started.set()
        self.arrivals.put_nowait(started)
        headers = {"Content-Type": stream.content_type}
        if stream.location:
            headers["Location"] = stream.location
        response = web.StreamResponse(status=stream.status, headers=headers)
        try:
            await response.prepare(request)
            for piece in stream.pieces:
                if isinstance(piece, bytes):
                    await response.write(piece)
                else:
                    await piece.wait()
            if stream.ending == "silence":
                await asyncio.Event().wait()
        except (asyncio.CancelledError, ConnectionError):
            started.client_left.set()
            raise
        if stream.ending == "cut" and request.transport is not None:
            request.transport.abort()
        return response

    async def _list(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.headers.get("Authorization") != f"UserKey {KEY}":
            return web.Response(status=401)
        return web.json_response(self.runners)

    async def _health(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        name = request.match_info["name"]
        if name not in self.health:
            return web.Response(status=404)
        return web.json_response({"health": self.health[name]})

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_post("/api/v1/workflow", self._start)
        app.router.add_get("/api/v3/runners", self._list)
        app.router.add_get("/api/v3/runners/{name}/health", self._health)
        return app


@contextlib.asynccontextmanager
async def kubiya_api(*streams: Stream, **options: Any) -> AsyncIterator[KubiyaApi]:
    """The API on a free loopback port."""
    api = KubiyaApi(*streams, **options)
    runner = web.AppRunner(api.app(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        await runner.cleanup()


def data(text: str, prefix: str = "") -> bytes:
    """One `data:` line with its blank line."""
    return f"data: {prefix}{text}\n\n".encode()
