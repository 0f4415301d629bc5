"""A request of the Messages door for upstreams that speak another format."""

from dataclasses import replace
from typing import Any

import pytest

from agent_server.requests.messages import read_messages
from agent_server.requests.messages_foreign import to_foreign
from providers.openai.request import request_to_body
from streaming.errors import UnsupportedFieldError
from streaming.events import JsonObject, JsonValue

MARK: JsonObject = {"type": "ephemeral"}
HI: JsonObject = {"role": "user", "content": "hi"}
LOOK: JsonObject = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
CALL: JsonObject = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
PNG: JsonObject = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def sent(model: str = "gpt-4.1", **fields: JsonValue) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What OpenAI is asked, and what was left out."""
    request = read_messages({"max_tokens": 100, "messages": [HI], **fields})
    foreign = to_foreign(replace(request, model=model, stream=False))
    return request_to_body(foreign.request), foreign.dropped


def content(*blocks: JsonValue) -> Any:
    return sent(messages=[{"role": "user", "content": list(blocks)}])[0]["messages"][0]["content"]


def test_nothing_that_only_anthropic_takes_reaches_another_upstream() -> None:
    body, dropped = sent(
        system=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        tools=[{**LOOK, "cache_control": MARK, "input_examples": []}],
        thinking={"type": "enabled", "budget_tokens": 2048},
        top_k=5,
        service_tier="auto",
        context_management={"edits": []},
        metadata={"user_id": "u"},
    )
    assert body == {
        "model": "gpt-4.1",
        "max_tokens": 100,
        "messages": [{"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "hi"}],
        "tools": [
            {
                "type": "function",
                "function": {"name": "look", "parameters": LOOK["input_schema"]},
            }
        ],
        "user": "u",
    }
    assert set(dropped) == {
        "cache_control",
        "tools.input_examples",
        "thinking",
        "top_k",
        "service_tier",
        "context_management",
    }


def test_nothing_is_named_as_dropped_where_all_was_said() -> None:
    assert sent(stop_sequences=["x"], temperature=1)[1] == ()


def test_the_betas_of_a_client_are_named_by_their_header() -> None:
    request = read_messages({"max_tokens": 1, "messages": [HI]}, betas=["context-1m-2025-08-07"])
    assert to_foreign(request).dropped == ("anthropic-beta",)


def test_the_calls_of_one_turn_and_their_results_stand_together() -> None:
    second = {**CALL, "id": "toolu_2"}
    body, _ = sent(
        messages=[
            HI,
            {
                "role": "assistant",
                "content": [
                    {**CALL, "cache_control": MARK},
                    {"type": "text", "text": "and"},
                    second,
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "now?"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "image", "source": PNG, "cache_control": MARK}],
                    },
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_2",
                        "content": "lost",
                        "is_error": True,
                    },
                ],
            },
        ]
    )
    _, answer, first, other, user = body["messages"]
    assert [call["id"] for call in answer["tool_calls"]] == ["toolu_1", "toolu_2"]
    assert answer["content"] == "and"
    assert (first["tool_call_id"], first["role"]) == ("toolu_1", "tool")
    assert "next message" in first["content"]
    assert other == {"role": "tool", "tool_call_id": "toolu_2", "content": "ERROR: lost"}
    assert user == {"role": "user", "content": [PNG_PART, {"type": "text", "text": "now?"}]}


def test_an_image_of_the_last_tool_result_follows_it() -> None:
    result: JsonObject = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{"type": "text", "text": "see"}, {"type": "image", "source": PNG}],
    }
    body, _ = sent(
        messages=[
            HI,
            {"role": "assistant", "content": [CALL]},
            {"role": "user", "content": [result]},
        ]
    )
    assert body["messages"][-2]["content"].startswith("see\n(")
    assert body["messages"][-1] == {"role": "user", "content": [PNG_PART]}


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (
            {"type": "document", "title": "T", "source": {"type": "text", "data": "words"}},
            {"type": "text", "text": "T\n\nwords"},
        ),
        (
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            },
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
            },
        ),
        (
            {
                "type": "document",
                "source": {"type": "content", "content": [{"type": "text", "text": "x"}]},
            },
            {"type": "text", "text": "x"},
        ),
        (
            {
                "type": "search_result",
                "title": "T",
                "source": "https://example.com",
                "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}],
            },
            {"type": "text", "text": "T (https://example.com)\n\nx\n\ny"},
        ),
    ],
)
def test_blocks_that_have_a_counterpart(block: JsonObject, part: JsonObject) -> None:
    assert content({"type": "text", "text": "see"}, block) == [
        {"type": "text", "text": "see"},
        part,
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"container": "container_1"}, "container"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"max_tokens": 0}, "max_tokens"),
        *(
            ({"messages": [{"role": "user", "content": [block]}]}, "messages")
            for block in (
                {"type": "container_upload", "file_id": "file_1"},
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "document", "source": {"type": "url", "url": "https://example.com"}},
                {"type": "web_search_tool_result", "tool_use_id": "x", "content": []},
            )
        ),
    ],
)
def test_what_no_other_format_says_is_refused_by_name(fields: JsonObject, param: str) -> None:
    with pytest.raises(UnsupportedFieldError) as refused:
        sent(**fields)
    assert refused.value.param == param
    assert "Anthropic" in refused.value.message


OPEN: JsonObject = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED: JsonObject = {**OPEN, "additionalProperties": False, "required": ["a"]}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        (OPEN, None),
        ({**CLOSED, "required": []}, None),
        ({**CLOSED, "properties": {"a": OPEN}}, None),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": CLOSED}}}, True),
    ],
)
def test_a_schema_is_strict_where_openai_can_hold_a_model_to_it(
    schema: JsonObject, strict: bool | None
) -> None:
    config: JsonObject = {"format": {"type": "json_schema", "schema": schema}}
    wanted = sent(output_config=config)[0]["response_format"]
    assert wanted["json_schema"]["schema"] == schema
    assert wanted["json_schema"].get("strict") == strict


BUDGET: JsonObject = {"type": "enabled", "budget_tokens": 32_000}


@pytest.mark.parametrize(
    ("model", "fields", "effort", "dropped"),
    [
        ("gpt-5.4-mini", {"output_config": {"effort": "low"}}, "low", ()),
        ("openai/gpt-oss-120b", {"output_config": {"effort": "max"}}, "high", ()),
        ("o3", {"thinking": BUDGET}, "high", ()),
        ("o3", {"thinking": {**BUDGET, "budget_tokens": 1024}}, "low", ()),
        ("o3", {"thinking": {"type": "adaptive"}}, None, ()),
        ("o3", {"thinking": {"type": "disabled"}}, None, ("thinking",)),
        ("gpt-4o", {"thinking": BUDGET}, None, ("thinking",)),
        (
            "llama-3.3-70b",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            None,
            ("thinking", "output_config.effort"),
        ),
    ],
)
def test_the_effort_is_said_to_models_that_take_one(
    model: str, fields: JsonObject, effort: str | None, dropped: tuple[str, ...]
) -> None:
    body, left_out = sent(model, **fields)
    assert body.get("reasoning_effort") == effort
    assert left_out == dropped


def test_a_long_name_of_a_user_stays_the_same_and_becomes_short() -> None:
    first = sent(metadata={"user_id": "u" * 200})[0]["user"]
    assert first == sent(metadata={"user_id": "u" * 200})[0]["user"]
    assert first != sent(metadata={"user_id": "u" * 201})[0]["user"]
    assert len(first) == 64


def test_marks_to_cache_stay_in_the_system_prompt_for_upstreams_that_take_them() -> None:
    request = read_messages(
        {
            "max_tokens": 1,
            "messages": [HI],
            "system": [
                {"type": "text", "text": "a"},
                {"type": "text", "text": "b", "cache_control": MARK},
            ],
        }
    )
    prompt = to_foreign(request).request.messages[0]
    assert [part.extra for part in prompt.parts] == [{}, {"cache_control": MARK}]  # type: ignore[union-attr] # texts alone
