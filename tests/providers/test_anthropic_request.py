"""Chat requests in Anthropic's format."""

from collections.abc import Sequence
from typing import Any

import pytest
from anthropic import transform_schema

from providers.anthropic.request import JSON_INSTRUCTION, chat_to_messages
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
from streaming.errors import InvalidRequestError, UnsupportedFieldError
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


def use(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


CONVERSATIONS: dict[str, tuple[Sequence[Message], Sequence[dict[str, Any]]]] = {
    "one message": ([user("Hi")], [turn("user", text("Hi"))]),
    "neighbours of one role are merged": (
        [user("a"), user("b", "c"), assistant("d"), assistant("e"), user("f")],
        [
            turn("user", text("a"), text("b"), text("c")),
            turn("assistant", text("d"), text("e")),
            turn("user", text("f")),
        ],
    ),
    "text of white space alone is left out": (
        [user("a"), user("", " \n"), assistant(""), user("b")],
        [turn("user", text("a"), text("b"))],
    ),
    "a begun answer loses its last blanks": (
        [user("a"), assistant("The answer is ( \n")],
        [turn("user", text("a")), turn("assistant", text("The answer is ("))],
    ),
    "a conversation that the assistant opens": (
        [assistant("How can I help?"), user("a")],
        [
            turn("user", text("(The conversation begins with the assistant.)")),
            turn("assistant", text("How can I help?")),
            turn("user", text("a")),
        ],
    ),
    "system messages alone become the user's": (
        [system("Say hello.")],
        [turn("user", text("Say hello."))],
    ),
    "images": (
        [
            Message(
                "user",
                (
                    ImagePart("data:image/png;base64,iVBORw0KGgo="),
                    ImagePart("https://example.com/cat.jpg", detail="low"),
                    ImagePart("data:image/svg+xml,%3Csvg%2F%3E"),
                ),
            )
        ],
        [
            turn(
                "user",
                {
                    "type": "image",
                    "source": {
                        "type": "base64",
                        "media_type": "image/png",
                        "data": "iVBORw0KGgo=",
                    },
                },
                {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.jpg"}},
                {
                    "type": "image",
                    "source": {
                        "type": "base64",
                        "media_type": "image/svg+xml",
                        "data": "PHN2Zy8+",
                    },
                },
            )
        ],
    ),
    "files and Anthropic's own blocks": (
        [
            Message(
                "user",
                (
                    OpaquePart(
                        {
                            "type": "file",
                            "file": {
                                "filename": "a.pdf",
                                "file_data": "data:application/pdf;base64,JVBERg==",
                            },
                        }
                    ),
                    OpaquePart({"type": "container_upload", "file_id": "file_1"}),
                ),
            )
        ],
        [
            turn(
                "user",
                {
                    "type": "document",
                    "source": {
                        "type": "base64",
                        "media_type": "application/pdf",
                        "data": "JVBERg==",
                    },
                    "title": "a.pdf",
                },
                {"type": "container_upload", "file_id": "file_1"},
            )
        ],
    ),
    "a tool turn": (
        [
            user("Weather?"),
            assistant(
                "I look.",
                tool_calls=(
                    ToolCall("toolu_1", "get_weather", '{"city": "Paris"}'),
                    ToolCall("toolu_2", "now", ""),
                ),
            ),
            tool_result("toolu_1", "sunny"),
            tool_result("toolu_2", "no clock", is_error=True),
            user("And?"),
        ],
        [
            turn("user", text("Weather?")),
            turn(
                "assistant",
                text("I look."),
                use("toolu_1", "get_weather", {"city": "Paris"}),
                use("toolu_2", "now", {}),
            ),
            turn(
                "user",
                result("toolu_1", "sunny"),
                result("toolu_2", "no clock", is_error=True),
                text("And?"),
            ),
        ],
    ),
    "tool results come before text": (
        [
            user("Go"),
            assistant(tool_calls=(ToolCall("t1", "now", "{}"),)),
            user("Meanwhile"),
            tool_result("t1", "noon"),
        ],
        [
            turn("user", text("Go")),
            turn("assistant", use("t1", "now", {})),
            turn("user", result("t1", "noon"), text("Meanwhile")),
        ],
    ),
    "a tool result without text and one with an image": (
        [
            user("Go"),
            assistant(tool_calls=(ToolCall("t1", "a", "{}"), ToolCall("t2", "b", "{}"))),
            Message("tool", tool_call_id="t1"),
            Message(
                "tool",
                (TextPart("see"), ImagePart("https://example.com/a.png")),
                tool_call_id="t2",
            ),
        ],
        [
            turn("user", text("Go")),
            turn("assistant", use("t1", "a", {}), use("t2", "b", {})),
            turn(
                "user",
                {"type": "tool_result", "tool_use_id": "t1"},
                result(
                    "t2",
                    [
                        text("see"),
                        {
                            "type": "image",
                            "source": {"type": "url", "url": "https://example.com/a.png"},
                        },
                    ],
                ),
            ),
        ],
    ),
    "arguments that are no object, and ids of other providers": (
        [
            user("Go"),
            assistant(
                tool_calls=(
                    ToolCall("functions.a:0", "a", '{"cut": '),
                    ToolCall("call_1", "b", "[1]"),
                )
            ),
            tool_result("functions.a:0", "bad"),
            tool_result("call_1", "bad"),
        ],
        [
            turn("user", text("Go")),
            turn(
                "assistant",
                use("functions_a_0", "a", {"INVALID_JSON": '{"cut": '}),
                use("call_1", "b", {"INVALID_JSON": "[1]"}),
            ),
            turn("user", result("functions_a_0", "bad"), result("call_1", "bad")),
        ],
    ),
    "thinking goes back before the rest of its turn": (
        [
            user("Go"),
            assistant(
                "I act.",
                reasoning=(
                    ReasoningBlock("Hm.", signature="c2ln"),
                    ReasoningBlock("", redacted_data="cmVk"),
                    ReasoningBlock("of another provider"),
                    ReasoningBlock("", signature="b25seQ=="),
                ),
                tool_calls=(ToolCall("t1", "a", "{}"),),
            ),
            tool_result("t1", "done"),
        ],
        [
            turn("user", text("Go")),
            turn(
                "assistant",
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "cmVk"},
                {"type": "thinking", "thinking": "", "signature": "b25seQ=="},
                text("I act."),
                use("t1", "a", {}),
            ),
            turn("user", result("t1", "done")),
        ],
    ),
    "what is to be cached": (
        [
            Message("user", (TextPart("long", {"cache_control": MARK, "foreign": 1}),)),
            Message("assistant", (TextPart("a"), TextPart("b")), extra={"cache_control": MARK}),
            user("c"),
        ],
        [
            turn("user", {**text("long"), "cache_control": MARK}),
            turn("assistant", text("a"), {**text("b"), "cache_control": MARK}),
            turn("user", text("c")),
        ],
    ),
    "a refusal of the past": (
        [user("a"), assistant(refusal="I will not."), user("b")],
        [turn("user", text("a")), turn("assistant", text("I will not.")), turn("user", text("b"))],
    ),
}


@pytest.mark.parametrize(("messages", "turns"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation_becomes_turns(
    messages: Sequence[Message], turns: Sequence[dict[str, Any]]
) -> None:
    assert body(*messages)["messages"] == turns


def test_system_messages_are_joined_wherever_they_stand() -> None:
    sent = body(system("One."), user("a"), assistant("b"), system("Two."), user("c"))
    assert sent["system"] == "One.\n\nTwo."
    assert [t["role"] for t in sent["messages"]] == ["user", "assistant", "user"]


def test_a_system_prompt_to_be_cached_stays_in_blocks() -> None:
    cached = Message("system", (TextPart("Long.", {"cache_control": MARK}),))
    assert body(cached, system("Short."), user("a"))["system"] == [
        {**text("Long."), "cache_control": MARK},
        text("Short."),
    ]


def test_the_callers_blocks_are_left_as_they_were() -> None:
    data: dict[str, Any] = {"type": "text", "text": "ends with a blank "}
    sent = body(user("a"), Message("assistant", (OpaquePart(data),), extra={"cache_control": MARK}))
    assert sent["messages"][1]["content"][0]["cache_control"] == MARK
    assert data == {"type": "text", "text": "ends with a blank "}


@pytest.mark.parametrize(
    ("messages", "error", "param"),
    [
        ([user(" ")], InvalidRequestError, "messages"),
        ([Message("tool", (TextPart("x"),))], InvalidRequestError, "messages[0].tool_call_id"),
        (
            [Message("user", (ImagePart("file:///etc/passwd"),))],
            InvalidRequestError,
            "messages[0].content",
        ),
        (
            [user("a"), Message("user", (OpaquePart({"type": "input_audio"}),))],
            UnsupportedFieldError,
            "messages[1].content",
        ),
        (
            [Message("user", (OpaquePart({"type": "file", "file": {"file_id": "file-1"}}),))],
            UnsupportedFieldError,
            "messages[0].content",
        ),
        (
            [Message("system", (ImagePart("https://example.com/a.png"),))],
            UnsupportedFieldError,
            "messages[0].content",
        ),
    ],
)
def test_what_cannot_be_said_names_its_place(
    messages: Sequence[Message], error: type[Exception], param: str
) -> None:
    with pytest.raises(error) as caught:
        body(*messages)
    assert type(caught.value) is error
    assert getattr(caught.value, "param", None) == param


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


SCHEMA = {
    "type": "object",
    "title": "Person",
    "$defs": {"Pet": {"type": "object", "properties": {"name": {"type": "string"}}}},
    "properties": {
        "name": {"type": "string", "minLength": 2, "description": "Full name"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mail": {"type": "string", "format": "email"},
        "colour": {"type": "string", "format": "colour"},
        "kind": {"enum": ["a", "b"]},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/Pet"}, "minItems": 1, "maxItems": 3},
        "either": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["name"],
    "additionalProperties": True,
}


def test_a_schema_is_closed_and_its_bounds_become_words() -> None:
    sent = body(
        response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}
    )
    schema = sent["output_config"]["format"]["schema"]
    assert sent["output_config"]["format"]["type"] == "json_schema"
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Pet"]["additionalProperties"] is False
    assert schema["properties"]["name"] == {
        "type": "string",
        "description": "Full name\n\nminLength: 2",
    }
    assert SCHEMA["additionalProperties"] is True


def without_descriptions(schema: Any) -> Any:
    if isinstance(schema, list):
        return [without_descriptions(item) for item in schema]
    if isinstance(schema, dict):
        return {k: without_descriptions(v) for k, v in schema.items() if k != "description"}
    return schema


def test_a_schema_is_limited_as_the_official_client_does() -> None:
    sent = body(
        response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}
    )
    # The words of the descriptions are each one's own.
    ours = without_descriptions(sent["output_config"]["format"]["schema"])
    assert ours == without_descriptions(transform_schema(SCHEMA))


@pytest.mark.parametrize("holder", [None, {}, {"schema": "text"}])
def test_a_schema_that_is_none_is_refused(holder: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        body(response_format={"type": "json_schema", "json_schema": holder})
    assert caught.value.param == "response_format"


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


def test_thinking_of_another_provider_is_named_as_left_out() -> None:
    lost = dropped(user("a"), assistant("b", reasoning=(ReasoningBlock("hm"),)), user("c"))
    assert lost == ("messages[1].reasoning",)
