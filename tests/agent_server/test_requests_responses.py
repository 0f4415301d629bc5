"""Reading Responses bodies: what the SDKs, the AI SDK and Codex send, and which field is wrong."""

import json
from typing import Any, get_args

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.response_input_param import ResponseInputItemParam
from openai.types.responses.tool_param import ToolParam
from typing_extensions import get_type_hints

from agent_server.requests.responses import ResponseRequest, read_responses
from providers.chat_request import (
    ImagePart,
    Message,
    OpaquePart,
    TextPart,
    ToolCall,
    ToolChoice,
)
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue, ReasoningBlock
from streaming.responses_objects import CalledTool, encrypted_content
from tests.recordings import WIRE, needs_recordings

PNG = "data:image/png;base64,iVBORw0KGgo="
LOOK: JsonObject = {
    "type": "function",
    "name": "look",
    "description": "Looks",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
CALL: JsonObject = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "look",
    "arguments": '{"a":1}',
}
OUTPUT: JsonObject = {"type": "function_call_output", "call_id": "call_1", "output": "seen"}


def read(**fields: JsonValue) -> ResponseRequest:
    return read_responses({"model": "m", "input": "hi", **fields})


def messages(*items: JsonValue) -> tuple[Message, ...]:
    return read(input=list(items)).chat.messages


def user(*parts: JsonValue) -> JsonValue:
    return {"role": "user", "content": list(parts)}


def test_a_string_is_what_the_user_says() -> None:
    request = read_responses({"input": "hi"})
    assert request.chat.messages == (Message("user", (TextPart("hi"),)),)
    assert request.chat.model == ""
    assert request.chat.stream is False
    assert request.options.store
    assert request.options.items == [{"type": "message", "role": "user", "content": "hi"}]


def test_every_option_of_a_model_call_is_read() -> None:
    chat = read(
        instructions="Be brief.",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        parallel_tool_calls=False,
        user="u",
        stream=True,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        top_k=40,
    ).chat
    assert chat.messages[0] == Message("system", (TextPart("Be brief."),))
    assert (chat.max_tokens, chat.temperature, chat.top_p) == (9, 0.5, 0.9)
    assert (chat.parallel_tool_calls, chat.user, chat.stream) == (False, "u", True)
    assert chat.reasoning_effort == "low"
    assert chat.response_format == {"type": "json_object"}
    assert chat.extra == {"top_k": 40}


def test_a_schema_takes_the_form_that_chat_has() -> None:
    schema: JsonObject = {"name": "s", "schema": {"type": "object"}, "strict": True}
    chat = read(text={"format": {"type": "json_schema", **schema}}).chat
    assert chat.response_format == {"type": "json_schema", "json_schema": schema}
    assert read(text={"format": {"type": "text"}}).chat.response_format is None


