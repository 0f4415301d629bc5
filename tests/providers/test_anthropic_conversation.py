"""Conversations in Anthropic's format."""

from collections.abc import Sequence
from typing import Any

import pytest

from providers.anthropic.conversation import messages_to_conversation
from providers.chat_request import ImagePart, Message, OpaquePart, TextPart, ToolCall
from streaming.errors import InvalidRequestError, UnsupportedFieldError
from streaming.events import ReasoningBlock

MARK = {"type": "ephemeral"}


def user(*texts: str) -> Message:
    return Message("user", tuple(TextPart(text) for text in texts))


def assistant(text: str = "", **fields: Any) -> Message:
    return Message("assistant", (TextPart(text),) if text else (), **fields)


def system(text: str) -> Message:
    return Message("system", (TextPart(text),))


def tool_result(call_id: str, text: str, **fields: Any) -> Message:
    return Message("tool", (TextPart(text),), tool_call_id=call_id, **fields)


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
                    ReasoningBlock("OpenAI's.", signature='{"type":"reasoning"}'),
                    ReasoningBlock("", redacted_data='{"type":"reasoning"}'),
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
    assert messages_to_conversation(messages).messages == turns


def test_system_messages_are_joined_wherever_they_stand() -> None:
    said = messages_to_conversation(
        [system("One."), user("a"), assistant("b"), system("Two."), user("c")]
    )
    assert said.system == "One.\n\nTwo."
    assert [t["role"] for t in said.messages] == ["user", "assistant", "user"]


def test_a_system_prompt_to_be_cached_stays_in_blocks() -> None:
    cached = Message("system", (TextPart("Long.", {"cache_control": MARK}),))
    assert messages_to_conversation([cached, system("Short."), user("a")]).system == [
        {**text("Long."), "cache_control": MARK},
        text("Short."),
    ]


def test_the_callers_blocks_are_left_as_they_were() -> None:
    data: dict[str, Any] = {"type": "text", "text": "ends with a blank "}
    marked = Message("assistant", (OpaquePart(data),), extra={"cache_control": MARK})
    said = messages_to_conversation([user("a"), marked])
    block = {**text("ends with a blank"), "cache_control": MARK}
    assert said.messages[1] == turn("assistant", block)
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
        messages_to_conversation(messages)
    assert type(caught.value) is error
    assert getattr(caught.value, "param", None) == param


def test_thinking_of_another_provider_is_named_as_left_out() -> None:
    thought = assistant("b", reasoning=(ReasoningBlock("hm"),))
    said = messages_to_conversation([user("a"), thought, user("c")])
    assert said.dropped == ("messages[1].reasoning",)
