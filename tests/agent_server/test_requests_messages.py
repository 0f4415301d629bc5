"""Reading bodies of `POST /v1/messages`: what they mean, and which field of them is wrong."""

from typing import Any

import pytest

from agent_server.requests.messages import read_messages
from agent_server.requests.messages_content import MAX_TURNS
from agent_server.requests.tools import MAX_TOOLS
from providers.anthropic.request import chat_to_messages
from providers.chat_request import ImagePart, Message, OpaquePart, TextPart, ToolCall, ToolChoice
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue, ReasoningBlock

MARK: JsonObject = {"type": "ephemeral", "ttl": "1h"}
HI: JsonObject = {"role": "user", "content": "hi"}
LOOK: JsonObject = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
CALL: JsonObject = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "moon"}}
PNG: JsonObject = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
RESULT: JsonObject = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "bright"}
THOUGHT: JsonObject = {"type": "thinking", "thinking": "hm", "signature": "c2lnbg=="}


def body(**fields: JsonValue) -> JsonObject:
    return {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": [HI], **fields}


def turn(*blocks: JsonValue, role: str = "user") -> JsonObject:
    return {"role": role, "content": list(blocks)}


def messages(*turns: JsonValue) -> tuple[Message, ...]:
    return read_messages(body(messages=list(turns))).messages


def said_again(given: JsonObject) -> Any:
    """What an upstream of the same format would be asked."""
    return chat_to_messages(read_messages(given)).body


def test_the_body_of_claude_code_reaches_an_upstream_as_it_came() -> None:
    given = body(
        stream=True,
        system=[
            {"type": "text", "text": "You are a coder."},
            {"type": "text", "text": "Rules ...", "cache_control": MARK},
        ],
        tools=[
            {**LOOK, "description": "Look at it"},
            {**LOOK, "name": "see", "strict": True, "cache_control": MARK, "defer_loading": True},
        ],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        messages=[
            turn({"type": "text", "text": "What is this?"}, {"type": "image", "source": PNG}),
            turn(
                THOUGHT,
                {"type": "redacted_thinking", "data": "aGlkZGVu"},
                {"type": "text", "text": "Let me look."},
                CALL,
                {**CALL, "id": "toolu_2", "cache_control": MARK},
                role="assistant",
            ),
            turn(
                {**RESULT, "is_error": True, "content": [{"type": "image", "source": PNG}]},
                {**RESULT, "tool_use_id": "toolu_2", "cache_control": MARK},
                {"type": "text", "text": "Go on.", "cache_control": MARK},
            ),
        ],
        thinking={"type": "enabled", "budget_tokens": 2048},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": {}}},
        metadata={"user_id": "user_1"},
        stop_sequences=["END"],
        service_tier="standard_only",
        context_management={"edits": []},
        mcp_servers=[{"type": "url", "url": "https://mcp.example", "name": "m"}],
        container="container_1",
    )
    assert said_again(given) == given


def test_thinking_between_tool_calls_keeps_its_place() -> None:
    blocks = [THOUGHT, CALL, {**THOUGHT, "thinking": "again"}, {**CALL, "id": "toolu_2"}]
    result = turn(RESULT, {**RESULT, "tool_use_id": "toolu_2"})
    given = body(messages=[HI, turn(*blocks, role="assistant"), result])
    assert said_again(given)["messages"][1]["content"] == blocks


def test_a_turn_becomes_messages_of_ours() -> None:
    assert messages(
        HI,
        turn(THOUGHT, {"type": "text", "text": "ok", "citations": None}, CALL, role="assistant"),
        turn({"type": "text", "text": "and?"}, RESULT),
    ) == (
        Message("user", (TextPart("hi"),)),
        Message(
            "assistant",
            (TextPart("ok"),),
            tool_calls=(ToolCall("toolu_1", "look", '{"at":"moon"}'),),
            reasoning=(ReasoningBlock("hm", "c2lnbg=="),),
        ),
        Message("tool", (TextPart("bright"),), tool_call_id="toolu_1"),
        Message("user", (TextPart("and?"),)),
    )


@pytest.mark.parametrize("signature", [{}, {"signature": ""}, {"signature": None}])
def test_thinking_without_a_signature_is_of_a_model_that_signs_nothing(
    signature: JsonObject,
) -> None:
    block: JsonObject = {"type": "thinking", "thinking": "hm", **signature}
    _, answer = messages(HI, turn(block, role="assistant"))
    assert answer.reasoning == (ReasoningBlock("hm"),)


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "image", "source": PNG}, ImagePart("data:image/png;base64,iVBORw0KGgo=")),
        (
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            ImagePart("https://example.com/a.png"),
        ),
        (
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            OpaquePart({"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
        ),
        (
            {"type": "image", "source": PNG, "cache_control": MARK},
            OpaquePart({"type": "image", "source": PNG, "cache_control": MARK}),
        ),
        (
            {"type": "document", "source": {"type": "text", "data": "x"}},
            OpaquePart({"type": "document", "source": {"type": "text", "data": "x"}}),
        ),
    ],
)
def test_content_of_a_user(block: JsonObject, part: object) -> None:
    assert messages(turn(block))[0].parts == (part,)


