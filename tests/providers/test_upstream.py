"""The upstream client against a loopback server that misbehaves."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from structlog.testing import capture_logs

from providers.upstream import RetryPolicy, Timeouts, Upstream, UpstreamCall
from streaming.errors import (
    UpstreamConnectionError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from tests.servers import Scripted, scripted

SECRET = "sk-very-secret"
NOON = 1_794_052_800.0
NOON_AND_SEVEN_SECONDS = "Sat, 07 Nov 2026 12:00:07 GMT"
JITTER = 0.5
PATIENCE_SECONDS = 10.0


@pytest.fixture
def waits() -> list[float]:
    """The waits that the client asked for, none of which took place."""
    return []


@pytest.fixture
async def upstream(waits: list[float]) -> AsyncIterator[Upstream]:
    async def note(seconds: float) -> None:
        waits.append(seconds)

    client = Upstream(sleep=note, jitter=lambda: JITTER, now=lambda: NOON)
    yield client
    await client.aclose()


def call(
    url: str, *, timeouts: Timeouts | None = None, retry: RetryPolicy | None = None
) -> UpstreamCall:
    return UpstreamCall(
        provider="groq",
        url=f"{url}/v1/chat/completions",
        headers={"authorization": f"Bearer {SECRET}"},
        body=b"{}",
        timeouts=timeouts or Timeouts(),
        retry=retry or RetryPolicy(),
    )


async def body_of(upstream: Upstream, call: UpstreamCall) -> bytes:
    async with await upstream.request(call) as answer:
        return await answer.body()


async def test_an_answer_has_its_status_headers_and_body(upstream: Upstream) -> None:
    headers = {"X-Request-Id": "req_1", "Content-Type": "Application/JSON; charset=utf-8"}
    async with (
        scripted(Scripted(201, (b"ab", b"cd"), headers)) as server,
        await upstream.request(call(server.url)) as answer,
    ):
        assert answer.status == 201
        assert answer.request_id == "req_1"
        assert answer.media_type == "application/json"
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"abcd"
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.body == b"{}"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
async def test_a_failing_status_is_repeated_with_growing_waits(
    upstream: Upstream, waits: list[float], status: int
) -> None:
    async with scripted(Scripted(status), Scripted(status), Scripted(pieces=(b"ok",))) as server:
        assert await body_of(upstream, call(server.url)) == b"ok"
    assert waits == [JITTER * 0.5, JITTER * 1.0]


async def test_the_last_failing_answer_is_given_to_the_caller(
    upstream: Upstream, waits: list[float]
) -> None:
    async with scripted(Scripted(503, (b"busy",))) as server:
        async with await upstream.request(call(server.url)) as answer:
            assert (answer.status, await answer.body()) == (503, b"busy")
        assert len(server.requests) == 3
    assert len(waits) == 2


async def test_waits_grow_no_further_than_their_bound(
    upstream: Upstream, waits: list[float]
) -> None:
    policy = RetryPolicy(limit=4, base_seconds=1.0, max_seconds=3.0)
    async with scripted(Scripted(500)) as server:
        await body_of(upstream, call(server.url, retry=policy))
    assert waits == [JITTER * seconds for seconds in (1.0, 2.0, 3.0, 3.0)]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
async def test_a_refusal_is_not_repeated(upstream: Upstream, status: int) -> None:
    async with scripted(Scripted(status)) as server:
        async with await upstream.request(call(server.url)) as answer:
            assert answer.status == status
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "value", "seconds"),
    [
        ("Retry-After", "3", 3.0),
        ("Retry-After", "0.25", 0.25),
        ("Retry-After", NOON_AND_SEVEN_SECONDS, 7.0),
        ("Retry-After", "Sat, 07 Nov 2026 11:00:00 GMT", 0.0),
        ("Retry-After-Ms", "1500", 1.5),
        ("Retry-After", "soon", JITTER * 0.5),
        ("Retry-After", "nan", JITTER * 0.5),
    ],
)
async def test_the_wait_that_an_answer_asks_for_is_kept(
    upstream: Upstream, waits: list[float], header: str, value: str, seconds: float
) -> None:
    async with scripted(Scripted(429, headers={header: value}), Scripted()) as server:
        await body_of(upstream, call(server.url))
        assert len(server.requests) == 2
    assert waits == [seconds]


async def test_an_answer_that_asks_for_a_long_wait_is_given_to_the_caller(
    upstream: Upstream, waits: list[float]
) -> None:
    async with scripted(Scripted(429, headers={"Retry-After": "3600"})) as server:
        async with await upstream.request(call(server.url)) as answer:
            assert (answer.status, answer.retry_after_seconds) == (429, 3600.0)
        assert len(server.requests) == 1
    assert waits == []


@pytest.mark.parametrize(("status", "told", "tries"), [(400, "true", 2), (503, "false", 1)])
async def test_x_should_retry_has_the_last_word(
    upstream: Upstream, status: int, told: str, tries: int
) -> None:
    async with scripted(Scripted(status, headers={"x-should-retry": told}), Scripted()) as server:
        await body_of(upstream, call(server.url))
        assert len(server.requests) == tries


async def test_no_repeat_begins_after_the_total_time(
    upstream: Upstream, waits: list[float]
) -> None:
    answer = Scripted(503, headers={"Retry-After": "20"})
    async with scripted(answer) as server:
        limited = call(server.url, timeouts=Timeouts(total_seconds=15))
        async with await upstream.request(limited) as given:
            assert given.status == 503
    assert waits == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Scripted(None, ending="cut"), id="closed before the head"),
        pytest.param(Scripted(None, ending="reset"), id="reset before the head"),
        pytest.param(Scripted(200, ending="cut"), id="closed before the body"),
        pytest.param(Scripted(200, ending="reset"), id="reset before the body"),
    ],
)
async def test_a_connection_lost_before_the_first_byte_is_repeated(
    upstream: Upstream, waits: list[float], fault: Scripted
) -> None:
    async with scripted(fault, Scripted(pieces=(b"ok",))) as server:
        assert await body_of(upstream, call(server.url)) == b"ok"
    assert len(waits) == 1


@pytest.mark.parametrize("ending", ["cut", "reset"])
async def test_a_connection_lost_in_the_middle_is_an_error_and_not_repeated(
    upstream: Upstream, waits: list[float], ending: str
) -> None:
    fault = Scripted(200, (b"the first half",), ending=ending)  # type: ignore[arg-type]
    async with scripted(fault) as server:
        with pytest.raises(UpstreamConnectionError, match=r"^groq: .* lost"):
            await body_of(upstream, call(server.url))
        assert len(server.requests) == 1
    assert waits == []


async def test_a_refused_connection_is_repeated_and_then_named(
    upstream: Upstream, waits: list[float]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    with (
        capture_logs() as logs,
        pytest.raises(UpstreamConnectionError, match=r"^groq: .*refused") as raised,
    ):
        await upstream.request(call(f"http://127.0.0.1:{port}"))
    assert len(waits) == 2
    # Where an upstream is concerns who runs the server, not who calls it.
    assert "127.0.0.1" not in raised.value.message
    assert any(line.get("host") == f"127.0.0.1:{port}" for line in logs)


@contextlib.contextmanager
def full_server() -> Iterator[str]:
    """The URL of a socket that takes no further connection and refuses none."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        stack.enter_context(socket.create_connection(address))
        yield f"http://127.0.0.1:{address[1]}"


