"""An upstream that fails as it is told: a real server on loopback, on a loop of its own thread.

Each request is answered by the next step of the script, the last one again and again. It speaks
the chat format at `/chat/completions` and Anthropic's at `/messages`, streamed or not.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson

WORDS = ("The answer", " is", " whole.")
TEXT = "".join(WORDS)
MODEL = "fault-1"
KEEP_ALIVE_SECONDS = 0.01
# Longer than any test: who waits for it has not noticed that it will not come.
FOR_EVER_SECONDS = 60.0

_ENDINGS = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
Step = Callable[["Exchange"], Awaitable[None]]
Format = Literal["chat", "messages"]


@dataclass(frozen=True)
class Asked:
    """One request as it came, with the time of `time.monotonic`."""

    at: float
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Exchange:
    """One request, and the ways to answer it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    format: Format
    is_stream: bool
    may_go_on: threading.Event

    async def head(self, status: int, content_type: str, **headers: str) -> None:
        """The head of an answer with chunks."""
        lines = [f"HTTP/1.1 {status} As Scripted", f"content-type: {content_type}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += ["transfer-encoding: chunked", "", ""]
        await self.raw("\r\n".join(lines).encode())

    async def piece(self, data: bytes) -> None:
        """One chunk of the body."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def end(self) -> None:
        """The end of the body; the connection stays."""
        await self.raw(b"0\r\n\r\n")

    async def error(self, status: int, kind: str, code: str | None = None, **headers: str) -> None:
        """A whole answer that is an error."""
        await self.head(status, "application/json", **headers)
        await self.piece(orjson.dumps(self.error_object(kind, code)))
        await self.end()

    def error_object(self, kind: str, code: str | None = None) -> dict[str, object]:
        """An error as the format has it."""
        error = {"type": kind, "message": f"scripted {kind}"}
        if self.format == "messages":
            return {"type": "error", "error": error}
        return {"error": {**error, "code": code, "param": None}}

    async def begin(self) -> None:
        """The head of a stream, and its events before the first content."""
        await self.head(200, "text/event-stream")
        for frame in _OPENING[self.format]:
            await self.piece(frame)

    async def words(self, *words: str) -> None:
        """Content, one event for each word."""
        for word in words:
            await self.piece(_WORD[self.format](word))

    async def finish(self) -> None:
        """The events after the content, and the end."""
        for frame in _CLOSING[self.format]:
            await self.piece(frame)
        await self.end()

    async def until_read(self) -> None:
        """Wait until the client has what was sent: with it, a fault would be no later one."""
        await asyncio.to_thread(self.may_go_on.wait, FOR_EVER_SECONDS)

    async def hang(self) -> None:
        """Say nothing more until the client leaves."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(FOR_EVER_SECONDS):
                await self.reader.read(1)
        raise ConnectionAbortedError

    async def keep_alive_for_ever(self) -> None:
        """Comments and nothing else, until the client leaves."""
        with contextlib.suppress(ConnectionError):
            while not self.reader.at_eof():
                await self.piece(b": keep-alive\n\n")
                await asyncio.sleep(KEEP_ALIVE_SECONDS)
        raise ConnectionAbortedError

    def reset(self) -> None:
        """Reset the connection."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        raise ConnectionResetError


class FaultUpstream:
    """The server of one script; `requests` are the attempts that it saw.

    `asked` counts the requests for those that wait for one, `departures` the connections that
    ended before their answer. What comes after the first content waits for `may_go_on`.
    """

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.url = ""
        self.requests: list[Asked] = []
        self.asked = threading.Semaphore(0)
        self.departures = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self._steps = steps
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def attempts(self) -> int:
        """How often it was asked."""
        return len(self.requests)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until a fault ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # A cancelled connection ends like a broken one: `asyncio` would log it as an error.
            with contextlib.suppress(*_ENDINGS):
                while True:
                    await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        """End every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = orjson.loads(await reader.readexactly(int(headers.get("content-length", 0))))
        path = head[0].split(" ")[1]
        step = self._steps[min(len(self.requests), len(self._steps) - 1)]
        self.requests.append(Asked(time.monotonic(), path, headers, body))
        self.asked.release()
        wire: Format = "messages" if path.endswith("/messages") else "chat"
        exchange = Exchange(reader, writer, wire, bool(body.get("stream")), self.may_go_on)
        try:
            await step(exchange)
        except ConnectionError:
            self.departures.release()
            raise


@contextlib.contextmanager
def fault_upstream(*steps: Step) -> Iterator[FaultUpstream]:
    """A server on a free loopback port that answers by these steps."""
    upstream = FaultUpstream(steps)
    ready, done = threading.Event(), []

    async def run() -> None:
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        done.append(lambda: loop.call_soon_threadsafe(stopped.set))
        ready.set()
        await stopped.wait()
        server.close()
        await upstream.stop()
        await server.wait_closed()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="fault-upstream")
    thread.start()
    try:
        assert ready.wait(10)
        yield upstream
    finally:
        done[0]()
        thread.join(10)


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """The URL of a port that refuses every connection."""
    # Bound and not listening: nobody else can get it meanwhile.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


