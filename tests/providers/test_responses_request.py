"""A chat request as a body for the Responses API: what is said, refused and left out."""

from typing import Any

import pytest

from providers.chat_request import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolSpec,
)
from providers.responses.reasoning import item_to_block
from providers.responses.request import ENCRYPTED_REASONING, chat_to_responses
from streaming.errors import InvalidRequestError, UnsupportedFieldError
from streaming.events import JsonObject, ReasoningBlock
from tests.providers.responses_stream import REASONING

HI = Message("user", (TextPart("Hi"),))
SCHEMA: JsonObject = {"type": "object", "properties": {"city": {"type": "string"}}}
THOUGHT = item_to_block(REASONING, "I look it up.")
CALL = ToolCall("call_1", "weather", '{"city":"Köln"}')
CALL_ITEM: JsonObject = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Köln"}',
}


def body_of(**fields: Any) -> JsonObject:
    return chat_to_responses(ChatRequest(**{"model": "o3-pro", "messages": (HI,), **fields})).body


def items_of(*messages: Message) -> Any:
    return body_of(messages=messages)["input"]


def test_a_plain_request_stores_nothing_and_asks_for_the_reasoning_to_send_back() -> None:
    assert body_of() == {
        "model": "o3-pro",
        "input": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "store": False,
        "include": [ENCRYPTED_REASONING],
    }


CONVERSATIONS: dict[str, tuple[tuple[Message, ...], list[JsonObject]]] = {
    "system messages stay where they are": (
        (
            Message("system", (TextPart("Be brief."),)),
            HI,
            Message("assistant", (TextPart("Hello."),)),
            Message("system", (TextPart("Be long."), TextPart("Now."))),
        ),
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {
                "role": "system",
                "content": [
                    {"type": "input_text", "text": "Be long."},
                    {"type": "input_text", "text": "Now."},
                ],
            },
        ],
    ),
    "an answer is its reasoning, its text, its calls": (
        (
            Message("assistant", (TextPart("Wait."),), tool_calls=(CALL,), reasoning=(THOUGHT,)),
            Message("tool", (TextPart("12 °C"),), tool_call_id="call_1"),
        ),
        [
            REASONING,
            {"role": "assistant", "content": "Wait."},
            CALL_ITEM,
            {"type": "function_call_output", "call_id": "call_1", "output": "12 °C"},
        ],
    ),
    "reasoning that nothing follows is left out": (
        (Message("assistant", reasoning=(THOUGHT,)), HI),
        [{"role": "user", "content": "Hi"}],
    ),
    "reasoning of others is left out": (
        (
            Message(
                "assistant",
                (TextPart("Hello."),),
                reasoning=(
                    ReasoningBlock("unsigned"),
                    ReasoningBlock("signed", signature="EqQBCgIYAhIM"),
                    ReasoningBlock("", redacted_data="EmwKAhgB"),
                ),
            ),
        ),
        [{"role": "assistant", "content": "Hello."}],
    ),
    "a refusal": (
        (Message("assistant", (TextPart("Well."),), refusal="No."),),
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "Well."},
                    {"type": "refusal", "refusal": "No."},
                ],
            }
        ],
    ),
    "the phase of an answer is kept": (
        (Message("assistant", (TextPart("Wait."),), extra={"phase": "commentary"}),),
        [{"role": "assistant", "content": "Wait.", "phase": "commentary"}],
    ),
    "a result with an image": (
        (
            Message(
                "tool",
                (TextPart("Here:"), ImagePart("data:image/png;base64,AA==")),
                tool_call_id="call_1",
            ),
        ),
        [
            {
                "type": "function_call_output",
                "call_id": "call_1",
                "output": [
                    {"type": "input_text", "text": "Here:"},
                    {
                        "type": "input_image",
                        "image_url": "data:image/png;base64,AA==",
                        "detail": "auto",
                    },
                ],
            }
        ],
    ),
    "no text at all": ((Message("user"),), [{"role": "user", "content": ""}]),
}


