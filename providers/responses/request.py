"""A chat request as the JSON body of `POST /responses`.

Source: OpenAI API reference, "Responses", "Create a model response", and the guide "Migrate to the
Responses API", 2026-10. Pure: no IO.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from providers.chat_request import ChatRequest, ToolChoice, ToolSpec
from providers.responses.conversation import messages_to_items
from streaming.errors import InvalidRequestError, UnsupportedFieldError
from streaming.events import JsonObject, JsonValue

if TYPE_CHECKING:
    from openai.types.responses import FunctionToolParam

ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"
# Families that do not think, and refuse to be asked for their thoughts.
_WITHOUT_REASONING: Final = ("gpt-3", "gpt-4", "chatgpt-", "ft:gpt-3", "ft:gpt-4")


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A body for `POST /responses`.

    `dropped` names the fields of the chat request that the format cannot say, so that a log can
    tell.
    """

    body: JsonObject
    dropped: tuple[str, ...] = ()


def chat_to_responses(request: ChatRequest, provider: str = "openai") -> ResponsesRequest:
    """Say a chat request in this format; `provider` names the upstream in errors.

    What a caller gives in `extra` by this API's own name goes on as it is. Nothing is stored
    unless the caller asks for it, so the model's reasoning is asked for in a form that goes back
    with the next turn.

    Raises:
        InvalidRequestError: a message or a format is not what OpenAI's API documents.
        UnsupportedFieldError: the request asks for what the API cannot do, such as `n` over 1.
    """
    extra = _refuse_foreign(request, provider)
    conversation = messages_to_items(request.messages, provider)
    dropped = [*conversation.dropped, *(name for name in extra if name in _DROPPED)]
    if request.seed is not None:
        dropped.append("seed")
    body: JsonObject = {"store": False}
    body |= {name: value for name, value in extra.items() if name not in _DROPPED}
    body |= {
        "model": request.model,
        "input": cast("JsonValue", conversation.items),
        "stream": request.stream,
    }
    for name, own_name in _PLAIN_FIELDS.items():
        if (value := getattr(request, name)) is not None:
            body[own_name] = value
    _add_tools(body, request)
    _add_text(body, request)
    _add_reasoning(body, request)
    _add_stream_options(body)
    return ResponsesRequest(body, tuple(dropped))


def _refuse_foreign(request: ChatRequest, provider: str) -> JsonObject:
    """The extra fields that were given and are not refused, if `n`, `stop` and others are not."""
    extra: JsonObject = {name: value for name, value in request.extra.items() if value is not None}
    asked: JsonObject = {**extra, "n": request.n, "stop": list(request.stop)}
    for name, harmless in _REFUSED.items():
        value = asked.get(name)
        if value is not None and value not in harmless:
            raise UnsupportedFieldError(
                f"{provider} cannot be given `{name}` for the model {request.model}, which is "
                "asked by the Responses API; leave it out or choose another model",
                param=name,
            )
        extra.pop(name, None)
    return extra


def _add_tools(body: JsonObject, request: ChatRequest) -> None:
    if request.tools:
        body["tools"] = cast("JsonValue", [_tool(spec) for spec in request.tools])
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)


def _tool(spec: ToolSpec) -> "FunctionToolParam":
    tool: FunctionToolParam = {
        "type": "function",
        "name": spec.name,
        "parameters": cast("dict[str, object]", spec.parameters),
        # What is left out is strict here, and not strict in the chat format.
        "strict": spec.strict is True,
    }
    if spec.description:
        tool["description"] = spec.description
    return tool


def _tool_choice(choice: ToolChoice) -> JsonValue:
    if choice.mode == "function":
        return {"type": "function", "name": choice.name}
    return choice.mode


def _add_text(body: JsonObject, request: ChatRequest) -> None:
    """The form of the answer; what the caller says in `text` itself wins."""
    text: JsonObject = {}
    if request.response_format is not None:
        text["format"] = _format(request.response_format)
    if (verbosity := body.pop("verbosity", None)) is not None:
        text["verbosity"] = verbosity
    _merge(body, "text", text)


def _format(response_format: JsonObject) -> JsonObject:
    if response_format.get("type") != "json_schema":
        return response_format
    schema = response_format.get("json_schema")
    if not isinstance(schema, dict):
        raise InvalidRequestError(
            "a response_format of type json_schema needs json_schema, an object",
            param="response_format",
        )
    given = {name: value for name, value in schema.items() if value is not None}
    return {"type": "json_schema", **given}


def _add_reasoning(body: JsonObject, request: ChatRequest) -> None:
    if request.reasoning_effort is not None:
        _merge(body, "reasoning", {"effort": request.reasoning_effort})
    if body["store"] is True or request.model.startswith(_WITHOUT_REASONING):
        return
    given = body.get("include")
    include = given if isinstance(given, list) else []
    if ENCRYPTED_REASONING not in include:
        body["include"] = [*include, ENCRYPTED_REASONING]


def _add_stream_options(body: JsonObject) -> None:
    """Keep the options that this API has: usage always comes, and cannot be asked for."""
    options = body.pop("stream_options", None)
    if not body["stream"] or not isinstance(options, dict):
        return
    if kept := {name: value for name, value in options.items() if name != "include_usage"}:
        body["stream_options"] = kept


def _merge(body: JsonObject, name: str, derived: JsonObject) -> None:
    given = body.get(name)
    if merged := {**derived, **given} if isinstance(given, dict) else derived:
        body[name] = merged


_PLAIN_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "max_tokens": "max_output_tokens",
        "temperature": "temperature",
        "top_p": "top_p",
        "parallel_tool_calls": "parallel_tool_calls",
        "user": "user",
    }
)
# What changes the answer and cannot be said, with the values that ask for nothing. The last four
# are of this API: a caller of another door has no right to what the upstream keeps for the server.
_REFUSED: Mapping[str, tuple[JsonValue, ...]] = MappingProxyType(
    {
        "n": (1,),
        "stop": ([],),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logit_bias": ({},),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "modalities": (["text"],),
        "audio": (),
        "web_search_options": (),
        "background": (False,),
        "conversation": (),
        "previous_response_id": (),
        "prompt": (),
    }
)
# What only makes an answer cheaper or is of Anthropic's format, and is refused if it is sent.
_DROPPED: Final = frozenset(
    {"betas", "cache_control", "output_config", "prediction", "thinking", "top_k"}
)
