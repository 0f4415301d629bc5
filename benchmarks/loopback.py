"""An upstream that answers as it is asked to, and a client that counts: both on loopback.

The name of the model says how the upstream answers: `json`, `stream`, `slow` (20 events, one each
100 ms), `status-500` (or another status), `cut` (a stream without its end), `hang` (never ends).
Source of the bytes: OpenAI API reference, "Chat Completions", section "Streaming", 2026-11.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.server import KEY

SLOW_EVENTS: Final = 20
SLOW_SECONDS: Final = 0.1
EVENTS: Final = 16
_TEXT: Final = "a few words of an answer "
_HEAD: Final = b"HTTP/1.1 %d OK\r\ncontent-type: %s\r\n"
_STREAM_HEAD: Final = _HEAD % (200, b"text/event-stream") + b"transfer-encoding: chunked\r\n\r\n"
_END: Final = b"0\r\n\r\n"


def _json_answer(status: int, content: object) -> bytes:
    body = json.dumps(content).encode()
    return _HEAD % (status, b"application/json") + b"content-length: %d\r\n\r\n" % len(body) + body


def _event(data: str) -> bytes:
    frame = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(frame), frame)


def _chunk(delta: object, finish_reason: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return _event(json.dumps({**head, "choices": [choice], **fields}))


_USAGE: Final = {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}
_JSON: Final = _json_answer(
    200,
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _TEXT * 40},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    },
)
_ERROR: Final = {"error": {"message": "as asked", "type": "error", "param": None, "code": None}}
_WORDS: Final = _chunk({"role": "assistant", "content": _TEXT})
_CLOSING: Final = _chunk({}, "stop", usage=_USAGE) + _event("[DONE]") + _END


async def _answer(model: str, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; false if the connection is over."""
    if model.startswith("status-"):
        writer.write(_json_answer(int(model.removeprefix("status-")), _ERROR))
    elif model == "json":
        writer.write(_JSON)
    else:
        writer.write(_STREAM_HEAD + _WORDS)
        if model == "slow":
            for _ in range(SLOW_EVENTS - 1):
                await asyncio.sleep(SLOW_SECONDS)
                writer.write(_WORDS)
        elif model == "hang":
            await asyncio.sleep(3600)
        else:
            writer.write(_WORDS * (EVENTS - 1))
        if model == "cut":
            return False
        writer.write(_CLOSING)
    await writer.drain()
    return True


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            model = body.partition(b'"model":"')[2].partition(b'"')[0].decode()
            if not await _unless_left(_answer(model, writer), reader, model):
                return
    except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def _unless_left(
    answer: Coroutine[None, None, bool], reader: asyncio.StreamReader, model: str
) -> bool:
    """Answer, but no longer than the client stays."""
    if model not in {"slow", "hang"}:
        return await answer
    answering, leaving = asyncio.create_task(answer), asyncio.create_task(reader.read(1))
    await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    stays = answering.done() and answering.result()
    for task in (answering, leaving):
        task.cancel()
    await asyncio.gather(answering, leaving, return_exceptions=True)
    return stays


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """The base URL of an upstream, with `/v1`."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=4096, limit=2**24)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


class Client:
    """One connection to the measured server; requests go one after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes, *, leave_after: int | None = None) -> tuple[int, bytes]:
        """The status and body of an answer; `leave_after` bytes of it the client goes away."""
        reader, writer = await self._open()
        writer.write(_request(self._port, b"POST", b"/v1/chat/completions", body))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if leave_after is not None:
            await reader.read(leave_after)
            self.close()
            return status, b""
        if b"transfer-encoding: chunked" in head:
            return status, await _chunks(reader)
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        return status, await reader.readexactly(length)

    async def health(self) -> None:
        """Ask whether the server lives."""
        reader, writer = await self._open()
        writer.write(_request(self._port, b"GET", b"/health", b""))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))

    def close(self) -> None:
        """Go away."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams


def chat(model: str, content: object = "Say a few words.", *, stream: bool = False) -> bytes:
    """A body for the chat door."""
    message = {"role": "user", "content": content}
    body = {"model": model, "messages": [message], "stream": stream}
    return json.dumps(body, separators=(",", ":")).encode()


def _request(port: int, method: bytes, path: bytes, body: bytes) -> bytes:
    head = (
        b"%s %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    return head % (method, path, port, KEY.encode(), len(body)) + body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(pieces)
