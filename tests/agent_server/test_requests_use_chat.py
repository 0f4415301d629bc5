"""Reading the bodies that useChat of AI SDK 3.4, 4, 5, 6 and 7 really posts."""

import pytest

from agent_server.requests.chat_messages import MAX_MESSAGES
from agent_server.requests.use_chat import is_ui_message_body, is_use_chat_body, read_use_chat
from providers.chat_request import ChatRequest, Message, TextPart, ToolChoice, ToolSpec
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue


def text(value: str) -> JsonObject:
    return {"type": "text", "text": value}


def user(*parts: JsonValue) -> JsonObject:
    return {"id": "u", "role": "user", "parts": list(parts)}


def assistant(*parts: JsonValue) -> JsonObject:
    return {"id": "a", "role": "assistant", "parts": list(parts)}


def read(*messages: JsonValue, **fields: JsonValue) -> ChatRequest:
    return read_use_chat({"messages": list(messages), **fields}).request


BODIES = [
    pytest.param(
        {"messages": [{"role": "user", "content": "hi"}]},
        None,
        (Message("user", (TextPart("hi"),)),),
        id="3.4",
    ),
    pytest.param(
        {
            "id": "chat-1",
            "messages": [
                {
                    "role": "user",
                    "content": "hi",
                    "createdAt": "2026-01-01T00:00:00Z",
                    "parts": [text("hi")],
                },
                {
                    "role": "assistant",
                    "content": "Hello",
                    "annotations": [{"a": 1}],
                    "toolInvocations": [],
                    "parts": [{"type": "step-start"}, text("Hello")],
                },
                {"role": "user", "content": "more", "parts": [text("more")]},
            ],
        },
        "chat-1",
        (
            Message("user", (TextPart("hi"),)),
            Message("assistant", (TextPart("Hello"),)),
            Message("user", (TextPart("more"),)),
        ),
        id="4",
    ),
    pytest.param(
        {
            "id": "chat-1",
            "trigger": "submit-message",
            "messages": [
                user(text("hi")),
                assistant(
                    {"type": "step-start"},
                    {"type": "text", "text": "Running.", "state": "done"},
                    {"type": "data-workflow", "id": "step:a", "data": {"type": "step_complete"}},
                    {"type": "source-url", "sourceId": "s", "url": "https://a.example"},
                    {"type": "brand-new", "x": 1},
                ),
                user(text("more")),
            ],
        },
        "chat-1",
        (
            Message("user", (TextPart("hi"),)),
            Message("assistant", (TextPart("Running."),)),
            Message("user", (TextPart("more"),)),
        ),
        id="5 to 7",
    ),
]


@pytest.mark.parametrize(("body", "chat_id", "messages"), BODIES)
def test_the_body_of_each_version_is_read(
    body: JsonObject, chat_id: str | None, messages: tuple[Message, ...]
) -> None:
    read_body = read_use_chat(body)
    assert read_body.chat_id == chat_id
    assert read_body.request == ChatRequest("", messages)


def test_fields_that_applications_add_are_taken_or_ignored() -> None:
    request = read(
        user(text("hi")),
        model="openai/gpt-5",
        system="Be brief.",
        temperature=0.5,
        max_tokens=5,
        max_completion_tokens=7,
        tools={"look": {"description": "Looks.", "parameters": {"type": "object"}}},
        tool_choice="required",
        user={"name": "ann"},
        sessionId=5,
        n="x",
        stream=False,
    )
    assert request == ChatRequest(
        "openai/gpt-5",
        (Message("system", (TextPart("Be brief."),)), Message("user", (TextPart("hi"),))),
        tools=(ToolSpec("look", "Looks.", {"type": "object"}),),
        tool_choice=ToolChoice("required"),
        max_tokens=7,
        temperature=0.5,
        stream=False,
    )


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([{"type": "function", "function": {"name": "look"}}], (ToolSpec("look"),)),
        (
            {"look": {"inputSchema": {"type": "object"}}},
            (ToolSpec("look", "", {"type": "object"}),),
        ),
        (["look", "see"], ()),
        ("all", ()),
        ([], ()),
        (None, ()),
    ],
)
def test_tools_come_as_a_list_or_by_name(tools: JsonValue, expected: tuple[ToolSpec, ...]) -> None:
    assert read(user(text("hi")), tools=tools).tools == expected


