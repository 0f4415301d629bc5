"""Every recorded response, read by us and by the official SDK: the same answer.

The SDK asks the same replay, so what is expected is a second, independent reading of the bytes.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

from providers.chat_request import ChatRequest, Message, TextPart
from providers.responses.adapter import ResponsesAdapter
from providers.responses.reasoning import block_to_item
from providers.upstream import RetryPolicy, Upstream
from providers.upstream_service import UpstreamService
from streaming.errors import (
    AgentServerError,
    InvalidRequestError,
    NotFoundError,
    UpstreamCredentialsError,
)
from streaming.events import Usage
from tests.recordings import (
    SPLITS,
    ChoiceReading,
    Exchange,
    Reading,
    Replay,
    ToolCallReading,
    exchanges_of,
    needs_recordings,
    provider_folders,
    read_events,
)

ENDPOINT = "responses"
AT_ONCE = 8
Failure = tuple[type[AgentServerError], str | None]


@needs_recordings
@pytest.mark.parametrize("provider", provider_folders(ENDPOINT))
async def test_every_answer_is_what_the_official_sdk_reads(provider: str, replay: Replay) -> None:
    exchanges = exchanges_of(replay, provider, ENDPOINT)
    assert exchanges
    room = asyncio.Semaphore(AT_ONCE)
    async with _sdk(replay) as sdk, _Ours(replay) as ours:

        async def differences(exchange: Exchange) -> list[str]:
            async with room:
                expected, thoughts = await _read_by_sdk(sdk, exchange)
                readings = [await ours.read(exchange, split) for split in SPLITS]
            return [
                f"{exchange.id} ({split}):\n  ours {reading}\n  SDK  {(expected, thoughts)}"
                for split, reading in zip(SPLITS, readings, strict=True)
                if reading != (expected, thoughts)
            ]

        found = await asyncio.gather(*map(differences, exchanges))
    if different := [line for lines in found for line in lines]:
        pytest.fail("\n".join(different))


class _Ours:
    """Our adapter at the replay; its readings of failures are the class and the code.

    Beside a reading are the reasoning items that would go back with the next turn.
    """

    def __init__(self, replay: Replay) -> None:
        self._upstream = Upstream()
        self._base_url = f"{replay.url}/v1"

    async def __aenter__(self) -> "_Ours":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._upstream.aclose()

    async def read(self, exchange: Exchange, split: str) -> tuple[Reading | Failure, list[Any]]:
        request = ChatRequest(
            model=f"replay/{exchange.id}?split={split}",
            messages=(Message("user", (TextPart("?"),)),),
            stream=exchange.stream,
        )
        service = UpstreamService(
            exchange.provider, self._base_url, self._upstream, retry=RetryPolicy(limit=0)
        )
        try:
            reading = await read_events(ResponsesAdapter(service).chat(request))
        except AgentServerError as exc:
            return (type(exc), exc.code), []
        items = [block_to_item(block) for block in reading.choice(0).blocks]
        return reading, [item for item in items if item is not None]


def _sdk(replay: Replay) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{replay.url}/v1", api_key="none", max_retries=0)


async def _read_by_sdk(
    sdk: openai.AsyncOpenAI, exchange: Exchange
) -> tuple[Reading | Failure, list[Any]]:
    ask: Callable[..., Any] = sdk.responses.create
    answer = ask(model=f"replay/{exchange.id}?split=event", input="?", stream=exchange.stream)
    try:
        if not exchange.stream:
            return _read_response(await answer)
        streamed, items = "", {}
        async for event in await answer:
            if event.type == "response.output_text.delta":
                streamed += event.delta
            elif event.type == "response.output_item.done":
                items[event.output_index] = event.item
        assert event.type in ("response.completed", "response.incomplete")
    except openai.APIStatusError as exc:
        return FAILURES[exc.status_code, exc.code], []
    # The items of the last event are others: encrypted once more, or with another id.
    event.response.output = [items[index] for index in sorted(items)]
    reading, thoughts = _read_response(event.response)
    assert reading.choice(0).text == streamed
    return reading, thoughts


def _read_response(response: Any) -> tuple[Reading, list[Any]]:
    """What a response says by the SDK's own fields, and its reasoning that can go back."""
    choice = ChoiceReading(finish_reason=_finish_reason(response))
    thoughts: list[Any] = []
    for place, item in enumerate(response.output):
        match item.type:
            case "message":
                for part in item.content:
                    choice.text += getattr(part, "text", "")
                    choice.refusal += getattr(part, "refusal", "")
            case "function_call":
                call = ToolCallReading(item.call_id, item.name, item.arguments)
                choice.tool_calls.append(call)
            case "reasoning":
                choice.reasoning += "\n\n".join(
                    part.text for part in item.content or item.summary if part.text
                )
                follower = next(iter(response.output[place + 1 :]), None)
                goes_back = follower is None or follower.type in OURS
                if goes_back and (item.encrypted_content or item.content):
                    thoughts.append(item.to_dict(exclude_unset=True))
            case _:
                assert item.type in TOOLS_OF_THE_UPSTREAM, item.type
    usage = response.usage
    reading = Reading({0: choice})
    reading.usage = usage and Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        cached_tokens=usage.input_tokens_details.cached_tokens,
        cache_creation_tokens=getattr(usage.input_tokens_details, "cache_write_tokens", None) or 0,
        reasoning_tokens=usage.output_tokens_details.reasoning_tokens,
    )
    return reading, thoughts


def _finish_reason(response: Any) -> str:
    if response.status == "incomplete":
        return {"max_output_tokens": "length"}[response.incomplete_details.reason]
    assert response.status == "completed"
    calls = any(item.type == "function_call" for item in response.output)
    return "tool_calls" if calls else "stop"


OURS = ("message", "function_call", "reasoning")
TOOLS_OF_THE_UPSTREAM = (
    "file_search_call",
    "mcp_call",
    "mcp_list_tools",
    "tool_search_call",
    "web_search_call",
)
# Our error for each recorded status and code: never by the words of the message.
FAILURES: dict[tuple[int, str | None], Failure] = {
    (400, None): (InvalidRequestError, None),
    # xAI's code stands where OpenAI's error object is.
    (400, "invalid-argument"): (InvalidRequestError, None),
    (400, "invalid_request_error"): (InvalidRequestError, "invalid_request_error"),
    (400, "model_not_found"): (NotFoundError, "model_not_found"),
    (400, "unsupported_file"): (InvalidRequestError, "unsupported_file"),
    (401, "invalid_api_key"): (UpstreamCredentialsError, "upstream_credentials"),
}
