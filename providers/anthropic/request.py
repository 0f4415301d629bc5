"""A chat request as the body of Anthropic's `POST /v1/messages`.

Source: Messages API, "Create a Message", 2026-10, with `anthropic-version: 2023-06-01`;
"Structured outputs", "Effort", "Adaptive thinking" and "Extended thinking" of the same date.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from providers.anthropic.conversation import messages_to_conversation
from providers.anthropic.models import ModelTraits, model_traits
from providers.anthropic.schema import output_schema
from providers.chat_request import ChatRequest, Message, ToolSpec
from streaming.errors import InvalidRequestError, UnsupportedFieldError
from streaming.events import JsonObject, JsonValue

if TYPE_CHECKING:
    from anthropic.types import (
        OutputConfigParam,
        TextBlockParam,
        ThinkingConfigParam,
        ToolChoiceParam,
        ToolParam,
    )

JSON_INSTRUCTION = "Answer with one valid JSON object and nothing else: no prose, no code fence."
MIN_BUDGET_TOKENS = 1024
# With thinking, the API takes `top_p` from here to 1, and no other temperature than 1.
MIN_THINKING_TOP_P = 0.95

# Fields of the Messages API that a caller may give beside OpenAI's own.
PASSED_ON = frozenset(
    {
        "billing_policy",
        "cache_control",
        "compaction",
        "container",
        "context_management",
        "diagnostics",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "mcp_servers",
        "output_config",
        "speed",
        "thinking",
        "thread",
        "top_k",
    }
)


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """A body for `POST /v1/messages`.

    `betas` go into the header `anthropic-beta`; `dropped` names the fields of the chat request that
    the format cannot say, so that a log can tell.
    """

    body: JsonObject
    betas: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def chat_to_messages(request: ChatRequest) -> MessagesRequest:
    """Say a chat request in Anthropic's format.

    What a caller gives in `extra` by Anthropic's own name wins over what we derive.

    Raises:
        InvalidRequestError: a message or a format is not what OpenAI's API documents.
        UnsupportedFieldError: the request asks for what Anthropic cannot do, such as `n` over 1.
    """
    if request.n is not None and request.n > 1:
        raise UnsupportedFieldError(
            "Anthropic's models give one answer for each request; leave n out or send 1", param="n"
        )
    traits = model_traits(request.model)
    conversation = messages_to_conversation(request.messages)
    dropped = list(conversation.dropped)
    body: JsonObject = {
        "model": request.model,
        "max_tokens": traits.default_max_tokens
        if request.max_tokens is None
        else request.max_tokens,
        "messages": cast("JsonValue", conversation.messages),
        "stream": request.stream,
    }
    if system := _system(request, conversation.system):
        body["system"] = cast("JsonValue", system)
    _add_tools(body, request)
    betas = _add_extra(body, request, dropped)
    _add_output(body, request, traits, dropped)
    _add_sampling(body, request, traits, dropped)
    if request.seed is not None:
        dropped.append("seed")
    return MessagesRequest(body, betas, tuple(dropped))


def _system(
    request: ChatRequest, system: "str | list[TextBlockParam]"
) -> "str | list[TextBlockParam]":
    if request.response_format is None or request.response_format.get("type") != "json_object":
        return system
    if isinstance(system, str):
        return f"{system}\n\n{JSON_INSTRUCTION}".lstrip()
    return [*system, {"type": "text", "text": JSON_INSTRUCTION}]


def _add_tools(body: JsonObject, request: ChatRequest) -> None:
    if not request.tools:
        return
    body["tools"] = cast("JsonValue", [_tool(spec) for spec in request.tools])
    if (choice := _tool_choice(request)) is not None:
        body["tool_choice"] = cast("JsonValue", choice)


def _tool(spec: ToolSpec) -> "ToolParam":
    schema: dict[str, object] = {"type": "object", "properties": {}, **spec.parameters}
    tool: ToolParam = {"name": spec.name, "input_schema": schema}
    if spec.description:
        tool["description"] = spec.description
    if spec.strict is not None:
        tool["strict"] = spec.strict
    return cast("ToolParam", {**tool, **spec.extra}) if spec.extra else tool


def _tool_choice(request: ChatRequest) -> "ToolChoiceParam | None":
    one_at_a_time = request.parallel_tool_calls is False
    mode = request.tool_choice.mode if request.tool_choice else None
    match mode:
        case "none":
            return {"type": "none"}
        case "required":
            choice: ToolChoiceParam = {"type": "any"}
        case "function":
            name = request.tool_choice.name if request.tool_choice else None
            if name is None:
                raise InvalidRequestError("name the function to call", param="tool_choice")
            choice = {"type": "tool", "name": name}
        case "auto" | None:
            if mode is None and not one_at_a_time:
                return None
            choice = {"type": "auto"}
    if one_at_a_time and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _add_extra(body: JsonObject, request: ChatRequest, dropped: list[str]) -> tuple[str, ...]:
    """Pass on what Anthropic takes under the same name; returns the names of betas."""
    betas: tuple[str, ...] = ()
    metadata: JsonObject = {} if request.user is None else {"user_id": request.user}
    for name, value in request.extra.items():
        if value is None:
            continue
        if name in PASSED_ON:
            body[name] = value
        elif name == "betas" and isinstance(value, list):
            betas = tuple(str(beta) for beta in value)
        elif name == "metadata" and isinstance(value, dict) and "user_id" in value:
            # OpenAI's metadata may hold any key, Anthropic's this one alone.
            metadata["user_id"] = value["user_id"]
        elif name == "service_tier" and value in _SERVICE_TIERS:
            body["service_tier"] = _SERVICE_TIERS[str(value)]
        else:
            dropped.append(name)
    if metadata:
        body["metadata"] = metadata
    if stop := [text for text in request.stop if text.strip()]:
        body["stop_sequences"] = cast("JsonValue", stop)
    if len(stop) < len(request.stop):
        dropped.append("stop")
    return betas


def _add_output(
    body: JsonObject, request: ChatRequest, traits: ModelTraits, dropped: list[str]
) -> None:
    """The form of the answer and how much thought goes into it."""
    config: OutputConfigParam = {}
    if request.response_format is not None and request.response_format.get("type") == "json_schema":
        config["format"] = {
            "type": "json_schema",
            "schema": cast("dict[str, object]", output_schema(request.response_format)),
        }
    effort = request.reasoning_effort
    if effort is not None and traits.thinking == "adaptive":
        config["effort"] = _EFFORTS.get(effort, effort)  # type: ignore[typeddict-item] # API checks
    given = body.get("output_config")
    merged = {**config, **given} if isinstance(given, dict) else {**config}
    if merged:
        body["output_config"] = cast("JsonValue", merged)
    if effort is not None and "thinking" not in body:
        thinking = _thinking(request, traits, cast("int", body["max_tokens"]))
        if thinking is not None:
            body["thinking"] = cast("JsonValue", thinking)
        elif traits.thinking != "adaptive" and effort != "none":
            dropped.append("reasoning_effort")


def _thinking(
    request: ChatRequest, traits: ModelTraits, max_tokens: int
) -> "ThinkingConfigParam | None":
    """How `reasoning_effort` is said beside `output_config.effort`; None where it must not be."""
    if request.reasoning_effort == "none" or traits.thinking == "none":
        return None
    if request.tool_choice is not None and request.tool_choice.mode in ("required", "function"):
        # The API refuses to think where a tool call is forced.
        return None
    if traits.thinking == "adaptive":
        return {"type": "adaptive"}
    budget = min(_BUDGETS.get(request.reasoning_effort or "", _BUDGETS["medium"]), max_tokens // 2)
    if budget < MIN_BUDGET_TOKENS or _lost_thinking(request.messages):
        return None
    return {"type": "enabled", "budget_tokens": budget}


def _lost_thinking(messages: tuple[Message, ...]) -> bool:
    """Whether the tool turn under way came without its thinking, as OpenAI's clients send it.

    With a budget, the API demands that such a turn begins with its thinking blocks.
    """
    if messages[-1].role != "tool":
        return False
    calling = next((m for m in reversed(messages) if m.tool_calls), None)
    return calling is not None and not calling.reasoning


def _add_sampling(
    body: JsonObject, request: ChatRequest, traits: ModelTraits, dropped: list[str]
) -> None:
    """Send the sampling fields that the model takes, and name those that it refuses."""
    temperature = None if request.temperature is None else min(1.0, max(0.0, request.temperature))
    top_p = request.top_p
    thinking = body.get("thinking")
    is_thinking = isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")
    takes_none = traits.sampling == "none"
    if temperature is not None and (takes_none or (is_thinking and temperature != 1.0)):
        dropped.append("temperature")
        temperature = None
    if top_p is not None and (
        takes_none
        or (is_thinking and top_p < MIN_THINKING_TOP_P)
        or (temperature is not None and traits.sampling == "one")
    ):
        dropped.append("top_p")
        top_p = None
    if "top_k" in body and (takes_none or is_thinking):
        dropped.append("top_k")
        del body["top_k"]
    body |= {} if temperature is None else {"temperature": temperature}
    body |= {} if top_p is None else {"top_p": top_p}


# OpenAI's words that Anthropic does not have; any other goes on as it is, for the API to judge.
_EFFORTS = {"none": "low", "minimal": "low"}
# Tokens of thinking for the models that take a budget instead of an effort.
_BUDGETS = {
    "minimal": MIN_BUDGET_TOKENS,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_000,
    "xhigh": 24_576,
    "max": 24_576,
}
_SERVICE_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