def test_a_system_message_in_the_conversation_keeps_its_place() -> None:
    found = messages(HI, {"role": "system", "content": "Be brief."})
    assert found[1] == Message("system", (TextPart("Be brief."),))


def test_results_of_tools_without_content_are_empty() -> None:
    bare: JsonObject = {"type": "tool_result", "tool_use_id": "toolu_1"}
    for result in (bare, {**bare, "content": ""}, {**bare, "content": []}):
        assert messages(turn(result))[0] == Message("tool", (), tool_call_id="toolu_1")


def test_fields_have_our_names() -> None:
    request = read_messages(
        body(
            tools=[LOOK],
            tool_choice={"type": "tool", "name": "look"},
            temperature=0.5,
            top_p=0.9,
            top_k=5,
            stop_sequences=["a", "b"],
            metadata={"user_id": "u"},
            stream=True,
        ),
        betas=["context-1m-2025-08-07"],
    )
    assert request.tool_choice == ToolChoice("function", "look")
    assert request.parallel_tool_calls is None
    assert (request.temperature, request.top_p, request.stop) == (0.5, 0.9, ("a", "b"))
    assert (request.user, request.stream, request.max_tokens) == ("u", True, 100)
    assert request.extra == {"top_k": 5, "betas": ["context-1m-2025-08-07"]}


def test_an_absent_model_and_stream_are_nothing() -> None:
    request = read_messages({"max_tokens": 1, "messages": [HI]})
    assert (request.model, request.stream) == ("", False)


def test_the_output_format_of_the_first_beta_is_said_as_today() -> None:
    wanted: JsonObject = {"type": "json_schema", "schema": {"type": "object"}}
    assert read_messages(body(output_format=wanted)).extra == {"output_config": {"format": wanted}}


def user(block: JsonValue) -> JsonValue:
    return [HI, turn({"type": "text", "text": "x"}, block)]


def assistant(block: JsonValue) -> JsonValue:
    return [HI, turn(block, role="assistant")]


