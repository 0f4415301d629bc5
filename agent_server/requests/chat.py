"""The body of `POST /v1/chat/completions` as a `ChatRequest`.

Source: OpenAI API reference, "Chat", "Create chat completion", 2026-10. What we interpret is
checked here, so that a mistake is told by its field before any provider is asked; every other field
goes on untouched.
"""

from typing import Any

from agent_server.requests.chat_messages import read_messages
from agent_server.requests.fields import (
    FieldError,
    FieldTable,
    boolean,
    integer,
    json_object,
    kind,
    name,
    number,
    read_fields,
    read_items,
    read_member,
    replaced,
    require,
    string,
)
from agent_server.requests.tools import check_tool_choice, read_tool_choice, read_tools
from providers.chat_request import ChatRequest
from streaming.events import JsonObject, JsonValue

MAX_STOP_SEQUENCES = 4
MAX_CHOICES = 128
_RESPONSE_FORMATS = ("text", "json_object", "json_schema")


def read_chat(body: JsonObject) -> ChatRequest:
    """The request that the body makes; its `model` is "" where the body names none.

    `stream` is what the body says, and false where it says nothing.

    Raises:
        InvalidRequestError: a field is missing or wrong; `param` is its path, such as
            `messages[2].content[0].image_url.url`.
    """
    try:
        values, extra = read_fields(body, _FIELDS)
        require(values, "messages", "messages", "it must be a list of messages")
        check_tool_choice(values)
    except FieldError as exc:
        raise exc.to_request_error() from None
    prefer_completion_tokens(values)
    stream_options = values.pop("stream_options", None)
    if stream_options is not None:
        extra["stream_options"] = stream_options
    return ChatRequest(**{"model": "", "stream": False, **values}, extra=extra)


def prefer_completion_tokens(values: dict[str, Any]) -> None:
    """Keep one limit of tokens: `max_completion_tokens` wins over the older `max_tokens`."""
    if "max_completion_tokens" in values:
        values["max_tokens"] = values.pop("max_completion_tokens")


def _stop(value: JsonValue) -> tuple[str, ...]:
    if isinstance(value, str):
        return (name(value),)
    if isinstance(value, list):
        return tuple(read_items(value, name, MAX_STOP_SEQUENCES))
    raise FieldError(f"must be a string or a list of strings, not {kind(value)}")


def _stream_options(value: JsonValue) -> JsonObject:
    options = json_object(value)
    if options.get("include_usage") is not None:
        read_member(options, "include_usage", boolean)
    return options


def _response_format(value: JsonValue) -> JsonObject:
    wanted = json_object(value)
    given = read_member(wanted, "type", string)
    if given not in _RESPONSE_FORMATS:
        raise FieldError(
            f"must be one of {', '.join(_RESPONSE_FORMATS)}, not {given[:80]!r}", "type"
        )
    if given == "json_schema":
        read_member(wanted, "json_schema", _json_schema)
    return wanted


def _json_schema(value: JsonValue) -> None:
    schema = json_object(value)
    read_member(schema, "name", name)
    if schema.get("schema") is not None:
        read_member(schema, "schema", json_object)


# The fields that may also come in a body of useChat.
OPTION_FIELDS: FieldTable = {
    "model": ("model", name),
    "tool_choice": ("tool_choice", read_tool_choice),
    "parallel_tool_calls": ("parallel_tool_calls", boolean),
    "max_tokens": ("max_tokens", integer(1)),
    "max_completion_tokens": ("max_completion_tokens", integer(1)),
    "temperature": ("temperature", number(0, 2)),
    "top_p": ("top_p", number(0, 1)),
    "stop": ("stop", _stop),
    "seed": ("seed", integer()),
    "response_format": ("response_format", _response_format),
    "reasoning_effort": ("reasoning_effort", name),
}
_FIELDS: FieldTable = {
    **OPTION_FIELDS,
    "messages": ("messages", read_messages),
    "tools": ("tools", read_tools),
    "user": ("user", string),
    "n": ("n", integer(1, MAX_CHOICES)),
    "stream": ("stream", boolean),
    "stream_options": ("stream_options", _stream_options),
    "functions": ("functions", replaced("tools")),
    "function_call": ("function_call", replaced("tool_choice")),
}
