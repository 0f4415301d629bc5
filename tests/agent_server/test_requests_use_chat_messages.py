"""Reading the messages of useChat: tool calls, thinking and files, as each version keeps them."""

import json

import pytest

from agent_server.requests.use_chat_messages import read_ui_message
from providers.chat_request import ImagePart, Message, OpaquePart, TextPart, ToolCall
from streaming.encoder import StreamHead
from streaming.events import (
    Event,
    Finished,
    JsonObject,
    JsonValue,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    TextDelta,
)
from streaming.sse import SSEDecoder
from streaming.ui_v1 import UIV1Encoder

PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERg=="
LOOKED = ToolCall("call_1", "look", '{"at":"sky"}')


def text(value: str) -> JsonObject:
    return {"type": "text", "text": value}


def user(*parts: JsonValue) -> JsonObject:
    return {"id": "u", "role": "user", "parts": list(parts)}


def assistant(*parts: JsonValue) -> JsonObject:
    return {"id": "a", "role": "assistant", "parts": list(parts)}


V4_CALL: JsonObject = {
    "state": "result",
    "step": 0,
    "toolCallId": "call_1",
    "toolName": "look",
    "args": {"at": "sky"},
    "result": {"blue": True},
}
V5_CALL: JsonObject = {
    "type": "tool-look",
    "toolCallId": "call_1",
    "state": "output-available",
    "input": {"at": "sky"},
    "output": {"blue": True},
}
TOOL_TURN = (
    Message("assistant", (TextPart("Let me look."),), tool_calls=(LOOKED,)),
    Message("tool", (TextPart('{"blue":true}'),), tool_call_id="call_1"),
)
SO = Message("assistant", (TextPart("Blue."),))

TOOLS = [
    pytest.param(
        {"role": "assistant", "content": "Let me look.", "toolInvocations": [V4_CALL]},
        TOOL_TURN,
        id="3.4",
    ),
    pytest.param(
        {
            "role": "assistant",
            "content": "Blue.",
            "toolInvocations": [V4_CALL],
            "parts": [
                {"type": "step-start"},
                text("Let me look."),
                {"type": "tool-invocation", "toolInvocation": V4_CALL},
                {"type": "step-start"},
                text("Blue."),
            ],
        },
        (*TOOL_TURN, SO),
        id="4, two steps",
    ),
    pytest.param(
        assistant({"type": "step-start"}, text("Let me look."), V5_CALL, text("Blue.")),
        (*TOOL_TURN, SO),
        id="text after a result is a turn of its own, without a mark too",
    ),
    pytest.param(
        assistant(
            text("Let me look."),
            {**V5_CALL, "type": "dynamic-tool", "toolName": "look"},
            {"type": "step-start"},
            text("Blue."),
        ),
        (*TOOL_TURN, SO),
        id="dynamic tool",
    ),
    pytest.param(
        assistant(
            V5_CALL,
            {**V5_CALL, "toolCallId": "call_2", "state": "output-error", "errorText": "dark"},
            {**V5_CALL, "toolCallId": "call_3", "state": "output-denied"},
            {**V5_CALL, "toolCallId": "call_4", "output": "plain"},
        ),
        (
            Message(
                "assistant",
                tool_calls=tuple(
                    ToolCall(f"call_{n}", "look", '{"at":"sky"}') for n in (1, 2, 3, 4)
                ),
            ),
            Message("tool", (TextPart('{"blue":true}'),), tool_call_id="call_1"),
            Message("tool", (TextPart("dark"),), tool_call_id="call_2", is_error=True),
            Message(
                "tool",
                (TextPart("The user did not allow this tool call."),),
                tool_call_id="call_3",
                is_error=True,
            ),
            Message("tool", (TextPart("plain"),), tool_call_id="call_4"),
        ),
        id="calls of one turn, each with its outcome",
    ),
    pytest.param(
        assistant(text("Hm."), {**V5_CALL, "providerExecuted": True, "dynamic": True}),
        (Message("assistant", (TextPart("Hm."),)),),
        id="the agent's own tools were only shown",
    ),
    pytest.param(
        assistant(
            text("Hm."),
            {**V5_CALL, "state": "input-available"},
            {**V5_CALL, "state": "input-streaming"},
            {"type": "tool-invocation", "toolInvocation": {**V4_CALL, "state": "call"}},
        ),
        (Message("assistant", (TextPart("Hm."),)),),
        id="calls without an outcome",
    ),
    pytest.param(
        assistant({**V5_CALL, "input": None, "output": None}),
        (
            Message("assistant", tool_calls=(ToolCall("call_1", "look", "{}"),)),
            Message("tool", (TextPart("null"),), tool_call_id="call_1"),
        ),
        id="a tool without arguments and without a result",
    ),
]


@pytest.mark.parametrize(("message", "turns"), TOOLS)
def test_tool_calls_become_turns_with_their_results(
    message: JsonObject, turns: tuple[Message, ...]
) -> None:
    assert tuple(read_ui_message(message)) == turns