def test_parts_of_a_user_are_texts_images_files_and_audio() -> None:
    (message,) = messages(
        user(
            {"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": PNG, "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "JVBERi0="},
            {"type": "input_file", "file_data": "data:text/plain;base64,aGk="},
            {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
        )
    )
    assert message.parts == (
        TextPart("look"),
        ImagePart(PNG, "low"),
        OpaquePart({"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBERi0="}}),
        TextPart("hi", is_typed=False),
        OpaquePart({"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}),
    )


def test_what_a_model_did_in_one_turn_is_one_message() -> None:
    block = ReasoningBlock("hm", signature="sig")
    turn = messages(
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": encrypted_content(block),
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
        },
        CALL,
        {**CALL, "call_id": "call_2", "arguments": ""},
        OUTPUT,
        {**OUTPUT, "call_id": "call_2", "output": [{"type": "input_image", "image_url": PNG}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    )
    assert turn == (
        Message("system", (TextPart("Be brief."),)),
        Message("user", (TextPart("hi"),)),
        Message(
            "assistant",
            (TextPart("Let me look."),),
            tool_calls=(ToolCall("call_1", "look", '{"a":1}'), ToolCall("call_2", "look", "")),
            reasoning=(block,),
        ),
        Message("tool", (TextPart("seen"),), tool_call_id="call_1"),
        Message("tool", (ImagePart(PNG),), tool_call_id="call_2"),
        Message("assistant", refusal="No."),
    )


def test_thinking_that_another_server_encrypted_can_go_back_to_it() -> None:
    item: JsonObject = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    (block,) = messages(item, {"role": "assistant", "content": "hi"})[0].reasoning
    assert json.loads(block.redacted_data or "") == item


def test_thinking_without_anything_left_of_it_is_no_message() -> None:
    assert len(messages({"type": "reasoning", "id": "rs_1", "summary": []}, user())) == 1


def test_a_custom_tool_is_a_function_with_one_text() -> None:
    grammar: JsonObject = {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}
    patch: JsonObject = {
        "type": "custom",
        "name": "patch",
        "description": "Edits",
        "format": grammar,
    }
    request = read(
        tools=[patch],
        input=[
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        ],
        tool_choice={"type": "custom", "name": "patch"},
    )
    (tool,) = request.chat.tools
    assert tool.parameters["required"] == ["input"]
    assert "start: /x/" in tool.description
    assert request.chat.tool_choice == ToolChoice("function", "patch")
    assert request.chat.messages[0].tool_calls == (ToolCall("c", "patch", '{"input":"*** Begin"}'),)
    assert request.options.settings.tools == {"patch": CalledTool("patch", None, is_custom=True)}


def test_tools_of_a_namespace_are_called_by_its_name_too() -> None:
    space: JsonObject = {"type": "namespace", "name": "mcp__files__", "description": "Files"}
    request = read(
        tools=[{**space, "tools": [LOOK]}, LOOK],
        input=[{**CALL, "namespace": "mcp__files__"}, OUTPUT],
    )
    assert [tool.name for tool in request.chat.tools] == ["mcp__files__look", "look"]
    assert request.chat.messages[0].tool_calls[0].name == "mcp__files__look"
    called = request.options.settings.tools
    assert called == {"mcp__files__look": CalledTool("look", "mcp__files__")}


@pytest.mark.parametrize(
    ("choice", "read_as", "names"),
    [
        ("required", ToolChoice("required"), ["look", "see"]),
        ({"type": "function", "name": "see"}, ToolChoice("function", "see"), ["look", "see"]),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "see"}],
            },
            ToolChoice("required"),
            ["see"],
        ),
    ],
)
def test_a_tool_choice_is_a_mode_a_tool_or_some_tools(
    choice: JsonValue, read_as: ToolChoice, names: list[str]
) -> None:
    chat = read(tools=[LOOK, {**LOOK, "name": "see"}], tool_choice=choice).chat
    assert chat.tool_choice == read_as
    assert [tool.name for tool in chat.tools] == names


def test_a_provider_s_own_tools_are_left_out_where_that_is_allowed() -> None:
    body: JsonObject = {
        "input": "hi",
        "tools": [LOOK, {"type": "web_search", "external_web_access": False}],
    }
    request = read_responses(body, droppable_tools=frozenset({"web_search"}))
    assert [tool.name for tool in request.chat.tools] == ["look"]
    assert request.options.dropped == ("tools.web_search",)


def test_hints_and_traces_are_dropped_and_named() -> None:
    request = read(
        prompt_cache_key="k",
        service_tier="auto",
        truncation="auto",
        input=[{"type": "web_search_call", "id": "ws_1", "status": "completed"}, user()],
    )
    assert request.options.dropped == (
        "prompt_cache_key",
        "service_tier",
        "truncation",
        "web_search_call",
    )
    assert not request.chat.extra


def test_the_response_repeats_what_was_asked() -> None:
    settings = read(
        instructions="Be brief.",
        metadata={"a": "b"},
        tools=[{"type": "function", "name": "look"}],
        text={"verbosity": "low"},
    ).options.settings
    assert settings.fields == {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "tools": [{"type": "function", "name": "look", "parameters": None, "strict": None}],
        "text": {"format": {"type": "text"}, "verbosity": "low"},
    }


def test_the_history_comes_before_the_input_and_after_the_instructions() -> None:
    request = read_responses(
        {"instructions": "Be brief.", "input": [OUTPUT]},
        history=[{"role": "user", "content": "hi"}, CALL],
    )
    assert [message.role for message in request.chat.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]


