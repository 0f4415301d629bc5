"""Relaying through real connections: what proves an answer, and what ends it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest

from providers.anthropic.adapter import AnthropicProvider
from providers.base import RelayingProvider
from providers.openai.adapter import OpenAIProvider
from providers.openai.quirks import COMPATIBLE, GROQ, MISTRAL, OPENAI, Quirks
from providers.relay.request import RelayRequest, WireFormat
from providers.upstream import RetryPolicy, Timeouts, Upstream
from streaming.errors import (
    UnsupportedFieldError,
    UpstreamConnectionError,
    UpstreamError,
    UpstreamOverloadedError,
    UpstreamProtocolError,
    UpstreamRateLimitError,
    UpstreamTimeoutError,
)
from streaming.events import JsonObject
from tests.servers import Scripted, ScriptedServer, scripted

WAIT_SECONDS = 5.0
KEY = "sk-of-the-server"
ALL: frozenset[WireFormat] = frozenset({"chat", "responses", "embeddings"})
SSE: Mapping[str, str] = {"content-type": "text/event-stream", "x-request-id": "req_1"}
ROLE = b'data: {"id":"c","model":"up","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
TEXT = ROLE.replace(b'"role":"assistant"', b'"content":"Hi"')
END = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"full","code":503}}\n\n'
COMPLETION = b'{"id":"c","model":"up","choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}'  # fmt: skip  # noqa: E501


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    client = Upstream()
    yield client
    await client.aclose()


def provider(
    server: ScriptedServer, upstream: Upstream, quirks: Quirks = OPENAI, idle: float = 5.0
) -> OpenAIProvider:
    return OpenAIProvider(
        name="up",
        base_url=f"{server.url}/v1",
        default_model="",
        upstream=upstream,
        api_key=KEY,
        quirks=quirks,
        relays=ALL,
        retry=RetryPolicy(limit=0),
        timeouts=Timeouts(idle_seconds=idle),
    )


def chat(stream: bool = True, **body: Any) -> RelayRequest:
    return RelayRequest("chat", "m", {"model": "named", **body}, stream=stream)


async def whole(asked: RelayingProvider, request: RelayRequest) -> bytes:
    async with await asked.relay(request) as answer:
        return b"".join([block async for block in _blocks(answer)])


async def _blocks(answer: Any) -> AsyncIterator[bytes]:
    while block := await answer.read():
        yield block


async def test_a_stream_is_handed_out_with_its_first_content(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(ROLE, TEXT), headers=SSE, ending="silence")) as server:
        async with asyncio.timeout(WAIT_SECONDS):
            answer = await provider(server, upstream).relay(chat())
            assert await answer.read() == ROLE + TEXT
            assert answer.is_stream
            assert answer.request_id == "req_1"
            assert (answer.response_id, answer.model) == ("c", "up")
            await answer.aclose()
            await server.client_left.wait()


async def test_giving_up_before_the_proof_ends_the_request(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(ROLE,), headers=SSE, ending="silence")) as server:
        task = asyncio.create_task(provider(server, upstream).relay(chat()))
        async with asyncio.timeout(WAIT_SECONDS):
            await server.asked.wait()
            task.cancel()
            await server.client_left.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("scripted_answer", "error"),
    [
        (Scripted(pieces=(ROLE, ERROR), headers=SSE), UpstreamOverloadedError),
        (Scripted(pieces=(ROLE, TEXT + ERROR), headers=SSE), UpstreamOverloadedError),
        (Scripted(pieces=(ROLE,), headers=SSE), UpstreamProtocolError),
        (Scripted(pieces=(ROLE,), headers=SSE, ending="reset"), UpstreamConnectionError),
        (Scripted(pieces=(ROLE,), headers=SSE, ending="silence"), UpstreamTimeoutError),
        (Scripted(pieces=(ERROR[6:],)), UpstreamOverloadedError),
        (Scripted(pieces=(COMPLETION,)), UpstreamProtocolError),
        (Scripted(pieces=(b"<html>busy</html>",)), UpstreamProtocolError),
        (Scripted(pieces=(b" \n",)), UpstreamProtocolError),
        (Scripted(429, (ERROR[6:],), {"retry-after": "7"}), UpstreamRateLimitError),
    ],
)
async def test_what_fails_before_its_first_content_is_raised_and_not_handed_out(
    scripted_answer: Scripted, error: type[UpstreamError], upstream: Upstream
) -> None:
    async with scripted(scripted_answer) as server:
        with pytest.raises(error) as caught:
            await provider(server, upstream, idle=0.2).relay(chat())
    assert KEY not in caught.value.message
    if error is UpstreamRateLimitError:
        assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize(
    ("ending", "error"),
    [("whole", UpstreamProtocolError), ("cut", UpstreamConnectionError)],
)
async def test_a_stream_that_breaks_later_raises_after_what_was_good(
    ending: Any, error: type[UpstreamError], upstream: Upstream
) -> None:
    async with scripted(Scripted(pieces=(ROLE, TEXT), headers=SSE, ending=ending)) as server:
        answer = await provider(server, upstream).relay(chat())
        seen = await answer.read()
        while len(seen) < len(ROLE + TEXT):
            seen += await answer.read()
        assert seen == ROLE + TEXT
        for _ in range(2):
            with pytest.raises(UpstreamError) as caught:
                await answer.read()
            assert type(caught.value) is error


async def test_a_stream_read_to_its_end_gives_its_connection_back(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(TEXT, END + DONE), headers=SSE)) as server:
        for _ in range(2):
            assert await whole(provider(server, upstream), chat()) == TEXT + END + DONE
        assert server.connections == 1


@pytest.mark.parametrize(
    "pieces", [(COMPLETION[:20], COMPLETION[20:]), (b"\n  ", COMPLETION)], ids=["cut", "late"]
)
async def test_a_json_answer_is_handed_out_whole(
    pieces: tuple[bytes, ...], upstream: Upstream
) -> None:
    async with scripted(Scripted(pieces=pieces)) as server:
        answer = await provider(server, upstream).relay(chat(stream=False))
        assert not answer.is_stream
        assert answer.content_type == "application/json"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 5
        assert answer.finish_reason == "stop"
        assert [await answer.read(), await answer.read()] == [COMPLETION, b""]


@pytest.mark.parametrize(
    "body",
    [b"data: x\n\n", b'{"choices":[]}', b'{"choices":[', b'{"error":{"code":503}}', b"[]"],
)
async def test_a_json_answer_that_is_none_is_an_error(body: bytes, upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(body,))) as server:
        with pytest.raises(UpstreamError):
            await provider(server, upstream).relay(chat(stream=False))


@pytest.mark.parametrize(
    ("body", "renamed"),
    [
        (COMPLETION, COMPLETION.replace(b'"up"', b'"mine"')),
        (COMPLETION.replace(b":", b": "), COMPLETION.replace(b":", b": ").replace(b"up", b"mine")),
        (COMPLETION.replace(b'"model":', b'"model"\t:'), COMPLETION.replace(b'"up"', b'"mine"')),
    ],
)
async def test_a_json_answer_names_the_model_that_was_asked_for(
    body: bytes, renamed: bytes, upstream: Upstream
) -> None:
    request = RelayRequest("chat", "m", {}, stream=False, answer_model="mine")
    async with scripted(Scripted(pieces=(body,))) as server:
        assert await whole(provider(server, upstream), request) == renamed


async def test_long_embeddings_are_not_decoded_but_counted(upstream: Upstream) -> None:
    row = b'{"object":"embedding","index":0,"embedding":[%b0]}' % (b"0.25," * 300_000)
    body = (
        b'{"object":"list","data":[%b],"model":"up","usage":{"prompt_tokens":9,"total_tokens":9}}'
        % row
    )
    request = RelayRequest("embeddings", "e", {"input": "x"}, stream=False, answer_model="mine")
    async with scripted(Scripted(pieces=(body,))) as server:
        answer = await provider(server, upstream).relay(request)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 9
        assert await answer.read() == body.replace(b'"up"', b'"mine"')


SENT: list[tuple[Quirks, bool, JsonObject, JsonObject]] = [
    (OPENAI, False, {"stream": False, "stream_options": {}}, {"stream": False}),
    (OPENAI, True, {}, {"stream": True, "stream_options": {"include_usage": True}}),
    (
        OPENAI,
        True,
        {"stream_options": {"include_usage": False, "include_obfuscation": False}},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    ),
    (MISTRAL, True, {"seed": 7, "user": "u"}, {"stream": True, "random_seed": 7}),
    (
        MISTRAL,
        False,
        {"messages": [{"role": "assistant", "content": "a", "reasoning_content": "b"}]},
        {"messages": [{"role": "assistant", "content": "a"}]},
    ),
    (COMPATIBLE, False, {"max_completion_tokens": 5}, {"max_tokens": 5}),
    (OPENAI, False, {"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
    (GROQ, False, {"temperature": 0, "n": 1}, {"temperature": 1e-8}),
    (
        GROQ,
        False,
        {"messages": [{"role": "developer", "content": "a", "name": "b"}, "odd"]},
        {"messages": [{"role": "system", "content": "a"}, "odd"]},
    ),
    (OPENAI, False, {"messages": [{"role": "developer"}]}, {"messages": [{"role": "developer"}]}),
    (OPENAI, False, {"unknown_field": [1]}, {"unknown_field": [1]}),
]


@pytest.mark.parametrize(("quirks", "stream", "body", "sent"), SENT)
async def test_the_body_is_the_clients_but_for_what_the_upstream_has_otherwise(
    quirks: Quirks, stream: bool, body: JsonObject, sent: JsonObject, upstream: Upstream
) -> None:
    given = orjson.dumps(body)
    pieces = (TEXT + END,) if stream else (COMPLETION,)
    async with scripted(Scripted(pieces=pieces)) as server:
        request = RelayRequest("chat", "m", body, stream, headers={"traceparent": "00-1-2-01"})
        await whole(provider(server, upstream, quirks), request)
    (asked,) = server.requests
    assert asked.json == {**sent, "model": "m"}
    assert asked.headers["traceparent"] == "00-1-2-01"
    assert orjson.dumps(body) == given


async def test_a_model_that_refuses_max_tokens_gets_its_own_name_for_it(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(COMPLETION,))) as server:
        request = RelayRequest("chat", "gpt-5.4-mini", {"max_tokens": 5}, stream=False)
        await whole(provider(server, upstream), request)
    assert server.requests[0].json == {"model": "gpt-5.4-mini", "max_completion_tokens": 5}


async def test_a_field_that_the_upstream_refuses_is_named_before_it_is_asked(
    upstream: Upstream,
) -> None:
    async with scripted(Scripted(pieces=(COMPLETION,))) as server:
        with pytest.raises(UnsupportedFieldError, match="`n`") as caught:
            await provider(server, upstream, GROQ).relay(chat(n=2))
        assert caught.value.param == "n"
        assert not server.requests


async def test_headers_of_a_client_never_replace_the_servers_key(upstream: Upstream) -> None:
    async with scripted(Scripted(pieces=(COMPLETION,))) as server:
        request = RelayRequest("chat", "m", {}, False, headers={"authorization": "Bearer theirs"})
        await whole(provider(server, upstream), request)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_messages_are_relayed_with_the_clients_versions(upstream: Upstream) -> None:
    message = b'{"id":"m","type":"message","model":"up","content":[],"stop_reason":"end_turn","usage":{"input_tokens":3,"cache_read_input_tokens":2,"output_tokens":4}}'  # noqa: E501
    async with scripted(Scripted(pieces=(message,))) as server:
        anthropic = AnthropicProvider(
            base_url=server.url, default_model="", upstream=upstream, api_key=KEY
        )
        headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "one,two"}
        request = RelayRequest("messages", "m", {"max_tokens": 1}, False, headers=headers)
        async with await anthropic.relay(request) as answer:
            assert await answer.read() == message
            assert answer.usage is not None
            assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 9)
    (asked,) = server.requests
    assert asked.path == "/v1/messages"
    assert asked.json == {"max_tokens": 1, "model": "m"}
    assert asked.headers["anthropic-version"] == "2026-10-21"
    assert asked.headers["anthropic-beta"] == "one,two"
    assert asked.headers["x-api-key"] == KEY


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/responses/r?include[]=x", b'{"object":"response","error":{"code":"x"}}'),
        ("POST", "/responses/r_1/cancel", b'{"id":"r_1","object":"response","status":"cancelled"}'),
        ("DELETE", "/responses/r_1", b'{"id":"r_1","object":"response","deleted":true}'),
        ("GET", "/responses/r_1/input_items", b'{"object":"list","data":[]}'),
    ],
)  # fmt: skip
async def test_a_response_that_the_upstream_keeps_is_fetched_as_it_is(
    method: Any, path: str, body: bytes, upstream: Upstream
) -> None:
    async with scripted(Scripted(pieces=(body,))) as server:
        async with await provider(server, upstream).fetch(method, path) as answer:
            assert await answer.read() == body
        (asked,) = server.requests
    assert (asked.method, asked.path) == (method, f"/v1{path}")


async def test_a_response_that_the_upstream_keeps_is_fetched_as_a_stream(
    upstream: Upstream,
) -> None:
    failed = (
        b"event: response.failed\n"
        b'data: {"type":"response.failed","response":{"id":"r","error":{"code":"x"}}}\n\n'
    )
    async with scripted(Scripted(pieces=(failed,), headers=SSE)) as server:
        got = await provider(server, upstream).fetch("GET", "/responses/r?stream=true")
        assert got.is_stream
        assert b"".join([block async for block in _blocks(got)]) == failed
        assert got.reported_error is not None
