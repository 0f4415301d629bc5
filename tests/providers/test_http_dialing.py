"""Names, addresses and certificates of new connections, on real sockets and both loops."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from providers.http.dialing import Address, open_socket
from providers.upstream import RetryPolicy, Upstream, UpstreamCall
from streaming.errors import UpstreamConnectionError
from tests.loops import on_every_loop
from tests.raw_server import (
    PATIENCE_SECONDS,
    RawConnection,
    answering,
    certificate_for,
    raw_server,
    server_tls,
)

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
LOOPBACK = "127.0.0.1"
TURNS = 20


@asynccontextmanager
async def client() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    try:
        yield upstream
    finally:
        await upstream.aclose()


def call(url: str) -> UpstreamCall:
    return UpstreamCall("groq", url, body=b"{}", retry=RetryPolicy(limit=0))


async def body_of(upstream: Upstream, url: str) -> bytes:
    async with await upstream.request(call(url)) as answer:
        return await answer.body()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_for(f"DNS:localhost,IP:{LOOPBACK}", tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def foreign_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_for("DNS:elsewhere.example", tmp_path_factory.mktemp("foreign"))


@on_every_loop
async def test_a_trusted_server_is_asked_by_its_name_or_address(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    asked: list[tuple[str | None, str | None]] = []
    tls = server_tls(certificate)
    tls.set_alpn_protocols(["http/1.1"])

    def note(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        asked.append((name, connection.version()))

    tls.sni_callback = note
    async with raw_server(answering(OK), tls=tls) as server, client() as upstream:
        for url in (server.url, server.url, server.url.replace(LOOPBACK, "localhost")):
            assert await body_of(upstream, url) == b"hello"
        assert server.connections == 2
    # An address is not a name, and is checked without being sent.
    assert [name for name, _ in asked] == [None, "localhost"]


@on_every_loop
async def test_a_large_answer_and_a_large_request_pass_through_tls(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    body = bytes(range(256)) * 4096 * 6

    async def serve(connection: RawConnection) -> None:
        received = await connection.request()
        echoed = received.partition(b"\r\n\r\n")[2]
        await connection.send(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(echoed), echoed
        )

    async with raw_server(serve, tls=server_tls(certificate)) as server, client() as upstream:
        asked = UpstreamCall("groq", server.url, body=body)
        async with await upstream.request(asked) as answer:
            assert await answer.body() == body


@on_every_loop
async def test_closing_an_answer_over_tls_ends_the_request_at_once(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    left = asyncio.Event()

    async def serve(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello")
        await connection.gone()
        left.set()

    async with raw_server(serve, tls=server_tls(certificate)) as server, client() as upstream:
        async with await upstream.request(call(server.url)) as answer:
            assert await answer.read() == b"hello"
        await asyncio.wait_for(left.wait(), PATIENCE_SECONDS)


async def untrusted(url: str) -> None:
    async with client() as upstream:
        with pytest.raises(UpstreamConnectionError, match="no trusted TLS connection") as raised:
            await upstream.request(UpstreamCall("groq", url, body=b"{}"))
    assert not raised.value.is_retryable


@on_every_loop
async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    async with raw_server(answering(OK), tls=server_tls(certificate)) as server:
        await untrusted(server.url)


@on_every_loop
async def test_a_certificate_for_another_host_is_refused(
    foreign_certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(foreign_certificate))
    async with raw_server(answering(OK), tls=server_tls(foreign_certificate)) as server:
        await untrusted(server.url)


@on_every_loop
async def test_a_server_without_tls_is_refused() -> None:
    async def serve(connection: RawConnection) -> None:
        await connection.reader.read(1)
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await connection.gone()

    async with raw_server(serve) as server:
        await untrusted(server.url.replace("http:", "https:"))


@contextlib.contextmanager
def refusing() -> Any:
    """An address that no socket listens on."""
    with socket.create_server((LOOPBACK, 0)) as closed_soon:
        address = Address(socket.AF_INET, closed_soon.getsockname())
    yield address


@contextlib.contextmanager
def dead() -> Any:
    """An address that takes no connection and refuses none."""
    with socket.socket() as listening, socket.socket() as filling:
        listening.bind((LOOPBACK, 0))
        listening.listen(0)
        filling.connect(listening.getsockname())
        yield Address(socket.AF_INET, listening.getsockname())


@pytest.mark.parametrize("first", [refusing, dead])
@on_every_loop
async def test_the_next_address_is_tried_where_one_does_not_answer(first: Any) -> None:
    with first() as bad, socket.create_server((LOOPBACK, 0)) as listening:
        good = Address(socket.AF_INET, listening.getsockname())
        opened = await asyncio.wait_for(open_socket([bad, good]), PATIENCE_SECONDS)
        with opened:
            assert opened.getpeername() == listening.getsockname()
        await nothing_runs()


async def nothing_runs() -> None:
    """Give what was cancelled its turns to end."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@on_every_loop
async def test_no_address_that_answers_is_an_error() -> None:
    with refusing() as one, refusing() as other, pytest.raises(ConnectionRefusedError):
        await open_socket([one, other])


@on_every_loop
async def test_who_is_cancelled_between_two_addresses_leaves_no_socket() -> None:
    with dead() as one, dead() as other:
        task = asyncio.create_task(open_socket([one, other]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await nothing_runs()


@on_every_loop
async def test_a_server_on_one_family_of_localhost_is_found() -> None:
    async with raw_server(answering(OK)) as server, client() as upstream:
        assert await body_of(upstream, server.url.replace(LOOPBACK, "localhost")) == b"hello"


async def test_an_ipv6_address_is_asked_as_one() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    received = b""

    async def serve(connection: RawConnection) -> None:
        nonlocal received
        received = await connection.request()
        await connection.send(OK)

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        except OSError:
            pytest.skip("no IPv6 loopback")
    async with raw_server(serve, host="::1") as server, client() as upstream:
        url = f"http://[::1]:{server.port}/"
        assert await body_of(upstream, url) == b"hello"
        assert b"\r\nhost: [::1]:%d\r\n" % server.port in received


async def test_calls_at_once_ask_the_resolver_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def note(host: str, *rest: Any, **options: Any) -> Any:
        asked.append(host)
        return resolve(LOOPBACK, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", note)
    async with raw_server(answering(OK)) as server, client() as upstream:
        url = server.url.replace(LOOPBACK, "model.example")
        await asyncio.gather(*(body_of(upstream, url) for _ in range(5)))
        assert server.connections == 5
    assert asked == ["model.example"]


async def test_a_name_without_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with client() as upstream:
        with pytest.raises(UpstreamConnectionError, match="could not be resolved") as raised:
            await upstream.request(call("http://model.example/"))
    assert raised.value.is_retryable
