"""Who waits for whom: slow readers, slow writers, callers that go, and timers that move."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from providers.http import Pool
from providers.http import connection as http_connection
from providers.upstream import RetryPolicy, Timeouts, Upstream, UpstreamCall
from streaming.errors import UpstreamConnectionError, UpstreamTimeoutError
from tests.loops import on_every_loop
from tests.raw_server import PATIENCE_SECONDS, RawConnection, answering, raw_server

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
SOME = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"
MEBIBYTE = 1024 * 1024
# What one receive of a loop may bring on top of the mark.
ONE_RECEIVE = 256 * 1024
QUIET_TURNS = 300


@asynccontextmanager
async def client(pool: Pool | None = None) -> AsyncIterator[Upstream]:
    upstream = Upstream(pool=pool)
    try:
        yield upstream
    finally:
        await upstream.aclose()


def call(url: str, *, body: bytes = b"{}", timeouts: Timeouts | None = None) -> UpstreamCall:
    return UpstreamCall(
        "groq", url, body=body, timeouts=timeouts or Timeouts(), retry=RetryPolicy(limit=0)
    )


async def stalled(progress: Callable[[], int]) -> int:
    """The progress at which both sides wait for each other: the kernel needs no time between."""
    quiet, last = 0, -1
    while quiet < QUIET_TURNS:
        quiet = quiet + 1 if progress() == last else 0
        last = progress()
        await asyncio.sleep(0)
    return last


async def until_idle(pool: Pool) -> None:
    """Until a connection was given back; a pool tells nobody of it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not pool.idle_count:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def until(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE_SECONDS)


@on_every_loop
async def test_a_slow_reader_holds_the_upstream_up() -> None:
    size, sent = 48 * MEBIBYTE, 0
    piece = bytes(64 * 1024)

    async def serve(connection: RawConnection) -> None:
        nonlocal sent
        await connection.request()
        connection.writer.transport.set_write_buffer_limits(0)
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            await connection.send(piece)
            sent += len(piece)

    async with raw_server(serve) as server, client() as upstream:
        answer = await upstream.request(call(server.url))
        assert await stalled(lambda: sent) < size
        sizes = []
        while data := await answer.read():
            sizes.append(len(data))
    assert sum(sizes) == size
    assert max(sizes) <= http_connection.HIGH_WATER_BYTES + ONE_RECEIVE


@on_every_loop
async def test_a_large_request_is_written_as_fast_as_it_is_read() -> None:
    body = bytes(range(256)) * 4096 * 24
    may_read = asyncio.Event()
    received = b""

    async def serve(connection: RawConnection) -> None:
        nonlocal received
        await until(may_read)
        received = await connection.request()
        await connection.send(OK)

    async with raw_server(serve) as server, client() as upstream:
        asking = asyncio.create_task(upstream.request(call(server.url, body=body)))
        held = await stalled(lambda: max(map(unsent_bytes, connections_of(upstream)), default=0))
        assert held < http_connection.WRITE_BYTES + ONE_RECEIVE
        may_read.set()
        async with await asyncio.wait_for(asking, PATIENCE_SECONDS) as answer:
            assert await answer.body() == b"hello"
        assert hashlib.sha256(received.partition(b"\r\n\r\n")[2]).digest() == (
            hashlib.sha256(body).digest()
        )
        # The connection is as good as any.
        async with await upstream.request(call(server.url)) as answer:
            await answer.body()


def connections_of(upstream: Upstream) -> list[http_connection.Connection]:
    return list(upstream._pool._open)


def unsent_bytes(connection: http_connection.Connection) -> int:
    """What the transport holds, which is not the caller's own body."""
    return connection._transport.get_write_buffer_size()


@on_every_loop
async def test_an_answer_that_comes_before_the_request_was_read_counts() -> None:
    left = asyncio.Event()

    async def serve(connection: RawConnection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await until(answered)
        await connection.gone()
        left.set()

    answered = asyncio.Event()
    async with raw_server(serve) as server, client() as upstream:
        async with await upstream.request(call(server.url, body=bytes(24 * MEBIBYTE))) as answer:
            assert (answer.status, await answer.body()) == (413, b"big")
        # Half a request is on it: nothing else may follow.
        answered.set()
        await until(left)


@on_every_loop
async def test_a_server_that_ends_without_reading_the_request_is_not_waited_for() -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.writer.write_eof()
        await asked.wait()

    asked = asyncio.Event()
    async with raw_server(serve) as server, client() as upstream:
        asking = upstream.request(call(server.url, body=bytes(24 * MEBIBYTE)))
        with pytest.raises(UpstreamConnectionError, match="closed before an answer came"):
            await asyncio.wait_for(asking, PATIENCE_SECONDS)
        asked.set()


async def leaves(serve_until: bytes, act: Callable[[asyncio.Task[bytes]], object]) -> None:
    """A task reads a whole answer of which only this comes; the server must see it go."""
    began, left = asyncio.Event(), asyncio.Event()

    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(serve_until)
        began.set()
        await connection.gone()
        left.set()

    async def read(upstream: Upstream, url: str) -> bytes:
        answer = await upstream.request(call(url))
        return await answer.body()

    async with raw_server(serve) as server, client() as upstream:
        task = asyncio.create_task(read(upstream, server.url))
        await until(began)
        act(task)
        await until(left)
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "sent",
    [b"", b"HTTP/1.1 200 OK\r\n", SOME.removesuffix(b"hello"), SOME],
    ids=["before the head", "in the head", "before the body", "in the body"],
)
@on_every_loop
async def test_cancelling_who_waits_drops_the_connection(sent: bytes) -> None:
    await leaves(sent, lambda task: task.cancel())


