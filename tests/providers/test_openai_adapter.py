"""The adapter for OpenAI's format, at loopback servers that answer well and badly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from providers.base import ModelInfo
from providers.chat_request import ChatRequest, Message, TextPart
from providers.openai.adapter import OpenAIProvider
from providers.openai.quirks import GROQ
from providers.upstream import Timeouts, Upstream
from streaming.errors import (
    AgentServerError,
    InvalidRequestError,
    NotFoundError,
    UnsupportedFieldError,
    UpstreamConnectionError,
    UpstreamCredentialsError,
    UpstreamProtocolError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from streaming.events import Event, Finished, Started, TextDelta, Usage
from tests.recordings import Replay, needs_recordings, read_events
from tests.servers import Scripted, ScriptedServer, scripted

DATA = Path(__file__).resolve().parents[1] / "data" / "openai"
STREAM = (DATA / "openai-text.sse").read_bytes()
STREAM_HEAD = STREAM[: STREAM.index("👋".encode())]
WHOLE = (DATA / "openai-text.json").read_bytes()
USAGE = Usage(12, 5, 17, cached_tokens=4, reasoning_tokens=2)
KEY = "sk-very-secret"
PATIENCE_SECONDS = 10.0
ASKED = ChatRequest("m", (Message("user", (TextPart("Hi"),)),))


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async def no_wait(seconds: float) -> None:
        assert seconds >= 0

    client = Upstream(sleep=no_wait)
    yield client
    await client.aclose()


def provider(
    upstream: Upstream,
    server: ScriptedServer | Replay,
    *,
    key: str | None = KEY,
    timeouts: Timeouts | None = None,
) -> OpenAIProvider:
    return OpenAIProvider(
        name="up",
        base_url=f"{server.url}/v1/",
        default_model="m",
        upstream=upstream,
        api_key=key,
        timeouts=timeouts,
    )


async def events_of(provider: OpenAIProvider, request: ChatRequest = ASKED) -> list[Event]:
    return [event async for event in provider.chat(request)]


async def failure_of(provider: OpenAIProvider) -> tuple[list[Event], AgentServerError]:
    """What was said before the failure, and the failure."""
    seen: list[Event] = []
    try:
        async for event in provider.chat(ASKED):
            seen.append(event)  # noqa: PERF401  # the list is kept when the loop raises
    except AgentServerError as error:
        return seen, error
    pytest.fail(f"no failure after {seen}")


async def test_a_request_goes_out_as_openai_has_it(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM,))) as server:
        await events_of(provider(upstream, server))
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_without_a_key_none_is_sent(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM,))) as server:
        await events_of(provider(upstream, server, key=None))
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", None])
@pytest.mark.parametrize("body", [STREAM, WHOLE], ids=["stream", "JSON"])
@pytest.mark.parametrize("stream", [True, False], ids=["asked for a stream", "asked for JSON"])
async def test_an_answer_is_read_as_what_it_is(
    upstream: Upstream, content_type: str | None, body: bytes, stream: bool
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    async with scripted(Scripted(pieces=(body,), headers=headers)) as server:
        request = ChatRequest("m", ASKED.messages, stream=stream)
        events = await events_of(provider(upstream, server), request)
    assert events[0] == Started("chatcmpl-1", "m-1")
    assert events[-1] == Finished("stop", 0, USAGE)


async def test_events_come_while_the_answer_is_still_going_on(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM_HEAD,), ending="silence")) as server:
        chat = provider(upstream, server).chat(ASKED)
        async with contextlib.aclosing(chat), asyncio.timeout(PATIENCE_SECONDS):
            assert await anext(chat) == Started("chatcmpl-1", "m-1")
            assert await anext(chat) == TextDelta("Grüße ")


async def test_closing_the_events_ends_the_upstream_request_at_once(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM_HEAD,), ending="silence")) as server:
        chat = provider(upstream, server).chat(ASKED)
        await anext(chat)
        await chat.aclose()
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)


async def test_cancelling_who_reads_the_events_ends_the_upstream_request(
    upstream: Upstream,
) -> None:
    async with scripted(Scripted(pieces=(STREAM_HEAD,), ending="silence")) as server:
        reading = asyncio.create_task(events_of(provider(upstream, server)))
        await asyncio.wait_for(server.asked.wait(), PATIENCE_SECONDS)
        reading.cancel()
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_stream_read_to_its_end_gives_the_connection_back(upstream: Upstream) -> None:
    # The end of the body comes after the last event, as it does over a network.
    async with scripted(Scripted(pieces=(STREAM,), ending="late")) as server:
        for _ in range(3):
            server.may_end.clear()
            async for event in provider(upstream, server).chat(ASKED):
                if isinstance(event, Finished):
                    server.may_end.set()
        assert server.connections == 1


async def test_an_overloaded_upstream_is_asked_again_before_the_first_event(
    upstream: Upstream,
) -> None:
    busy = Scripted(529, (b'{"error":{"message":"Overloaded"}}',), {"retry-after": "1"})
    async with scripted(busy, busy, Scripted(pieces=(STREAM,))) as server:
        events = await events_of(provider(upstream, server))
        assert len(server.requests) == 3
    assert sum(isinstance(event, Started) for event in events) == 1


@pytest.mark.parametrize(
    ("ending", "kind"), [("cut", UpstreamConnectionError), ("reset", UpstreamConnectionError)]
)
async def test_a_stream_cut_in_the_middle_is_an_error_after_what_came(
    upstream: Upstream, ending: str, kind: type[AgentServerError]
) -> None:
    fault = Scripted(pieces=(STREAM_HEAD,), ending=ending)  # type: ignore[arg-type]
    async with scripted(fault) as server:
        seen, error = await failure_of(provider(upstream, server))
        assert len(server.requests) == 1
    assert type(error) is kind
    # A reset may take bytes with it that the client had not read yet.
    assert seen == [Started("chatcmpl-1", "m-1"), TextDelta("Grüße ")][: len(seen)]
    assert not any(isinstance(event, Finished) for event in seen)


async def test_a_stream_that_falls_silent_is_an_error(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM_HEAD,), ending="silence")) as server:
        impatient = provider(upstream, server, timeouts=Timeouts(idle_seconds=0.05))
        seen, error = await failure_of(impatient)
    assert seen == [Started("chatcmpl-1", "m-1"), TextDelta("Grüße ")]
    assert type(error) is UpstreamTimeoutError


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "message"),
    [
        pytest.param(
            400,
            b'{\n  "error": {\n    "message": "No stop",\n    "param": "stop"\n  }\n}',
            {},
            InvalidRequestError,
            "up: No stop",
            id="refused",
        ),
        pytest.param(
            401,
            f'{{"error":{{"message":"Incorrect API key provided: {KEY}"}}}}'.encode(),
            {},
            UpstreamCredentialsError,
            "up refused the server's key (401); check the key and the base URL of this provider",
            id="key",
        ),
        pytest.param(
            400,
            f'{{"error":"odd header: Bearer {KEY}"}}'.encode(),
            {},
            InvalidRequestError,
            "up: odd header: Bearer ***",
            id="key quoted",
        ),
        pytest.param(
            404,
            b'{"error":{"message":"No m","code":"model_not_found"}}',
            {},
            NotFoundError,
            "up: No m",
            id="model",
        ),
        pytest.param(
            404,
            b"<html>nginx</html>",
            {},
            UpstreamRejectedError,
            "up knows no such address (404); check its base URL",
            id="address",
        ),
        pytest.param(
            307,
            b"",
            {"location": "http://127.0.0.1:1/"},
            UpstreamRejectedError,
            "up answered with a redirect, which is not followed; check its base URL",
            id="redirect",
        ),
        pytest.param(
            429,
            b'{"error":"slow down"}',
            {"retry-after": "90"},
            UpstreamRateLimitError,
            "up limits the rate of requests (429): slow down",
            id="rate",
        ),
        pytest.param(
            200,
            b"<!DOCTYPE html>",
            {"content-type": "text/html"},
            UpstreamProtocolError,
            "up answered a web page (text/html); check its base URL",
            id="web page",
        ),
        pytest.param(
            200,
            b'data: {"choices":\n\n',
            {},
            UpstreamProtocolError,
            "up sent something that is not JSON",
            id="malformed",
        ),
        pytest.param(
            200,
            b'event: error\ndata: {"error":{"message":"Boom","type":"server_error"}}\n\n',
            {},
            UpstreamRejectedError,
            "up answered an error (500): Boom",
            id="error after 200",
        ),
    ],
)
async def test_a_failure_says_who_failed_and_how_to_mend_it(
    upstream: Upstream,
    status: int,
    body: bytes,
    headers: dict[str, str],
    kind: type[AgentServerError],
    message: str,
) -> None:
    async with scripted(Scripted(status, (body,), headers)) as server:
        seen, error = await failure_of(provider(upstream, server))
    assert seen == []
    assert (type(error), error.message) == (kind, message)
    if status == 429:
        assert error.retry_after_seconds == 90.0


async def test_an_error_body_that_never_ends_still_gives_the_error(upstream: Upstream) -> None:
    endless = Scripted(400, (b"x" * 70_000,), ending="silence")
    async with scripted(endless) as server:
        _, error = await failure_of(provider(upstream, server))
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)
    assert (type(error), error.message) == (
        InvalidRequestError,
        "up: the request was refused (400)",
    )


async def test_the_id_that_an_upstream_gave_a_request_is_logged(upstream: Upstream) -> None:
    with capture_logs() as logs:
        headers = {"x-request-id": "req_1"}
        async with scripted(Scripted(pieces=(STREAM,), headers=headers)) as server:
            await events_of(provider(upstream, server))
    [line] = [line for line in logs if line["event"] == "Upstream answered"]
    assert (line["provider"], line["upstream_request_id"]) == ("up", "req_1")
    assert KEY not in str(logs)


async def test_a_request_that_a_provider_cannot_honour_is_not_sent(upstream: Upstream) -> None:
    async with scripted(Scripted()) as server:
        groq = OpenAIProvider(
            name="groq", base_url=server.url, default_model="m", upstream=upstream, quirks=GROQ
        )
        with pytest.raises(UnsupportedFieldError):
            await events_of(groq, ChatRequest("m", ASKED.messages, n=2))
        assert server.requests == []


async def test_text_that_json_cannot_hold_is_the_callers_error(upstream: Upstream) -> None:
    broken = ChatRequest("m", (Message("user", (TextPart("\ud800"),)),))
    async with scripted(Scripted()) as server:
        with pytest.raises(InvalidRequestError, match="cannot be written as JSON"):
            await events_of(provider(upstream, server), broken)


@pytest.mark.parametrize(
    "body",
    [
        {"object": "list", "data": [{"id": "a", "created": 5, "owned_by": "x"}, {"id": "b"}]},
        [{"id": "a", "created": 5.0, "owned_by": "x", "type": "chat"}, {"id": "b"}],
    ],
    ids=["OpenAI", "Together"],
)
async def test_models_are_listed(upstream: Upstream, body: object) -> None:
    async with scripted(Scripted(pieces=(orjson.dumps(body),))) as server:
        models = await provider(upstream, server).models()
    assert (server.requests[0].method, server.requests[0].path) == ("GET", "/v1/models")
    assert models == [ModelInfo("a", "x", 5), ModelInfo("b", "up", 0)]


@pytest.mark.parametrize("body", [b"{}", b'{"data":1}', b"3", b"<html>", b""])
async def test_a_listing_in_an_unknown_form_is_an_error(upstream: Upstream, body: bytes) -> None:
    async with scripted(Scripted(pieces=(body,))) as server:
        with pytest.raises(UpstreamProtocolError):
            await provider(upstream, server).models()


async def test_a_refused_listing_is_an_error(upstream: Upstream) -> None:
    async with scripted(Scripted(401)) as server:
        with pytest.raises(UpstreamCredentialsError):
            await provider(upstream, server).models()


RECORDED = "groq/chat-stream-text-01"


@needs_recordings
async def test_a_client_that_goes_away_is_seen_by_the_upstream(
    upstream: Upstream, replay: Replay
) -> None:
    request = ChatRequest(f"replay/{RECORDED}?delay_ms=5&split=9", ASKED.messages)
    chat = provider(upstream, replay).chat(request)
    await anext(chat)
    await chat.aclose()
    async with asyncio.timeout(PATIENCE_SECONDS):
        # The replay runs in a thread and has no event to wait for.
        while replay.requests[-1].outcome != "client-gone":  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@needs_recordings
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("drop=50%", UpstreamConnectionError),
        ("reset=50%", UpstreamConnectionError),
        ("drop=50%&framing=close", UpstreamProtocolError),
        ("error_at=50%", UpstreamRejectedError),
        ("stall=50%", UpstreamTimeoutError),
    ],
)
async def test_a_recorded_stream_that_breaks_is_never_a_success(
    upstream: Upstream, replay: Replay, fault: str, kind: type[AgentServerError]
) -> None:
    request = ChatRequest(f"replay/{RECORDED}?{fault}", ASKED.messages)
    with pytest.raises(kind):
        await read_events(
            provider(upstream, replay, timeouts=Timeouts(idle_seconds=0.1)).chat(request)
        )


@needs_recordings
async def test_a_recorded_stream_comes_after_planned_failures(
    upstream: Upstream, replay: Replay
) -> None:
    options = "fail=2&fail_status=503&retry_after=0&fail_key=openai-adapter"
    request = ChatRequest(f"replay/{RECORDED}?{options}", ASKED.messages)
    reading = await read_events(provider(upstream, replay).chat(request))
    assert reading.choices[0].text
    assert [received.status for received in replay.requests[-3:]] == [503, 503, 200]