@pytest.mark.parametrize("model", [None, "", 5, {"id": "m"}])
def test_a_model_that_is_no_name_is_none(model: JsonValue) -> None:
    assert read(user(text("hi")), model=model).model == ""


WRONG = [
    ({}, "messages", "is missing"),
    ({"messages": "hi"}, "messages", "must be a list"),
    ({"messages": []}, "messages", "at least one message"),
    ({"messages": [user()]}, "messages", "at least one message"),
    ({"messages": [user(text("x"))] * (MAX_MESSAGES + 1)}, "messages", "at most"),
    ({"messages": ["hi"]}, "messages[0]", "must be an object"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "is missing"),
    ({"messages": [{"role": "bot"}]}, "messages[0].role", "system, user, assistant"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "must be a string"),
    ({"messages": [{"role": "user", "parts": "hi"}]}, "messages[0].parts", "must be a list"),
    ({"messages": [user("hi")]}, "messages[0].parts[0]", "must be an object"),
    ({"messages": [user({"type": "text"})]}, "messages[0].parts[0].text", "is missing"),
    (
        {"messages": [user({"type": "file", "mediaType": "image/png", "url": "blob:x"})]},
        "messages[0].parts[0].url",
        "must be an http(s) URL",
    ),
    (
        {"messages": [user({"type": "file", "mediaType": "text/plain", "url": "https://a/b"})]},
        "messages[0].parts[0].url",
        "only images may be given by their address",
    ),
    (
        {"messages": [user({"type": "file", "url": "data:text/plain;base64,%%"})]},
        "messages[0].parts[0].url",
        "must hold text in UTF-8",
    ),
    (
        {"messages": [user({"type": "file", "url": "data:application/pdf,x"})]},
        "messages[0].parts[0].url",
        "base64",
    ),
    ({"messages": [user({"type": "file"})]}, "messages[0].parts[0].mimeType", "is missing"),
    (
        {"messages": [{"role": "user", "content": "x", "experimental_attachments": [{}]}]},
        "messages[0].experimental_attachments[0].url",
        "is missing",
    ),
    (
        {
            "messages": [
                user(text("x")),
                assistant({"type": "tool-look", "state": "output-available"}),
            ]
        },
        "messages[1].parts[0].toolCallId",
        "is missing",
    ),
    (
        {
            "messages": [
                assistant(
                    {
                        "type": "tool-invocation",
                        "toolInvocation": {"state": "result", "toolName": 1},
                    }
                )
            ]
        },
        "messages[0].parts[0].toolInvocation.toolName",
        "must be a string",
    ),
    (
        {"messages": [{"role": "assistant", "content": "", "toolInvocations": [1]}]},
        "messages[0].toolInvocations[0]",
        "must be an object",
    ),
    ({"messages": [user(text("x"))], "temperature": "hot"}, "temperature", "must be a number"),
    ({"messages": [user(text("x"))], "id": "x" * 257}, "id", "at most 256"),
    ({"messages": [user(text("x"))], "tools": {"a b": {}}}, "tools.a b.name", "1 to 64 letters"),
    (
        {"messages": [user(text("x"))], "tools": [{"type": "function"}]},
        "tools[0].function",
        "is missing",
    ),
]


@pytest.mark.parametrize(("body", "param", "message"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_field_is_named(body: JsonObject, param: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_use_chat(body)
    assert caught.value.param == param
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("body", "is_use_chat", "is_ui_message"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, False, False),
        ({"messages": [{"role": "user", "content": "hi", "parts": []}]}, True, False),
        ({"messages": [{"role": "assistant", "content": "", "toolInvocations": []}]}, True, False),
        ({"messages": [user(text("hi"))]}, True, True),
        ({"trigger": "submit-message", "messages": []}, True, True),
        ({"messages": ["hi", 5]}, False, False),
        ({"messages": "hi"}, False, False),
        ({}, False, False),
    ],
)
def test_the_shape_of_a_body_tells_its_client(
    body: JsonObject, is_use_chat: bool, is_ui_message: bool
) -> None:
    assert is_use_chat_body(body) is is_use_chat
    assert is_ui_message_body(body) is is_ui_message