CONTENT = "messages.1.content.1"
ANSWER = "messages.1.content.0"
WRONG: list[tuple[JsonObject, str, str]] = [
    ({"max_tokens": None}, "max_tokens", "is missing"),
    ({"max_tokens": -1}, "max_tokens", "at least 0"),
    ({"max_tokens": "5"}, "max_tokens", "must be an integer"),
    ({"messages": None}, "messages", "is missing"),
    ({"messages": []}, "messages", "at least one"),
    ({"messages": [HI] * (MAX_TURNS + 1)}, "messages", f"at most {MAX_TURNS}"),
    ({"messages": ["hi"]}, "messages.0", "must be an object, not a string"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "user, assistant"),
    ({"messages": [{"role": "user"}]}, "messages.0.content", "is missing"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "list of blocks"),
    ({"messages": user("x")}, CONTENT, "must be an object"),
    ({"messages": user({"text": "x"})}, f"{CONTENT}.type", "is missing"),
    ({"messages": user({"type": "text"})}, f"{CONTENT}.text", "is missing"),
    ({"messages": user({"type": "text", "text": 5})}, f"{CONTENT}.text", "must be a string"),
    ({"messages": user({"type": "image"})}, f"{CONTENT}.source", "is missing"),
    (
        {"messages": user({"type": "image", "source": {"type": "base64", "data": "x"}})},
        f"{CONTENT}.source.media_type",
        "is missing",
    ),
    (
        {"messages": user({"type": "image", "source": {"type": "url", "url": "file:///etc"}})},
        f"{CONTENT}.source.url",
        "must be an http",
    ),
    ({"messages": user({"type": "image_url"})}, f"{CONTENT}.type", "use type 'image'"),
    ({"messages": user(CALL)}, f"{CONTENT}.type", "role 'assistant'"),
    ({"messages": user(THOUGHT)}, f"{CONTENT}.type", "role 'assistant'"),
    ({"messages": user({"type": "tool_result"})}, f"{CONTENT}.tool_use_id", "is missing"),
    ({"messages": user({**RESULT, "is_error": 1})}, f"{CONTENT}.is_error", "true or false"),
    (
        {"messages": user({**RESULT, "content": [{"type": "text"}]})},
        f"{CONTENT}.content.0.text",
        "is missing",
    ),
    ({"messages": assistant(RESULT)}, f"{ANSWER}.type", "role 'user'"),
    ({"messages": assistant({**CALL, "input": "{}"})}, f"{ANSWER}.input", "must be an object"),
    ({"messages": assistant({**CALL, "id": ""})}, f"{ANSWER}.id", "must not be empty"),
    ({"messages": assistant({"type": "thinking"})}, f"{ANSWER}.thinking", "is missing"),
    ({"messages": assistant({"type": "redacted_thinking"})}, f"{ANSWER}.data", "is missing"),
    ({"system": 5}, "system", "list of blocks"),
    ({"system": [{"type": "image"}]}, "system.0.type", "must be 'text'"),
    ({"tools": [{"type": "web_search_20250305"}]}, "tools.0.type", "Anthropic's own"),
    ({"tools": [LOOK, {"type": "bash_20250124"}]}, "tools.1.type", "Anthropic's own"),
    ({"tools": [{"name": "look"}]}, "tools.0.input_schema", "is missing"),
    ({"tools": [{"input_schema": {}}]}, "tools.0.name", "is missing"),
    ({"tools": [{**LOOK, "name": "a b"}]}, "tools.0.name", "1 to 128 letters"),
    ({"tools": [{**LOOK, "input_schema": {"type": "array"}}]}, "tools.0.input_schema.type", "obj"),
    ({"tools": [LOOK, LOOK]}, "tools.1.name", "another tool"),
    ({"tools": [LOOK] * (MAX_TOOLS + 1)}, "tools", f"at most {MAX_TOOLS}"),
    ({"tool_choice": "auto"}, "tool_choice", "must be an object"),
    ({"tool_choice": {"type": "required"}}, "tool_choice.type", "auto, any, none, tool"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name", "is missing"),
    ({"tool_choice": {"type": "tool", "name": "see"}}, "tool_choice.name", "no tool of that"),
    (
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": "no"}},
        "tool_choice.disable_parallel_tool_use",
        "true or false",
    ),
    ({"temperature": 1.5}, "temperature", "at most 1"),
    ({"top_p": -1}, "top_p", "at least 0"),
    ({"top_k": 1.5}, "top_k", "must be an integer"),
    ({"stop_sequences": "END"}, "stop_sequences", "must be a list"),
    ({"stop_sequences": [""]}, "stop_sequences.0", "must not be empty"),
    ({"metadata": {"user_id": 5}}, "metadata.user_id", "must be a string"),
    ({"metadata": {"team": "x"}}, "metadata.team", "only `user_id`"),
    ({"thinking": {"type": "on"}}, "thinking.type", "must be one of"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "is missing"),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 1}},
        "thinking.budget_tokens",
        "at least 1024",
    ),
    ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type", "json_schema"),
    (
        {"output_config": {"format": {"type": "json_schema"}}},
        "output_config.format.schema",
        "is missing",
    ),
    ({"mcp_servers": {}}, "mcp_servers", "must be a list"),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"model": ""}, "model", "must not be empty"),
]


@pytest.mark.parametrize(("fields", "param", "said"), WRONG)
def test_the_field_that_is_wrong_is_named_as_anthropic_names_it(
    fields: JsonObject, param: str, said: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_messages({**body(), **fields})
    assert refused.value.param == param
    assert refused.value.message.startswith(f"{param}: ")
    assert said in refused.value.message
