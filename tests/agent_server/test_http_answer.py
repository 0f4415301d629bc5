"""The bytes in which answers go out, from applications that answer as they should and not."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from agent_server.http_protocol import HttpProtocol
from agent_server.listener import bind

START = "http.response.start"
BODY = "http.response.body"


def answer(*headers: tuple[bytes, bytes], status: int = 200, pieces: int = 1) -> list[Message]:
    """An answer whose body is `a`, `b` and so on."""
    bodies = [bytes([97 + number]) for number in range(pieces)]
    return [
        {"type": START, "status": status, "headers": headers},
        *({"type": BODY, "body": body, "more_body": True} for body in bodies[:-1]),
        {"type": BODY, "body": bodies[-1] if bodies else b""},
    ]


ANSWERS: dict[str, list[Message]] = {
    "/length": answer((b"Content-Length", b"1"), (b"X-Text", b"caf\xc3\xa9 \t!")),
    "/chunks": answer((b"x-a", b"b"), pieces=3),
    "/close": answer((b"content-length", b"1"), (b"connection", b"x, close")),
    "/empty": answer(status=204, pieces=0),
    "/line-break": answer((b"x-a", b"b\r\nx-evil: c")),
    "/line-feed": answer((b"x-a", b"b\nx-evil: c")),
    "/null": answer((b"x-a", b"\x00")),
    "/bad-name": answer((b"x-a: b", b"c")),
    "/too-long": answer((b"content-length", b"0")),
    "/twice": [answer()[0], answer()[0]],
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        for message in ANSWERS[scope["path"]]:
            await send(message)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(app, http=HttpProtocol, log_config=None, date_header=False)
    config.server_header = False
    server = uvicorn.Server(config)
    listener = bind("127.0.0.1", 0)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield listener.getsockname()[1]
    server.should_exit = True
    await running


async def request(port: int, line: bytes, connection: bytes = b"close") -> bytes:
    """All that the server sends to one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(line + b" HTTP/1.1\r\nhost: a\r\nconnection: " + connection + b"\r\n\r\n")
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b"GET /length",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nx-text: caf\xc3\xa9 \t!\r\n"
            b"connection: close\r\n\r\na",
        ),
        (
            b"GET /chunks",
            b"HTTP/1.1 200 OK\r\nx-a: b\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n",
        ),
        (b"HEAD /chunks", b"HTTP/1.1 200 OK\r\nx-a: b\r\nconnection: close\r\n\r\n"),
        (b"GET /empty", b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"),
    ],
    ids=["a length", "chunks", "no body to HEAD", "no body to 204"],
)
async def test_an_answer_goes_out_as_it_is_framed(port: int, line: bytes, expected: bytes) -> None:
    assert await request(port, line) == expected


async def test_an_application_can_end_the_connection(port: int) -> None:
    received = await request(port, b"GET /close", connection=b"keep-alive")
    assert received.endswith(b"connection: x, close\r\n\r\na")


@pytest.mark.parametrize(
    "path", [b"/line-break", b"/line-feed", b"/null", b"/bad-name"], ids=bytes.decode
)
async def test_a_header_that_is_none_never_goes_out(port: int, path: bytes) -> None:
    received = await request(port, b"GET " + path)
    assert b"evil" not in received
    assert b"\x00" not in received
    assert b"x-a" not in received


@pytest.mark.parametrize("path", [b"/too-long", b"/twice"], ids=bytes.decode)
async def test_an_answer_that_is_none_ends_with_the_connection(port: int, path: bytes) -> None:
    received = await request(port, b"GET " + path, connection=b"keep-alive")
    assert received.count(b"HTTP/1.1 200 OK") <= 1
    assert not received.endswith(b"\r\n0\r\n\r\n")


@pytest.fixture
async def impatient_port() -> AsyncIterator[int]:
    """A server that keeps a connection for a fifth of a second after an answer."""
    config = uvicorn.Config(app, http=HttpProtocol, log_config=None)
    config.timeout_keep_alive = 0.2  # type: ignore[assignment]
    server = uvicorn.Server(config)
    listener = bind("127.0.0.1", 0)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield listener.getsockname()[1]
    server.should_exit = True
    await running


async def test_a_connection_is_closed_that_was_idle_for_its_time(impatient_port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient_port)
    for _ in range(2):
        writer.write(b"GET /length HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\na")).startswith(b"HTTP/1.1 200 OK")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