@pytest.mark.parametrize(("messages", "items"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation_becomes_items(
    messages: tuple[Message, ...], items: list[JsonObject]
) -> None:
    assert items_of(*messages) == items


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (
            ImagePart("https://example.org/a.png", "low"),
            {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
        ),
        (
            OpaquePart({"type": "file", "file": {"file_data": "data:a;base64,AA==", "x": 1}}),
            {"type": "input_file", "file_data": "data:a;base64,AA=="},
        ),
        (
            OpaquePart({"type": "file", "file": {"file_id": "file_1", "filename": "a.pdf"}}),
            {"type": "input_file", "file_id": "file_1", "filename": "a.pdf"},
        ),
        (
            OpaquePart({"type": "input_file", "file_url": "https://example.org/a.pdf"}),
            {"type": "input_file", "file_url": "https://example.org/a.pdf"},
        ),
        (
            TextPart("Hi", {"prompt_cache_breakpoint": {"mode": "explicit"}, "cache_control": {}}),
            {
                "type": "input_text",
                "text": "Hi",
                "prompt_cache_breakpoint": {"mode": "explicit"},
            },
        ),
    ],
    ids=["image", "file", "file by id", "file by URL", "text with keys"],
)
def test_a_content_part_is_said_in_this_format(part: Part, content: JsonObject) -> None:
    assert items_of(Message("user", (part,))) == [{"role": "user", "content": [content]}]


@pytest.mark.parametrize(
    "message",
    [
        Message("user", (OpaquePart({"type": "input_audio", "input_audio": {}}),)),
        Message("user", (OpaquePart({"type": "video_url"}),)),
        Message("assistant", (ImagePart("https://example.org/a.png"),)),
    ],
    ids=["audio", "video", "an image of the assistant"],
)
def test_a_part_without_a_counterpart_is_refused_by_its_place(message: Message) -> None:
    with pytest.raises(UnsupportedFieldError) as caught:
        items_of(HI, message)
    assert caught.value.param == "messages[1].content"


def test_a_result_must_name_its_call() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        items_of(Message("tool", (TextPart("12 °C"),)))
    assert caught.value.param == "messages[0].tool_call_id"


def test_an_id_that_is_too_long_is_shortened_alike_in_call_and_result() -> None:
    long = ToolCall("x" * 300, "weather", "{}")
    call, result = items_of(
        Message("assistant", tool_calls=(long,)),
        Message("tool", (TextPart("1"),), tool_call_id=long.call_id),
    )
    assert call["call_id"] == result["call_id"]
    assert len(call["call_id"]) <= 64


def test_tools_are_flat_and_strict_only_where_the_caller_says_so() -> None:
    tools = (
        ToolSpec("weather", "Tells the weather.", SCHEMA),
        ToolSpec("time", parameters=SCHEMA, strict=True),
    )
    assert body_of(tools=tools)["tools"] == [
        {
            "type": "function",
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": SCHEMA,
            "strict": False,
        },
        {"type": "function", "name": "time", "parameters": SCHEMA, "strict": True},
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tool_choice": ToolChoice("required")}, {"tool_choice": "required"}),
        (
            {"tool_choice": ToolChoice("function", "weather")},
            {"tool_choice": {"type": "function", "name": "weather"}},
        ),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"max_tokens": 100}, {"max_output_tokens": 100}),
        ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0, "top_p": 0.5}),
        ({"user": "u"}, {"user": "u"}),
        ({"stream": False}, {"stream": False}),
        ({"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        (
            {"reasoning_effort": "high", "extra": {"reasoning": {"summary": "auto"}}},
            {"reasoning": {"effort": "high", "summary": "auto"}},
        ),
        ({"response_format": {"type": "text"}}, {"text": {"format": {"type": "text"}}}),
        (
            {"response_format": {"type": "json_object"}, "extra": {"verbosity": "low"}},
            {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "s",
                        "schema": SCHEMA,
                        "strict": True,
                        "description": None,
                    },
                }
            },
            {
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "s",
                        "schema": SCHEMA,
                        "strict": True,
                    }
                }
            },
        ),
        ({"extra": {"safety_identifier": "s"}}, {"safety_identifier": "s"}),
        ({"extra": {"service_tier": "flex", "metadata": {"a": "b"}}}, {"service_tier": "flex"}),
        ({"extra": {"new_field": 1}}, {"new_field": 1}),
        ({"extra": {"input": "another", "model": "another"}}, {"model": "o3-pro"}),
        (
            {"extra": {"include": ["web_search_call.results"]}},
            {"include": ["web_search_call.results", ENCRYPTED_REASONING]},
        ),
        (
            {"extra": {"stream_options": {"include_usage": True, "include_obfuscation": False}}},
            {"stream_options": {"include_obfuscation": False}},
        ),
    ],
)
def test_a_field_is_said_in_this_format(fields: dict[str, Any], said: JsonObject) -> None:
    body = body_of(**fields)
    assert {name: body[name] for name in said} == said


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": {"stream_options": {"include_usage": True}}},
        {"stream": False, "extra": {"stream_options": {"include_obfuscation": False}}},
        {"n": 1, "stop": ()},
        {"extra": {"logprobs": False, "logit_bias": {}, "presence_penalty": 0.0}},
        {"extra": {"frequency_penalty": None, "modalities": ["text"], "store": None}},
    ],
)
def test_what_asks_for_nothing_is_not_sent(fields: dict[str, Any]) -> None:
    assert body_of(**fields) == {**body_of(), "stream": fields.get("stream", True)}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("n", {"n": 2}),
        ("stop", {"stop": ("END",)}),
        ("logprobs", {"extra": {"logprobs": True}}),
        ("logit_bias", {"extra": {"logit_bias": {"1": 1}}}),
        ("presence_penalty", {"extra": {"presence_penalty": 0.5}}),
        ("frequency_penalty", {"extra": {"frequency_penalty": -1}}),
        ("audio", {"extra": {"audio": {"voice": "a"}}}),
        ("modalities", {"extra": {"modalities": ["text", "audio"]}}),
        ("web_search_options", {"extra": {"web_search_options": {}}}),
        ("background", {"extra": {"background": True}}),
        ("previous_response_id", {"extra": {"previous_response_id": "resp_of_somebody"}}),
        ("conversation", {"extra": {"conversation": "conv_of_somebody"}}),
        ("prompt", {"extra": {"prompt": {"id": "pmpt_of_the_server"}}}),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFieldError) as caught:
        body_of(**fields)
    assert caught.value.param == name
    assert name in caught.value.message


