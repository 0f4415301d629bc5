"""The objects of Anthropic's Messages format that its stream, its JSON answer and errors share.

Source: Anthropic API documentation, "Create a Message" (response), "Streaming messages" and
"Errors", and the types of its Python SDK 2.12, 2026-10.
"""

from collections.abc import Mapping
from typing import Final

from streaming import errors
from streaming.errors import AgentServerError, ContextLengthError
from streaming.events import FinishReason, JsonObject, Usage

# What Anthropic's clients look for before they shorten a conversation by themselves.
TOO_LONG: Final = "prompt is too long"
STOP_REASONS: Final[Mapping[FinishReason, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def usage_object(usage: Usage | None) -> JsonObject:
    """The `usage` of an answer: `input_tokens` leaves out what a cache gave or took.

    Every field that the format has is there, as strict readers demand; null is what nobody told.
    """
    usage = usage or Usage()
    fresh = usage.prompt_tokens - usage.cached_tokens - usage.cache_creation_tokens
    thought = usage.reasoning_tokens
    return {
        "input_tokens": max(0, fresh),
        "cache_creation_input_tokens": usage.cache_creation_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation": None,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": thought} if thought else None,
        "server_tool_use": None,
        "service_tier": None,
        "inference_geo": None,
    }


def text_block(text: str) -> JsonObject:
    """A block of text."""
    return {"type": "text", "text": text, "citations": None}


def tool_block(call_id: str, name: str) -> JsonObject:
    """A block that calls a tool, with its input still to come."""
    direct: JsonObject = {"type": "direct"}
    return {"type": "tool_use", "id": call_id, "name": name, "input": {}, "caller": direct}


def end_object(reason: FinishReason | None, refusal: str, *, calls_tools: bool) -> JsonObject:
    """Why an answer ended: `stop_reason`, `stop_sequence`, and the words of a refusal.

    OpenAI says `stop` where the request named the tool; to Anthropic's clients a call is a call.
    """
    if calls_tools and reason == "stop":
        reason = "tool_calls"
    end: JsonObject = {
        "stop_reason": None if reason is None else STOP_REASONS[reason],
        "stop_sequence": None,
        "stop_details": None,
    }
    if refusal:
        end["stop_reason"] = "refusal"
        end["stop_details"] = {"type": "refusal", "category": None, "explanation": refusal}
    return end


def error_object(error: AgentServerError, request_id: str | None = None) -> JsonObject:
    """Anthropic's error envelope, which its clients read as a body and inside a stream."""
    envelope: JsonObject = {
        "type": "error",
        "error": {"type": error_type(error), "message": _message(error)},
    }
    if request_id:
        envelope["request_id"] = request_id
    return envelope


def error_type(error: AgentServerError) -> str:
    """Anthropic's word for an error, by its class or the nearest base in the table."""
    return next(ERROR_TYPES[cls] for cls in type(error).__mro__ if cls in ERROR_TYPES)


def _message(error: AgentServerError) -> str:
    if isinstance(error, ContextLengthError) and TOO_LONG not in error.message.lower():
        return f"{TOO_LONG}: {error.message}"
    return error.message


ERROR_TYPES: Final[Mapping[type[Exception], str]] = {
    errors.CallerError: "invalid_request_error",
    errors.AuthenticationError: "authentication_error",
    errors.PermissionDeniedError: "permission_error",
    errors.NotFoundError: "not_found_error",
    errors.MethodNotAllowedError: "invalid_request_error",
    errors.ConflictError: "conflict_error",
    errors.PayloadTooLargeError: "request_too_large",
    errors.RateLimitError: "rate_limit_error",
    errors.UpstreamTimeoutError: "timeout_error",
    errors.UpstreamRateLimitError: "rate_limit_error",
    errors.UpstreamOverloadedError: "overloaded_error",
    errors.BridgeTimeoutError: "timeout_error",
    errors.OverloadedError: "overloaded_error",
    AgentServerError: "api_error",
}
