"""Models of providers through `/v1/chat/completions`, from upstream's bytes to a real client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import openai
import orjson
import pytest
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam

from tests.running_server import ask, running_server
from tests.servers import Scripted, ScriptedServer, scripted
from tests.serving import serving

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
SSE = {"content-type": "text/event-stream"}


def chunk(**fields: object) -> bytes:
    whole = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-real"}
    return b"data: " + orjson.dumps({**whole, **fields}) + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    return chunk(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STREAM = (delta("Hel"), delta("lo", "stop"), chunk(choices=[], usage=USAGE), b"data: [DONE]\n\n")
ERROR = {
    "error": {
        "message": "slow down",
        "type": "rate_limit",
        "param": None,
        "code": "model_not_found",
    }
}


@contextlib.asynccontextmanager
async def gateway(
    tmp_path: Path, upstream: ScriptedServer, **settings: object
) -> AsyncIterator[str]:
    """The URL of a server whose default provider is the upstream."""
    given = {
        "provider": "openai",
        "base_url": f"{upstream.url}/v1",
        "provider_api_key": "sk-upstream-key-0123456789",
        "model": "gpt-default",
        "max_retries": 0,
        **settings,
    }
    async with serving(tmp_path, **given) as url:
        yield url


@contextlib.asynccontextmanager
async def calling(
    tmp_path: Path, answer: Scripted
) -> AsyncIterator[tuple[AsyncOpenAI, ScriptedServer]]:
    """An official client of a server, and the upstream that gives this answer."""
    async with (
        scripted(answer) as upstream,
        gateway(tmp_path, upstream) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="not-needed", max_retries=0) as sdk,
    ):
        yield sdk, upstream


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("openai/gpt-real", "gpt-real"),
        ("gpt-4", "gpt-4"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    ],
)
async def test_names_reach_the_upstream_as_the_design_says(
    tmp_path: Path, asked: str, sent: str
) -> None:
    async with calling(tmp_path, Scripted(pieces=STREAM, headers=SSE)) as (sdk, upstream):
        stream = await sdk.chat.completions.create(model=asked, messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert upstream.requests[0].json["model"] == sent
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-upstream-key-0123456789"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello"
    assert {c.model for c in chunks} == {"gpt-real"}
    assert len({c.id for c in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]


async def test_usage_comes_in_one_last_chunk_only_if_it_was_asked_for(tmp_path: Path) -> None:
    async with calling(tmp_path, Scripted(pieces=STREAM, headers=SSE)) as (sdk, _upstream):
        stream = await sdk.chat.completions.create(
            model="gpt-real",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
        asked = [chunk async for chunk in stream]
        stream = await sdk.chat.completions.create(model="gpt-real", messages=HELLO, stream=True)
        unasked = [chunk async for chunk in stream]
    assert asked[-1].choices == []
    assert asked[-1].usage is not None
    assert asked[-1].usage.total_tokens == 5
    assert all(c.usage is None for c in asked[:-1])
    assert all(c.choices for c in unasked)
    assert all(c.usage is None for c in unasked)


async def test_unknown_fields_are_passed_on(tmp_path: Path) -> None:
    async with calling(tmp_path, Scripted(pieces=STREAM, headers=SSE)) as (sdk, upstream):
        stream = await sdk.chat.completions.create(
            model="gpt-real", messages=HELLO, stream=True, extra_body={"top_k_new": 7}
        )
        assert [chunk async for chunk in stream]
    assert upstream.requests[0].json["top_k_new"] == 7


@pytest.mark.parametrize(
    ("status", "expected"),
    [(429, openai.RateLimitError), (500, openai.InternalServerError), (404, openai.NotFoundError)],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_an_upstream_error_keeps_its_http_status(
    tmp_path: Path, status: int, expected: type[openai.APIStatusError], *, stream: bool
) -> None:
    refusal = Scripted(status, (orjson.dumps(ERROR),), {"content-type": "application/json"})
    async with calling(tmp_path, refusal) as (sdk, _upstream):
        with pytest.raises(expected):
            await sdk.chat.completions.create(model="gpt-real", messages=HELLO, stream=stream)


async def test_the_servers_own_key_being_refused_is_not_the_clients_401(tmp_path: Path) -> None:
    refusal = Scripted(401, (orjson.dumps(ERROR),), {"content-type": "application/json"})
    async with calling(tmp_path, refusal) as (sdk, _upstream):
        with pytest.raises(openai.InternalServerError) as raised:
            await sdk.chat.completions.create(model="gpt-real", messages=HELLO)
    assert raised.value.status_code == 502
    assert raised.value.code == "upstream_credentials"


async def test_a_stream_that_is_cut_ends_in_an_error_never_in_a_stop(tmp_path: Path) -> None:
    cut = Scripted(pieces=(delta("Hel"),), headers=SSE, ending="cut")
    async with calling(tmp_path, cut) as (sdk, _upstream):
        stream = await sdk.chat.completions.create(model="gpt-real", messages=HELLO, stream=True)
        seen: list[ChatCompletionChunk] = []
        with pytest.raises(openai.APIError):
            await _collect(stream, seen)
    assert "".join(c.choices[0].delta.content or "" for c in seen) == "Hel"
    assert not any(c.choices[0].finish_reason for c in seen)


async def _collect(
    stream: AsyncStream[ChatCompletionChunk], seen: list[ChatCompletionChunk]
) -> None:
    async for c in stream:
        seen.append(c)  # noqa: PERF401 - what came before the error counts


async def test_a_silent_upstream_gets_keep_alives_to_the_client(tmp_path: Path) -> None:
    silent = Scripted(headers=SSE, ending="silence")
    async with scripted(silent) as upstream:
        settings = {"stream_grace_seconds": 0.05, "keep_alive_seconds": 0.05}
        async with gateway(tmp_path, upstream, **settings) as url, aiohttp.ClientSession() as web:
            body = {"model": "gpt-real", "messages": HELLO, "stream": True}
            async with web.post(f"{url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200
                lines = answer.content
                for _ in range(2):
                    assert await asyncio.wait_for(lines.readuntil(b"\n\n"), 10) == b": ping\n\n"


@pytest.fixture
async def silent_upstream() -> AsyncIterator[ScriptedServer]:
    """An upstream that begins to answer and then says nothing more."""
    async with scripted(Scripted(pieces=(delta("Hel"),), headers=SSE, ending="silence")) as server:
        yield server


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_a_client_that_goes_away_ends_the_upstreams_request(
    tmp_path: Path, silent_upstream: ScriptedServer, *, stream: bool
) -> None:
    async with gateway(tmp_path, silent_upstream) as url, aiohttp.ClientSession() as web:
        body = {"model": "gpt-real", "messages": HELLO, "stream": stream}
        asking = asyncio.create_task(web.post(f"{url}/v1/chat/completions", json=body))
        await asyncio.wait_for(silent_upstream.asked.wait(), 10)
        if stream:
            answer = await asking
            await asyncio.wait_for(answer.content.readuntil(b"Hel"), 10)
            answer.close()
        else:
            asking.cancel()
        await asyncio.wait_for(silent_upstream.client_left.wait(), 10)


async def test_models_of_the_upstream_are_listed_and_found(tmp_path: Path) -> None:
    listing = {
        "object": "list",
        "data": [{"id": "gpt-real", "object": "model", "created": 5, "owned_by": "me"}],
    }
    answer = Scripted(200, (orjson.dumps(listing),), {"content-type": "application/json"})
    async with calling(tmp_path, answer) as (sdk, _upstream):
        ids = [model.id async for model in sdk.models.list()]
        assert set(ids) == {
            "openai/gpt-real",
            "offline/offline",
        }
        assert (await sdk.models.retrieve("openai/gpt-real")).created == 5
        assert (await sdk.models.retrieve("gpt-real")).id == "gpt-real"
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("gpt-none")


async def test_models_are_listed_even_if_an_upstream_does_not_answer(tmp_path: Path) -> None:
    async with calling(tmp_path, Scripted(None, ending="cut")) as (sdk, _upstream):
        assert [model.id async for model in sdk.models.list()] == ["offline/offline"]


async def test_every_call_of_a_provider_is_a_log_line_with_its_tokens(tmp_path: Path) -> None:
    environment = {"LOG_FORMAT": "json", "OPENAI_API_KEY": "sk-upstream-key-0123456789"}
    async with scripted(Scripted(pieces=STREAM, headers=SSE), Scripted(400)) as upstream:
        options = ("--no-agent", "--provider", "openai", "--base-url", f"{upstream.url}/v1")
        with running_server(tmp_path, *options, environment=environment) as server:
            body = {"model": "gpt-real", "messages": HELLO, "stream": True}
            for status in (200, 400):
                answer = await asyncio.to_thread(
                    ask, server.url, "POST", "/v1/chat/completions", body
                )
                assert answer.status == status
    lines = [orjson.loads(line) for line in server.log.splitlines()]
    done, failed = (line for line in lines if line["event"] == "Request answered")
    assert (done["provider"], done["model"], done["outcome"]) == ("openai", "gpt-real", "ok")
    assert (done["prompt_tokens"], done["completion_tokens"]) == (3, 2)
    assert failed["outcome"].endswith("Error")
