"""What OpenAI's response object tells of how it ended and what it used. Pure.

Source: OpenAI API reference, "Responses", "The response object", 2026-10.
"""

from streaming.events import FinishReason, JsonObject, JsonValue, Usage


def response_usage(response: JsonObject) -> Usage | None:
    """The tokens of a response, None as long as it tells none."""
    usage = response.get("usage")
    if not isinstance(usage, dict) or not usage:
        return None
    prompt, completion = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    taken, given = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_count(usage, "total_tokens") or prompt + completion,
        cached_tokens=_count(taken, "cached_tokens"),
        cache_creation_tokens=_count(taken, "cache_write_tokens"),
        reasoning_tokens=_count(given, "reasoning_tokens"),
    )


def response_finish_reason(response: JsonObject) -> FinishReason | None:
    """Why a response has ended, None for one that goes on or failed."""
    if response.get("status") == "incomplete":
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return "content_filter" if reason == "content_filter" else "length"
    if response.get("status") != "completed":
        return None
    output = response.get("output")
    items = output if isinstance(output, list) else []
    kinds = {item.get("type") for item in items if isinstance(item, dict)}
    return "stop" if kinds.isdisjoint(_CLIENT_CALLS) else "tool_calls"


def _count(holder: JsonValue, name: str) -> int:
    value = holder.get(name) if isinstance(holder, dict) else None
    return int(value) if isinstance(value, int | float) else 0


# Calls that wait for the client; OpenAI's own tools run before the response ends.
_CLIENT_CALLS = frozenset(
    {"function_call", "custom_tool_call", "local_shell_call", "computer_call"}
)