REASONING = [
    pytest.param(
        {"type": "reasoning", "text": "hm", "state": "done"}, ReasoningBlock("hm"), id="5 to 7"
    ),
    pytest.param(
        {
            "type": "reasoning",
            "text": "hm",
            "providerMetadata": {"agent_server": {"signature": "sig"}, "other": {"x": 1}},
        },
        ReasoningBlock("hm", "sig"),
        id="signed by us",
    ),
    pytest.param(
        {
            "type": "reasoning",
            "text": "",
            "providerMetadata": {"agent_server": {"redactedData": "xyz"}},
        },
        ReasoningBlock("", redacted_data="xyz"),
        id="hidden",
    ),
    pytest.param({"type": "reasoning", "reasoning": "hm"}, ReasoningBlock("hm"), id="4"),
    pytest.param(
        {
            "type": "reasoning",
            "reasoning": "hm",
            "details": [{"type": "text", "text": "hm", "signature": "sig"}],
        },
        ReasoningBlock("hm", "sig"),
        id="4, signed",
    ),
    pytest.param(
        {"type": "reasoning", "reasoning": "", "details": [{"type": "redacted", "data": "xyz"}]},
        ReasoningBlock("", redacted_data="xyz"),
        id="4, hidden",
    ),
]


@pytest.mark.parametrize(("part", "block"), REASONING)
def test_thinking_comes_back_as_it_was(part: JsonObject, block: ReasoningBlock) -> None:
    (message,) = read_ui_message(assistant(part, text("So.")))
    assert message == Message("assistant", (TextPart("So."),), reasoning=(block,))


def test_thinking_that_we_streamed_comes_back_with_its_signature() -> None:
    encoder = UIV1Encoder(StreamHead("id", "m", 1))
    block = ReasoningBlock("hm", "sig")
    events: list[Event] = [
        ReasoningDelta("hm"),
        ReasoningEnded(block),
        TextDelta("So."),
        Finished("stop"),
    ]
    chunks = [json.loads(f.data) for e in events for f in SSEDecoder().feed(encoder.encode(e))]
    end = next(chunk for chunk in chunks if chunk["type"] == "reasoning-end")
    part = {"type": "reasoning", "text": "hm", "providerMetadata": end["providerMetadata"]}
    (message,) = read_ui_message(assistant(part, text("So.")))
    assert message.reasoning == (block,)


FILES = [
    pytest.param(
        {"type": "file", "mediaType": "image/png", "url": PNG}, ImagePart(PNG), id="image data"
    ),
    pytest.param(
        {"type": "file", "mediaType": "image/*", "url": "https://a.example/b.png"},
        ImagePart("https://a.example/b.png"),
        id="image by address",
    ),
    pytest.param({"type": "file", "url": PNG}, ImagePart(PNG), id="type of the data URL"),
    pytest.param(
        {"type": "file", "mimeType": "image/png", "data": "iVBORw0KGgo="},
        ImagePart(PNG),
        id="version 4",
    ),
    pytest.param(
        {
            "type": "file",
            "mediaType": "text/plain",
            "url": "data:text/plain;base64,bmHDr3Zl",
        },
        TextPart("na\u00efve", is_typed=False),
        id="text in base64",
    ),
    pytest.param(
        {"type": "file", "mediaType": "text/csv", "url": "data:text/csv,a%2Cb"},
        TextPart("a,b", is_typed=False),
        id="text, percent-encoded",
    ),
    pytest.param(
        {"type": "file", "mediaType": "application/pdf", "filename": "a.pdf", "url": PDF},
        OpaquePart({"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}),
        id="document",
    ),
    pytest.param(
        {"type": "file", "mediaType": "audio/mpeg", "url": "data:audio/mpeg;base64,AAAA"},
        OpaquePart({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}),
        id="audio",
    ),
]


@pytest.mark.parametrize(("part", "expected"), FILES)
def test_a_file_becomes_the_part_that_providers_take(
    part: JsonObject, expected: ImagePart | TextPart | OpaquePart
) -> None:
    (message,) = read_ui_message(user(text("What?"), part))
    assert message == Message("user", (TextPart("What?"), expected))


def test_attachments_of_version_4_are_added_to_the_text() -> None:
    message: JsonObject = {
        "role": "user",
        "content": "What?",
        "experimental_attachments": [
            {"name": "a.png", "contentType": "image/png", "url": PNG},
            {"name": "a.pdf", "contentType": "application/pdf", "url": PDF},
        ],
        "parts": [text("What?")],
    }
    assert read_ui_message(message) == [
        Message(
            "user",
            (
                TextPart("What?"),
                ImagePart(PNG),
                OpaquePart({"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}),
            ),
        ),
    ]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"role": "data", "content": "x", "data": {"a": 1}}, id="data of 3.4"),
        pytest.param(user({"type": "data-x", "data": 1}), id="parts for people alone"),
        pytest.param(user(text("")), id="empty text"),
        pytest.param(assistant({"type": "step-start"}), id="an answer that was cut at once"),
        pytest.param(assistant({"type": "reasoning", "text": "hm"}), id="thinking alone"),
    ],
)
def test_a_message_without_anything_for_a_model_is_left_out(message: JsonObject) -> None:
    assert read_ui_message(message) == []
