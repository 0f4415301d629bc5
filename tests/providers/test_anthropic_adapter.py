"""The Anthropic provider against a server on loopback that speaks the Messages API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from aiohttp import web

from providers.anthropic.adapter import AnthropicProvider
from providers.base import ModelInfo
from providers.chat_request import ChatRequest, Message, TextPart, ToolCall
from providers.upstream import RetryPolicy, Upstream
from streaming.errors import (
    AgentServerError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    UpstreamConnectionError,
    UpstreamCredentialsError,
    UpstreamOverloadedError,
    UpstreamProtocolError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from streaming.events import (
    Event,
    Finished,
    ReasoningEnded,
    Started,
    TextDelta,
    ToolCallEnded,
)
from tests.recordings import WIRE, needs_recordings

DATA = Path(__file__).resolve().parents[1] / "data" / "anthropic"
KEY = "sk-ant-test-key-of-nobody"
HELLO = ChatRequest("claude-sonnet-5", (Message("user", (TextPart("Hi"),)),))

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """An HTTP server that answers each request with the next of `answers`, the last one again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.connections: set[Any] = set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.connections.add(request.transport)
        self.bodies.append(orjson.loads(await request.read() or b"null"))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    service.url = f"http://{host}:{port}"
    yield service
    await runner.cleanup()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    waits: list[float] = []

    async def no_sleep(seconds: float) -> None:
        waits.append(seconds)

    client = Upstream(sleep=no_sleep)
    yield client
    await client.aclose()


@pytest.fixture
def provider(service: Service, upstream: Upstream) -> AnthropicProvider:
    return provider_at(service.url, upstream)


def provider_at(url: str, upstream: Upstream, **fields: Any) -> AnthropicProvider:
    return AnthropicProvider(
        base_url=url, upstream=upstream, api_key=KEY, default_model="claude-sonnet-5", **fields
    )


def sse(body: bytes) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(body)
        return response

    return answer


def stream(name: str) -> Answer:
    return sse((DATA / f"{name}.sse").read_bytes())


