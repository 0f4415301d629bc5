"""Anthropic's Python SDK on the doors messages and count_tokens, and on the list of models."""

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam
from pydantic import BaseModel

from tests.callers.gateway import CALLER, NONE, PIXEL_DATA, WIRES, Gateway, gateway
from tests.model_reply import SIGNATURE, THOUGHT

MODELS = [
    *(f"claude-sonnet-4-by-{wire}" for wire in WIRES),
    "claude-sonnet-4-by-fallback",
    "by-all/claude-real",
]
RELAYED = ["claude-sonnet-4-by-messages", "by-all/claude-real"]
HELLO = "Turn 1, 0 images, told <>: hello"
TOOL: Any = {
    "name": "look",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class Weather(BaseModel):
    """What the model is to say."""

    city: str
    degrees: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("anthropic"), "--no-agent", keys=True) as found:
        yield found


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[Anthropic]:
    with Anthropic(base_url=served.url, api_key=CALLER, max_retries=0, timeout=20) as found:
        yield found


def said(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("model", MODELS)
def test_a_message_is_answered_whole_and_streamed_alike(client: Anthropic, model: str) -> None:
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": 99,
        "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        "messages": said("hello"),
    }
    whole = client.messages.create(**asked)
    [block] = whole.content
    assert block.type == "text"
    assert block.text == "Turn 1, 0 images, told <be brief>: hello"
    assert (whole.stop_reason, whole.role) == ("end_turn", "assistant")
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == block.text
    assert (final.model, final.stop_reason) == (whole.model, "end_turn")
    assert final.usage.output_tokens == whole.usage.output_tokens > 5
    if model not in RELAYED:
        # Chat and Responses tell how long the question was at the end alone.
        assert final.usage.input_tokens == whole.usage.input_tokens == 3
    kinds = [event.type for event in client.messages.create(**asked, stream=True)]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]


@pytest.mark.parametrize("model", MODELS)
def test_a_message_calls_tools_and_gets_their_results(client: Anthropic, model: str) -> None:
    asked: dict[str, Any] = {"model": model, "max_tokens": 99, "tools": [TOOL]}
    history: list[Any] = [*said("call it twice and say so")]
    whole = client.messages.create(**asked, messages=history)
    with client.messages.stream(**asked, messages=history) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert message.stop_reason == "tool_use"
        text, *calls = message.content
        assert text.type == "text"
        assert text.text == "I will look."
        assert [(call.name, call.input) for call in calls if call.type == "tool_use"] == [
            ("look", {"city": "Oslo"})
        ] * 2
    history.append({"role": "assistant", "content": streamed.content})
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "clear"}
        for block in streamed.content
        if block.type == "tool_use"
    ]
    history.append({"role": "user", "content": results})
    told = client.messages.create(**asked, messages=history)
    assert told.content[0].type == "text"
    assert told.content[0].text == "The tool says clear."


@pytest.mark.parametrize("model", MODELS)
def test_a_message_is_parsed_cut_by_its_limit_and_shown_an_image(
    client: Anthropic, model: str
) -> None:
    parsed = client.messages.parse(
        model=model, max_tokens=99, messages=said("weather"), output_format=Weather
    )
    assert parsed.parsed_output == Weather(city="Oslo", degrees=4)
    source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL_DATA}
    seen = client.messages.create(
        model=model,
        max_tokens=99,
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": "see"}, {"type": "image", "source": source}],
            }
        ],
    )
    assert seen.content[0].type == "text"
    assert seen.content[0].text == "Turn 1, 1 images, told <>: see"
    with client.messages.stream(model=model, max_tokens=2, messages=said("hello")) as stream:
        short = stream.get_final_message()
    assert short.stop_reason == "max_tokens"
    assert short.content[0].type == "text"
    assert short.content[0].text == "Turn 1,"


THINKING = [*RELAYED, "claude-sonnet-4-by-responses"]


@pytest.mark.parametrize("model", THINKING)
def test_thinking_goes_back_to_the_model_that_signed_it(client: Anthropic, model: str) -> None:
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": 4096,
        "tools": [TOOL],
        "thinking": {"type": "enabled", "budget_tokens": 2048},
    }
    history: list[Any] = [*said("call it")]
    with client.messages.stream(**asked, messages=history) as stream:
        first = stream.get_final_message()
    thought, call = first.content
    assert thought.type == "thinking"
    assert thought.thinking == THOUGHT
    assert SIGNATURE in thought.signature
    assert call.type == "tool_use"
    history.append({"role": "assistant", "content": first.content})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "clear"}
    history.append({"role": "user", "content": [result]})
    second = client.messages.create(**asked, messages=history)
    assert second.content[-1].type == "text"
    assert second.content[-1].text == "The tool says clear. I know why I asked."


@pytest.mark.parametrize("model", ["claude-sonnet-4-by-chat", "claude-sonnet-4-by-fallback"])
def test_a_named_model_that_thinks_is_told_how_much(
    client: Anthropic, served: Gateway, model: str
) -> None:
    asked: dict[str, Any] = {"model": model, "max_tokens": 4096, "messages": said("hello")}
    for fields, effort in (
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "low"),
        ({"output_config": {"effort": "high"}}, "high"),
    ):
        message = client.messages.create(**asked, **fields)
        assert served.upstream.last_body("/chat/completions")["reasoning_effort"] == effort
        assert [block.type for block in message.content] == ["thinking", "text"]


