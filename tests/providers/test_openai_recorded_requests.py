"""Every recorded request, read by our own route and said again: with the meaning it had."""

from collections.abc import Mapping
from typing import Any

import pytest

from agent_server.requests.chat import read_chat
from providers.openai.request import request_to_body
from providers.registry import ROWS
from streaming.errors import InvalidRequestError
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
        if name in REFUSED:
            with pytest.raises(InvalidRequestError):
                read_chat(body)
            continue
        sent = request_to_body(read_chat(body), row.quirks, provider)
        assert _meaning(sent) == _meaning(body, left_out=LEFT_OUT.get(provider, ())), name


def _content_parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


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
    out["messages"] = [_message_meaning(message, left_out) for message in body["messages"]]
    out["tools"] = [_tool_meaning(tool) for tool in body.get("tools") or []]
    return out


def _message_meaning(message: Mapping[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    out = {k: v for k, v in message.items() if v is not None and k not in {*NOISE, *left_out}}
    out["role"] = {"developer": "system"}.get(message["role"], message["role"])
    thinking = [out.pop(name, None) for name in THINKING_FIELDS]
    if any(thinking) and "thinking" not in left_out:
        out["thinking"] = next(text for text in thinking if text)
    parts = [
        {k: v for k, v in part.items() if k not in {*left_out, *PART_NOISE.get(part["type"], ())}}
        for part in _content_parts(message.get("content"))
    ]
    for part in parts:
        if part["type"] == "image_url" and isinstance(part["image_url"], str):
            part["image_url"] = {"url": part["image_url"]}
    out["content"] = [part for part in parts if part != {"type": "text", "text": ""}]
    if "tool_calls" in out:
        # DEVIATION: some callers send an index, or leave the type out.
        out["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": call["function"]}
            for call in out["tool_calls"]
        ]
    return out


def _tool_meaning(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = {k: v for k, v in tool["function"].items() if v is not None and k in FUNCTION_FIELDS}
    if not function.get("description"):
        function.pop("description", None)
    return {"type": "function", "function": function}


SHAPE = {"stream_options", "max_completion_tokens"}
THINKING_FIELDS = ("reasoning_content", "reasoning")
# What an answer had and a request does not take.
NOISE = {"annotations"}
# Keys of a framework that were sent by mistake and mean nothing to an upstream.
PART_NOISE = {"image_url": ("text",), "text": ("image_url",)}
FUNCTION_FIELDS = {"name", "description", "parameters", "strict"}
# What the row of a provider leaves out, because the upstream refuses or ignores it.
LEFT_OUT = {
    "groq": ("name", "n"),
    "ollama": ("tool_choice",),
    "openai": ("cache_control", "thinking"),
}
# What is not OpenAI's format of today, and refused by our route with the field that is at fault.
REFUSED = {
    "mistral/chat-json-reasoning-03",  # content parts of type `thinking`
    "mistral/chat-json-tool-call-06",  # tool_choice "any"
    "mistral/chat-stream-tool-call-01",  # tool_choice "any"
    "openai/chat-json-tool-call-function-call-01",  # `functions`, which tools replaced
    "openai/chat-json-tool-call-function-call-03",  # `functions`, which tools replaced
    "openrouter/chat-json-text-06",  # a tool that OpenRouter runs
    "openrouter/chat-stream-text-03",  # a tool that OpenRouter runs
    "openrouter/chat-stream-text-06",  # a tool that OpenRouter runs
    "perplexity/chat-json-structured-01",  # a JSON schema without a name
}
