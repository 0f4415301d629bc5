"""A chat request as OpenAI's body, and what each provider's quirks make of it."""

from dataclasses import replace
from typing import Any

import pytest

from providers.chat_request import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolSpec,
)
from providers.openai.quirks import COMPATIBLE, GROQ, OLLAMA, OPENAI, TOGETHER, Quirks
from providers.openai.request import request_to_body
from streaming.errors import UnsupportedFieldError
from streaming.events import JsonObject, JsonValue, ReasoningBlock

ASKED = ChatRequest("m", (Message("user", (TextPart("Hi"),)),), stream=False)
BARE: JsonObject = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
SCHEMA: JsonObject = {"type": "object", "properties": {"city": {"type": "string"}}}
AUDIO: JsonObject = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}


def test_what_was_not_given_is_not_sent() -> None:
    assert request_to_body(ASKED) == BARE


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"top_p": 0.5, "seed": 1, "n": 2}, {"top_p": 0.5, "seed": 1, "n": 2}),
        ({"stop": ("a", "b")}, {"stop": ["a", "b"]}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"reasoning_effort": "low", "user": "u"}, {"reasoning_effort": "low", "user": "u"}),
        ({"response_format": {"type": "text"}}, {"response_format": {"type": "text"}}),
        ({"tool_choice": ToolChoice("required")}, {"tool_choice": "required"}),
        (
            {"tool_choice": ToolChoice("function", "f")},
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        ),
        ({"extra": {"logit_bias": {"1": 2}, "new": [1]}}, {"logit_bias": {"1": 2}, "new": [1]}),
        ({"extra": {"model": "other", "stream_options": {"a": 1}, "stream": True}}, {}),
        (
            {"tools": (ToolSpec("f", "Does f.", SCHEMA, strict=True),)},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "description": "Does f.",
                            "parameters": SCHEMA,
                            "strict": True,
                        },
                    }
                ]
            },
        ),
        (
            {"stream": True},
            {"stream": True, "stream_options": {"include_usage": True}},
        ),
        (
            {"stream": True, "extra": {"stream_options": {"include_obfuscation": False}}},
            {
                "stream": True,
                "stream_options": {"include_obfuscation": False, "include_usage": True},
            },
        ),
    ],
)
def test_a_field_is_sent_as_openai_names_it(given: dict[str, Any], sent: JsonObject) -> None:
    assert request_to_body(replace(ASKED, **given)) == BARE | sent


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("gpt-4o-mini", "max_tokens"),
        ("gpt-4.1", "max_tokens"),
        ("llama3.2", "max_tokens"),
        ("openai/gpt-oss-120b", "max_tokens"),
        ("o3", "max_completion_tokens"),
        ("o4-mini-2025-04-16", "max_completion_tokens"),
        ("gpt-5.4-mini", "max_completion_tokens"),
        ("gpt-6.2-astra", "max_completion_tokens"),
        ("gpt-10", "max_completion_tokens"),
        ("ft:gpt-5-mini:org::id", "max_completion_tokens"),
    ],
)
def test_the_bound_of_tokens_has_the_name_that_the_model_takes(model: str, field: str) -> None:
    body = request_to_body(replace(ASKED, model=model, max_tokens=7))
    assert {name: body[name] for name in body if name.startswith("max_")} == {field: 7}


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (Message("system", (TextPart("Be kind"),)), {"content": "Be kind"}),
        (Message("user"), {"content": ""}),
        (
            Message("user", (TextPart("a"), TextPart("b"))),
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ),
        (
            Message("user", (ImagePart("data:image/png;base64,AA", "low"), OpaquePart(AUDIO))),
            {
                "content": [
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,AA", "detail": "low"},
                    },
                    AUDIO,
                ]
            },
        ),
        (
            Message("assistant", tool_calls=(ToolCall("c1", "f", "{ }"),)),
            {
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{ }"}}
                ],
            },
        ),
        (Message("assistant", refusal="No."), {"content": None, "refusal": "No."}),
        (
            Message("tool", (TextPart("22"),), tool_call_id="c1", is_error=True),
            {"content": "22", "tool_call_id": "c1"},
        ),
        (
            Message("user", (TextPart("a"),), name="bob", extra={"prefix": True}),
            {"content": "a", "name": "bob", "prefix": True},
        ),
        (
            Message("assistant", (TextPart("a"),), extra={"thinking_blocks": [{"signature": "s"}]}),
            {"content": "a"},
        ),
    ],
)
def test_a_message_is_sent_as_openai_has_it(message: Message, sent: JsonObject) -> None:
    body = request_to_body(replace(ASKED, messages=(message,)))
    assert body["messages"] == [{"role": message.role, **sent}]


