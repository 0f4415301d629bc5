"""A chat request as the JSON body of `POST /chat/completions`.

Source: OpenAI API reference, "Create chat completion", 2026-10. Pure: no IO.
"""

import re
from functools import lru_cache

from providers.chat_request import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    TextPart,
    ToolChoice,
    ToolSpec,
)
from providers.openai.quirks import OPENAI, Quirks
from streaming.errors import UnsupportedFieldError
from streaming.events import JsonObject, JsonValue

MOST_MODELS = 512
# OpenAI's reasoning and newer models refuse `max_tokens`; what imitates OpenAI knows it alone.
_TAKES_COMPLETION_TOKENS = re.compile(r"(ft:)?(o\d|gpt-([5-9]|\d\d))")
# Blocks that only Anthropic's own format can take back.
_ANTHROPIC_FIELDS = frozenset({"thinking_blocks"})


def request_to_body(
    request: ChatRequest, quirks: Quirks = OPENAI, provider: str = "openai"
) -> JsonObject:
    """The body that asks an upstream with these quirks; `provider` names it in errors.

    Raises:
        UnsupportedFieldError: the request needs a field that the upstream does not take.
    """
    body: JsonObject = dict(request.extra)
    body["model"] = request.model
    body["messages"] = [_message_to_json(message, quirks) for message in request.messages]
    if request.tools:
        body["tools"] = [_tool_to_json(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice_to_json(request.tool_choice)
    if request.max_tokens is not None:
        body[_max_tokens_field(request.model)] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = max(request.temperature, quirks.lowest_temperature)
    if request.stop:
        body["stop"] = list(request.stop)
    for name in _PLAIN_FIELDS:
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if request.stream:
        options = body.get("stream_options")
        body["stream"] = True
        # Usage is always asked for: what the caller did not ask for is not passed on to it.
        body["stream_options"] = {
            **(options if isinstance(options, dict) else {}),
            "include_usage": True,
        }
    else:
        body.pop("stream_options", None)
        body.pop("stream", None)
    return without_foreign_fields(body, quirks, provider, request.dropped)


def without_foreign_fields(
    body: JsonObject, quirks: Quirks, provider: str, dropped: dict[str, None]
) -> JsonObject:
    """The body without what the upstream does not take; what was left out is in `dropped`.

    Raises:
        UnsupportedFieldError: it holds a field without which the answer would be another.
    """
    for name, harmless in quirks.refused.items():
        value = body.pop(name, None)
        if value is not None and value not in harmless:
            raise UnsupportedFieldError(
                f"{provider} does not take `{name}`; leave it out or choose another provider",
                param=name,
            )
    for name in quirks.dropped:
        if body.pop(name, None) is not None:
            dropped[name] = None
    for name, theirs in quirks.renamed.items():
        if name in body:
            body[theirs] = body.pop(name)
    return body


def _message_to_json(message: Message, quirks: Quirks) -> JsonObject:
    dropped = quirks.dropped_in_messages
    out: JsonObject = {
        name: value
        for name, value in message.extra.items()
        if name not in _ANTHROPIC_FIELDS and name not in dropped
    }
    out["role"] = message.role
    out["content"] = _content_to_json(message, quirks)
    if message.name is not None and "name" not in dropped:
        out["name"] = message.name
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    thinking = "".join(block.text for block in message.reasoning)
    if thinking and quirks.reasoning_field:
        out[quirks.reasoning_field] = thinking
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.refusal is not None:
        out["refusal"] = message.refusal
    return out


def _content_to_json(message: Message, quirks: Quirks) -> JsonValue:
    parts = [_part_to_json(part, quirks) for part in message.parts]
    if not parts:
        return None if message.tool_calls or message.refusal is not None else ""
    only = parts[0]
    if len(parts) == 1 and only.keys() == {"type", "text"}:
        return only["text"]
    return list(parts)


def _part_to_json(part: Part, quirks: Quirks) -> JsonObject:
    match part:
        case TextPart():
            extra = part.extra if quirks.part_extra else {}
            return {**extra, "type": "text", "text": part.text}
        case ImagePart():
            image: JsonObject = {"url": part.url}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case OpaquePart():
            return part.data


def _tool_to_json(tool: ToolSpec) -> JsonObject:
    function: JsonObject = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice_to_json(choice: ToolChoice) -> JsonValue:
    if choice.mode == "function":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


@lru_cache(MOST_MODELS)
def takes_completion_tokens(model: str) -> bool:
    """Whether a model refuses `max_tokens` and takes `max_completion_tokens` in its place."""
    return _TAKES_COMPLETION_TOKENS.match(model) is not None


def _max_tokens_field(model: str) -> str:
    return "max_completion_tokens" if takes_completion_tokens(model) else "max_tokens"


_PLAIN_FIELDS = (
    "parallel_tool_calls",
    "top_p",
    "n",
    "seed",
    "response_format",
    "reasoning_effort",
    "user",
)
