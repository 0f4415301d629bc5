"""Reading OpenAI's chat bodies: the field that is wrong is named by its path."""

import pytest

from agent_server.requests.chat import read_chat
from agent_server.requests.chat_messages import MAX_MESSAGES, MAX_PARTS
from agent_server.requests.tools import MAX_TOOLS
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue

HI: JsonObject = {"role": "user", "content": "hi"}
PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL: JsonObject = {"type": "function", "function": {"name": "look"}}
CALL: JsonObject = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": "{"},
}


def user(part: JsonValue) -> JsonValue:
    return [HI, HI, {"role": "user", "content": [part]}]


def assistant(**fields: JsonValue) -> JsonValue:
    return [HI, {"role": "assistant", **fields}]


def tools(**function: JsonValue) -> JsonValue:
    return [TOOL, {"type": "function", "function": {"name": "see", **function}}]


WRONG = [
    ({"messages": None}, "messages", "is missing"),
    ({"messages": []}, "messages", "at least one"),
    ({"messages": "hi"}, "messages", "must be a list, not a string"),
    ({"messages": [HI] * (MAX_MESSAGES + 1)}, "messages", f"at most {MAX_MESSAGES}"),
    ({"messages": [HI, "hi"]}, "messages[1]", "must be an object, not a string"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "is missing"),
    ({"messages": [{"role": 1, "content": "hi"}]}, "messages[0].role", "must be a string"),
    ({"messages": [{"role": "bot", "content": "hi"}]}, "messages[0].role", "one of system, dev"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role", "tool"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "is missing"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a list of parts"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "at least one part"),
    ({"messages": [{**HI, "name": 5}]}, "messages[0].name", "must be a string"),
    ({"messages": [{**HI, "tool_calls": [CALL]}]}, "messages[0].tool_calls", "'assistant'"),
    ({"messages": [{**HI, "tool_call_id": "c"}]}, "messages[0].tool_call_id", "role 'tool'"),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "x"}] * (MAX_PARTS + 1)}
            ]
        },
        "messages[0].content",
        f"at most {MAX_PARTS}",
    ),
    ({"messages": user("hi")}, "messages[2].content[0]", "must be an object"),
    ({"messages": user({"text": "hi"})}, "messages[2].content[0].type", "is missing"),
    ({"messages": user({"type": "text"})}, "messages[2].content[0].text", "is missing"),
    ({"messages": user({"type": "text", "text": 1})}, "messages[2].content[0].text", "a string"),
    (
        {"messages": user({"type": "input_text", "text": "hi"})},
        "messages[2].content[0].type",
        "use type 'text'",
    ),
    ({"messages": user({"type": "image_url"})}, "messages[2].content[0].image_url", "is missing"),
    (
        {"messages": user({"type": "image_url", "image_url": {"detail": "low"}})},
        "messages[2].content[0].image_url.url",
        "is missing",
    ),
    (
        {"messages": user({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}})},
        "messages[2].content[0].image_url.url",
        "must be an http",
    ),
    (
        {"messages": user({"type": "image_url", "image_url": {"url": "data:image/png,raw"}})},
        "messages[2].content[0].image_url.url",
        "base64",
    ),
    (
        {"messages": user({"type": "image_url", "image_url": {"url": PNG, "detail": 1}})},
        "messages[2].content[0].image_url.detail",
        "a string",
    ),
    (
        {
            "messages": [
                {"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}
            ]
        },
        "messages[0].content[0].type",
        "must be text in a message of this role",
    ),
    ({"messages": assistant()}, "messages[1].content", "is missing"),
    ({"messages": assistant(content=None)}, "messages[1].content", "is missing"),
    ({"messages": assistant(tool_calls={})}, "messages[1].tool_calls", "must be a list"),
    ({"messages": assistant(tool_calls=[{}])}, "messages[1].tool_calls[0].id", "is missing"),
    (
        {"messages": assistant(tool_calls=[{**CALL, "type": "custom"}])},
        "messages[1].tool_calls[0].type",
        "'function'",
    ),
    (
        {"messages": assistant(tool_calls=[{"id": "c"}])},
        "messages[1].tool_calls[0].function",
        "is missing",
    ),
    (
        {"messages": assistant(tool_calls=[{"id": "c", "function": {"arguments": "{}"}}])},
        "messages[1].tool_calls[0].function.name",
        "is missing",
    ),
    (
        {
            "messages": assistant(
                tool_calls=[{"id": "c", "function": {"name": "f", "arguments": {}}}]
            )
        },
        "messages[1].tool_calls[0].function.arguments",
        "JSON text",
    ),
    (
        {"messages": assistant(content="x", function_call={"name": "f"})},
        "messages[1].function_call",
        "use `tool_calls`",
    ),
    (
        {"messages": assistant(content="x", thinking_blocks=[{"type": "thought"}])},
        "messages[1].thinking_blocks[0].type",
        "redacted_thinking",
    ),
    (
        {"messages": assistant(content="x", thinking_blocks=[{"type": "thinking"}])},
        "messages[1].thinking_blocks[0].thinking",
        "is missing",
    ),
    (
        {"messages": [{"role": "tool", "content": "42"}]},
        "messages[0].tool_call_id",
        "is missing",
    ),
    ({"messages": [{"role": "tool", "tool_call_id": "c"}]}, "messages[0].content", "is missing"),
    ({"model": 5}, "model", "must be a string, not a number"),
    ({"model": ""}, "model", "must not be empty"),
    ({"temperature": "hot"}, "temperature", "must be a number, not a string"),
    ({"temperature": True}, "temperature", "must be a number, not a boolean"),
    ({"temperature": 2.1}, "temperature", "must be at most 2, not 2.1"),
    ({"top_p": -1}, "top_p", "must be at least 0"),
    ({"max_tokens": 0}, "max_tokens", "must be at least 1"),
    ({"max_tokens": 1.5}, "max_tokens", "must be an integer"),
    ({"max_completion_tokens": "1"}, "max_completion_tokens", "must be an integer"),
    ({"n": 129}, "n", "must be at most 128"),
    ({"n": True}, "n", "must be an integer, not a boolean"),
    ({"seed": 1.5}, "seed", "must be an integer"),
    ({"stream": "true"}, "stream", "must be true or false, not a string"),
    ({"stream_options": []}, "stream_options", "must be an object, not a list"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "true or false"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
    ({"stop": ["a", ""]}, "stop[1]", "must not be empty"),
    ({"stop": 5}, "stop", "a list of strings"),
    ({"user": {}}, "user", "must be a string, not an object"),
    ({"reasoning_effort": 3}, "reasoning_effort", "must be a string"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "true or false"),
    ({"response_format": "json"}, "response_format", "must be an object"),
    ({"response_format": {}}, "response_format.type", "is missing"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "text, json_object"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "response_format.json_schema.name",
        "is missing",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 1}}},
        "response_format.json_schema.schema",
        "must be an object",
    ),
    ({"functions": [{"name": "f"}]}, "functions", "use `tools`"),
    ({"function_call": "auto"}, "function_call", "use `tool_choice`"),
    ({"tools": {}}, "tools", "must be a list, not an object"),
    ({"tools": [TOOL] * (MAX_TOOLS + 1)}, "tools", f"at most {MAX_TOOLS}"),
    ({"tools": ["look"]}, "tools[0]", "must be an object"),
    ({"tools": [{"name": "look"}]}, "tools[0].function", "is missing"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "must be 'function'"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "is missing"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "is missing"),
    ({"tools": tools(name="a b")}, "tools[1].function.name", "1 to 64 letters"),
    ({"tools": tools(name="a" * 65)}, "tools[1].function.name", "1 to 64 letters"),
    ({"tools": tools(name="look")}, "tools[1].function.name", "another tool"),
    ({"tools": tools(description=1)}, "tools[1].function.description", "a string"),
    ({"tools": tools(parameters="{}")}, "tools[1].function.parameters", "an object, not a string"),
    ({"tools": tools(strict="yes")}, "tools[1].function.strict", "true or false"),
    ({"tool_choice": "any"}, "tool_choice", "auto, none, required"),
    ({"tool_choice": 1}, "tool_choice", "a string or an object"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.type", "'function'"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function", "is missing"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "see"}}, "tools": [TOOL]},
        "tool_choice.function.name",
        "no function of that name",
    ),
]


@pytest.mark.parametrize(("fields", "param", "message"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_field_is_named(fields: JsonObject, param: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_chat({"messages": [HI], **fields})
    assert caught.value.param == param
    assert caught.value.message.startswith(f"`{param}` ")
    assert message in caught.value.message


def test_a_long_wrong_value_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_chat({"messages": [{"role": "x" * 10_000, "content": "hi"}]})
    assert len(caught.value.message) < 200