@on_every_loop
async def test_cancelling_who_waits_for_a_connection_leaves_no_socket() -> None:
    with socket.socket() as listening, socket.socket() as filling:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        filling.connect(listening.getsockname())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with client() as upstream:
            task = asyncio.create_task(upstream.request(call(url)))
            for _ in range(QUIET_TURNS):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@on_every_loop
async def test_cancelling_in_the_middle_of_a_tls_handshake_drops_the_connection() -> None:
    began, left = asyncio.Event(), asyncio.Event()

    async def serve(connection: RawConnection) -> None:
        # The client's hello, which is never answered.
        await connection.reader.read(1)
        began.set()
        await connection.gone()
        left.set()

    async with raw_server(serve) as server, client() as upstream:
        secure = call(server.url.replace("http:", "https:"))
        task = asyncio.create_task(upstream.request(secure))
        await until(began)
        task.cancel()
        await until(left)
        with pytest.raises(asyncio.CancelledError):
            await task


@on_every_loop
async def test_the_time_for_a_connection_covers_its_tls_handshake() -> None:
    left = asyncio.Event()

    async def serve(connection: RawConnection) -> None:
        await connection.gone()
        left.set()

    async with raw_server(serve) as server, client() as upstream:
        secure = call(
            server.url.replace("http:", "https:"), timeouts=Timeouts(connect_seconds=0.05)
        )
        with pytest.raises(UpstreamTimeoutError, match="connect_seconds"):
            await upstream.request(secure)
        await until(left)


@on_every_loop
async def test_a_deadline_that_moved_is_neither_early_nor_missed() -> None:
    # The first wait arms a timer for 50 ms, which fires while the last wait has another deadline.
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()
        await connection.send(SOME)
        await connection.gone()

    async with raw_server(serve) as server, raw_server(silent) as clock, client() as upstream:
        short, long = Timeouts(first_byte_seconds=0.05), Timeouts(idle_seconds=0.3)
        async with await upstream.request(call(server.url, timeouts=short)) as answer:
            await answer.body()
        answer = await upstream.request(call(server.url, timeouts=long))
        await answer.read()
        reading = asyncio.create_task(answer.read())
        # Another call's timeout tells that the first timer has fired.
        with pytest.raises(UpstreamTimeoutError):
            await upstream.request(call(clock.url, timeouts=Timeouts(first_byte_seconds=0.1)))
        assert not reading.done()
        with pytest.raises(UpstreamTimeoutError, match="idle_seconds"):
            await asyncio.wait_for(reading, PATIENCE_SECONDS)


async def silent(connection: RawConnection) -> None:
    """Serve nothing."""
    await connection.gone()


@on_every_loop
async def test_what_has_come_is_read_without_a_wait() -> None:
    async with raw_server(answering(OK)) as server, client() as upstream:
        answer = await upstream.request(call(server.url))
        # A coroutine that suspends would yield instead.
        for expected in (b"hello", b""):
            with pytest.raises(StopIteration) as ended:
                answer.read().send(None)
            assert ended.value.value == expected


def ending_late(may_end: asyncio.Event) -> Callable[[RawConnection], Awaitable[None]]:
    """A server whose answers end when they may."""

    async def serve(connection: RawConnection) -> None:
        while await connection.request():
            await connection.send(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
            )
            await until(may_end)
            await connection.send(b"0\r\n", b"\r\n")

    return serve


@on_every_loop
async def test_draining_takes_the_end_that_comes_later() -> None:
    may_end = asyncio.Event()
    async with raw_server(ending_late(may_end)) as server, client() as upstream:
        for _ in range(2):
            may_end.clear()
            answer = await upstream.request(call(server.url))
            asyncio.get_running_loop().call_soon(may_end.set)
            await answer.drain()
            answer.close()
        assert server.connections == 1


@on_every_loop
async def test_an_answer_that_was_left_takes_the_end_that_comes_later() -> None:
    pool, may_end = Pool(), asyncio.Event()
    async with raw_server(ending_late(may_end)) as server, client(pool) as upstream:
        for _ in range(2):
            may_end.clear()
            answer = await upstream.request(call(server.url))
            answer.leave()
            answer.close()
            assert pool.idle_count == 0
            may_end.set()
            await until_idle(pool)
        assert server.connections == 1


@pytest.mark.parametrize(("own", "given"), [(20.0, 0.05), (0.05, 20.0)], ids=["given", "own"])
async def test_an_answer_ends_by_the_earlier_of_its_two_deadlines(own: float, given: float) -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(SOME)
        await connection.gone()

    async with raw_server(serve) as server, client() as upstream:
        asked = call(server.url, timeouts=Timeouts(idle_seconds=30, total_seconds=own))
        deadline = asyncio.get_running_loop().time() + given
        async with await upstream.attempt(asked, deadline) as answer:
            with pytest.raises(UpstreamTimeoutError) as raised:
                await answer.body()
    assert raised.value.param == "total_seconds"
