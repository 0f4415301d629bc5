"""Every recorded request, said again by us: the same meaning as what was sent."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from providers.chat_request import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Role,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolSpec,
)
from providers.openai.request import request_to_body
from providers.registry import ROWS
from streaming.events import ReasoningBlock
from tests.recordings import Replay, exchanges_of, needs_recordings, provider_folders

ENDPOINT = "chat.completions"
COMPATIBLE = ROWS["custom"]


@needs_recordings
@pytest.mark.parametrize("provider", provider_folders(ENDPOINT))
def test_every_request_is_sent_with_the_meaning_it_had(provider: str, replay: Replay) -> None:
    row = ROWS.get(provider, COMPATIBLE)
    bodies = {
        exchange.id: exchange.request["body"]
        for exchange in exchanges_of(replay, provider, ENDPOINT)
        if exchange.request.get("body")
    }
    assert bodies
    for name, body in bodies.items():
        sent = request_to_body(_request(body), row.quirks, provider)
        assert _meaning(sent) == _meaning(body, left_out=LEFT_OUT.get(provider, ())), name


def _request(body: Mapping[str, Any]) -> ChatRequest:
    """The request that a recorded body says, with what has no field of its own in `extra`."""
    own = {name: body.get(name) for name in PLAIN_FIELDS}
    foreign = [tool for tool in body.get("tools") or [] if "function" not in tool]
    extra = {k: v for k, v in body.items() if k not in KNOWN_FIELDS and v is not None}
    return ChatRequest(
        **own,
        model=body.get("model") or "",
        messages=tuple(_message(message) for message in body["messages"]),
        tools=tuple(_tool(tool) for tool in body.get("tools") or [] if "function" in tool),
        tool_choice=_tool_choice(body.get("tool_choice")),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stop=_stop(body.get("stop")),
        stream=bool(body.get("stream")),
        extra=extra | ({"tools": foreign} if foreign else {}),
    )


def _message(body: Mapping[str, Any]) -> Message:
    content = body.get("content")
    thinking = body.get("reasoning_content") or body.get("reasoning")
    known = {"role", "content", "name", "tool_calls", "tool_call_id", *THINKING_FIELDS}
    role: Role = "system" if body["role"] == "developer" else body["role"]
    return Message(
        role=role,
        parts=tuple(_part(part) for part in _content_parts(content)),
        name=body.get("name"),
        tool_calls=tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in body.get("tool_calls") or []
        ),
        reasoning=(ReasoningBlock(thinking),) if thinking else (),
        tool_call_id=body.get("tool_call_id"),
        extra={k: v for k, v in body.items() if k not in known},
    )


def _content_parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def _part(part: Mapping[str, Any]) -> Part:
    if part["type"] == "text":
        extra = {k: v for k, v in part.items() if k not in {"type", "text"} and v is not None}
        return TextPart(part["text"], extra)
    if part["type"] == "image_url":
        image = part["image_url"]
        if isinstance(image, str):
            return OpaquePart(dict(part))
        return ImagePart(image["url"], image.get("detail"))
    return OpaquePart(dict(part))


def _tool(tool: Mapping[str, Any]) -> ToolSpec:
    function = tool["function"]
    return ToolSpec(
        name=function["name"],
        description=function.get("description") or "",
        parameters=function["parameters"],
        strict=function.get("strict"),
    )


def _tool_choice(choice: Any) -> ToolChoice | None:
    if isinstance(choice, dict):
        return ToolChoice("function", choice["function"]["name"])
    # Mistral's own word for it; ours is OpenAI's, which Mistral takes as well.
    return ToolChoice({"any": "required"}.get(choice, choice)) if choice else None


def _stop(stop: Any) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _meaning(body: Mapping[str, Any], left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A body without what makes no difference to the upstream."""
    out = {k: v for k, v in body.items() if v is not None and k not in {*SHAPE, *left_out}}
    out["max_tokens"] = body.get("max_completion_tokens") or body.get("max_tokens")
    out["stop"] = _stop(body.get("stop"))
    out["stream"] = bool(body.get("stream"))
    # Azure names the model in the path.
    out.setdefault("model", "")
    if out.get("tool_choice") == "any":
        out["tool_choice"] = "required"
    out["messages"] = [_message_meaning(message, left_out) for message in body["messages"]]
    # The order of tools of different kinds makes no difference.
    tools = [_tool_meaning(tool) for tool in body.get("tools") or []]
    out["tools"] = sorted(tools, key=lambda tool: json.dumps(tool, sort_keys=True))
    return out


def _message_meaning(message: Mapping[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    out = {k: v for k, v in message.items() if v is not None and k not in left_out}
    out["role"] = {"developer": "system"}.get(message["role"], message["role"])
    thinking = [out.pop(name, None) for name in THINKING_FIELDS]
    if any(thinking) and "thinking" not in left_out:
        out["thinking"] = next(text for text in thinking if text)
    parts = [
        {k: v for k, v in part.items() if k not in {*left_out, *PART_NOISE.get(part["type"], ())}}
        for part in _content_parts(message.get("content"))
    ]
    out["content"] = [part for part in parts if part != {"type": "text", "text": ""}]
    if "tool_calls" in out:
        # DEVIATION: some callers send an index, or leave the type out.
        out["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": call["function"]}
            for call in out["tool_calls"]
        ]
    return out


def _tool_meaning(tool: Mapping[str, Any]) -> dict[str, Any]:
    if "function" not in tool:
        return dict(tool)
    function = {k: v for k, v in tool["function"].items() if v is not None and k in FUNCTION_FIELDS}
    if not function.get("description"):
        function.pop("description", None)
    return {"type": "function", "function": function}


PLAIN_FIELDS = (
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "n",
    "seed",
    "response_format",
    "reasoning_effort",
    "user",
)
SHAPE = {"stream_options", "max_completion_tokens"}
KNOWN_FIELDS = {*PLAIN_FIELDS, "model", "messages", "tools", "tool_choice", "stop", "stream"} | {
    "max_tokens",
    "max_completion_tokens",
}
THINKING_FIELDS = ("reasoning_content", "reasoning")
# Keys of a framework that were sent by mistake and mean nothing to an upstream.
PART_NOISE = {"image_url": ("text",), "text": ("image_url",)}
FUNCTION_FIELDS = {"name", "description", "parameters", "strict"}
# What the row of a provider leaves out, because the upstream refuses or ignores it.
LEFT_OUT = {
    "groq": ("name", "n"),
    "ollama": ("tool_choice",),
    "openai": ("cache_control", "thinking"),
}
