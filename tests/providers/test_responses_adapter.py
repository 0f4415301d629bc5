"""The adapter for the Responses API, at loopback servers that answer well and badly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, get_args

import orjson
import pytest
from openai.types import ChatModel
from openai.types.shared import ResponsesModel
from structlog.testing import capture_logs

from providers.chat_request import ChatRequest, Message, TextPart, ToolCall
from providers.openai.adapter import OpenAIProvider
from providers.openai.quirks import COMPATIBLE, OPENAI
from providers.upstream import RetryPolicy, Timeouts, Upstream
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
from streaming.events import Event, Finished, ReasoningEnded, Started, TextDelta, ToolCallEnded
from tests.providers.responses_stream import (
    CALL,
    HELLO,
    HELLO_EVENTS,
    REASONING,
    added,
    created,
    delta,
    done,
    ended,
    response,
    stream,
)
from tests.servers import Scripted, ScriptedServer, scripted

KEY = "sk-very-secret"
PATIENCE_SECONDS = 10.0
ASKED = ChatRequest("o3-pro", (Message("user", (TextPart("Hi"),)),))
STREAM = stream(*HELLO_EVENTS)
STREAM_HEAD = stream(created(), added(0, HELLO), delta("output_text", 0, "Grüße"))
WHOLE = orjson.dumps(response("completed", HELLO))


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    client = Upstream()
    yield client
    await client.aclose()


def provider(
    upstream: Upstream, server: ScriptedServer, timeouts: Timeouts | None = None
) -> OpenAIProvider:
    return OpenAIProvider(
        name="up",
        base_url=f"{server.url}/v1/",
        default_model="m",
        upstream=upstream,
        api_key=KEY,
        timeouts=timeouts,
        retry=RetryPolicy(limit=0),
    )


async def events_of(provider: OpenAIProvider, request: ChatRequest = ASKED) -> list[Event]:
    return [event async for event in provider.chat(request)]


async def failure_of(
    upstream: Upstream, answer: Scripted, timeouts: Timeouts | None = None
) -> AgentServerError:
    async with scripted(answer) as server:
        with pytest.raises(AgentServerError) as caught:
            await events_of(provider(upstream, server, timeouts))
    assert KEY not in caught.value.message
    return caught.value


async def test_a_request_goes_out_as_the_responses_api_has_it(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM,))) as server:
        await events_of(provider(upstream, server))
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/v1/responses")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "model": "o3-pro",
        "input": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", None])
@pytest.mark.parametrize("body", [STREAM, b" \n" + WHOLE], ids=["stream", "JSON"])
async def test_an_answer_is_read_as_what_it_is(
    upstream: Upstream, content_type: str | None, body: bytes
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    pieces = (body[:1], body[1:2], body[2:])
    async with scripted(Scripted(pieces=pieces, headers=headers)) as server:
        events = await events_of(provider(upstream, server))
    assert events[0] == Started("resp_1", "m-1")
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "Grüße 👋"
    assert isinstance(events[-1], Finished)


async def test_a_connection_is_kept_after_the_end_of_a_stream(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM, b"data: [DONE]\n\n"))) as server:
        for _ in range(3):
            await events_of(provider(upstream, server))
        assert server.connections == 1


async def test_reasoning_goes_back_as_it_came_through_three_turns_of_tools(
    upstream: Upstream,
) -> None:
    def turn(number: int) -> Scripted:
        thought = {**REASONING, "id": f"rs_{number}", "encrypted_content": f"gAAAA{number}+/="}
        call = {**CALL, "call_id": f"call_{number}"}
        begun = created(), added(0, thought), done(0, thought)
        return Scripted(pieces=(stream(*begun, added(1, call), done(1, call), ended()),))

    messages = ASKED.messages
    async with scripted(turn(1), turn(2), turn(3), Scripted(pieces=(STREAM,))) as server:
        model = provider(upstream, server)
        for _ in range(3):
            events = await events_of(model, replace(ASKED, messages=messages))
            [call] = [event for event in events if isinstance(event, ToolCallEnded)]
            messages += (
                Message(
                    "assistant",
                    tool_calls=(ToolCall(call.call_id, call.name, call.arguments),),
                    reasoning=tuple(e.block for e in events if isinstance(e, ReasoningEnded)),
                ),
                Message("tool", (TextPart("12 °C"),), tool_call_id=call.call_id),
            )
        await events_of(model, replace(ASKED, messages=messages))
    kinds = ["reasoning", "function_call", "function_call_output"]
    items = server.requests[3].json["input"]
    assert [item.get("type") for item in items] == [None, *kinds * 3]
    for number, item in enumerate(items[1::3], 1):
        sent = {**REASONING, "id": f"rs_{number}", "encrypted_content": f"gAAAA{number}+/="}
        assert orjson.dumps(item) == orjson.dumps(sent)


async def test_events_come_while_the_answer_is_still_going_on(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM_HEAD,), ending="silence")) as server:
        chat = provider(upstream, server).chat(ASKED)
        async with contextlib.aclosing(chat), asyncio.timeout(PATIENCE_SECONDS):
            assert await anext(chat) == Started("resp_1", "m-1")
            assert await anext(chat) == TextDelta("Grüße")
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)


async def test_an_answer_ends_with_its_last_event_also_where_the_connection_stays_open(
    upstream: Upstream,
) -> None:
    async with scripted(Scripted(pieces=(STREAM,), ending="silence")) as server:
        async with asyncio.timeout(PATIENCE_SECONDS):
            events = await events_of(provider(upstream, server))
    assert isinstance(events[-1], Finished)


async def test_cancelling_who_reads_the_events_ends_the_upstream_request(
    upstream: Upstream,
) -> None:
    async with scripted(Scripted(pieces=(STREAM_HEAD,), ending="silence")) as server:
        reading = asyncio.create_task(events_of(provider(upstream, server)))
        await asyncio.wait_for(server.asked.wait(), PATIENCE_SECONDS)
        reading.cancel()
        await asyncio.wait_for(server.client_left.wait(), PATIENCE_SECONDS)


def refusal(status: int, **error: Any) -> Scripted:
    return Scripted(status=status, pieces=(orjson.dumps({"error": error}),))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(400, message="bad", code="invalid_value", param="input"), InvalidRequestError),
        (refusal(400, message="no such", code="model_not_found"), NotFoundError),
        (refusal(401, message=f"wrong key {KEY}"), UpstreamCredentialsError),
        (refusal(429, message="slow down"), UpstreamRateLimitError),
        (refusal(500, message="oh"), UpstreamRejectedError),
        (Scripted(pieces=(STREAM_HEAD,), ending="cut"), UpstreamConnectionError),
        (Scripted(pieces=(STREAM_HEAD,)), UpstreamConnectionError),
        (Scripted(pieces=(b"data: [DONE]\n\n",)), UpstreamProtocolError),
        (Scripted(pieces=(b"<html>",)), UpstreamProtocolError),
        (Scripted(), UpstreamProtocolError),
        (Scripted(pieces=(WHOLE[:40],)), UpstreamProtocolError),
        (Scripted(pieces=(b"data: nonsense\n\n",)), UpstreamProtocolError),
        (Scripted(pieces=(STREAM_HEAD, stream(ended("failed")))), UpstreamRejectedError),
    ],
    ids=[
        "bad request",
        "no model",
        "key",
        "rate",
        "500",
        "cut",
        "ended early",
        "an end mark alone",
        "a page",
        "nothing",
        "half of a JSON text",
        "no JSON in a frame",
        "failed",
    ],
)
async def test_a_failure_is_the_error_that_it_is(
    upstream: Upstream, answer: Scripted, kind: type[AgentServerError]
) -> None:
    assert type(await failure_of(upstream, answer)) is kind


async def test_a_silence_in_the_middle_is_a_timeout(upstream: Upstream) -> None:
    answer = Scripted(pieces=(STREAM_HEAD,), ending="silence")
    error = await failure_of(upstream, answer, Timeouts(idle_seconds=0.05))
    assert isinstance(error, UpstreamTimeoutError)
    assert error.param == "idle_seconds"


async def test_what_cannot_be_said_is_refused_before_anyone_is_asked(upstream: Upstream) -> None:
    async with scripted(Scripted()) as server:
        with pytest.raises(UnsupportedFieldError, match="up cannot be given `n`"):
            await events_of(provider(upstream, server), replace(ASKED, n=2))
    assert not server.requests


async def test_what_was_left_out_is_in_the_log(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(STREAM,))) as server:
        with capture_logs() as logs:
            await events_of(provider(upstream, server), replace(ASKED, seed=1))
    [entry] = [entry for entry in logs if "fields" in entry]
    assert entry["fields"] == ("seed",)


async def test_a_chat_model_is_asked_by_the_chat_format(upstream: Upstream) -> None:
    async with scripted(Scripted(status=404)) as server:
        with pytest.raises(AgentServerError):
            await events_of(provider(upstream, server), replace(ASKED, model="gpt-5.4"))
    assert server.requests[0].path == "/v1/chat/completions"


def test_every_model_that_the_sdk_has_for_responses_alone_is_asked_there() -> None:
    chat_models = set(get_args(ChatModel))
    models = {model for group in get_args(ResponsesModel) for model in get_args(group)}
    assert models > chat_models
    for model in models - chat_models:
        assert OPENAI.wire_of(model) == "responses", model
    # The SDK lists these for both, and they answer there as well.
    assert {model for model in chat_models if OPENAI.wire_of(model) == "responses"} == {
        "gpt-5.2-pro",
        "gpt-5.2-pro-2025-12-11",
        "gpt-5.1-codex",
        "codex-mini-latest",
    }


def test_the_models_of_others_are_asked_by_the_chat_format() -> None:
    assert COMPATIBLE.wire_of("gemini-2.5-pro") == "chat"
