"""What a server sends of the calls that it answers, to a collector on loopback."""

import asyncio
from pathlib import Path

import aiohttp
import orjson
import pytest

from agent_server.accounts.keys import digest_of, parse_api_keys
from tests.collector import attributes, collector
from tests.servers import Scripted, scripted
from tests.serving import serving

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
TRACE = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "vendor=opaque"}
SSE = {"content-type": "text/event-stream"}
KEY = "as-" + "a" * 40
QUESTION = "What is the secret of the pharaohs?"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(**fields: object) -> bytes:
    whole = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "gpt-real"}
    return b"data: " + orjson.dumps({**whole, **fields}) + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    return chunk(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


STREAM = (delta("Hel"), delta("lo", "stop"), chunk(choices=[], usage=USAGE), b"data: [DONE]\n\n")
ANTHROPIC_STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message",'
    b'"role":"assistant","model":"claude-real","content":[],"stop_reason":null,'
    b'"usage":{"input_tokens":9,"output_tokens":1}}}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"Nobody knows."}}\n\n',
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"max_tokens"},'
    b'"usage":{"output_tokens":4}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)


async def ask(url: str, model: str, question: str = QUESTION, key: str = "unused") -> bytes:
    body = {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": question}],
    }
    headers = {**TRACE, "authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        return await answer.read()


async def test_a_relayed_stream_is_traced_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector(monkeypatch) as received:
        async with scripted(Scripted(pieces=STREAM, headers=SSE)) as upstream:
            given = {"base_url": f"{upstream.url}/v1", "provider_api_key": "sk-key"}
            async with serving(tmp_path, otel=True, provider="openai", **given) as url:
                assert b"[DONE]" in await ask(url, "gpt-4o-mini")
            [asked] = upstream.requests
    span = received.named("chat gpt-4o-mini")
    found = attributes(span)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert asked.headers["traceparent"] == f"00-{TRACE_ID}-{span.span_id.hex()}-01"
    assert asked.headers["tracestate"] == "vendor=opaque"
    assert found["gen_ai.provider.name"] == "openai"
    assert found["gen_ai.response.model"] == "gpt-real"
    assert found["gen_ai.response.id"] == "up-1"
    assert found["gen_ai.response.finish_reasons"] == ["stop"]
    assert found["gen_ai.usage.input_tokens"] == 3
    assert found["gen_ai.usage.output_tokens"] == 2
    assert found["server.address"] == "127.0.0.1"
    assert f"http://127.0.0.1:{found['server.port']}" == upstream.url
    assert "gen_ai.response.time_to_first_chunk" in found
    assert "pharaohs" not in str(received.traces)


async def test_a_translated_stream_is_traced_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector(monkeypatch) as received:
        async with scripted(Scripted(pieces=ANTHROPIC_STREAM, headers=SSE)) as upstream:
            given = {"base_url": upstream.url, "provider_api_key": "sk-key"}
            async with serving(tmp_path, otel=True, provider="anthropic", **given) as url:
                assert b"[DONE]" in await ask(url, "claude-real")
            [asked] = upstream.requests
    span = received.named("chat claude-real")
    found = attributes(span)
    assert asked.headers["traceparent"] == f"00-{TRACE_ID}-{span.span_id.hex()}-01"
    assert found["gen_ai.response.id"] == "msg_1"
    assert found["gen_ai.response.finish_reasons"] == ["length"]
    assert found["gen_ai.usage.output_tokens"] == 4
    assert "Nobody" not in str(received.traces)


async def test_a_client_that_leaves_ends_the_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Scripted(pieces=(delta("Hel"),), headers=SSE, ending="silence")
    with collector(monkeypatch) as received:
        async with scripted(silent) as upstream:
            given = {"base_url": f"{upstream.url}/v1", "provider_api_key": "sk-key"}
            async with serving(tmp_path, otel=True, provider="openai", **given) as url:
                asking = asyncio.create_task(ask(url, "gpt-4o"))
                await asyncio.wait_for(upstream.asked.wait(), 10)
                asking.cancel()
                await asyncio.wait_for(upstream.client_left.wait(), 10)
    assert attributes(received.named("chat gpt-4o"))["error.type"] == "cancelled"


async def test_without_tracing_an_upstream_gets_the_clients_own_context(tmp_path: Path) -> None:
    async with scripted(Scripted(pieces=ANTHROPIC_STREAM, headers=SSE)) as upstream:
        given = {"base_url": upstream.url, "provider_api_key": "sk-key"}
        async with serving(tmp_path, provider="anthropic", **given) as url:
            await ask(url, "claude-real")
        [asked] = upstream.requests
    assert {name: asked.headers[name] for name in TRACE} == TRACE


async def test_an_answer_of_the_agent_is_one_trace_with_its_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector(monkeypatch) as received:
        keys = parse_api_keys([f"ada=sha256:{digest_of(KEY)};scopes=chat+run"])
        given = {"otel": True, "agent": True, "isolation": "none", "api_keys": keys}
        async with serving(tmp_path, **given) as url:
            assert b"workflow_complete" in await ask(
                url, "kubiya-workflow-agent", "Create and run a system health check", KEY
            )
    agent = received.named("invoke_agent kubiya-workflow-agent")
    assert agent.parent_span_id.hex() == PARENT_ID
    inside = [span for span in received.spans if span.parent_span_id == agent.span_id]
    assert {span.name.split()[0] for span in inside} == {"chat", "execute_tool"}
    assert {span.trace_id.hex() for span in received.spans} == {TRACE_ID}
