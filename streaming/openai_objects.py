"""The objects of OpenAI's chat format that its stream and its whole answer share.

Source: OpenAI API reference, "Chat", "The chat completion object" and "The chat completion chunk
object", 2026-10; `thinking_blocks` as litellm and Anthropic's clients know them.
"""

from streaming.errors import AgentServerError, ProblemsError
from streaming.events import JsonObject, ReasoningBlock, Usage


def usage_object(usage: Usage) -> JsonObject:
    """The `usage` of an answer, with the details of cached and reasoning tokens."""
    prompt_details: JsonObject = {"cached_tokens": usage.cached_tokens}
    if usage.cache_creation_tokens:
        prompt_details["cache_write_tokens"] = usage.cache_creation_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def thinking_block(block: ReasoningBlock) -> JsonObject | None:
    """The entry of `thinking_blocks` that brings a signed or hidden block back to its provider.

    None for a block that needs no way back: its text is `reasoning_content` already.
    """
    if block.redacted_data is not None:
        return {"type": "redacted_thinking", "data": block.redacted_data}
    if block.signature is not None:
        return {"type": "thinking", "thinking": block.text, "signature": block.signature}
    return None


def error_object(error: AgentServerError) -> JsonObject:
    """OpenAI's error envelope, which its clients read as a body and inside a stream.

    Source: OpenAI API reference, "Error codes", 2026-10. Faults of a document are an extra.
    """
    described: JsonObject = {
        "message": error.message,
        "type": error.error_type,
        "param": error.param,
        "code": error.code,
    }
    if isinstance(error, ProblemsError):
        described["problems"] = [dict(problem) for problem in error.problems]
    return {"error": described}