async def fine(exchange: Exchange) -> None:
    """The whole answer."""
    if not exchange.is_stream:
        await exchange.head(200, "application/json")
        await exchange.piece(orjson.dumps(_BODY[exchange.format]))
        await exchange.end()
        return
    await exchange.begin()
    await exchange.words(*WORDS)
    await exchange.finish()


def limited(**headers: str) -> Step:
    """429, with whatever headers say when to come again."""

    async def step(exchange: Exchange) -> None:
        await exchange.error(429, "rate_limit_error", "rate_limit_exceeded", **headers)

    return step


def failing(status: int) -> Step:
    """An error status of the upstream."""
    kinds = {529: "overloaded_error", 503: "overloaded_error"}

    async def step(exchange: Exchange) -> None:
        await exchange.error(status, kinds.get(status, "api_error"))

    return step


async def too_long(exchange: Exchange) -> None:
    """More tokens than the model takes."""
    await exchange.error(400, "invalid_request_error", "context_length_exceeded")


async def filtered(exchange: Exchange) -> None:
    """A refusal by the content filter."""
    await exchange.error(400, "invalid_request_error", "content_policy_violation")


async def bad_request(exchange: Exchange) -> None:
    """A request that is wrong whoever gets it."""
    await exchange.error(400, "invalid_request_error", "invalid_value")


async def denied(exchange: Exchange) -> None:
    """A key that the upstream does not know."""
    await exchange.error(401, "authentication_error", "invalid_api_key")


async def silent(exchange: Exchange) -> None:
    """No byte of an answer."""
    await exchange.hang()


async def reset_before_head(exchange: Exchange) -> None:
    """A reset instead of an answer."""
    exchange.reset()


async def reset_in_head(exchange: Exchange) -> None:
    """A reset in the middle of the head."""
    await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-ty")
    exchange.reset()


async def reset_in_body(exchange: Exchange) -> None:
    """A reset after the first content."""
    await exchange.begin()
    await exchange.words(*WORDS[:1])
    await exchange.until_read()
    exchange.reset()


async def slow_first_token(exchange: Exchange) -> None:
    """The head at once, comments that keep the connection alive, and no content."""
    if not exchange.is_stream:
        await exchange.hang()
    await exchange.begin()
    await exchange.keep_alive_for_ever()


async def stalls(exchange: Exchange) -> None:
    """Content, and then silence."""
    await exchange.begin()
    await exchange.words(*WORDS[:1])
    await exchange.until_read()
    await exchange.hang()


