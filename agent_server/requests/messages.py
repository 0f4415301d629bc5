"""The body of `POST /v1/messages` as a `ChatRequest`.

Source: Anthropic API documentation, "Create a Message", and the types of its Python SDK 2.12,
2026-10. What the format alone knows stays in `extra` under its own name, so that an upstream of the
same format is asked exactly what the client asked; `messages_foreign` says the rest in the terms of
the others. Fields are named as the API names them: `messages.0.content.1.text`.
"""

from collections.abc import Sequence
from typing import Final

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
    require,
    string,
)
from agent_server.requests.messages_content import read_conversation, read_system
from agent_server.requests.messages_tools import check_choice, read_choice, read_tools
from providers.chat_request import ChatRequest
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue

MAX_STOP_SEQUENCES: Final = 8192
MIN_BUDGET_TOKENS: Final = 1024
THINKING_TYPES: Final = ("enabled", "adaptive", "between_tools", "disabled")


def read_messages(body: JsonObject, betas: Sequence[str] = ()) -> ChatRequest:
    """The request that the body makes; its `model` is "" where the body names none.

    `betas` are the values of the header `anthropic-beta`; `stream` is what the body says, and false
    where it says nothing.

    Raises:
        InvalidRequestError: a field is missing or wrong, or a tool is one that Anthropic itself
            runs; `param` is its path.
    """
    try:
        values, extra = read_fields(body, _FIELDS)
        require(values, "max_tokens", "max_tokens", "it bounds how long the answer may be")
        require(values, "messages", "messages", "it must be a list of messages")
        check_choice(values)
    except FieldError as exc:
        raise request_error(exc) from None
    extra |= {field: values.pop(field) for field in _KEPT if field in values}
    _move_output_format(extra)
    if betas:
        extra["betas"] = list(betas)
    messages = (*values.pop("system", ()), *values.pop("messages"))
    choice, parallel = values.pop("tool_choice", (None, None))
    return ChatRequest(
        **{"model": "", "stream": False, **values},
        messages=messages,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        extra=extra,
    )


def request_error(error: FieldError) -> InvalidRequestError:
    """The error for the caller, with the path as Anthropic writes it: steps joined by dots."""
    path = error.path.replace("[", ".").replace("]", "")
    return InvalidRequestError(f"{path}: {error.message}", param=path)


def _move_output_format(extra: JsonObject) -> None:
    """Say `output_format` of the first beta as `output_config.format`, which took its place."""
    given = extra.pop("output_format", None)
    if given is not None:
        config = extra.get("output_config")
        extra["output_config"] = {"format": given, **(config if isinstance(config, dict) else {})}


def _stop_sequences(value: JsonValue) -> tuple[str, ...]:
    return tuple(read_items(value, name, MAX_STOP_SEQUENCES))


def _user_id(value: JsonValue) -> str | None:
    metadata = json_object(value)
    others = metadata.keys() - {"user_id"}
    if others:
        raise FieldError("is not known; only `user_id` is", sorted(others)[0])
    return read_member(metadata, "user_id", string) if metadata.get("user_id") else None


def _thinking(value: JsonValue) -> JsonObject:
    thinking = json_object(value)
    given = read_member(thinking, "type", string)
    if given not in THINKING_TYPES:
        raise FieldError(f"must be one of {', '.join(THINKING_TYPES)}, not {given[:80]!r}", "type")
    if given == "enabled":
        read_member(thinking, "budget_tokens", integer(MIN_BUDGET_TOKENS))
    return thinking


def _output_config(value: JsonValue) -> JsonObject:
    config = json_object(value)
    if config.get("effort") is not None:
        read_member(config, "effort", name)
    if config.get("format") is not None:
        read_member(config, "format", _output_format)
    return config


def _output_format(value: JsonValue) -> JsonObject:
    wanted = json_object(value)
    given = read_member(wanted, "type", string)
    if given != "json_schema":
        raise FieldError(f"must be 'json_schema', not {given[:80]!r}", "type")
    read_member(wanted, "schema", json_object)
    return wanted


def _mcp_servers(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return value
    raise FieldError(f"must be a list, not {kind(value)}")


# Read for their form alone: an upstream of the same format gets them as they are.
_KEPT: Final = ("thinking", "output_config", "output_format", "top_k", "mcp_servers")
_FIELDS: FieldTable = {
    "model": ("model", name),
    "max_tokens": ("max_tokens", integer(0)),
    "messages": ("messages", read_conversation),
    "system": ("system", read_system),
    "tools": ("tools", read_tools),
    "tool_choice": ("tool_choice", read_choice),
    "stop_sequences": ("stop", _stop_sequences),
    "stream": ("stream", boolean),
    "temperature": ("temperature", number(0, 1)),
    "top_p": ("top_p", number(0, 1)),
    "top_k": ("top_k", integer(0)),
    "metadata": ("user", _user_id),
    "thinking": ("thinking", _thinking),
    "output_config": ("output_config", _output_config),
    "output_format": ("output_format", _output_format),
    "mcp_servers": ("mcp_servers", _mcp_servers),
}
