"""Recorded requests to Anthropic, said in our terms by hand and translated back.

A chat request cannot hold everything: recordings with Anthropic's own tools or with fields of a
tool that OpenAI does not have are left out, and counted. What is compared is the meaning: the two
sides may write the same thing in two ways, and each normalisation gives its reason.
"""

import json
from copy import deepcopy
from typing import Any

import pytest

from providers.anthropic.request import chat_to_messages
from providers.chat_request import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolSpec,
)
from streaming.events import ReasoningBlock
from tests.recordings import WIRE, needs_recordings

NAMES = sorted(path.name for path in WIRE.glob("anthropic/messages-*"))
TOOL_FIELDS = {"name", "description", "input_schema", "strict"}
FIELDS = {
    "model",
    "messages",
    "max_tokens",
    "stream",
    "system",
    "tools",
    "tool_choice",
    "temperature",
    "stop_sequences",
}
EXTRA = {"thinking", "output_config", "cache_control", "mcp_servers", "container"}
CHOICES = {"auto": "auto", "any": "required", "none": "none", "tool": "function"}


def recorded_body(name: str) -> Any:
    return json.loads((WIRE / "anthropic" / name / "request.json").read_text("utf-8"))["body"]


def can_be_said(body: Any) -> bool:
    """Whether a chat request can hold it."""
    if not isinstance(body, dict) or set(body) - FIELDS - EXTRA or not body["messages"]:
        return False
    return all(isinstance(message, dict) for message in body["messages"]) and all(
        set(tool) <= TOOL_FIELDS for tool in body.get("tools", [])
    )


def to_chat(body: dict[str, Any]) -> ChatRequest:
    """The recorded request in our terms."""
    choice = body.get("tool_choice")
    schema = (body.get("output_config") or {}).get("format")
    messages = [*system_messages(body.get("system"))]
    for message in body["messages"]:
        messages.extend(our_messages(message))
    return ChatRequest(
        model=body["model"],
        messages=tuple(messages),
        tools=tuple(
            ToolSpec(
                tool["name"], tool.get("description", ""), tool["input_schema"], tool.get("strict")
            )
            for tool in body.get("tools", [])
        ),
        tool_choice=ToolChoice(CHOICES[choice["type"]], choice.get("name")) if choice else None,  # type: ignore[arg-type] # the table holds our modes
        parallel_tool_calls=(
            not choice["disable_parallel_tool_use"]
            if choice and "disable_parallel_tool_use" in choice
            else None
        ),
        max_tokens=body["max_tokens"],
        temperature=body.get("temperature"),
        stop=tuple(body.get("stop_sequences", ())),
        response_format=(
            {"type": "json_schema", "json_schema": {"name": "x", "schema": schema["schema"]}}
            if schema
            else None
        ),
        reasoning_effort=(body.get("output_config") or {}).get("effort"),
        stream=body.get("stream", False),
        extra={key: body[key] for key in EXTRA - {"output_config"} if key in body},
    )


def system_messages(system: Any) -> list[Message]:
    if not system:
        return []
    if isinstance(system, str):
        return [Message("system", (TextPart(system),))]
    return [Message("system", (our_part(block),)) for block in system]


def our_messages(message: dict[str, Any]) -> list[Message]:
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    results = [tool_message(block) for block in blocks if block["type"] == "tool_result"]
    calls = [block for block in blocks if block["type"] == "tool_use"]
    thoughts = [block for block in blocks if "thinking" in block["type"]]
    rest = [b for b in blocks if b["type"] != "tool_result" and b not in calls + thoughts]
    if results and not rest:
        return results
    return [
        *results,
        Message(
            message["role"],
            tuple(our_part(block) for block in rest),
            tool_calls=tuple(
                ToolCall(call["id"], call["name"], json.dumps(call["input"])) for call in calls
            ),
            reasoning=tuple(
                ReasoningBlock(b.get("thinking", ""), b.get("signature"), b.get("data"))
                for b in thoughts
            ),
        ),
    ]


def tool_message(block: dict[str, Any]) -> Message:
    content = block.get("content", "")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return Message(
        "tool",
        tuple(our_part(part) for part in blocks),
        tool_call_id=block["tool_use_id"],
        is_error=block.get("is_error", False),
        extra={"cache_control": block["cache_control"]} if "cache_control" in block else {},
    )


def our_part(block: dict[str, Any]) -> Part:
    if block["type"] == "text":
        mark = {"cache_control": block["cache_control"]} if "cache_control" in block else {}
        return TextPart(block["text"], mark)
    if block["type"] == "image" and set(block) == {"type", "source"}:
        source = block["source"]
        if source["type"] == "url":
            return ImagePart(source["url"])
        if source["type"] == "base64":
            return ImagePart(f"data:{source['media_type']};base64,{source['data']}")
    return OpaquePart(block)


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The request with what may be written in two ways written in one."""
    body = deepcopy(body)
    # False is the API's default.
    body.setdefault("stream", False)
    # An empty system prompt is none.
    if not body.get("system", True):
        del body["system"]
    # One text and its one block are the same; without a mark to cache, blocks may be joined.
    system = body.get("system")
    if isinstance(system, list) and not any("cache_control" in block for block in system):
        body["system"] = "\n\n".join(block["text"] for block in system)
    for message in body["messages"]:
        blocks = [normal_block(block) for block in normal_content(message["content"])]
        # Text of white space alone is refused in most places, and says nothing in the others.
        message["content"] = [block for block in blocks if block.get("text", "x").strip()]
    # No list of tools and an empty one are the same.
    if not body.get("tools", True):
        del body["tools"]
    for tool in body.get("tools", []):
        # An object without properties may leave them out.
        tool["input_schema"].setdefault("properties", {})
        # No description and an empty one are the same.
        if not tool.get("description", True):
            del tool["description"]
    # No list of stop sequences and an empty one are the same.
    if not body.get("stop_sequences", True):
        del body["stop_sequences"]
    if "temperature" in body:
        # 1 and 1.0 are one number in JSON.
        body["temperature"] = float(body["temperature"])
    config = body.get("output_config", {})
    if "format" in config:
        # The schema's own closing is held by the tests of the translation.
        config["format"] = config["format"]["type"]
    return body


def normal_content(content: Any) -> list[dict[str, Any]]:
    # A string is shorthand for one block of text.
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def normal_block(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "tool_result":
        content = block.get("content", "")
        if isinstance(content, list) and all(set(part) == {"type", "text"} for part in content):
            # A result of text alone may be written as a string.
            content = "".join(part["text"] for part in content)
        block = {**block, "content": content}
        # Success is the API's default.
        if not block.get("is_error", True):
            del block["is_error"]
    return block


@needs_recordings
@pytest.mark.parametrize("name", [name for name in NAMES if can_be_said(recorded_body(name))])
def test_a_recorded_request_is_said_again(name: str) -> None:
    body = recorded_body(name)
    said = chat_to_messages(to_chat(body))
    ours, recorded = normal(said.body), normal(body)
    for field in said.dropped:
        # Sampling fields go where the model refuses them, by the documentation of its family.
        assert field == "temperature"
        del recorded[field]
    if "output_config" in ours and "thinking" not in recorded:
        # An effort that a chat request asks for also turns thinking on.
        ours.pop("thinking", None)
    assert ours == recorded


@needs_recordings
def test_most_recorded_requests_can_be_said() -> None:
    assert sum(can_be_said(recorded_body(name)) for name in NAMES) >= 100