async def test_a_connection_that_is_not_made_in_time_is_repeated(
    upstream: Upstream, waits: list[float]
) -> None:
    with full_server() as url:
        limited = call(url, timeouts=Timeouts(connect_seconds=0.05), retry=RetryPolicy(limit=1))
        with pytest.raises(UpstreamTimeoutError, match="connect_seconds") as raised:
            await upstream.request(limited)
    assert raised.value.param == "connect_seconds"
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("fault", "timeouts", "param"),
    [
        pytest.param(
            Scripted(None, ending="silence"),
            Timeouts(first_byte_seconds=0.05),
            "first_byte_seconds",
            id="no head",
        ),
        pytest.param(
            Scripted(200, ending="silence"),
            Timeouts(first_byte_seconds=0.05),
            "first_byte_seconds",
            id="no body",
        ),
        pytest.param(
            Scripted(200, (b"some",), ending="silence"),
            Timeouts(idle_seconds=0.05),
            "idle_seconds",
            id="silent in the middle",
        ),
        pytest.param(
            Scripted(200, (b"some",), ending="silence"),
            Timeouts(total_seconds=0.2),
            "total_seconds",
            id="too long in all",
        ),
    ],
)
async def test_a_wait_that_is_over_names_its_bound_and_drops_the_connection(
    upstream: Upstream, waits: list[float], fault: Scripted, timeouts: Timeouts, param: str
) -> None:
    async with scripted(fault) as server:
        with pytest.raises(UpstreamTimeoutError, match=param) as raised:
            await body_of(upstream, call(server.url, timeouts=timeouts))
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)
        assert len(server.requests) == 1
    assert (raised.value.param, raised.value.provider) == (param, "groq")
    assert waits == []


