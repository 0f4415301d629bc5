"""The body of `POST /v1/responses` as a `ChatRequest`, and what it asks of this server itself.

What we interpret is checked here; hints of which no answer depends are dropped, and named; a field
that would change the answer and that no other format has is refused.

Source: OpenAI API reference, "Responses", "Create a model response", 2026-11.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agent_server.requests.fields import (
    FieldError,
    FieldTable,
    Reader,
    boolean,
    integer,
    json_object,
    name,
    number,
    read_fields,
    read_items,
    read_member,
    require,
    string,
)
from agent_server.requests.responses_items import Conversation, input_items
from agent_server.requests.responses_tools import (
    Tools,
    read_response_tool_choice,
    read_response_tools,
)
from providers.chat_request import ChatRequest
from streaming.events import JsonObject, JsonValue
from streaming.responses_objects import ResponseSettings

MAX_METADATA: Final = 16
MAX_INCLUDES: Final = 64
_CHECKED: Final = ""


@dataclass(frozen=True, slots=True)
class ResponseOptions:
    """What a request asks of this server: to keep the response, to go on without the client.

    `items` is the input as the client sent it, as a list; `dropped` names what was left out.
    """

    items: Sequence[JsonValue]
    stream: bool = False
    store: bool = True
    background: bool = False
    previous_response_id: str | None = None
    dropped: tuple[str, ...] = ()
    settings: ResponseSettings = field(default_factory=ResponseSettings)


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """A request of the Responses format: the model call that it makes, and its options."""

    chat: ChatRequest
    options: ResponseOptions


def read_responses(
    body: JsonObject,
    *,
    history: Sequence[JsonValue] = (),
    droppable_tools: frozenset[str] = frozenset(),
) -> ResponseRequest:
    """The request that the body makes; its `model` is "" where the body names none.

    `history` are the items of the conversation that `previous_response_id` names. A provider's own
    tools are refused, but for the types of `droppable_tools`, which are left out.

    Raises:
        InvalidRequestError: a field is missing or wrong; `param` is its path, such as
            `input[2].content[0].text`.
    """
    try:
        values, extra = read_fields(body, _FIELDS)
        tools = _read_tools(body, values, droppable_tools)
        conversation = _read_input(body, values, history)
        _check_background(values)
    except FieldError as exc:
        raise exc.to_request_error() from None
    values.pop(_CHECKED, None)
    dropped = [key for key in _DROPPED if body.get(key) is not None]
    options = ResponseOptions(
        items=input_items(body.get("input")) if body.get("input") is not None else (),
        stream=values.pop("stream", False),
        store=values.pop("store", True),
        background=values.pop("background", False),
        previous_response_id=values.pop("previous_response_id", None),
        dropped=(*dropped, *conversation.dropped, *(f"tools.{kind}" for kind in tools.dropped)),
        settings=ResponseSettings(_settings_fields(body), tools.called),
    )
    chat = ChatRequest(
        **{"model": "", "stream": options.stream, **values},
        messages=conversation.messages(),
        tools=tuple(tools.specs),
        extra={key: value for key, value in extra.items() if key not in _DROPPED},
    )
    return ResponseRequest(chat, options)


def _read_tools(body: JsonObject, values: dict[str, Any], droppable: frozenset[str]) -> Tools:
    tools = Tools()
    if body.get("tools") is not None:
        tools = read_member(body, "tools", lambda value: read_response_tools(value, droppable))
    if body.get("tool_choice") is not None:
        values["tool_choice"] = read_member(
            body, "tool_choice", lambda value: read_response_tool_choice(value, tools)
        )
    return tools


def _read_input(
    body: JsonObject, values: dict[str, Any], history: Sequence[JsonValue]
) -> Conversation:
    conversation = Conversation()
    instructions = values.pop("instructions", None)
    if instructions:
        conversation.add_instructions(instructions)
    conversation.add(history)
    if body.get("input") is None and not history:
        require({}, "input", "input", "it must be a string or a list of items")
    if body.get("input") is not None:
        read_member(body, "input", lambda value: conversation.add(input_items(value)))
    if not conversation.messages():
        raise FieldError("must hold at least one item", "input")
    return conversation


def _check_background(values: dict[str, Any]) -> None:
    if values.get("background") and not values.get("store", True):
        raise FieldError(
            "needs `store`: what runs in the background is fetched later", "background"
        )


def _settings_fields(body: JsonObject) -> JsonObject:
    """What a response repeats of its request."""
    fields = {key: body[key] for key in _REPEATED if body.get(key) is not None}
    tools = fields.get("tools")
    if isinstance(tools, list):
        fields["tools"] = [_whole_tool(tool) for tool in tools]
    text = fields.get("text")
    if isinstance(text, dict):
        fields["text"] = {"format": {"type": "text"}, **text}
    return fields


def _whole_tool(tool: JsonValue) -> JsonValue:
    """A function has all its members in an answer, whatever the request left out."""
    if isinstance(tool, dict) and tool.get("type") == "function":
        return {"parameters": None, "strict": None, **tool}
    return tool


def _text_format(value: JsonValue) -> JsonObject | None:
    """`text` as the response format of chat; None where plain text was asked for."""
    text = json_object(value)
    return None if text.get("format") is None else read_member(text, "format", _format)


def _format(value: JsonValue) -> JsonObject | None:
    wanted = json_object(value)
    given = read_member(wanted, "type", string)
    if given == "text":
        return None
    if given == "json_object":
        return {"type": "json_object"}
    if given != "json_schema":
        raise FieldError(f"must be text, json_object or json_schema, not {given[:80]!r}", "type")
    read_member(wanted, "name", name)
    read_member(wanted, "schema", json_object)
    members = ("name", "description", "schema", "strict")
    schema: JsonObject = {key: wanted[key] for key in members if wanted.get(key) is not None}
    return {"type": "json_schema", "json_schema": schema}


def _reasoning_effort(value: JsonValue) -> str | None:
    reasoning = json_object(value)
    return None if reasoning.get("effort") is None else read_member(reasoning, "effort", name)


def _metadata(value: JsonValue) -> None:
    metadata = json_object(value)
    if len(metadata) > MAX_METADATA:
        raise FieldError(f"has {len(metadata)} keys; at most {MAX_METADATA} are kept")
    for key in metadata:
        read_member(metadata, key, string)


def _include(value: JsonValue) -> None:
    def read(item: JsonValue) -> None:
        if string(item) == "message.output_text.logprobs":
            raise FieldError("asks for log probabilities, which this model's provider cannot give")

    read_items(value, read, MAX_INCLUDES)


def _no_log_probabilities(value: JsonValue) -> None:
    if integer(0, 20)(value):
        raise FieldError("asks for log probabilities, which this model's provider cannot give")


def _unsupported(hint: str) -> Reader[None]:
    def read(_value: JsonValue) -> None:
        raise FieldError(f"is kept by OpenAI alone, and this model is not of OpenAI; {hint}")

    return read


def _checked(reader: Reader[Any]) -> tuple[str, Reader[Any]]:
    """A field that is read for its mistakes alone."""
    return _CHECKED, reader


_FIELDS: Final[FieldTable] = {
    "model": ("model", name),
    "instructions": ("instructions", string),
    "max_output_tokens": ("max_tokens", integer(1)),
    "temperature": ("temperature", number(0, 2)),
    "top_p": ("top_p", number(0, 1)),
    "parallel_tool_calls": ("parallel_tool_calls", boolean),
    "user": ("user", string),
    "stream": ("stream", boolean),
    "store": ("store", boolean),
    "background": ("background", boolean),
    "previous_response_id": ("previous_response_id", name),
    "text": ("response_format", _text_format),
    "reasoning": ("reasoning_effort", _reasoning_effort),
    "input": _checked(lambda _: None),
    "tools": _checked(lambda _: None),
    "tool_choice": _checked(lambda _: None),
    "metadata": _checked(_metadata),
    "include": _checked(_include),
    "stream_options": _checked(json_object),
    "top_logprobs": _checked(_no_log_probabilities),
    "conversation": _checked(_unsupported("send the conversation's items as `input`")),
    "prompt": _checked(_unsupported("send the prompt's text as `instructions`")),
    "moderation": _checked(_unsupported("leave it out")),
}
# Hints about cost, caches, tracing and an upstream's own tools: no answer depends on them.
_DROPPED: Final = (
    "access_programs",
    "background_options",
    "client_metadata",
    "context_management",
    "image",
    "max_tool_calls",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "truncation",
)
_REPEATED: Final = (
    "background",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "user",
)