async def waits_for_more(exchange: Exchange) -> None:
    """The whole answer, of which the rest comes once it may go on."""
    await exchange.begin()
    await exchange.words(*WORDS[:1])
    await exchange.until_read()
    await exchange.words(*WORDS[1:])
    await exchange.finish()


async def cut_before_content(exchange: Exchange) -> None:
    """A stream that ends, as HTTP has it, before it has said anything."""
    await exchange.begin()
    await exchange.end()


async def cut_before_finish(exchange: Exchange) -> None:
    """A stream that ends, as HTTP has it, in the middle of the answer."""
    await exchange.begin()
    await exchange.words(*WORDS[:2])
    await exchange.until_read()
    await exchange.end()


async def malformed_first_event(exchange: Exchange) -> None:
    """Bytes that are no JSON, where the first event should be."""
    await exchange.head(200, "text/event-stream")
    await exchange.piece(b'data: {"id": \n\n')
    await exchange.words(*WORDS)
    await exchange.finish()


async def malformed_later_event(exchange: Exchange) -> None:
    """Bytes that are no JSON, between two events."""
    await exchange.begin()
    await exchange.words(*WORDS[:1])
    await exchange.until_read()
    await exchange.piece(b'data: {"id": \n\n')
    await exchange.words(*WORDS[1:])
    await exchange.finish()


def _error_frame(exchange: Exchange) -> bytes:
    name = b"event: error\n" if exchange.format == "messages" else b""
    body = exchange.error_object("overloaded_error", "overloaded")
    return name + b"data: " + orjson.dumps(body) + b"\n\n"


async def error_event_first(exchange: Exchange) -> None:
    """Status 200, and an error for the first event."""
    await exchange.head(200, "text/event-stream")
    await exchange.piece(_error_frame(exchange))
    await exchange.end()


async def error_event_later(exchange: Exchange) -> None:
    """Status 200, content, and then an error."""
    await exchange.begin()
    await exchange.words(*WORDS[:1])
    await exchange.until_read()
    await exchange.piece(_error_frame(exchange))
    await exchange.end()


async def html(exchange: Exchange) -> None:
    """Status 200 and a page for people."""
    await exchange.head(200, "text/html; charset=utf-8")
    await exchange.piece(b"<!doctype html><title>Sign in</title>")
    await exchange.end()


def _chunk(delta: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {
        "id": "chatcmpl-fault",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": MODEL,
        "choices": [choice],
        **more,
    }
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _event(kind: str, **members: object) -> bytes:
    body = orjson.dumps({"type": kind, **members})
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), body)


_CHAT_USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
_USAGE = {"input_tokens": 7, "output_tokens": 3}
_MESSAGE = {
    "id": "msg_fault",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "stop_sequence": None,
}
_OPENING: dict[Format, list[bytes]] = {
    "chat": [_chunk({"role": "assistant", "content": ""})],
    "messages": [
        _event(
            "message_start",
            message={
                **_MESSAGE,
                "content": [],
                "stop_reason": None,
                "usage": {"input_tokens": 7, "output_tokens": 1},
            },
        ),
        _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ],
}
_WORD: dict[Format, Callable[[str], bytes]] = {
    "chat": lambda word: _chunk({"content": word}),
    "messages": lambda word: _event(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": word}
    ),
}
_CLOSING: dict[Format, list[bytes]] = {
    "chat": [
        _chunk({}, "stop"),
        _chunk({}, None, choices=[], usage=_CHAT_USAGE),
        b"data: [DONE]\n\n",
    ],
    "messages": [
        _event("content_block_stop", index=0),
        _event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": 3},
        ),
        _event("message_stop"),
    ],
}
_BODY: dict[Format, dict[str, object]] = {
    "chat": {
        "id": "chatcmpl-fault",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT},
                "finish_reason": "stop",
            }
        ],
        "usage": _CHAT_USAGE,
    },
    "messages": {
        **_MESSAGE,
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "usage": _USAGE,
    },
}
