"""Every recorded chat completion, read by us and by the official SDK: the same answer.

The SDK asks the same replay, so what is expected is a second, independent reading of the bytes.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

from providers.chat_request import ChatRequest, Message, TextPart
from providers.openai.adapter import OpenAIProvider
from providers.openai.quirks import COMPATIBLE
from providers.upstream import RetryPolicy, Upstream
from streaming.errors import (
    AgentServerError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    UpstreamCredentialsError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
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

ENDPOINT = "chat.completions"
AT_ONCE = 8


@needs_recordings
@pytest.mark.parametrize("provider", provider_folders(ENDPOINT))
async def test_every_answer_is_what_the_official_sdk_reads(provider: str, replay: Replay) -> None:
    exchanges = exchanges_of(replay, provider, ENDPOINT)
    assert exchanges
    room = asyncio.Semaphore(AT_ONCE)
    async with _sdk(replay) as sdk, _Ours(replay) as ours:

        async def differences(exchange: Exchange) -> list[str]:
            async with room:
                expected = await _read_by_sdk(sdk, exchange)
                readings = [await ours.read(exchange, split) for split in SPLITS]
            return [
                f"{exchange.id} ({split}):\n  ours {reading}\n  SDK  {expected}"
                for split, reading in zip(SPLITS, readings, strict=True)
                if reading != expected
            ]

        found = await asyncio.gather(*map(differences, exchanges))
    if different := [line for lines in found for line in lines]:
        pytest.fail("\n".join(different))


class _Ours:
    """Our adapter at the replay; its readings of failures are the class, code and status."""

    def __init__(self, replay: Replay) -> None:
        self._upstream = Upstream()
        self._base_url = f"{replay.url}/v1"

    async def __aenter__(self) -> "_Ours":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._upstream.aclose()

    def provider(self, name: str) -> OpenAIProvider:
        return OpenAIProvider(
            name=name,
            base_url=self._base_url,
            default_model="",
            upstream=self._upstream,
            quirks=COMPATIBLE,
            retry=RetryPolicy(limit=0),
        )

    async def read(self, exchange: Exchange, split: str) -> "Reading | Failure":
        request = ChatRequest(
            model=f"replay/{exchange.id}?split={split}",
            messages=(Message("user", (TextPart("?"),)),),
            stream=exchange.stream,
        )
        try:
            reading = await read_events(self.provider(exchange.provider).chat(request))
        except AgentServerError as exc:
            return type(exc), exc.code
        for choice in reading.choices.values():
            for call in choice.tool_calls:
                assert call.call_id
                call.call_id = _id_of_the_provider(call.call_id)
        return reading


Failure = tuple[type[AgentServerError], str | None]


def _sdk(replay: Replay) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{replay.url}/v1", api_key="none", max_retries=0)


async def _read_by_sdk(sdk: openai.AsyncOpenAI, exchange: Exchange) -> Reading | Failure:
    ask: Callable[..., Any] = sdk.chat.completions.create
    answer = ask(
        model=f"replay/{exchange.id}?split=event",
        messages=[{"role": "user", "content": "?"}],
        stream=exchange.stream,
    )
    seen = Reading()
    try:
        if exchange.stream:
            async for chunk in await answer:
                _add_sdk_object(seen, chunk, "delta")
        else:
            _add_sdk_object(seen, await answer, "message")
    except openai.APIError as exc:
        return _expected_failure(exc)
    for choice in seen.choices.values():
        choice.finish_reason = DEVIATING_REASONS.get(choice.finish_reason, choice.finish_reason)
    return seen


def _add_sdk_object(seen: Reading, value: Any, part_name: str) -> None:
    """Add a chunk or a completion of the SDK to a reading, by the SDK's own fields."""
    if usage := _sdk_usage(value):
        seen.usage = usage
    for sdk_choice in value.choices:
        choice = seen.choice(sdk_choice.index)
        part = getattr(sdk_choice, part_name)
        if part is None:
            # DEVIATION (Azure): a chunk about the content filter has no delta.
            continue
        text, thinking = _sdk_content(part.content)
        choice.text += text
        choice.reasoning += thinking or _extra(part, "reasoning_content", "reasoning") or ""
        choice.refusal += getattr(part, "refusal", None) or ""
        for call in part.tool_calls or []:
            _add_sdk_call(choice, call)
        if legacy := getattr(part, "function_call", None):
            choice.tool_calls.append(ToolCallReading("", legacy.name, legacy.arguments))
        choice.finish_reason = getattr(sdk_choice, "finish_reason", None) or choice.finish_reason
        if part_name == "message" and choice.finish_reason is None:
            # DEVIATION (an old OpenAI model, OpenRouter): a whole answer without a finish reason
            # has ended all the same; the old model has the reason in another field.
            details = _extra(sdk_choice, "finish_details") or {"type": "stop"}
            choice.finish_reason = details["type"]