@pytest.mark.parametrize(
    ("quirks", "sent"),
    [
        (OPENAI, {}),
        (COMPATIBLE, {"reasoning_content": "I think, so"}),
        (GROQ, {"reasoning": "I think, so"}),
        (TOGETHER, {"reasoning": "I think, so"}),
        (OLLAMA, {"reasoning": "I think, so"}),
    ],
)
def test_thinking_goes_back_to_who_takes_it_and_never_with_a_signature(
    quirks: Quirks, sent: JsonObject
) -> None:
    blocks = (
        ReasoningBlock("I think", signature="secret"),
        ReasoningBlock("", redacted_data="secret"),
        ReasoningBlock(", so"),
    )
    message = Message("assistant", (TextPart("a"),), reasoning=blocks)
    body = request_to_body(replace(ASKED, messages=(message,)), quirks)
    assert body["messages"] == [{"role": "assistant", "content": "a", **sent}]


def test_keys_of_others_in_a_part_go_only_to_who_may_know_them() -> None:
    cached = TextPart("a", {"cache_control": {"type": "ephemeral"}})
    request = replace(ASKED, messages=(Message("user", (cached,)),))

    def content(quirks: Quirks) -> JsonValue:
        [message] = request_to_body(request, quirks)["messages"]  # type: ignore[misc, union-attr]
        return message["content"]  # type: ignore[index, call-overload, no-any-return]

    assert content(OPENAI) == "a"
    assert content(COMPATIBLE) == [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    ]


def test_groq_gets_no_names_no_zero_temperature_and_no_harmless_refused_field() -> None:
    named = Message("user", (TextPart("Hi"),), name="bob")
    request = replace(
        ASKED, messages=(named,), temperature=0.0, n=1, extra={"logprobs": False, "logit_bias": {}}
    )
    assert request_to_body(request, GROQ) == BARE | {"temperature": 1e-8}


def test_ollama_gets_nothing_that_it_ignores() -> None:
    request = replace(
        ASKED, user="u", parallel_tool_calls=True, tool_choice=ToolChoice("auto"), n=1
    )
    assert request_to_body(request, OLLAMA) == BARE


@pytest.mark.parametrize(
    ("quirks", "given", "param"),
    [
        (GROQ, {"n": 2}, "n"),
        (GROQ, {"extra": {"logprobs": True}}, "logprobs"),
        (GROQ, {"extra": {"top_logprobs": 3}}, "top_logprobs"),
        (GROQ, {"extra": {"logit_bias": {"1": 5}}}, "logit_bias"),
        (OLLAMA, {"n": 3}, "n"),
        (OLLAMA, {"tool_choice": ToolChoice("required")}, "tool_choice"),
    ],
)
def test_a_field_that_changes_the_answer_is_refused_where_it_is_not_taken(
    quirks: Quirks, given: dict[str, Any], param: str
) -> None:
    with pytest.raises(UnsupportedFieldError, match=f"up does not take `{param}`") as raised:
        request_to_body(replace(ASKED, **given), quirks, "up")
    assert raised.value.param == param
