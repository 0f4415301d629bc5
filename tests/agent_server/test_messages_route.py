"""`/v1/messages` and what belongs to it, asked by Anthropic's SDK, on upstreams of both formats."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import orjson
import pytest
from anthropic import AsyncAnthropic, AsyncStream
from anthropic.types import MessageParam, RawMessageStreamEvent, ToolParam

from agent_server.accounts.keys import digest_of, parse_api_keys
from tests.servers import Scripted, ScriptedServer, scripted
from tests.serving import serving

HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
TOOL: ToolParam = {
    "name": "look",
    "input_schema": {"type": "object", "properties": {}},
    "cache_control": {"type": "ephemeral"},
}
SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
KEY = "sk-client-key-0123456789"


def chunk(**fields: object) -> bytes:
    whole = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-real"}
    return b"data: " + orjson.dumps({**whole, **fields}) + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> bytes:
    return chunk(choices=[{"index": 0, "delta": fields, "finish_reason": finish}])


def call(index: int, arguments: str, **fields: object) -> dict[str, object]:
    return {"index": index, "function": {"arguments": arguments, **fields}}


USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 2,
    "total_tokens": 11,
    "prompt_tokens_details": {"cached_tokens": 4},
}
CHAT_STREAM = Scripted(
    pieces=(
        delta(reasoning_content="hm"),
        delta(content="Hel"),
        delta(content="lo"),
        delta(tool_calls=[{**call(0, "", name="look"), "id": "call_1"}]),
        delta(tool_calls=[call(0, '{"at":')]),
        delta(tool_calls=[call(0, '"moon"}')]),
        delta(finish="tool_calls"),
        chunk(choices=[], usage=USAGE),
        b"data: [DONE]\n\n",
    ),
    headers=SSE,
)
CHAT_BODY = Scripted(
    pieces=(
        orjson.dumps(
            {
                "id": "up-1",
                "model": "gpt-real",
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": "Hello",
                            "reasoning_content": "hm",
                            "tool_calls": [
                                {
                                    "id": "call_1",
                                    "type": "function",
                                    "function": {"name": "look", "arguments": '{"at":"moon"}'},
                                }
                            ],
                        },
                        "finish_reason": "tool_calls",
                    }
                ],
                "usage": USAGE,
            }
        ),
    ),
    headers=JSON,
)
CONTENT = [
    {"type": "thinking", "thinking": "hm", "signature": ""},
    {"type": "text", "text": "Hello", "citations": None},
    {
        "type": "tool_use",
        "id": "call_1",
        "name": "look",
        "input": {"at": "moon"},
        "caller": {"type": "direct"},
    },
]


def url_of(sdk: AsyncAnthropic) -> str:
    return str(sdk.base_url).rstrip("/")


@contextlib.asynccontextmanager
async def calling(
    tmp_path: Path, *answers: Scripted, provider: str = "openai", **settings: Any
) -> AsyncIterator[tuple[AsyncAnthropic, ScriptedServer]]:
    """Anthropic's client of a server, and the upstream that gives these answers."""
    async with scripted(*answers) as upstream:
        given = {
            "provider": provider,
            "base_url": f"{upstream.url}/v1",
            "provider_api_key": "sk-upstream-key-0123456789",
            "model": "gpt-default",
            "max_retries": 0,
            **settings,
        }
        async with (
            serving(tmp_path, **given) as url,
            AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0, timeout=20) as sdk,
        ):
            yield sdk, upstream


async def test_a_stream_of_an_openai_upstream_is_a_message(tmp_path: Path) -> None:
    async with (
        calling(tmp_path, CHAT_STREAM) as (sdk, upstream),
        sdk.messages.stream(
            model="openai/gpt-real", max_tokens=99, messages=HELLO, tools=[TOOL]
        ) as stream,
    ):
        text = "".join([part async for part in stream.text_stream])
        message = await stream.get_final_message()
    assert text == "Hello"
    found = message.to_dict()
    assert found["content"] == CONTENT
    assert message.id.startswith("msg_")
    assert (message.model, message.stop_reason) == ("gpt-real", "tool_use")
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (5, 4, 2)
    assert upstream.requests[0].path == "/v1/chat/completions"
    assert upstream.requests[0].json["max_tokens"] == 99
    assert "cache_control" not in upstream.requests[0].json["tools"][0]


