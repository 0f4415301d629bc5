"""Chat requests in Anthropic's format."""

from typing import Any

import pytest

from providers.anthropic.request import JSON_INSTRUCTION, chat_to_messages
from providers.chat_request import (
    ChatRequest,
    Message,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolSpec,
)
from streaming.errors import UnsupportedFieldError
from streaming.events import ReasoningBlock

OLD, BUDGET, ADAPTIVE, NEWEST = (
    "claude-3-haiku-20240307",
    "claude-sonnet-4-5",
    "claude-sonnet-4-6",
    "claude-sonnet-5",
)
MARK = {"type": "ephemeral"}
WEATHER = ToolSpec(
    "get_weather",
    "The weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def user(*texts: str) -> Message:
    return Message("user", tuple(TextPart(text) for text in texts))


def assistant(text: str = "", **fields: Any) -> Message:
    return Message("assistant", (TextPart(text),) if text else (), **fields)


def system(text: str) -> Message:
    return Message("system", (TextPart(text),))


def tool_result(call_id: str, text: str, **fields: Any) -> Message:
    return Message("tool", (TextPart(text),), tool_call_id=call_id, **fields)


def body(*messages: Message, model: str = NEWEST, **fields: Any) -> dict[str, Any]:
    return chat_to_messages(ChatRequest(model, messages or (user("Hi"),), **fields)).body


def dropped(*messages: Message, model: str = NEWEST, **fields: Any) -> tuple[str, ...]:
    return chat_to_messages(ChatRequest(model, messages or (user("Hi"),), **fields)).dropped


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def turn(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def test_more_than_one_answer_is_refused() -> None:
    assert "n" not in body(n=1)
    with pytest.raises(UnsupportedFieldError) as caught:
        body(n=2)
    assert caught.value.param == "n"


@pytest.mark.parametrize(
    ("model", "max_tokens"),
    [
        (OLD, 4096),
        ("claude-3-5-haiku-latest", 8192),
        ("claude-opus-4-1-20250805", 32000),
        (NEWEST, 32000),
        ("a-model-of-another-house", 8192),
    ],
)
def test_a_number_of_tokens_is_always_sent(model: str, max_tokens: int) -> None:
    assert body(model=model)["max_tokens"] == max_tokens
    assert body(model=model, max_tokens=7)["max_tokens"] == 7


TOOL_CHOICES: list[tuple[ToolChoice | None, bool | None, dict[str, Any] | None]] = [
    (None, None, None),
    (None, True, None),
    (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    (ToolChoice("auto"), None, {"type": "auto"}),
    (ToolChoice("none"), False, {"type": "none"}),
    (ToolChoice("required"), None, {"type": "any"}),
    (
        ToolChoice("function", "get_weather"),
        False,
        {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
    ),
]


@pytest.mark.parametrize(("choice", "parallel", "expected"), TOOL_CHOICES)
def test_tool_choices(
    choice: ToolChoice | None, parallel: bool | None, expected: dict[str, Any] | None
) -> None:
    sent = body(tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=parallel)
    assert sent.get("tool_choice") == expected
    assert "tool_choice" not in body(tool_choice=choice, parallel_tool_calls=parallel)


def test_tools_keep_their_schema() -> None:
    bare = ToolSpec("now", parameters={}, strict=True)
    assert body(tools=(WEATHER, bare))["tools"] == [
        {
            "name": "get_weather",
            "description": "The weather of a city",
            "input_schema": WEATHER.parameters,
        },
        {"name": "now", "input_schema": {"type": "object", "properties": {}}, "strict": True},
    ]


SAMPLING: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    (OLD, {"temperature": 1.7, "top_p": 0.5}, {"temperature": 1.0, "top_p": 0.5}, ()),
    (OLD, {"temperature": -1.0}, {"temperature": 0.0}, ()),
    (BUDGET, {"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2}, ("top_p",)),
    (BUDGET, {"top_p": 0.5}, {"top_p": 0.5}, ()),
    (NEWEST, {"temperature": 0.2, "top_p": 0.5}, {}, ("temperature", "top_p")),
    (
        ADAPTIVE,
        {"temperature": 0.2, "top_p": 0.99, "reasoning_effort": "high"},
        {"top_p": 0.99},
        ("temperature",),
    ),
    (
        ADAPTIVE,
        {"temperature": 1.0, "extra": {"top_k": 5, "thinking": {"type": "adaptive"}}},
        {"temperature": 1.0},
        ("top_k",),
    ),
    (ADAPTIVE, {"extra": {"top_k": 5}}, {"top_k": 5}, ()),
    (NEWEST, {"extra": {"top_k": 5}}, {}, ("top_k",)),
    ("other", {"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2, "top_p": 0.5}, ()),
]


@pytest.mark.parametrize(("model", "fields", "sent", "lost"), SAMPLING)
def test_sampling_fields_are_sent_where_the_model_takes_them(
    model: str, fields: dict[str, Any], sent: dict[str, Any], lost: tuple[str, ...]
) -> None:
    answer = body(model=model, **fields)
    assert {key: answer[key] for key in ("temperature", "top_p", "top_k") if key in answer} == sent
    assert dropped(model=model, **fields) == lost


FORCED = {"tools": (WEATHER,), "tool_choice": ToolChoice("required")}
EFFORTS: list[tuple[str, dict[str, Any], Any, Any, tuple[str, ...]]] = [
    (NEWEST, {"reasoning_effort": "high"}, {"effort": "high"}, {"type": "adaptive"}, ()),
    (ADAPTIVE, {"reasoning_effort": "minimal"}, {"effort": "low"}, {"type": "adaptive"}, ()),
    (NEWEST, {"reasoning_effort": "none"}, {"effort": "low"}, None, ()),
    (NEWEST, {"reasoning_effort": "low", **FORCED}, {"effort": "low"}, None, ()),
    (
        BUDGET,
        {"reasoning_effort": "high"},
        None,
        {"type": "enabled", "budget_tokens": 16000},
        (),
    ),
    (
        BUDGET,
        {"reasoning_effort": "high", "max_tokens": 6000},
        None,
        {"type": "enabled", "budget_tokens": 3000},
        (),
    ),
    (BUDGET, {"reasoning_effort": "high", "max_tokens": 500}, None, None, ("reasoning_effort",)),
    (BUDGET, {"reasoning_effort": "high", **FORCED}, None, None, ("reasoning_effort",)),
    (BUDGET, {"reasoning_effort": "none"}, None, None, ()),
    (OLD, {"reasoning_effort": "low"}, None, None, ("reasoning_effort",)),
    (
        NEWEST,
        {
            "reasoning_effort": "low",
            "extra": {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
        },
        {"effort": "max"},
        {"type": "disabled"},
        (),
    ),
]


@pytest.mark.parametrize(("model", "fields", "config", "thinking", "lost"), EFFORTS)
def test_effort_is_said_as_the_model_takes_it(
    model: str, fields: dict[str, Any], config: Any, thinking: Any, lost: tuple[str, ...]
) -> None:
    answer = body(model=model, **fields)
    assert answer.get("output_config") == config
    assert answer.get("thinking") == thinking
    assert dropped(model=model, **fields) == lost


@pytest.mark.parametrize(
    ("reasoning", "thinks"), [((), False), ((ReasoningBlock("Hm.", signature="c2ln"),), True)]
)
def test_no_budget_where_a_tool_turn_came_without_its_thinking(
    reasoning: tuple[ReasoningBlock, ...], thinks: bool
) -> None:
    messages = (
        user("Go"),
        assistant(reasoning=reasoning, tool_calls=(ToolCall("t1", "a", "{}"),)),
        tool_result("t1", "done"),
    )
    assert ("thinking" in body(*messages, model=BUDGET, reasoning_effort="low")) is thinks
    assert "thinking" in body(*messages, model=ADAPTIVE, reasoning_effort="low")


def test_an_answer_that_must_be_json_is_asked_for_in_words() -> None:
    json_object = {"response_format": {"type": "json_object"}}
    assert body(**json_object)["system"] == JSON_INSTRUCTION
    assert body(system("Be brief."), user("a"), **json_object)["system"] == (
        f"Be brief.\n\n{JSON_INSTRUCTION}"
    )
    cached = Message("system", (TextPart("Long.", {"cache_control": MARK}),))
    assert body(cached, user("a"), **json_object)["system"][1] == text(JSON_INSTRUCTION)
    assert "system" not in body(response_format={"type": "text"})


def test_a_schema_is_sent_as_the_format_of_the_output() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    sent = body(
        response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": schema}},
        reasoning_effort="low",
    )
    closed = {**schema, "additionalProperties": False}
    assert sent["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": closed},
    }


def test_fields_of_anthropics_own_are_passed_on_and_foreign_ones_named() -> None:
    request = ChatRequest(
        NEWEST,
        (Message("user", (TextPart("Hi"),), name="Ada"),),
        stop=("END", "\n"),
        seed=7,
        user="u-1",
        stream=False,
        extra={
            "mcp_servers": [{"type": "url", "url": "https://example.com/mcp", "name": "m"}],
            "betas": ["mcp-client-2025-11-20", "context-1m-2025-08-07"],
            "metadata": {"project": "x"},
            "service_tier": "default",
            "logprobs": True,
            "presence_penalty": None,
        },
    )
    sent = chat_to_messages(request)
    assert sent.body == {
        "model": NEWEST,
        "max_tokens": 32000,
        "messages": [turn("user", text("Hi"))],
        "stream": False,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "mcp_servers": [{"type": "url", "url": "https://example.com/mcp", "name": "m"}],
        "service_tier": "standard_only",
    }
    assert sent.betas == ("mcp-client-2025-11-20", "context-1m-2025-08-07")
    assert set(sent.dropped) == {"messages[0].name", "metadata", "logprobs", "stop", "seed"}


def test_a_user_in_anthropics_metadata_wins() -> None:
    sent = body(user="u-1", extra={"metadata": {"user_id": "u-2"}})
    assert sent["metadata"] == {"user_id": "u-2"}