def _add_sdk_call(choice: ChoiceReading, call: Any) -> None:
    index = getattr(call, "index", None)
    if index is None or index >= len(choice.tool_calls):
        # DEVIATION (Mistral): no index; each call comes in one piece.
        choice.tool_calls.append(ToolCallReading(_id_of_the_provider(call.id or ""), "", ""))
        index = -1
    known = choice.tool_calls[index]
    known.name += call.function.name or ""
    known.arguments += call.function.arguments or ""


def _sdk_content(content: Any) -> tuple[str, str]:
    """Text and thinking of a content."""
    if not isinstance(content, list):
        return content or "", ""
    # DEVIATION (Mistral): content is a list of parts, thinking among them.
    text = "".join(part["text"] for part in content if part["type"] == "text")
    thinking = [part["thinking"] for part in content if part["type"] == "thinking"]
    return text, "".join(piece["text"] for pieces in thinking for piece in pieces)


def _sdk_usage(value: Any) -> Usage | None:
    usage = value.usage
    if usage is None:
        # DEVIATION (Groq): older streams report the usage in a field of their own alone.
        groq = _extra(value, "x_groq") or {}
        if not groq.get("usage"):
            return None
        usage = openai.types.CompletionUsage.model_construct(**groq["usage"])
    prompt = usage.prompt_tokens_details
    completion = usage.completion_tokens_details
    cached = getattr(prompt, "cached_tokens", None)
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        # DEVIATION (Together, HuggingFace, Mistral): cached tokens stand beside the details.
        cached_tokens=cached or _extra(usage, "cached_tokens", "num_cached_tokens") or 0,
        cache_creation_tokens=getattr(prompt, "cache_write_tokens", None) or 0,
        reasoning_tokens=getattr(completion, "reasoning_tokens", None) or 0,
    )


def _extra(value: Any, *names: str) -> Any:
    """The first of these fields that an object of the SDK has beyond its own."""
    extra = getattr(value, "model_extra", None) or {}
    return next((extra[name] for name in names if extra.get(name)), None)


def _id_of_the_provider(call_id: str) -> str:
    """The id, "" if it is one of those that we make (`call_` and 32 hexadecimal digits)."""
    made = call_id.startswith("call_") and len(call_id) == len("call_") + 32
    return "" if made else call_id


def _expected_failure(error: openai.APIError) -> Failure:
    status = getattr(error, "status_code", None)
    if status is None and isinstance(error.body, dict):
        # An error inside a stream; Groq and OpenRouter name the status in it.
        status = error.body.get("status_code") or error.body.get("code")
    if error.type in FAILURES_BY_TYPE:
        return FAILURES_BY_TYPE[error.type]
    return FAILURES[status, str(error.code) if error.code else None]


# What upstreams say for OpenAI's finish reasons.
DEVIATING_REASONS = {
    "eos": "stop",  # Together's end of sequence
    "function_call": "tool_calls",  # OpenAI before tools; a call is a tool call here
    "max_tokens": "length",  # an old OpenAI model's `finish_details`
}
# Where the code is a bare number, the type says more (Perplexity).
FAILURES_BY_TYPE: dict[str | None, Failure] = {
    "too_many_prompt_tokens": (ContextLengthError, "context_length_exceeded"),
}
# Our error for each recorded status and code: never by the words of the message.
FAILURES: dict[tuple[int | None, str | None], Failure] = {
    (400, None): (InvalidRequestError, None),
    (400, "400"): (InvalidRequestError, None),
    (400, "invalid_request_error"): (InvalidRequestError, "invalid_request_error"),
    (400, "invalid_image_url"): (InvalidRequestError, "invalid_image_url"),
    (400, "invalid_value"): (InvalidRequestError, "invalid_value"),
    (400, "unsupported_parameter"): (InvalidRequestError, "unsupported_parameter"),
    (400, "tool_use_failed"): (UpstreamRejectedError, "tool_use_failed"),
    (401, None): (UpstreamCredentialsError, "upstream_credentials"),
    (401, "401"): (UpstreamCredentialsError, "upstream_credentials"),
    (401, "invalid_api_key"): (UpstreamCredentialsError, "upstream_credentials"),
    (401, "invalid_request_error"): (UpstreamCredentialsError, "upstream_credentials"),
    # Azure has no such address: its base URL is wrong, no model is missing.
    (404, "404"): (UpstreamRejectedError, "upstream_error"),
    (404, "model_not_found"): (NotFoundError, "model_not_found"),
    (429, "429"): (UpstreamRateLimitError, "rate_limit_exceeded"),
    (429, "RateLimitReached"): (UpstreamRateLimitError, "rate_limit_exceeded"),
}