def test_what_is_harmless_is_left_out_and_named() -> None:
    request = ChatRequest(
        "o3-pro",
        (
            Message("user", (TextPart("Hi", {"cache_control": {}}),), name="Ann"),
            Message("assistant", (TextPart("Yes."),), reasoning=(ReasoningBlock("Hm."),)),
        ),
        seed=1,
        extra={"prediction": {"type": "content"}, "top_k": 5},
    )
    translated = chat_to_responses(request)
    assert set(translated.dropped) == {
        "seed",
        "prediction",
        "top_k",
        "messages[0].name",
        "messages[0].content.cache_control",
        "messages[1].reasoning",
    }
    assert translated.body.keys() == {"model", "input", "stream", "store", "include"}


@pytest.mark.parametrize("model", ["gpt-4.1", "gpt-4o-mini", "gpt-3.5-turbo", "ft:gpt-4o:acme"])
def test_a_model_that_does_not_think_is_not_asked_for_its_thoughts(model: str) -> None:
    assert "include" not in body_of(model=model)


def test_what_is_stored_needs_no_reasoning_to_send_back() -> None:
    body = body_of(extra={"store": True})
    assert body["store"] is True
    assert "include" not in body


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        body_of(response_format={"type": "json_schema"})
    assert caught.value.param == "response_format"
