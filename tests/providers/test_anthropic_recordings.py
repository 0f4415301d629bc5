"""Every recorded exchange with Anthropic's Messages API, read by us and by the official client.

Both ask the same replay server. What is expected comes from the official client's objects, by a
mapping that is written here a second time and shares nothing with ours.
"""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from anthropic import APIStatusError, AsyncAnthropic
from anthropic.types.beta import BetaMessage

from providers.anthropic.adapter import AnthropicProvider
from providers.chat_request import ChatRequest, Message, TextPart
from providers.upstream import RetryPolicy, Upstream
from streaming.errors import (
    AgentServerError,
    InvalidRequestError,
    NotFoundError,
    UpstreamConnectionError,
    UpstreamCredentialsError,
    UpstreamOverloadedError,
)
from streaming.events import ReasoningBlock, Started, Usage
from tests.recordings import (
    SPLITS,
    WIRE,
    Exchange,
    Reading,
    Replay,
    ToolCallReading,
    needs_recordings,
    read_events,
)

NAMES = sorted(path.name for path in WIRE.glob("anthropic/messages-*"))
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
ERRORS: dict[int, type[AgentServerError]] = {
    400: InvalidRequestError,
    401: UpstreamCredentialsError,
    404: NotFoundError,
}


@pytest.fixture
async def official(replay: Replay) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=replay.url, api_key="nobody", max_retries=0) as client:
        yield client


@pytest.fixture
async def ours(replay: Replay) -> AsyncIterator[AnthropicProvider]:
    upstream = Upstream()
    yield AnthropicProvider(
        base_url=replay.url,
        upstream=upstream,
        api_key="nobody",
        default_model="none",
        retry=RetryPolicy(limit=0),
    )
    await upstream.aclose()


@needs_recordings
@pytest.mark.parametrize("name", NAMES)
async def test_an_answer_is_read_as_the_official_client_reads_it(
    replay: Replay, official: AsyncAnthropic, ours: AnthropicProvider, name: str
) -> None:
    exchange = replay.exchanges[f"anthropic/{name}"]
    if exchange.meta["status"] in ERRORS:
        with pytest.raises(APIStatusError) as refused:
            await official_message(official, exchange)
        assert refused.value.status_code == exchange.meta["status"]
        for split in SPLITS:
            with pytest.raises(AgentServerError) as caught:
                await our_reading(ours, exchange, split)
            assert type(caught.value) is ERRORS[exchange.meta["status"]]
        return
    message = await official_message(official, exchange)
    expected = official_reading(message)
    for split in SPLITS:
        reading = parsed_arguments(await our_reading(ours, exchange, split))
        assert reading == expected
        assert reading.started == expected.started
        assert reading.choice(0).blocks == expected.choice(0).blocks


async def official_message(client: AsyncAnthropic, exchange: Exchange) -> BetaMessage:
    """The answer as the official client puts it together; `beta` knows the most block types."""
    asked: dict[str, Any] = {
        "model": f"replay/{exchange.id}",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "again"}],
    }
    if not exchange.stream:
        return await client.beta.messages.create(**asked)
    async with client.beta.messages.stream(**asked) as stream:
        return await stream.get_final_message()


def official_reading(message: BetaMessage) -> Reading:
    reading = Reading(started=Started(message.id, message.model))
    choice = reading.choice(0)
    for block in message.content:
        if block.type == "text":
            choice.text += block.text
        elif block.type == "thinking":
            choice.reasoning += block.thinking
            # The official client has "" where a block was not signed.
            choice.blocks.append(ReasoningBlock(block.thinking, block.signature or None))
        elif block.type == "redacted_thinking":
            choice.blocks.append(ReasoningBlock("", redacted_data=block.data))
        elif block.type == "tool_use":
            # Both sides are compared as JSON: the official client keeps an object, we the text.
            arguments = json.dumps(block.input, sort_keys=True)
            choice.tool_calls.append(ToolCallReading(block.id, block.name, arguments))
    if message.stop_details is not None:
        choice.refusal = getattr(message.stop_details, "explanation", None) or ""
    assert message.stop_reason is not None
    choice.finish_reason = FINISH_REASONS[message.stop_reason]
    usage = message.usage
    created = usage.cache_creation_input_tokens or 0
    cached = usage.cache_read_input_tokens or 0
    details = usage.output_tokens_details
    prompt = usage.input_tokens + created + cached
    reading.usage = Usage(
        prompt_tokens=prompt,
        completion_tokens=usage.output_tokens,
        total_tokens=prompt + usage.output_tokens,
        cached_tokens=cached,
        cache_creation_tokens=created,
        reasoning_tokens=details.thinking_tokens if details else 0,
    )
    return reading


async def our_reading(provider: AnthropicProvider, exchange: Exchange, split: str) -> Reading:
    asked = ChatRequest(
        f"replay/{exchange.id}?split={split}",
        (Message("user", (TextPart("again"),)),),
        stream=exchange.stream,
    )
    async with aclosing(provider.chat(asked)) as events:
        return await read_events(events)


def parsed_arguments(reading: Reading) -> Reading:
    for choice in reading.choices.values():
        for call in choice.tool_calls:
            call.arguments = json.dumps(json.loads(call.arguments), sort_keys=True)
    return reading


@needs_recordings
@pytest.mark.parametrize(
    ("option", "raised"),
    [
        ("error_at=60%", UpstreamOverloadedError),
        ("drop=60%", UpstreamConnectionError),
        ("reset=60%", UpstreamConnectionError),
    ],
)
async def test_a_recorded_stream_that_breaks_is_an_error(
    replay: Replay, ours: AnthropicProvider, option: str, raised: type[AgentServerError]
) -> None:
    for name in NAMES:
        exchange = replay.exchanges[f"anthropic/{name}"]
        if exchange.stream:
            with pytest.raises(raised) as caught:
                await our_reading(ours, exchange, f"all&{option}")
            assert type(caught.value) is raised
