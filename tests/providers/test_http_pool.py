"""Which connections are used again, which are closed, and when, on real sockets and both loops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from providers.http import Pool
from providers.upstream import RetryPolicy, Timeouts, Upstream, UpstreamCall
from streaming.errors import UpstreamConnectionError, UpstreamTimeoutError
from tests.loops import on_every_loop
from tests.raw_server import PATIENCE_SECONDS, RawConnection, answering, raw_server

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
SOME = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"
# Of the loop, in which the end of a connection on loopback is noticed.
TURNS = 100


@asynccontextmanager
async def client(pool: Pool | None = None) -> AsyncIterator[Upstream]:
    upstream = Upstream(pool=pool)
    try:
        yield upstream
    finally:
        await upstream.aclose()


def call(url: str, timeouts: Timeouts | None = None) -> UpstreamCall:
    return UpstreamCall(
        "groq", url, body=b"{}", timeouts=timeouts or Timeouts(), retry=RetryPolicy(limit=0)
    )


async def body_of(upstream: Upstream, call: UpstreamCall) -> bytes:
    async with await upstream.request(call) as answer:
        return await answer.body()


async def until(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE_SECONDS)


@on_every_loop
async def test_calls_after_each_other_share_a_connection_and_calls_at_once_do_not() -> None:
    pool = Pool()
    async with raw_server(answering(OK)) as server, client(pool) as upstream:
        for _ in range(3):
            assert await body_of(upstream, call(server.url)) == b"hello"
        assert server.connections == 1
        await asyncio.gather(*(body_of(upstream, call(server.url)) for _ in range(4)))
        assert server.connections == 4
        assert pool.idle_count == 4


@on_every_loop
async def test_origins_share_nothing() -> None:
    async with raw_server(answering(OK)) as one, raw_server(answering(OK)) as other:
        async with client() as upstream:
            for server in (one, other, one, other):
                await body_of(upstream, call(server.url))
        assert (one.connections, other.connections) == (1, 1)


@on_every_loop
async def test_an_answer_not_read_to_its_end_gives_its_connection_up() -> None:
    left = asyncio.Event()

    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(SOME)
        await connection.gone()
        left.set()

    async with raw_server(serve) as server, client() as upstream:
        async with await upstream.request(call(server.url)) as answer:
            assert await answer.read() == b"hello"
        await until(left)
        with pytest.raises(UpstreamConnectionError):
            await answer.read()


@on_every_loop
async def test_a_connection_that_was_closed_while_idle_is_not_used() -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)

    pool = Pool()
    async with raw_server(serve) as server, client(pool) as upstream:
        for number in range(1, 4):
            assert await body_of(upstream, call(server.url)) == b"hello"
            assert server.connections == number
            for _ in range(TURNS):
                await asyncio.sleep(0)
            assert pool.idle_count == 0


@on_every_loop
async def test_a_request_lost_with_a_kept_connection_is_sent_once_more_on_a_new_one() -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        # The server goes while the second request is on its way.
        await connection.request()

    async with raw_server(serve) as server, client() as upstream:
        for number in range(1, 4):
            assert await body_of(upstream, call(server.url)) == b"hello"
            assert server.connections == number


@on_every_loop
async def test_a_request_lost_with_a_new_connection_is_not_sent_again() -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        if connection.number == 1:
            await connection.send(OK)
            await connection.request()

    async with raw_server(serve) as server, client() as upstream:
        await body_of(upstream, call(server.url))
        with pytest.raises(UpstreamConnectionError, match="closed before an answer came"):
            await body_of(upstream, call(server.url))
        assert server.connections == 2


@on_every_loop
async def test_a_request_that_was_begun_to_be_answered_is_not_sent_again() -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()
        await connection.send(b"HTTP/1.1 ")

    async with raw_server(serve) as server, client() as upstream:
        await body_of(upstream, call(server.url))
        with pytest.raises(UpstreamConnectionError, match="closed before an answer came"):
            await body_of(upstream, call(server.url))
        assert server.connections == 1


@on_every_loop
async def test_a_silent_kept_connection_is_a_timeout_and_not_sent_again() -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.gone()

    async with raw_server(serve) as server, client() as upstream:
        await body_of(upstream, call(server.url))
        with pytest.raises(UpstreamTimeoutError, match="first_byte_seconds"):
            await body_of(upstream, call(server.url, Timeouts(first_byte_seconds=0.05)))
        assert server.connections == 1


@on_every_loop
async def test_bytes_on_an_idle_connection_close_it() -> None:
    answered, left = asyncio.Event(), asyncio.Event()

    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        if connection.number == 1:
            await until(answered)
            await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await connection.gone()
        left.set()

    async with raw_server(serve) as server, client() as upstream:
        await body_of(upstream, call(server.url))
        answered.set()
        await until(left)
        assert await body_of(upstream, call(server.url)) == b"hello"
        assert server.connections == 2


@on_every_loop
async def test_an_idle_connection_is_closed_after_its_time() -> None:
    left = asyncio.Event()

    async def serve(connection: RawConnection) -> None:
        await answering(OK)(connection)
        left.set()

    pool = Pool(idle_seconds=0.05)
    async with raw_server(serve) as server, client(pool) as upstream:
        for number in range(1, 3):
            left.clear()
            await body_of(upstream, call(server.url))
            await until(left)
            assert (pool.idle_count, server.connections) == (0, number)


@on_every_loop
async def test_no_more_connections_are_kept_than_allowed() -> None:
    pool = Pool(idle_limit=2)
    async with raw_server(answering(OK)) as server, client(pool) as upstream:
        await asyncio.gather(*(body_of(upstream, call(server.url)) for _ in range(5)))
        assert (server.connections, pool.idle_count) == (5, 2)


@on_every_loop
async def test_closing_the_client_ends_what_is_idle_and_what_is_being_read() -> None:
    left: asyncio.Queue[int] = asyncio.Queue()

    async def serve(connection: RawConnection) -> None:
        await connection.request()
        # No length: the end of the connection would be the end of the body.
        await connection.send(OK if connection.number == 2 else b"HTTP/1.1 200 OK\r\n\r\nhello")
        await connection.gone()
        left.put_nowait(connection.number)

    async with raw_server(serve) as server:
        upstream = Upstream()
        reading = await upstream.request(call(server.url))
        await reading.read()
        await body_of(upstream, call(server.url))
        read = asyncio.create_task(reading.read())
        await asyncio.sleep(0)
        await upstream.aclose()
        with pytest.raises(UpstreamConnectionError, match="lost in the middle"):
            await asyncio.wait_for(read, PATIENCE_SECONDS)
        gone = {await asyncio.wait_for(left.get(), PATIENCE_SECONDS) for _ in range(2)}
        assert gone == {1, 2}
        with pytest.raises(UpstreamConnectionError, match="is stopping") as raised:
            await upstream.request(call(server.url))
        assert not raised.value.is_retryable
        await upstream.aclose()