async def test_closing_an_answer_ends_the_request_at_once(upstream: Upstream) -> None:
    async with scripted(Scripted(200, (b"some",), ending="silence")) as server:
        answer = await upstream.request(call(server.url))
        answer.close()
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)


async def test_cancelling_who_waits_ends_the_request_at_once(upstream: Upstream) -> None:
    async with scripted(Scripted(200, ending="silence")) as server:
        waiting = asyncio.create_task(upstream.request(call(server.url)))
        await asyncio.wait_for(server.asked.wait(), PATIENCE_SECONDS)
        waiting.cancel()
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_body_over_its_cap_is_an_error(upstream: Upstream) -> None:
    async with scripted(Scripted(200, (b"x" * 600, b"x" * 600))) as server:
        answer = await upstream.request(call(server.url))
        with pytest.raises(UpstreamProtocolError, match="more than 1000 bytes"):
            await answer.body(max_bytes=1000)


async def test_bytes_that_are_not_http_are_an_error(upstream: Upstream) -> None:
    async with scripted(Scripted(None, (b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), ending="cut")) as server:
        with pytest.raises(UpstreamError, match="not HTTP"):
            await upstream.request(call(server.url, retry=RetryPolicy(limit=0)))


async def test_a_base_url_that_is_none_is_an_error_and_not_repeated(
    upstream: Upstream, waits: list[float]
) -> None:
    with pytest.raises(UpstreamConnectionError, match=r"not a valid http\(s\) URL"):
        await upstream.request(call("ftp://127.0.0.1"))
    assert waits == []


async def test_a_key_that_no_header_can_carry_is_an_error(upstream: Upstream) -> None:
    async with scripted(Scripted()) as server:
        broken = UpstreamCall("groq", server.url, headers={"authorization": "Bearer a\nb: c"})
        with pytest.raises(UpstreamConnectionError, match="base URL or the key"):
            await upstream.request(broken)
        assert server.requests == []


async def test_a_redirect_is_not_followed(upstream: Upstream) -> None:
    async with (
        scripted(Scripted()) as elsewhere,
        scripted(Scripted(307, headers={"location": elsewhere.url})) as server,
        await upstream.request(call(server.url)) as answer,
    ):
        assert answer.status == 307
        assert elsewhere.requests == []


async def test_cookies_and_proxies_of_the_environment_play_no_part(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with scripted(Scripted(headers={"set-cookie": "a=b"})) as server:
        # A jar would keep no cookie of a host that has no name.
        url = server.url.replace("127.0.0.1", "localhost")
        await body_of(upstream, call(url))
        await body_of(upstream, call(url))
    assert "cookie" not in server.requests[1].headers


async def test_an_answer_read_to_its_end_gives_the_connection_back(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(b"data: [DONE]\n\n",))) as server:
        await body_of(upstream, call(server.url))
        async with await upstream.request(call(server.url)) as answer:
            await answer.read()
            await answer.drain()
        await body_of(upstream, call(server.url))
        assert server.connections == 1


async def test_draining_an_answer_without_an_end_gives_up(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(b"data: [DONE]\n\n",), ending="silence")) as server:
        async with await upstream.request(call(server.url)) as answer:
            await answer.drain()
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)


async def test_an_answer_without_an_end_is_left_for_a_moment_alone(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(b"data: [DONE]\n\n",), ending="silence")) as server:
        async with await upstream.request(call(server.url)) as answer:
            answer.leave()
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)


async def test_a_key_is_in_no_repr_error_or_log(upstream: Upstream) -> None:
    with capture_logs() as logs:
        async with scripted(Scripted(None, ending="cut")) as server:
            asked = call(server.url.replace("//", f"//user:{SECRET}@"))
            keyed = call(server.url)
            for each in (asked, keyed):
                with pytest.raises(UpstreamError) as raised:
                    await upstream.request(each)
                assert SECRET not in str(raised.value)
                assert SECRET not in repr(each)
    assert any(line["event"] == "Repeating an upstream request" for line in logs)
    assert SECRET not in str(logs)