async def test_a_whole_answer_is_the_same_message(tmp_path: Path) -> None:
    async with calling(tmp_path, CHAT_BODY) as (sdk, _):
        answer = await sdk.messages.with_raw_response.create(
            model="openai/gpt-real",
            max_tokens=99,
            messages=HELLO,
            tools=[TOOL],
            thinking={"type": "enabled", "budget_tokens": 2048},
        )
        message = await answer.parse()
    assert message.to_dict()["content"] == CONTENT
    assert message.usage.input_tokens == 5
    assert set(answer.headers["x-dropped-fields"].split(", ")) == {"thinking", "cache_control"}
    assert answer.headers["x-provider"] == "openai"
    assert message._request_id == answer.headers["x-request-id"]


async def test_an_anthropic_upstream_gets_the_body_as_it_came(tmp_path: Path) -> None:
    body = {
        "id": "msg_up",
        "type": "message",
        "role": "assistant",
        "model": "claude-real",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    answer = Scripted(pieces=(orjson.dumps(body),), headers=JSON)
    async with calling(tmp_path, answer, provider="anthropic") as (sdk, upstream):
        message = await sdk.messages.create(
            model="anthropic/claude-real",
            max_tokens=99,
            messages=HELLO,
            tools=[TOOL, {"type": "web_search_20250305", "name": "web_search"}],
        )
    assert message.to_dict() == body
    sent = upstream.requests[0]
    assert sent.headers["x-api-key"] == "sk-upstream-key-0123456789"
    assert KEY not in str(sent.headers)
    assert sent.json["tools"][1] == {"type": "web_search_20250305", "name": "web_search"}
    assert sent.json["model"] == "claude-real"


async def test_a_tool_of_anthropics_own_is_refused_elsewhere(tmp_path: Path) -> None:
    async with calling(tmp_path, CHAT_BODY) as (sdk, upstream):
        with pytest.raises(anthropic.BadRequestError) as refused:
            await sdk.messages.create(
                model="openai/gpt-real",
                max_tokens=99,
                messages=HELLO,
                tools=[{"type": "web_search_20250305", "name": "web_search"}],
            )
    assert upstream.requests == []
    assert refused.value.request_id
    error = refused.value.body
    assert isinstance(error, dict)
    assert error["error"]["type"] == "invalid_request_error"
    assert error["error"]["message"].startswith("tools.0.type: ")


@pytest.mark.parametrize(
    ("told", "raised", "kind"),
    [
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (529, anthropic.OverloadedError, "overloaded_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (401, anthropic.InternalServerError, "api_error"),
    ],
)
async def test_errors_of_an_upstream_are_told_in_anthropics_words(
    tmp_path: Path, told: int, raised: type[anthropic.APIStatusError], kind: str
) -> None:
    failing = Scripted(status=told, pieces=(b"{}",), headers={**JSON, "retry-after": "7"})
    async with calling(tmp_path, failing) as (sdk, _):
        with pytest.raises(raised) as caught:
            await sdk.messages.create(model="openai/gpt-real", max_tokens=9, messages=HELLO)
    assert caught.value.type == kind
    assert caught.value.request_id


async def keep_kinds(stream: AsyncStream[RawMessageStreamEvent], kinds: list[str]) -> None:
    async for event in stream:
        kinds.append(event.type)  # noqa: PERF401 # what came before an error is kept


async def test_a_stream_that_breaks_off_ends_with_an_error(tmp_path: Path) -> None:
    cut = Scripted(pieces=CHAT_STREAM.pieces[:3], headers=SSE, ending="cut")
    async with calling(tmp_path, cut) as (sdk, _):
        raw = await sdk.messages.create(
            model="openai/gpt-real", max_tokens=9, messages=HELLO, stream=True
        )
        kinds: list[str] = []
        with pytest.raises(anthropic.APIError) as raised:
            await keep_kinds(raw, kinds)
    assert "content_block_delta" in kinds
    assert "message_stop" not in kinds
    assert raised.value.type == "api_error"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": KEY}, 200),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"x-api-key": "sk-wrong-key-0123456789"}, 401),
        ({}, 401),
    ],
)
async def test_the_key_comes_in_either_header(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    keys = parse_api_keys([f"one=sha256:{digest_of(KEY)};scopes=chat"])
    asked = {"model": "openai/gpt-real", "max_tokens": 9, "messages": HELLO}
    async with (
        calling(tmp_path, CHAT_BODY, api_keys=keys) as (sdk, _),
        aiohttp.ClientSession() as session,
        session.post(f"{url_of(sdk)}/v1/messages", json=asked, headers=headers) as answer,
    ):
        assert answer.status == status
        told = await answer.json()
    if status == 401:
        assert told["error"]["type"] == "authentication_error"
        assert told["request_id"] == answer.headers["request-id"]


async def test_an_unknown_path_below_is_told_in_anthropics_shape(tmp_path: Path) -> None:
    async with calling(tmp_path, CHAT_BODY) as (sdk, _):
        with pytest.raises(anthropic.NotFoundError) as missing:
            await sdk.messages.batches.list()
    assert missing.value.type == "not_found_error"


async def test_tokens_are_estimated_where_the_upstream_does_not_count(tmp_path: Path) -> None:
    async with calling(tmp_path, CHAT_BODY) as (sdk, upstream):
        answer = await sdk.messages.with_raw_response.count_tokens(
            model="openai/gpt-real", messages=HELLO
        )
        count = await answer.parse()
        with pytest.raises(anthropic.BadRequestError):
            await sdk.messages.count_tokens(model="openai/gpt-real", messages=[])
    assert 5 <= count.input_tokens <= 12
    assert answer.headers["x-token-count"] == "estimated"
    assert upstream.requests == []


async def test_tokens_are_counted_where_the_upstream_does(tmp_path: Path) -> None:
    counted = Scripted(pieces=(b'{"input_tokens":1234}',), headers=JSON)
    async with calling(tmp_path, counted, provider="anthropic") as (sdk, upstream):
        answer = await sdk.messages.with_raw_response.count_tokens(
            model="anthropic/claude-real", messages=HELLO, tools=[TOOL]
        )
        count = await answer.parse()
    assert count.input_tokens == 1234
    assert "x-token-count" not in answer.headers
    assert upstream.requests[0].path == "/v1/messages/count_tokens"
    assert upstream.requests[0].json["model"] == "claude-real"
    assert upstream.requests[0].json["tools"] == [TOOL]


async def test_models_are_listed_in_anthropics_pages(tmp_path: Path) -> None:
    listing = {"object": "list", "data": [{"id": "gpt-a"}, {"id": "gpt-b"}, {"id": "gpt-c"}]}
    answer = Scripted(pieces=(orjson.dumps(listing),), headers=JSON)
    async with calling(tmp_path, answer) as (sdk, _):
        listed = [model.id async for model in sdk.models.list(limit=2)]
        one = await sdk.models.retrieve("openai/gpt-b")
        with pytest.raises(anthropic.NotFoundError):
            await sdk.models.retrieve("openai/none")
    assert [name for name in listed if name.startswith("openai/")] == [
        "openai/gpt-a",
        "openai/gpt-b",
        "openai/gpt-c",
    ]
    assert (one.id, one.type, one.display_name) == ("openai/gpt-b", "model", "openai/gpt-b")


async def test_embeddings_are_checked_before_they_are_relayed(tmp_path: Path) -> None:
    told = {"object": "list", "data": [], "model": "e", "usage": {"prompt_tokens": 1}}
    answer = Scripted(pieces=(orjson.dumps(told),), headers=JSON)
    async with calling(tmp_path, answer) as (sdk, upstream), aiohttp.ClientSession() as session:
        url = f"{url_of(sdk)}/v1/embeddings"
        async with session.post(url, json={"model": "openai/e", "input": [1, "a"]}) as refused:
            assert refused.status == 400
            assert (await refused.json())["error"]["param"] == "input[1]"
        assert upstream.requests == []
        async with session.post(url, json={"model": "openai/e", "input": ["a"]}) as found:
            assert found.status == 200
    assert upstream.requests[0].path == "/v1/embeddings"
