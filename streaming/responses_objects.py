"""The objects of OpenAI's Responses format that its stream and its whole answer share.

Source: OpenAI API reference, "Responses", "The response object", 2026-11. `workflow_events` is
ours: what the steps of a workflow told while the response was made, as `chat.completion` has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streaming.encoder import StreamHead
from streaming.errors import AgentServerError
from streaming.events import JsonObject, JsonValue, ReasoningBlock, Usage

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]

CANCELLED_CODE = "response_cancelled"
_SIGNATURE_MARK = "agent-server.signature."
_REDACTED_MARK = "agent-server.redacted."


@dataclass(frozen=True, slots=True)
class CalledTool:
    """What a client knows a tool as that the model knows as a function.

    A `custom` tool takes free text, which the model gives as the argument `input`.
    """

    name: str
    namespace: str | None = None
    is_custom: bool = False


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """What a response says of the request that it answers.

    `fields` are the members of the response object that repeat the request's; `tools` holds the
    tools that the model knows by another name or kind than the client, under the model's name.
    """

    fields: Mapping[str, JsonValue] = field(default_factory=dict)
    tools: Mapping[str, CalledTool] = field(default_factory=dict)


NO_SETTINGS = ResponseSettings()


def response_object(
    head: StreamHead, settings: ResponseSettings, status: Status, output: list[JsonValue]
) -> JsonObject:
    """The response in this state; what the request did not say has OpenAI's default, or null."""
    return {
        "id": head.response_id,
        "object": "response",
        "created_at": head.created,
        "completed_at": None,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": head.model,
        "output": output,
        **_DEFAULTS,
        **settings.fields,
        "usage": None,
    }


def response_usage(usage: Usage | None) -> JsonObject:
    """The `usage` of a response; zeros where the provider told none.

    AI SDK 4 and 5 lose the end of a response that has no usage.
    """
    usage = usage or Usage()
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_creation_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def response_error(error: AgentServerError) -> JsonObject:
    """The `error` of a failed response: a code of OpenAI's list, and our message."""
    if error.code in _ERROR_CODES:
        return {"code": error.code, "message": error.message}
    code = _CODE_OF_TYPE.get(error.error_type, "server_error")
    return {"code": code, "message": error.message}


def encrypted_content(block: ReasoningBlock) -> str | None:
    """The `encrypted_content` that brings a signed or hidden block back to its provider."""
    if block.redacted_data is not None:
        return _REDACTED_MARK + block.redacted_data
    return None if block.signature is None else _SIGNATURE_MARK + block.signature


def decrypted_block(text: str, encrypted: str) -> ReasoningBlock | None:
    """The block of which `encrypted_content` made this text; None if another server made it."""
    if encrypted.startswith(_REDACTED_MARK):
        return ReasoningBlock(text, redacted_data=encrypted[len(_REDACTED_MARK) :])
    if encrypted.startswith(_SIGNATURE_MARK):
        return ReasoningBlock(text, signature=encrypted[len(_SIGNATURE_MARK) :])
    return None


def text_part(text: str) -> JsonObject:
    """A part of a message's content that holds text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> JsonObject:
    """A part of a message's content that holds a refusal."""
    return {"type": "refusal", "refusal": text}


def message_item(item_id: str, status: ItemStatus, content: list[JsonValue]) -> JsonObject:
    """A message of the model as an output item."""
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def reasoning_item(item_id: str, summary: str, encrypted: str | None) -> JsonObject:
    """A block of thinking as an output item; `summary` is what of it may be shown."""
    parts: list[JsonValue] = [summary_part(summary)] if summary else []
    item: JsonObject = {"id": item_id, "type": "reasoning", "summary": parts}
    if encrypted is not None:
        item["encrypted_content"] = encrypted
    return item


def summary_part(text: str) -> JsonObject:
    """A part of a reasoning item that may be shown."""
    return {"type": "summary_text", "text": text}


def call_item(
    item_id: str, status: ItemStatus, call_id: str, tool: CalledTool, arguments: str
) -> JsonObject:
    """A tool call as an output item; `arguments` is the free text of a custom tool."""
    item: JsonObject = {
        "id": item_id,
        "type": "custom_tool_call" if tool.is_custom else "function_call",
        "status": status,
        "call_id": call_id,
        "name": tool.name,
        "input" if tool.is_custom else "arguments": arguments,
    }
    if tool.namespace is not None:
        item["namespace"] = tool.namespace
    return item


_DEFAULTS: Mapping[str, JsonValue] = {
    "background": False,
    "frequency_penalty": 0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1,
    "truncation": "disabled",
    "user": None,
}
# The codes of OpenAI's list that our errors carry, and one that its server sends beside the list:
# clients such as Codex shorten the conversation when they see it.
_ERROR_CODES = frozenset({"server_error", "rate_limit_exceeded", "context_length_exceeded"})
_CODE_OF_TYPE: Mapping[str, str] = {
    "invalid_request_error": "invalid_prompt",
    "rate_limit_exceeded": "rate_limit_exceeded",
}
