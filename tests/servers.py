"""Servers on loopback that answer as a script says, faults included."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

REASON = "As Scripted"


@dataclass(frozen=True)
class Scripted:
    """One answer: its head, then each piece in a write of its own, then how it ends.

    `status` None sends no head at all. After `whole` the connection can be used again; `cut`
    closes it, `reset` resets it, and `silence` says nothing more until the client leaves. `late`
    ends as `whole` does, but not before the server's `may_end` is set; then it writes `rest` first.
    """

    status: int | None = 200
    pieces: tuple[bytes, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: Literal["whole", "cut", "reset", "silence", "late"] = "whole"
    rest: tuple[bytes, ...] = ()


@dataclass
class Request:
    """One request as it came; the names of `headers` are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class ScriptedServer:
    """Gives one answer after the other, the last again and again.

    `asked` is set when a request has come, `client_left` when a client closes its connection during
    a `silence`.
    """

    def __init__(self, answers: tuple[Scripted, ...]) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.connections = 0
        self.asked = asyncio.Event()
        self.may_end = asyncio.Event()
        self.client_left = asyncio.Event()
        self._answers = answers
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            self._open.discard(task)
            writer.close()

    async def received(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(20):
            while len(self.requests) < count:
                self.asked.clear()
                await self.asked.wait()

    async def stop(self) -> None:
        """End every connection."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(Request(method, path, headers, body))
        self.asked.set()
        if answer.status is not None:
            lines = [f"HTTP/1.1 {answer.status} {REASON}", "transfer-encoding: chunked"]
            lines += [f"{name}: {value}" for name, value in answer.headers.items()]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        for piece in filter(None, answer.pieces):
            writer.write(piece if answer.status is None else _chunk(piece))
            await writer.drain()
        if answer.ending == "late":
            await self.may_end.wait()
            writer.writelines(map(_chunk, answer.rest))
        if answer.ending in {"whole", "late"}:
            writer.write(b"0\r\n\r\n")
        elif answer.ending == "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif answer.ending == "silence":
            await reader.read(1)
            self.client_left.set()
        return answer.ending in {"whole", "late"}


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


@contextlib.asynccontextmanager
async def scripted(*answers: Scripted) -> AsyncIterator[ScriptedServer]:
    """A server on a free loopback port that gives these answers."""
    script = ScriptedServer(answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        await script.stop()
        await server.wait_closed()