def json(value: object, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        del request
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        return web.json_response(value, status=status, headers=names)

    return answer


def error(status: int, kind: str, message: str = "told", **headers: str) -> Answer:
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return json(body, status, **headers)


async def read(
    provider: AnthropicProvider, events: list[Event], request: ChatRequest = HELLO
) -> None:
    """Append the events of an answer to `events`, so that they can be seen after a failure."""
    async with aclosing(provider.chat(request)) as answer:
        async for event in answer:
            events.append(event)  # noqa: PERF401 # a comprehension would lose them


async def events_of(provider: AnthropicProvider, request: ChatRequest = HELLO) -> list[Event]:
    events: list[Event] = []
    await read(provider, events, request)
    return events


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_a_request_goes_to_messages_with_the_key(
    service: Service, upstream: Upstream, suffix: str
) -> None:
    service.answers = [stream("text")]
    events = await events_of(provider_at(service.url + suffix, upstream))
    request = service.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert request.headers["content-type"] == "application/json"
    assert "anthropic-beta" not in request.headers
    assert "authorization" not in request.headers
    assert service.bodies[0]["model"] == "claude-sonnet-5"
    assert service.bodies[0]["stream"] is True
    assert events[0] == Started("msg_01Fixture", "claude-sonnet-5")
    assert isinstance(events[-1], Finished)


async def test_without_a_key_none_is_sent(service: Service, upstream: Upstream) -> None:
    service.answers = [stream("text")]
    keyless = AnthropicProvider(base_url=service.url, upstream=upstream, default_model="m")
    await events_of(keyless)
    assert "x-api-key" not in service.requests[0].headers


async def test_betas_go_into_their_header(service: Service, provider: AnthropicProvider) -> None:
    service.answers = [stream("text")]
    request = ChatRequest("claude-sonnet-5", HELLO.messages, extra={"betas": ["a-1", "b-2"]})
    await events_of(provider, request)
    assert service.requests[0].headers["anthropic-beta"] == "a-1,b-2"
    assert "betas" not in service.bodies[0]


async def test_an_answer_without_a_stream_gives_the_same_kinds_of_events(
    service: Service, provider: AnthropicProvider
) -> None:
    service.answers = [json(orjson.loads((DATA / "message.json").read_bytes()))]
    events = await events_of(
        provider, ChatRequest("claude-haiku-4-5", HELLO.messages, stream=False)
    )
    assert service.bodies[0]["stream"] is False
    assert events[0] == Started("msg_01Whole", "claude-haiku-4-5-20251001")
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "tool_calls"


async def test_what_is_left_out_is_logged_by_name_alone(
    service: Service, provider: AnthropicProvider
) -> None:
    service.answers = [stream("text")]
    request = ChatRequest(
        "claude-sonnet-5", HELLO.messages, seed=1, extra={"logit_bias": {"private": 1}}
    )
    with structlog.testing.capture_logs() as logs:
        await events_of(provider, request)
    told = [log for log in logs if "fields" in log]
    assert [set(log["fields"]) for log in told] == [{"seed", "logit_bias"}]
    assert "private" not in str(logs)
    assert KEY not in str(logs)


ERRORS: list[tuple[int, str, type[AgentServerError], bool]] = [
    (400, "invalid_request_error", InvalidRequestError, False),
    (401, "authentication_error", UpstreamCredentialsError, False),
    (403, "permission_error", UpstreamCredentialsError, False),
    (404, "not_found_error", NotFoundError, False),
    (413, "request_too_large", PayloadTooLargeError, False),
    (429, "rate_limit_error", UpstreamRateLimitError, True),
    (500, "api_error", UpstreamRejectedError, True),
    (504, "timeout_error", UpstreamTimeoutError, True),
    (529, "overloaded_error", UpstreamOverloadedError, True),
]


@pytest.mark.parametrize(("status", "kind", "raised", "is_retryable"), ERRORS)
async def test_each_error_of_the_service_has_its_class(
    service: Service,
    upstream: Upstream,
    status: int,
    kind: str,
    raised: type[AgentServerError],
    is_retryable: bool,
) -> None:
    service.answers = [error(status, kind, f"told with {KEY}", request_id="req_42")]
    provider = provider_at(service.url, upstream, retry=RetryPolicy(limit=0))
    with pytest.raises(AgentServerError) as caught:
        await events_of(provider)
    assert type(caught.value) is raised
    assert caught.value.is_retryable is is_retryable
    assert KEY not in str(caught.value)
    if raised is not UpstreamCredentialsError:
        assert "told with *** (request req_42)" in caught.value.message


@pytest.mark.parametrize("status", [529, 500, 429])
async def test_a_failure_before_the_first_byte_is_repeated(
    service: Service, provider: AnthropicProvider, status: int
) -> None:
    service.answers = [error(status, "api_error"), error(status, "api_error"), stream("text")]
    assert isinstance((await events_of(provider))[-1], Finished)
    assert len(service.requests) == 3


async def test_a_refused_key_is_not_tried_again(
    service: Service, provider: AnthropicProvider
) -> None:
    service.answers = [error(401, "authentication_error")]
    with pytest.raises(UpstreamCredentialsError):
        await events_of(provider)
    assert len(service.requests) == 1


async def test_a_wait_that_the_service_asks_for_reaches_the_caller(
    service: Service, upstream: Upstream
) -> None:
    service.answers = [error(429, "rate_limit_error", retry_after="90")]
    with pytest.raises(UpstreamRateLimitError) as caught:
        await events_of(provider_at(service.url, upstream))
    assert caught.value.retry_after_seconds == 90
    assert len(service.requests) == 1


async def test_an_error_in_a_stream_is_raised_after_what_had_come(
    service: Service, provider: AnthropicProvider
) -> None:
    service.answers = [stream("error-overloaded")]
    events: list[Event] = []
    with pytest.raises(UpstreamOverloadedError):
        await read(provider, events)
    assert events[-1] == TextDelta("Half an ans")


@pytest.mark.parametrize("name", ["cut", "cut-before-stop"])
async def test_a_stream_that_ends_early_is_never_a_success(
    service: Service, provider: AnthropicProvider, name: str
) -> None:
    service.answers = [stream(name)]
    with pytest.raises(UpstreamConnectionError):
        await events_of(provider)


async def test_a_stream_without_its_last_blank_line_is_whole(
    service: Service, provider: AnthropicProvider
) -> None:
    service.answers = [sse((DATA / "text.sse").read_bytes().removesuffix(b"\n"))]
    assert isinstance((await events_of(provider))[-1], Finished)


async def test_the_first_byte_tells_a_message_from_a_stream(
    service: Service, provider: AnthropicProvider
) -> None:
    message = (DATA / "message.json").read_bytes()
    service.answers = [sse(b" \n" + message), sse(b"\n" + (DATA / "text.sse").read_bytes())]
    assert (await events_of(provider))[0] == Started("msg_01Whole", "claude-haiku-4-5-20251001")
    assert (await events_of(provider))[0] == Started("msg_01Fixture", "claude-sonnet-5")


async def test_a_page_of_a_proxy_is_a_protocol_error(
    service: Service, provider: AnthropicProvider
) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        del request
        return web.Response(text="<html>Welcome</html>", content_type="text/html")

    service.answers = [page]
    with pytest.raises(UpstreamProtocolError, match="check its base URL"):
        await events_of(provider)
    with pytest.raises(UpstreamProtocolError, match="list of models"):
        await provider.models()


async def test_closing_the_answer_ends_the_request(
    service: Service, provider: AnthropicProvider
) -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write((DATA / "cut.sse").read_bytes())
        assert request.transport is not None
        try:
            while not request.transport.is_closing():
                await answer.write(b": still here\n\n")
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            gone.set()
        return answer

    service.answers = [endless]
    answer = provider.chat(HELLO)
    assert isinstance(await anext(answer), Started)
    await answer.aclose()
    async with asyncio.timeout(5):
        await gone.wait()


async def test_a_connection_is_used_again_after_a_stream(
    service: Service, provider: AnthropicProvider
) -> None:
    is_read = asyncio.Event()

    async def ends_late(request: web.Request) -> web.StreamResponse:
        answer = await stream("text")(request)
        await is_read.wait()
        return answer

    service.answers = [ends_late]
    for _ in range(3):
        is_read.clear()
        async with aclosing(provider.chat(HELLO)) as answer:
            async for event in answer:
                if isinstance(event, Finished):
                    is_read.set()
    assert len(service.connections) == 1


async def test_models_are_read_page_by_page(service: Service, provider: AnthropicProvider) -> None:
    def model(name: str) -> dict[str, str]:
        return {"type": "model", "id": name, "created_at": "2025-11-24T00:00:00Z"}

    service.answers = [
        json({"data": [model("a"), model("b")], "has_more": True, "last_id": "b"}),
        json({"data": [{"id": "c"}, "no model"], "has_more": False, "last_id": "c"}),
    ]
    assert await provider.models() == [
        ModelInfo("a", "anthropic", 1763942400),
        ModelInfo("b", "anthropic", 1763942400),
        ModelInfo("c", "anthropic", 0),
    ]
    assert [request.path_qs for request in service.requests] == [
        "/v1/models?limit=1000",
        "/v1/models?limit=1000&after_id=b",
    ]
    assert service.requests[0].headers["x-api-key"] == KEY


@needs_recordings
async def test_the_recorded_models_are_listed(
    service: Service, provider: AnthropicProvider
) -> None:
    page = orjson.loads((WIRE / "anthropic/models-json-text-01/response.body").read_bytes())
    service.answers = [json(page)]
    infos = await provider.models()
    assert [info.model_id for info in infos] == [model["id"] for model in page["data"]]
    assert all(info.created > 1_700_000_000 for info in infos)


async def test_a_list_of_models_without_an_end_is_given_up(
    service: Service, provider: AnthropicProvider
) -> None:
    service.answers = [json({"data": [{"id": "a"}], "has_more": True, "last_id": "a"})]
    assert set(await provider.models()) == {ModelInfo("a", "anthropic", 0)}
    assert len(service.requests) == 2


async def test_thinking_survives_a_tool_turn_unchanged(
    service: Service, provider: AnthropicProvider
) -> None:
    signed = [
        {
            "type": "thinking",
            "thinking": "The user wants the version.",
            "signature": "c2lnbmVkLWJ5LW5vYm9keQ==",
        },
        {"type": "redacted_thinking", "data": "cmVkYWN0ZWQ="},
        {
            "type": "tool_use",
            "id": "toolu_01E",
            "name": "get_version",
            "input": {"package": "agent-server"},
        },
    ]

    async def strict(request: web.Request) -> web.StreamResponse:
        """Answers as the service does: the blocks come back as they were, or the turn is void."""
        turn = service.bodies[-1]["messages"][1]
        if turn != {"role": "assistant", "content": signed}:
            return await error(400, "invalid_request_error", "thinking was changed")(request)
        return await stream("text")(request)

    service.answers = [stream("thinking-tool"), strict]
    events = await events_of(provider)
    called = Message(
        "assistant",
        reasoning=tuple(event.block for event in events if isinstance(event, ReasoningEnded)),
        tool_calls=tuple(
            ToolCall(event.call_id, event.name, event.arguments)
            for event in events
            if isinstance(event, ToolCallEnded)
        ),
    )
    answered = Message("tool", (TextPart("1.0.0"),), tool_call_id=called.tool_calls[0].call_id)
    messages = (*HELLO.messages, called, answered)
    assert isinstance((await events_of(provider, ChatRequest(HELLO.model, messages)))[-1], Finished)

    changed = Message("assistant", reasoning=called.reasoning[1:], tool_calls=called.tool_calls)
    with pytest.raises(InvalidRequestError, match="thinking was changed"):
        await events_of(provider, ChatRequest(HELLO.model, (*HELLO.messages, changed, answered)))