# As Codex sends it: ResponseItem and its tools, codex-rs/core, `client.rs`, 2026-10.
CODEX: JsonObject = {
    "model": "gpt-5-codex",
    "instructions": "You are Codex.",
    "input": [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<permissions>"}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix it"}]},
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None},
        {
            "type": "function_call",
            "name": "shell",
            "arguments": '{"command":["ls"]}',
            "call_id": "c1",
        },
        {"type": "function_call_output", "call_id": "c1", "output": "a.py"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "ok"},
    ],
    "tools": [
        {"type": "function", "name": "shell", "strict": False, "parameters": {"type": "object"}},
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Edits files.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
        },
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199",
    "client_metadata": {"x-codex-installation-id": "1"},
    "text": {"verbosity": "low"},
}
# As @ai-sdk/openai 2 to 4 sends it, for a reasoning model and a second step.
AI_SDK: JsonObject = {
    "model": "gpt-5",
    "input": [
        {"role": "developer", "content": "SYS"},
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "x"}], "id": "msg_1"},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c", "output": '{"sky":"clear"}'},
    ],
    "max_output_tokens": 50,
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": "low", "summary": "auto"},
    "tools": [{**LOOK, "strict": False}],
    "tool_choice": "auto",
    "service_tier": "auto",
    "stream": True,
}


@pytest.mark.parametrize("body", [CODEX, AI_SDK], ids=["codex", "ai sdk"])
def test_the_bodies_of_codex_and_the_ai_sdk_are_read(body: JsonObject) -> None:
    request = read_responses(body)
    assert request.chat.stream
    assert not request.options.store
    assert not request.chat.extra
    roles = [message.role for message in request.chat.messages]
    assert roles[-2:] == ["assistant", "tool"]


WRONG: list[tuple[JsonObject, str, str]] = [
    ({"input": None}, "input", "is missing"),
    ({"input": 1}, "input", "must be a string or a list of items"),
    ({"input": []}, "input", "at least one item"),
    ({"input": ["hi"]}, "input[0]", "must be an object"),
    ({"input": [{"type": "tool_search_call"}]}, "input[0].type", "only the provider"),
    ({"input": [{"role": "tool", "content": ""}]}, "input[0].role", "must be one of user"),
    ({"input": [{"role": "user"}]}, "input[0].content", "is missing"),
    ({"input": [user({"type": "image_url"})]}, "input[0].content[0].type", "must be input_audio"),
    ({"input": [user({"type": "input_text"})]}, "input[0].content[0].text", "is missing"),
    (
        {"input": [user({"type": "input_image", "image_url": "ftp://x"})]},
        "input[0].content[0].image_url",
        "http(s) URL",
    ),
    (
        {"input": [user({"type": "input_image", "file_id": "f"})]},
        "input[0].content[0].file_id",
        "another server",
    ),
    (
        {"input": [user({"type": "input_file", "file_url": "https://x"})]},
        "input[0].content[0].file_url",
        "file_data",
    ),
    ({"input": [OUTPUT]}, "input[0].call_id", "no call of that id"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].id", "no item of that id"),
    ({"input": [{"id": "msg_x"}]}, "input[0].id", "no item of that id"),
    ({"input": [{**CALL, "arguments": None}]}, "input[0].arguments", "is missing"),
    ({"tools": [LOOK, {"type": "web_search"}]}, "tools[1].type", "'web_search', a tool that the"),
    ({"tools": [LOOK, LOOK]}, "tools[1].name", "another tool"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", "1 to 64"),
    (
        {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]},
        "tools[0].tools[0].type",
        "function or custom",
    ),
    (
        {"tools": [{"type": "namespace", "name": "n" * 60, "tools": [LOOK]}]},
        "tools[0].tools[0].name",
        "together with its namespace",
    ),
    ({"tool_choice": "some"}, "tool_choice", "must be one of"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice.type", "provider itself"),
    ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name", "none of that name"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "must be text"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.name", "is missing"),
    ({"reasoning": "low"}, "reasoning", "must be an object"),
    ({"max_output_tokens": 0}, "max_output_tokens", "at least 1"),
    ({"temperature": 3}, "temperature", "at most 2"),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"background": True, "store": False}, "background", "needs `store`"),
    ({"metadata": {"a": 1}}, "metadata.a", "must be a string"),
    ({"metadata": {str(key): "" for key in range(17)}}, "metadata", "at most 16"),
    ({"include": ["message.output_text.logprobs"]}, "include[0]", "log probabilities"),
    ({"top_logprobs": 3}, "top_logprobs", "log probabilities"),
    ({"conversation": "conv_1"}, "conversation", "`input`"),
    ({"prompt": {"id": "p"}}, "prompt", "`instructions`"),
    ({"moderation": {"model": "m"}}, "moderation", "leave it out"),
    ({"previous_response_id": 1}, "previous_response_id", "must be a string"),
]


