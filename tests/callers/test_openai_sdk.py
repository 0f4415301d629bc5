"""OpenAI's Python SDK on the doors chat, responses and embeddings, and on the list of models."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputParam
from pydantic import BaseModel

from tests.callers.gateway import CALLER, FEW, NONE, PIXEL_DATA, WIRES, Gateway, gateway
from tests.model_reply import THOUGHT

MODELS = [*(f"gpt-5-by-{wire}" for wire in WIRES), "gpt-5-by-fallback", "by-all/gpt-real"]
KEPT = "keeper/gpt-real"
KNOWS = "The tool says clear. I know why I asked."
HELLO = "Turn 1, 0 images, told <>: hello"
PIXEL = f"data:image/png;base64,{PIXEL_DATA}"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
BROKEN = r"the connection was lost in the middle of the answer"
CHAT_TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}
TOOL: Any = {"type": "function", "name": "look", "parameters": PARAMETERS, "strict": True}


class Weather(BaseModel):
    """What the model is to say."""

    city: str
    degrees: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("openai"), "--no-agent", keys=True) as found:
        yield found


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key=CALLER, max_retries=0, timeout=20) as found:
        yield found


def said(*texts: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text} for text in texts]


# --- chat -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_chat_is_answered_whole_and_streamed_alike(client: OpenAI, model: str) -> None:
    asked: dict[str, Any] = {"model": model, "messages": said("hello"), "reasoning_effort": "low"}
    if model == "gpt-5-by-messages":
        # Claude asks for an effort and thinks as much as it likes: it says nothing of it here.
        del asked["reasoning_effort"]
    whole = client.chat.completions.create(**asked)
    message = whole.choices[0].message
    assert (message.content, message.role) == (HELLO, "assistant")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options=options))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens > 5
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {whole.model}
    with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.done" in kinds
    assert final.choices[0].message.content == HELLO
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is None or final.usage == whole.usage


@pytest.mark.parametrize("model", MODELS)
def test_a_chat_calls_tools_and_gets_their_results(client: OpenAI, model: str) -> None:
    asked: dict[str, Any] = {"model": model, "tools": [CHAT_TOOL]}
    history: list[Any] = [*said("call it twice and say so")]
    with client.chat.completions.stream(**asked, messages=history) as stream:
        streamed = stream.get_final_completion().choices[0]
    whole = client.chat.completions.create(**asked, messages=history).choices[0]
    for choice in (streamed, whole):
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "I will look."
        calls = choice.message.tool_calls or []
        assert [call.function.name for call in calls] == ["look", "look"]  # type: ignore[union-attr]
        assert [call.function.arguments for call in calls] == ['{"city":"Oslo"}'] * 2  # type: ignore[union-attr]
        assert len({call.id for call in calls}) == 2
    history.append(whole.message.to_dict())
    history += [
        {"role": "tool", "tool_call_id": call.id, "content": "clear"}
        for call in whole.message.tool_calls or []
    ]
    told = client.chat.completions.create(**asked, messages=history).choices[0]
    assert told.message.content == "The tool says clear."


@pytest.mark.parametrize("model", MODELS)
def test_a_chat_is_parsed_into_a_model_of_pydantic(client: OpenAI, model: str) -> None:
    messages = said("weather")
    parsed = client.chat.completions.parse(model=model, messages=messages, response_format=Weather)
    assert parsed.choices[0].message.parsed == Weather(city="Oslo", degrees=4)
    with client.chat.completions.stream(
        model=model, messages=messages, response_format=Weather
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Weather(city="Oslo", degrees=4)


@pytest.mark.parametrize("model", MODELS)
def test_images_limits_and_earlier_turns_reach_the_model(client: OpenAI, model: str) -> None:
    messages: list[Any] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "ok"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "second"},
                {"type": "image_url", "image_url": {"url": PIXEL}},
            ],
        },
    ]
    whole = client.chat.completions.create(model=model, messages=messages)
    assert whole.choices[0].message.content == "Turn 2, 1 images, told <be brief>: second"
    short = client.chat.completions.create(
        model=model, messages=messages, max_completion_tokens=2, stream=True
    )
    choices = [choice for chunk in short for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "Turn 2,"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]


async def test_many_chats_at_once_get_each_their_own_answer(served: Gateway) -> None:
    base_url = f"{served.url}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key=CALLER, max_retries=0, timeout=20) as sdk:

        async def text_of(number: int, model: str) -> str:
            stream = await sdk.chat.completions.create(
                model=model, messages=said(f"n{number}"), stream=True
            )
            chunks = [chunk async for chunk in stream]
            deltas = (choice.delta.content for chunk in chunks for choice in chunk.choices)
            return "".join(filter(None, deltas))

        asked = [(number, model) for number in range(8) for model in MODELS]
        texts = await asyncio.gather(*(text_of(number, model) for number, model in asked))
    assert texts == [f"Turn 1, 0 images, told <>: n{number}" for number, _ in asked]


# --- responses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*MODELS, KEPT])
def test_a_response_is_answered_whole_and_streamed_alike(client: OpenAI, model: str) -> None:
    asked: dict[str, Any] = {"model": model, "input": "hello", "instructions": "be brief"}
    expected = "Turn 1, 0 images, told <be brief>: hello"
    whole = client.responses.create(**asked)
    assert (whole.output_text, whole.status, whole.instructions) == (
        expected,
        "completed",
        "be brief",
    )
    with client.responses.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == expected
    assert final.usage == whole.usage
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"


@pytest.mark.parametrize("model", MODELS)
def test_a_response_is_parsed_and_cut_by_its_limit(client: OpenAI, model: str) -> None:
    parsed = client.responses.parse(model=model, input="weather", text_format=Weather)
    assert parsed.output_parsed == Weather(city="Oslo", degrees=4)
    image: ResponseInputParam = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
            ],
        }
    ]
    seen = client.responses.create(model=model, input=image)
    assert seen.output_text == "Turn 1, 1 images, told <>: see"
    short = client.responses.create(model=model, input="hello", max_output_tokens=2)
    assert (short.output_text, short.status) == ("Turn 1,", "incomplete")
    assert short.incomplete_details is not None
    assert short.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("model", [*MODELS, KEPT])
def test_a_response_is_continued_shown_listed_and_deleted(client: OpenAI, model: str) -> None:
    first = client.responses.create(model=model, input="call it", tools=[TOOL])
    [call] = [item for item in first.output if item.type == "function_call"]
    assert (call.name, call.arguments) == ("look", '{"city":"Oslo"}')
    result: ResponseInputParam = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "clear"}
    ]
    second = client.responses.create(
        model=model, input=result, tools=[TOOL], previous_response_id=first.id
    )
    assert second.output_text == "The tool says clear."
    assert second.previous_response_id == first.id
    shown = client.responses.retrieve(second.id)
    assert shown.output_text == second.output_text
    assert shown.usage == second.usage
    kinds = [item.type for item in client.responses.input_items.list(second.id, order="asc")]
    assert sorted(kinds) == ["function_call", "function_call_output", "message"]
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)


@pytest.mark.parametrize("model", ["gpt-5-by-chat", "gpt-5-by-messages", "gpt-5-by-responses"])
def test_a_response_in_the_background_goes_on_and_is_read_again(client: OpenAI, model: str) -> None:
    begun = list(client.responses.create(model=model, input="hello", background=True, stream=True))
    answer_id = begun[0].response.id  # type: ignore[union-attr]
    again = list(client.responses.retrieve(answer_id, stream=True, starting_after=3))
    assert [event.sequence_number for event in again] == list(range(4, len(begun)))
    assert [event.to_dict() for event in again] == [event.to_dict() for event in begun[4:]]
    shown = client.responses.retrieve(answer_id)
    assert (shown.output_text, shown.status, shown.background) == (HELLO, "completed", True)
    assert shown.model == begun[0].response.model == model  # type: ignore[union-attr]
    assert client.responses.cancel(answer_id).status == "completed"


THINKING = ["gpt-5-by-responses", "by-messages/claude-sonnet-4-5"]


@pytest.mark.parametrize("model", THINKING)
def test_thinking_goes_back_with_a_response_to_the_model_that_signed_it(
    client: OpenAI, model: str
) -> None:
    asked: dict[str, Any] = {
        "model": model,
        "tools": [TOOL],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "max_output_tokens": 4000,
    }
    history: list[Any] = [{"role": "user", "content": "call it"}]
    with client.responses.stream(**asked, input=history) as stream:
        first = stream.get_final_response()
    thought, call = first.output
    assert thought.type == "reasoning"
    assert [part.text for part in thought.summary] == [THOUGHT]
    assert call.type == "function_call"
    history += [thought.to_dict(), call.to_dict()]
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "clear"})
    second = client.responses.create(**asked, input=history)
    assert second.output_text == KNOWS


@pytest.mark.parametrize("model", THINKING)
def test_thinking_goes_back_with_a_chat_to_the_model_that_signed_it(
    client: OpenAI, model: str
) -> None:
    asked: dict[str, Any] = {
        "model": model,
        "tools": [CHAT_TOOL],
        "reasoning_effort": "low",
        "max_completion_tokens": 4000,
    }
    history: list[Any] = said("call it")
    message = client.chat.completions.create(**asked, messages=history).choices[0].message
    told = message.to_dict()
    assert told["reasoning_content"] == THOUGHT
    history.append(told)
    history += [
        {"role": "tool", "tool_call_id": call.id, "content": "clear"}
        for call in message.tool_calls or []
    ]
    with client.chat.completions.stream(**asked, messages=history) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == KNOWS


async def test_responses_are_streamed_to_many_at_once(served: Gateway) -> None:
    base_url = f"{served.url}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key=CALLER, max_retries=0, timeout=20) as sdk:

        async def text_of(number: int, model: str) -> str:
            async with sdk.responses.stream(model=model, input=f"n{number}") as stream:
                return (await stream.get_final_response()).output_text

        asked = [(number, model) for number in range(4) for model in [*MODELS, KEPT]]
        texts = await asyncio.gather(*(text_of(number, model) for number, model in asked))
    assert texts == [f"Turn 1, 0 images, told <>: n{number}" for number, _ in asked]


# --- embeddings, models, errors -------------------------------------------------------------------


def test_embeddings_come_as_numbers_and_as_base64(client: OpenAI, served: Gateway) -> None:
    # Without a format the SDK asks for base64, and unpacks it.
    packed = client.embeddings.create(model="by-chat/gpt-real", input=["hello", "you"])
    assert served.upstream.last_body("/embeddings")["encoding_format"] == "base64"
    plain = client.embeddings.create(
        model="by-all/gpt-real", input=["hello", "you"], encoding_format="float"
    )
    assert [row.embedding for row in packed.data] == [[5.0, 0.5, 0.25, 0.0], [3.0, 0.5, 0.25, 1.0]]
    assert [row.embedding for row in plain.data] == [row.embedding for row in packed.data]
    assert plain.usage.total_tokens == 2
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="by-messages/claude-real", input="hello")
    assert refused.value.param == "model"


def test_models_are_listed_and_found(client: OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {"gpt-5-by-chat", "gpt-5-by-fallback", "by-all/gpt-real"} <= names
    assert client.models.retrieve("gpt-5-by-chat").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("by-all/none")


RAISED: list[tuple[str, int, type[openai.APIStatusError]]] = [
    ("fail 400", 400, openai.BadRequestError),
    ("fail 404", 404, openai.NotFoundError),
    ("fail 429", 429, openai.RateLimitError),
    ("fail 500", 502, openai.InternalServerError),
    ("fail 503", 503, openai.InternalServerError),
    # The key that was refused is the server's own.
    ("fail 401", 502, openai.InternalServerError),
]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(("text", "status", "kind"), RAISED, ids=[row[0] for row in RAISED])
def test_failures_of_an_upstream_raise_the_class_of_their_status(
    client: OpenAI, text: str, status: int, kind: type[openai.APIStatusError], *, stream: bool
) -> None:
    # Not by a named model, whose routes would rest after so many failures.
    for number, provider in enumerate(["by-chat/gpt-real", "by-messages/claude-real", "by-all/x"]):
        model = f"{provider}-{status}-{text[-3:]}-{stream}-{number}"
        with pytest.raises(kind) as chat:
            client.chat.completions.create(model=model, messages=said(text), stream=stream)
        with pytest.raises(kind) as response:
            client.responses.create(model=f"{model}-r", input=text, stream=stream)
        for raised in (chat.value, response.value):
            assert raised.status_code == status
            assert raised.request_id
            assert isinstance(raised.body, dict)
            assert raised.body.keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("model", ["by-chat/gpt-real", "by-messages/claude-real"])
def test_a_stream_that_breaks_off_raises_after_what_it_said(client: OpenAI, model: str) -> None:
    chunks: list[str] = []
    with pytest.raises(openai.APIError, match=BROKEN):
        chunks.extend(
            choice.finish_reason or ""
            for chunk in client.chat.completions.create(
                model=model, messages=said("break off"), stream=True
            )
            for choice in chunk.choices
        )
    kinds: list[str] = []
    with pytest.raises(openai.APIError, match=BROKEN):
        kinds.extend(
            event.type
            for event in client.responses.create(model=model, input="break off", stream=True)
        )
    assert not any(chunks)
    assert "response.completed" not in kinds


def test_keys_are_refused_with_the_sdks_own_classes(served: Gateway) -> None:
    def asks(key: str, model: str) -> Any:
        with OpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0) as sdk:
            return sdk.chat.completions.create(model=model, messages=said("hello"))

    with pytest.raises(openai.AuthenticationError):
        asks("sk-nobody-0123456789012345", "gpt-5-by-chat")
    with pytest.raises(openai.PermissionDeniedError):
        asks(NONE, "gpt-5-by-chat")
    with pytest.raises((openai.PermissionDeniedError, openai.NotFoundError)):
        asks(FEW, "gpt-5-by-messages")
    assert asks(FEW, "gpt-5-by-chat").choices[0].message.content == HELLO


def test_raw_answers_tell_who_answered(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-5-by-fallback", messages=said("hello")
    )
    assert raw.headers["x-provider"] == "by-chat"
    assert raw.headers["x-route"] == "by-chat/gpt-5-real"
    assert int(raw.headers["x-attempts"]) in {1, 2}
    assert raw.request_id
    assert raw.parse().model == "gpt-5-by-fallback"
