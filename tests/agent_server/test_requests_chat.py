"""Reading OpenAI's chat bodies: what each field and each message means."""

import pytest

from agent_server.requests.chat import read_chat
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
from streaming.events import JsonObject, JsonValue, ReasoningBlock

HI: JsonObject = {"role": "user", "content": "hi"}
HI_MESSAGE = Message("user", (TextPart("hi"),))
PNG = "data:image/png;base64,iVBORw0KGgo="
CALL: JsonObject = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": "{"},
}


def read(**fields: JsonValue) -> ChatRequest:
    return read_chat({"messages": [HI], **fields})


def read_one(message: JsonObject) -> Message:
    (read_message,) = read_chat({"messages": [message]}).messages
    return read_message


def test_a_small_body_names_no_model_and_streams_nothing() -> None:
    assert read_chat({"messages": [HI]}) == ChatRequest("", (HI_MESSAGE,), stream=False)


def test_every_field_has_its_place() -> None:
    request = read(
        model="openai/gpt-5",
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Looks.",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            },
            {"type": "function", "function": {"name": "see", "description": None}},
        ],
        tool_choice={"type": "function", "function": {"name": "look"}},
        parallel_tool_calls=False,
        max_tokens=10,
        temperature=0,
        top_p=0.5,
        stop=["a", "b"],
        n=2,
        seed=-1,
        response_format={"type": "json_object"},
        reasoning_effort="low",
        user="u",
        stream=True,
        stream_options={"include_usage": True},
        logit_bias={"50256": -100},
        metadata=None,
    )
    assert request == ChatRequest(
        model="openai/gpt-5",
        messages=(HI_MESSAGE,),
        tools=(ToolSpec("look", "Looks.", {"type": "object"}, True), ToolSpec("see")),
        tool_choice=ToolChoice("function", "look"),
        parallel_tool_calls=False,
        max_tokens=10,
        temperature=0,
        top_p=0.5,
        stop=("a", "b"),
        n=2,
        seed=-1,
        response_format={"type": "json_object"},
        reasoning_effort="low",
        user="u",
        stream=True,
        extra={"stream_options": {"include_usage": True}, "logit_bias": {"50256": -100}},
    )


@pytest.mark.parametrize(
    ("fields", "max_tokens"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
def test_the_newer_limit_of_tokens_wins(fields: JsonObject, max_tokens: int) -> None:
    assert read(**fields).max_tokens == max_tokens


@pytest.mark.parametrize(
    ("given", "meant"),
    [("x", ("x",)), (["x"], ("x",)), ([], ()), (["1", "2", "3", "4"], ("1", "2", "3", "4"))],
)
def test_stop_is_one_text_or_up_to_four(given: JsonValue, meant: tuple[str, ...]) -> None:
    assert read(stop=given).stop == meant


@pytest.mark.parametrize("mode", ["auto", "none", "required"])
def test_a_tool_choice_can_be_a_mode(mode: str) -> None:
    assert read(tool_choice=mode).tool_choice == ToolChoice(mode)  # type: ignore[arg-type]  # the modes above


MESSAGES = [
    pytest.param(
        {"role": "system", "content": "Be brief."},
        Message("system", (TextPart("Be brief."),)),
        id="system",
    ),
    pytest.param(
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        Message("system", (TextPart("Be brief."),)),
        id="developer",
    ),
    pytest.param(
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "What?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
                {"type": "image_url", "image_url": "HTTPS://a.example/c.png"},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        Message(
            "user",
            (
                TextPart("What?", {"cache_control": {"type": "ephemeral"}}),
                ImagePart(PNG, "low"),
                ImagePart("https://a.example/b.png"),
                ImagePart("HTTPS://a.example/c.png"),
                OpaquePart(
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
                ),
            ),
            name="ann",
        ),
        id="user with parts",
    ),
    pytest.param({"role": "user", "content": ""}, Message("user"), id="empty text"),
    pytest.param(
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": [CALL],
        },
        Message("assistant", tool_calls=(ToolCall("call_1", "look", "{"),)),
        id="assistant's tool call, as the official client posts it back",
    ),
    pytest.param(
        {"role": "assistant", "content": [], "tool_calls": [CALL]},
        Message("assistant", tool_calls=(ToolCall("call_1", "look", "{"),)),
        id="no parts beside a tool call",
    ),
    pytest.param(
        {
            "role": "assistant",
            "content": "So.",
            "reasoning_content": "hm",
            "thinking_blocks": [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "thinking", "thinking": "unsigned"},
                {"type": "redacted_thinking", "data": "xyz"},
            ],
        },
        Message(
            "assistant",
            (TextPart("So."),),
            reasoning=(
                ReasoningBlock("hm", "sig"),
                ReasoningBlock("unsigned"),
                ReasoningBlock("", redacted_data="xyz"),
            ),
        ),
        id="signed thinking",
    ),
    pytest.param(
        {"role": "assistant", "content": "So.", "reasoning_content": "hm"},
        Message("assistant", (TextPart("So."),), reasoning=(ReasoningBlock("hm"),)),
        id="thinking without blocks",
    ),
    pytest.param(
        {"role": "assistant", "content": None, "refusal": "No."},
        Message("assistant", refusal="No."),
        id="refusal",
    ),
    pytest.param(
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        Message("assistant", refusal="No."),
        id="refusal as a part",
    ),
    pytest.param(
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        Message("tool", (TextPart("42"),), tool_call_id="call_1"),
        id="tool result",
    ),
    pytest.param(
        {"role": "user", "content": "hi", "cache_control": {"type": "ephemeral"}, "x": None},
        Message("user", (TextPart("hi"),), extra={"cache_control": {"type": "ephemeral"}}),
        id="unknown fields of a message are kept",
    ),
]


@pytest.mark.parametrize(("body", "message"), MESSAGES)
def test_a_message_is_read(body: JsonObject, message: Message) -> None:
    assert read_one(body) == message