@pytest.mark.parametrize(("fields", "param", "says"), WRONG, ids=[case[1] for case in WRONG])
def test_the_field_that_is_wrong_is_named(fields: JsonObject, param: str, says: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(**fields)
    assert caught.value.param == param
    assert says in caught.value.message


def type_names(union: Any) -> set[str]:
    """The values that `type` may have in any member of a union of the SDK's."""
    hints = (get_type_hints(member).get("type") for member in get_args(union))
    return {value for hint in hints for value in literals(hint)}


def literals(hint: Any) -> set[str]:
    return {hint} if isinstance(hint, str) else {v for arg in get_args(hint) for v in literals(arg)}


def outcome(body: JsonObject) -> ResponseRequest | InvalidRequestError:
    try:
        return read_responses(body)
    except InvalidRequestError as exc:
        return exc


@pytest.mark.parametrize("field", sorted(get_type_hints(ResponseCreateParamsNonStreaming)))
@pytest.mark.parametrize("value", ["a text", {"any": "value"}], ids=["text", "object"])
def test_every_field_of_the_sdk_is_read_dropped_or_refused(field: str, value: JsonValue) -> None:
    # Fields that we do not know go on as they are: a provider may know them.
    found = outcome({"input": "hi", field: value})
    if isinstance(found, InvalidRequestError):
        assert (found.param or "").startswith(field)
    else:
        assert field not in found.chat.extra


@pytest.mark.parametrize("kind", sorted(type_names(ToolParam)))
def test_every_tool_of_the_sdk_is_read_or_refused_by_its_type(kind: str) -> None:
    tool: JsonObject = {**LOOK, "type": kind, "tools": []}
    if kind in {"function", "custom", "namespace"}:
        assert read(tools=[tool])
        return
    with pytest.raises(InvalidRequestError, match=kind) as caught:
        read(tools=[tool])
    assert caught.value.param == "tools[0].type"


@pytest.mark.parametrize("kind", sorted(type_names(ResponseInputItemParam)))
def test_every_item_of_the_sdk_is_read_dropped_or_refused_by_name(kind: str) -> None:
    item: JsonObject = {"type": kind, "id": "i", "role": "user", "call_id": "call_1", "name": "n"}
    for field in ("content", "output", "input", "arguments"):
        item[field] = ""
    found = outcome({"input": [CALL, item]})
    if isinstance(found, InvalidRequestError):
        assert found.param == ("input[1].id" if kind == "item_reference" else "input[1].type")
        assert kind in found.message or kind == "item_reference"
    else:
        assert found.options.dropped in {(), (kind,)}


# Recorded requests that a provider took and we refuse: a provider's own tools, what it alone
# keeps, and a call whose other half another server has.
REFUSED_PARAMS = ("tools[", "input[", "previous_response_id")


@needs_recordings
def test_recorded_requests_are_read_or_refused_by_name() -> None:
    count, refused = 0, []
    for path in sorted(WIRE.glob("*/*/request.json")):
        meta = json.loads((path.parent / "response.meta.json").read_text())
        if meta["endpoint"] != "responses" or meta["status"] != 200:
            continue
        found = outcome(json.loads(path.read_text())["body"])
        if isinstance(found, InvalidRequestError):
            refused.append(found.param or "")
        else:
            assert found.chat.messages
            count += 1
    assert count > 60
    assert all(param.startswith(REFUSED_PARAMS) for param in refused), refused