def test_tokens_are_counted_or_estimated(client: Anthropic) -> None:
    for model in RELAYED:
        counted = client.messages.with_raw_response.count_tokens(
            model=model, messages=said("one two three")
        )
        assert counted.parse().input_tokens == 3
        assert "x-token-count" not in counted.headers
    estimated = client.messages.with_raw_response.count_tokens(
        model="claude-sonnet-4-by-chat", messages=said("one two three"), tools=[TOOL]
    )
    assert estimated.parse().input_tokens > 3
    assert estimated.headers["x-token-count"] == "estimated"


def test_models_are_listed_in_anthropics_shape(client: Anthropic) -> None:
    names = [model.id for model in client.models.list(limit=3)]
    assert len(names) == len(set(names))
    assert {"claude-sonnet-4-by-chat", "by-messages/claude-real"} <= set(names)
    one = client.models.retrieve("claude-sonnet-4-by-chat")
    assert (one.id, one.type) == ("claude-sonnet-4-by-chat", "model")


async def test_many_messages_at_once_get_each_their_own_answer(served: Gateway) -> None:
    async with AsyncAnthropic(
        base_url=served.url, api_key=CALLER, max_retries=0, timeout=20
    ) as sdk:

        async def text_of(number: int, model: str) -> str:
            async with sdk.messages.stream(
                model=model, max_tokens=99, messages=said(f"n{number}")
            ) as stream:
                return "".join([text async for text in stream.text_stream])

        asked = [(number, model) for number in range(8) for model in MODELS]
        texts = await asyncio.gather(*(text_of(number, model) for number, model in asked))
    assert texts == [f"Turn 1, 0 images, told <>: n{number}" for number, _ in asked]


RAISED: list[tuple[int, int, type[anthropic.APIStatusError], str]] = [
    (400, 400, anthropic.BadRequestError, "invalid_request_error"),
    (404, 404, anthropic.NotFoundError, "not_found_error"),
    (429, 429, anthropic.RateLimitError, "rate_limit_error"),
    (500, 502, anthropic.InternalServerError, "api_error"),
    # Anthropic has one status for a server without room.
    (503, 529, anthropic.OverloadedError, "overloaded_error"),
    (529, 529, anthropic.OverloadedError, "overloaded_error"),
    # The key that was refused is the server's own.
    (401, 502, anthropic.InternalServerError, "api_error"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(("asked", "status", "kind", "word"), RAISED)
def test_failures_of_an_upstream_raise_the_class_of_their_status(
    client: Anthropic,
    asked: int,
    status: int,
    kind: type[anthropic.APIStatusError],
    word: str,
    *,
    stream: bool,
) -> None:
    # Each at a route of its own, which would rest after so many failures.
    for provider in ("by-chat", "by-messages", "by-all"):
        with pytest.raises(kind) as raised:
            client.messages.create(
                model=f"{provider}/real-{asked}-{stream}",
                max_tokens=9,
                messages=said(f"fail {asked}"),
                stream=stream,
            )
        assert raised.value.status_code == status
        assert raised.value.type == word
        assert raised.value.request_id


@pytest.mark.parametrize("model", ["by-chat/gpt-real", "by-messages/claude-real"])
def test_a_stream_that_breaks_off_raises_after_what_it_said(client: Anthropic, model: str) -> None:
    kinds: list[str] = []
    asked: dict[str, Any] = {"model": model, "max_tokens": 99, "messages": said("break off")}
    with pytest.raises(anthropic.APIError, match="connection was lost"):
        kinds.extend(event.type for event in client.messages.create(**asked, stream=True))
    with pytest.raises(anthropic.APIError), client.messages.stream(**asked) as stream:
        stream.get_final_message()


def test_keys_are_refused_with_the_sdks_own_classes(served: Gateway) -> None:
    def asks(**keys: Any) -> Any:
        with Anthropic(base_url=served.url, max_retries=0, **keys) as sdk:
            return sdk.messages.create(
                model="claude-sonnet-4-by-chat", max_tokens=99, messages=said("hello")
            )

    with pytest.raises(anthropic.AuthenticationError):
        asks(api_key="sk-nobody-0123456789012345")
    with pytest.raises(anthropic.PermissionDeniedError):
        asks(api_key=NONE)
    assert asks(auth_token=CALLER).content[0].text == HELLO


def test_raw_answers_tell_who_answered_and_what_was_left_out(client: Anthropic) -> None:
    raw = client.messages.with_raw_response.create(
        model="by-chat/gpt-real",
        max_tokens=4096,
        messages=said("hello"),
        thinking={"type": "enabled", "budget_tokens": 2048},
    )
    assert raw.headers["x-provider"] == "by-chat"
    assert raw.headers["x-dropped-fields"] == "thinking"
    message = raw.parse()
    assert message.model == "gpt-real"
    assert message._request_id == raw.headers["request-id"]
