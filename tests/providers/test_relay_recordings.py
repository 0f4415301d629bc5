"""Every recorded answer, relayed: the same bytes, and what the translating path finds in them."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
import pytest

from providers.anthropic.adapter import AnthropicProvider
from providers.anthropic.answer import AnswerReader, message_to_events
from providers.base import RelayingProvider
from providers.openai.adapter import OpenAIProvider
from providers.openai.answer import AnswerDecoder
from providers.openai.quirks import COMPATIBLE
from providers.openai.wire import usage_from_json
from providers.relay.request import RelayRequest, WireFormat
from providers.responses.answer import AnswerReader as ResponseReader
from providers.responses.answer import response_to_events
from providers.upstream import RetryPolicy, Upstream
from streaming.errors import AgentServerError
from streaming.events import Event, Finished, Usage
from streaming.sse import SSEDecoder
from tests.recordings import (
    SPLITS,
    Exchange,
    Replay,
    exchanges_of,
    needs_recordings,
    provider_folders,
)

AT_ONCE = 8
ENDPOINTS: dict[str, WireFormat] = {
    "chat.completions": "chat",
    "messages": "messages",
    "responses": "responses",
    "embeddings": "embeddings",
    "count_tokens": "count_tokens",
}
CASES = [
    pytest.param(endpoint, folder, id=f"{endpoint}-{folder}")
    for endpoint in ENDPOINTS
    for folder in provider_folders(endpoint)
    # Ollama's own format, not OpenAI's.
    if (endpoint, folder) != ("embeddings", "ollama")
]
# A frame without one of these goes out as it came: usage moves, tool calls are numbered.
MARKS = (b'"prompt_tokens"', b'"usage":null', b'"tool_calls"', b"[DONE]")

# Whole answers with a finish reason that is not OpenAI's, or without one.
MENDED = {
    "together/chat-json-eos-01",
    "openrouter/chat-json-text-02",
    "openai/chat-json-image-03",
}


@dataclass
class Relayed:
    """What came out of one relayed answer."""

    body: bytes = b""
    usage: Usage | None = None
    finish_reason: str | None = None
    failure: str | None = None


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    client = Upstream()
    yield client
    await client.aclose()


@needs_recordings
@pytest.mark.parametrize(("endpoint", "folder"), CASES)
async def test_a_relayed_answer_is_the_recorded_one(
    endpoint: str, folder: str, replay: Replay, upstream: Upstream
) -> None:
    provider = _provider(upstream, replay, ENDPOINTS[endpoint])
    room = asyncio.Semaphore(AT_ONCE)

    async def complaints(exchange: Exchange) -> list[str]:
        async with room:
            splits = SPLITS if exchange.stream else SPLITS[:1]
            asked = [_request(exchange, ENDPOINTS[endpoint], split) for split in splits]
            relayed = [await _relay(provider, request) for request in asked]
        found = _complaints(exchange, ENDPOINTS[endpoint], relayed[0])
        return found + [
            f"{exchange.id}: cut as {split} it is not what it is in one piece"
            for split, other in zip(splits, relayed, strict=True)
            if other.failure is None and other != relayed[0]
        ]

    exchanges = exchanges_of(replay, folder, endpoint)
    assert exchanges
    found = await asyncio.gather(*map(complaints, exchanges))
    if lines := [line for lines in found for line in lines]:
        pytest.fail("\n".join(lines))


def _provider(upstream: Upstream, replay: Replay, wire: WireFormat) -> RelayingProvider:
    retry = RetryPolicy(limit=0)
    if wire in {"messages", "count_tokens"}:
        return AnthropicProvider(
            base_url=replay.url, default_model="", upstream=upstream, retry=retry
        )
    return OpenAIProvider(
        name="recorded",
        base_url=f"{replay.url}/v1",
        default_model="",
        upstream=upstream,
        quirks=COMPATIBLE,
        relays=frozenset(ENDPOINTS.values()),
        retry=retry,
    )


def _request(exchange: Exchange, wire: WireFormat, split: str) -> RelayRequest:
    recorded = exchange.request.get("body")
    choices = recorded.get("n") if isinstance(recorded, dict) else None
    return RelayRequest(
        wire=wire,
        model=f"replay/{exchange.id}?split={split}",
        body={"model": "named", "n": choices or 1},
        stream=exchange.stream,
    )


async def _relay(provider: RelayingProvider, request: RelayRequest) -> Relayed:
    out = Relayed()
    try:
        async with await provider.relay(request) as answer:
            while block := await answer.read():
                out.body += block
        out.usage, out.finish_reason = answer.usage, answer.finish_reason
    except AgentServerError as exc:
        out.failure = type(exc).__name__
    return out


def _complaints(exchange: Exchange, wire: WireFormat, relayed: Relayed) -> list[str]:
    recorded = exchange.body.replace(b"\r\n", b"\n")
    if exchange.meta["status"] >= 400:
        return [] if relayed.failure else [f"{exchange.id}: an error is no answer"]
    try:
        expected = _events(recorded, wire, exchange)
    except AgentServerError as exc:
        if relayed.failure == type(exc).__name__:
            return []
        return [f"{exchange.id}: {relayed.failure} is not {type(exc).__name__}"]
    if relayed.failure:
        return [f"{exchange.id}: failed with {relayed.failure}"]
    found = _differences(exchange, wire, recorded, relayed.body)
    last = [event for event in expected if isinstance(event, Finished)]
    if last and (last[-1].usage, last[0].reason) != (relayed.usage, relayed.finish_reason):
        found.append(f"{exchange.id}: {relayed.usage} {relayed.finish_reason} is not {last}")
    if wire == "embeddings":
        usage = orjson.loads(recorded).get("usage")
        if relayed.usage != (usage_from_json(usage) if usage else None):
            found.append(f"{exchange.id}: {relayed.usage} is not {usage}")
    elif wire == "chat" and _plain(_events(relayed.body, wire, exchange)) != _plain(expected):
        found.append(f"{exchange.id}: it says something else")
    return found


def _differences(
    exchange: Exchange, wire: WireFormat, recorded: bytes, relayed: bytes
) -> list[str]:
    """Frames that are not as they were recorded, though nothing marks them."""
    if not exchange.stream:
        # OpenRouter keeps a connection alive with white space before its JSON.
        is_same = recorded.lstrip() == relayed or exchange.id in MENDED
        return [] if is_same else [f"{exchange.id}: another body"]
    marks = MARKS if wire == "chat" else (b"[DONE]",)
    before, after = (
        Counter(frame for frame in body.strip(b"\n").split(b"\n\n") if frame)
        for body in (recorded, relayed)
    )
    return [
        f"{exchange.id}: {frame!r}"
        for frame in (before - after) + (after - before)
        if not any(mark in frame for mark in marks)
    ]


def _events(body: bytes, wire: WireFormat, exchange: Exchange) -> list[Event]:
    """The events of a body, as the translating path reads them."""
    if wire == "chat":
        decoder = AnswerDecoder("recorded")
        events = list(decoder.feed(body))
        return events if decoder.is_ended else events + list(decoder.end())
    if wire in {"embeddings", "count_tokens"}:
        return []
    if not exchange.stream:
        read = message_to_events if wire == "messages" else response_to_events
        return read(body, "anthropic" if wire == "messages" else "recorded")
    reader: AnswerReader | ResponseReader
    reader = AnswerReader("anthropic") if wire == "messages" else ResponseReader("recorded")
    sse = SSEDecoder()
    frames = [frame.data for frame in sse.feed(body) + sse.flush()]
    return [event for data in frames if data != b"[DONE]" for event in reader.read(data)]


def _plain(events: list[Event]) -> list[str]:
    """Events as text, without the ids that were made for calls without one."""
    return [re.sub(r"call_[0-9a-f]{32}", "call_made", str(event)) for event in events]
