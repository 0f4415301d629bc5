"""How answers are framed, and what their bytes may not do, on real sockets and both loops."""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from providers.upstream import RetryPolicy, Upstream, UpstreamCall
from streaming.errors import UpstreamConnectionError, UpstreamProtocolError
from tests.loops import on_every_loop
from tests.raw_server import RawConnection, answering, raw_server

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
KIBIBYTE = 1024


class Answer(NamedTuple):
    """An answer on the wire, what it says, and whether its connection can be kept.

    A server that does not close a connection which cannot be kept waits for the client to do it.
    """

    wire: bytes
    body: bytes = b"hello"
    status: int = 200
    is_kept: bool = True
    method: str = "POST"
    is_closed: bool = False


ANSWERS = {
    "content length": Answer(OK + b"Content-Length: 5\r\n\r\nhello"),
    "empty": Answer(OK + b"content-length: 0\r\n\r\n", b""),
    "chunks": Answer(CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    "no chunks": Answer(CHUNKED + b"0\r\n\r\n", b""),
    "extensions and trailers": Answer(
        CHUNKED + b"5;a=b\r\nhello\r\n0\r\nx-sum: 1\r\ncontent-type: evil\r\n\r\n"
    ),
    "a padded chunk size": Answer(CHUNKED + b"5  \r\nhello\r\n0\r\n\r\n"),
    "chunked in capitals": Answer(
        OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ),
    "lines that end by LF": Answer(b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello"),
    "no reason": Answer(b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello"),
    "interim answers first": Answer(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        + OK
        + b"content-length: 5\r\n\r\nhello"
    ),
    "204": Answer(b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    "304": Answer(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b"", 304),
    "until the end": Answer(OK + b"\r\nhello", is_kept=False, is_closed=True),
    "connection: close": Answer(
        OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", is_kept=False
    ),
    "HTTP/1.0": Answer(b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", is_kept=False),
    "HTTP/1.0, kept": Answer(
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello"
    ),
    "bytes behind the end": Answer(
        OK + b"content-length: 5\r\n\r\nhello" + OK + b"content-length: 4\r\n\r\nevil",
        is_kept=False,
    ),
    "the begin of another": Answer(
        OK + b"content-length: 5\r\n\r\nhelloHTTP/1.1 200", is_kept=False
    ),
    "to HEAD": Answer(OK + b"content-length: 5\r\n\r\n", b"", is_kept=False, method="HEAD"),
    "to HEAD, with a body": Answer(
        OK + b"content-length: 5\r\n\r\nhello", b"", is_kept=False, method="HEAD"
    ),
    "gzip": Answer(
        OK + b"content-encoding: gzip\r\nconnection: close\r\n\r\n" + gzip.compress(b"hello"),
        is_kept=False,
        is_closed=True,
    ),
}

CUT = {
    "in the body": OK + b"content-length: 6\r\n\r\nhello",
    "before the body": OK + b"content-length: 6\r\n\r\n",
    "in a chunk": CHUNKED + b"6\r\nhello",
    "between chunks": CHUNKED + b"5\r\nhello\r\n",
    "in the last chunk": CHUNKED + b"5\r\nhello\r\n0\r\n",
    "in the trailers": CHUNKED + b"5\r\nhello\r\n0\r\nx-sum: ",
}

WRONG = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "two lengths": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "length and chunks": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
    "a negative length": OK + b"content-length: -5\r\n\r\nhello",
    "a NUL in a header": OK + b"x-a: b\0c\r\ncontent-length: 5\r\n\r\nhello",
    "a chunk of no size": CHUNKED + b"hello\r\n",
    "a wrong chunk in the middle": CHUNKED + b"5\r\nhello\r\nzz\r\n",
    "another protocol agreed on": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n"
    b"connection: upgrade\r\n\r\n",
    "a head too large": OK
    + b"x-a: "
    + b"a" * 33 * KIBIBYTE
    + b"\r\ncontent-length: 5\r\n\r\nhello",
    "headers too many": OK + b"x-a: b\r\n" * 5 * KIBIBYTE * 8 + b"content-length: 5\r\n\r\nhello",
    "a head without an end": OK + b"x-a: b\r\n" * 9 * KIBIBYTE,
    "interim answers without an end": b"HTTP/1.1 100 Continue\r\n\r\n" * 2 * KIBIBYTE,
    "a trailer without an end": CHUNKED + b"0\r\nx-a: " + b"a" * 99 * KIBIBYTE,
}


@asynccontextmanager
async def client() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    try:
        yield upstream
    finally:
        await upstream.aclose()


def call(url: str, method: str = "POST") -> UpstreamCall:
    return UpstreamCall("groq", url, method=method, body=None, retry=RetryPolicy(limit=0))


async def read(upstream: Upstream, call: UpstreamCall) -> tuple[int, bytes]:
    async with await upstream.request(call) as answer:
        return answer.status, await answer.body()


@pytest.mark.parametrize("is_cut_up", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", ANSWERS)
@on_every_loop
async def test_an_answer_ends_where_its_framing_says(name: str, is_cut_up: bool) -> None:
    answer = ANSWERS[name]

    async def serve(connection: RawConnection) -> None:
        while await connection.request():
            step = 1 if is_cut_up else len(answer.wire)
            pieces = range(0, len(answer.wire), step)
            await connection.send(*(answer.wire[start : start + step] for start in pieces))
            if answer.is_closed:
                return

    async with raw_server(serve) as server, client() as upstream:
        for _ in range(2):
            asked = call(server.url, answer.method)
            assert await read(upstream, asked) == (answer.status, answer.body)
        assert server.connections == (1 if answer.is_kept else 2)


@pytest.mark.parametrize("name", CUT)
@on_every_loop
async def test_an_answer_cut_short_is_an_error(name: str) -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(CUT[name])

    async with raw_server(serve) as server, client() as upstream:
        with pytest.raises(UpstreamConnectionError, match="lost in the middle") as raised:
            await read(upstream, call(server.url))
    assert raised.value.is_retryable


@pytest.mark.parametrize("name", WRONG)
@on_every_loop
async def test_bytes_that_are_no_answer_are_an_error(name: str) -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(WRONG[name])
        await connection.gone()

    async with raw_server(serve) as server, client() as upstream:
        with pytest.raises(UpstreamProtocolError, match="groq: the answer is not HTTP"):
            await read(upstream, call(server.url))


@on_every_loop
async def test_what_came_before_the_fault_can_be_read() -> None:
    wire = WRONG["a wrong chunk in the middle"]
    async with raw_server(answering(wire)) as server, client() as upstream:
        answer = await upstream.request(call(server.url))
        assert await answer.read() == b"hello"
        for _ in range(2):
            with pytest.raises(UpstreamProtocolError):
                await answer.read()


@on_every_loop
async def test_a_server_that_speaks_first_is_not_http() -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.send(b"220 mail.example ESMTP\r\n")
        await connection.gone()

    async with raw_server(serve) as server, client() as upstream:
        with pytest.raises(UpstreamProtocolError, match="not HTTP"):
            await read(upstream, call(server.url))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"transfer-encoding: gzip, chunked", "transfer coding other than chunked"),
        (b"content-encoding: br", "content coding other than identity, gzip"),
        (b"content-encoding: gzip", "not in its content coding gzip"),
    ],
)
@on_every_loop
async def test_a_coding_that_cannot_be_read_is_named(header: bytes, text: str) -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        length = b"" if header.startswith(b"transfer") else b"content-length: 5\r\n"
        await connection.send(OK + length + header + b"\r\n\r\nhello")
        await connection.gone()

    async with raw_server(serve) as server, client() as upstream:
        with pytest.raises(UpstreamProtocolError, match=text):
            await read(upstream, call(server.url))


@on_every_loop
async def test_an_answer_that_came_compressed_hides_it() -> None:
    packed = gzip.compress(b"data: 1\n\n")
    head = b"Content-Encoding: gzip\r\ncontent-length: %d\r\nx-request-id: r\r\n\r\n" % len(packed)
    async with raw_server(answering(OK + head + packed)) as server, client() as upstream:
        async with await upstream.request(call(server.url)) as answer:
            assert dict(answer.headers) == {"x-request-id": "r"}
            assert [chunk async for chunk in answer.chunks()] == [b"data: 1\n\n"]
        await read(upstream, call(server.url))
        assert server.connections == 1


@on_every_loop
async def test_a_compressed_answer_cut_short_is_an_error() -> None:
    packed = gzip.compress(b"data: 1\n\n" * 100)[:-9]
    head = b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with raw_server(answering(OK + head + packed)) as server, client() as upstream:
        with pytest.raises(UpstreamProtocolError, match="ends in the middle"):
            await read(upstream, call(server.url))


@on_every_loop
async def test_pieces_that_came_together_are_read_together() -> None:
    async with raw_server(answering(ANSWERS["chunks"].wire)) as server, client() as upstream:
        answer = await upstream.request(call(server.url))
        assert [await answer.read(), await answer.read(), await answer.read()] == [
            b"hello",
            b"",
            b"",
        ]


@on_every_loop
async def test_trailers_are_no_headers() -> None:
    wire = ANSWERS["extensions and trailers"].wire
    async with raw_server(answering(wire)) as server, client() as upstream:
        answer = await upstream.request(call(server.url))
        assert await answer.body() == b"hello"
        assert dict(answer.headers) == {"transfer-encoding": "chunked"}
