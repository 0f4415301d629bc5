"""Streams of the Responses API for tests, written from its documented events.

Source: OpenAI API reference, "Responses", "Streaming events", 2026-10.
"""

from typing import Any

import orjson

USAGE: dict[str, Any] = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 17,
}
REASONING: dict[str, Any] = {
    "id": "rs_1",
    "type": "reasoning",
    "content": [],
    "encrypted_content": "gAAAA=",
    "summary": [{"type": "summary_text", "text": "I look it up."}],
}
CALL: dict[str, Any] = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "arguments": '{"city":"Köln"}',
    "call_id": "call_1",
    "name": "weather",
}
SEARCH: dict[str, Any] = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {},
}


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    """A message of these parts."""
    return {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": list(parts),
    }


def text(value: str) -> dict[str, Any]:
    """A part of text."""
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": value}


def response(status: str = "completed", *output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A response; nothing of what a caller does not look at."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "m-1",
        "output": list(output),
        "usage": USAGE,
        **fields,
    }


def created() -> dict[str, Any]:
    """The event that begins every stream."""
    return {"type": "response.created", "response": response("in_progress", usage=None)}


def added(index: int, item: dict[str, Any]) -> dict[str, Any]:
    """The event that begins an item."""
    empty = {"arguments": "", "content": [], "summary": []}
    begun = {name: empty.get(name, value) for name, value in item.items()}
    return {"type": "response.output_item.added", "output_index": index, "item": begun}


def done(index: int, item: dict[str, Any]) -> dict[str, Any]:
    """The event that ends an item."""
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def delta(kind: str, index: int, value: str, **fields: Any) -> dict[str, Any]:
    """A piece of what an item holds."""
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": value, **fields}


def ended(status: str = "completed", **fields: Any) -> dict[str, Any]:
    """The event that ends a stream."""
    return {"type": f"response.{status}", "response": response(status, **fields)}


def stream(*events: dict[str, Any]) -> bytes:
    """The bytes of these events, numbered."""
    return b"".join(
        b"event: %b\ndata: %b\n\n"
        % (event["type"].encode(), orjson.dumps({**event, "sequence_number": number}))
        for number, event in enumerate(events)
    )


HELLO = message(text("Grüße 👋"))
HELLO_EVENTS = (
    created(),
    added(0, HELLO),
    {"type": "response.content_part.added", "output_index": 0, "part": text("")},
    delta("output_text", 0, "Grüße "),
    delta("output_text", 0, "👋", obfuscation="abc"),
    {"type": "response.output_text.done", "output_index": 0, "text": "Grüße 👋"},
    done(0, HELLO),
    ended(output=[HELLO]),
)
