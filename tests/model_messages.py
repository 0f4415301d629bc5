"""The messages format as Anthropic speaks it, for `tests/model_upstream.py`.

Source: Anthropic API documentation, "Create a Message" and "Streaming messages", 2026-11.
"""

from typing import Any

import orjson

from tests.model_reply import SIGNATURE, Asked, Reply, Said, Tool

REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def asked_of(body: dict[str, Any]) -> Asked:
    """What a request asks."""
    system = _texts(body.get("system") or [])
    messages = [Said("system", " ".join(system))] if system else []
    for message in body["messages"]:
        messages += _said(message)
    form = (body.get("output_config") or {}).get("format") or {}
    thinking = (body.get("thinking") or {}).get("type", "disabled")
    return Asked(
        model=body["model"],
        messages=tuple(messages),
        tools=tuple(
            Tool(tool["name"], tool.get("input_schema") or {}) for tool in body.get("tools") or []
        ),
        must_call=(body.get("tool_choice") or {}).get("type") in {"any", "tool"},
        schema=form.get("schema"),
        thinks=thinking != "disabled",
        knows=SIGNATURE in str(body["messages"]),
        limit=body.get("max_tokens"),
        stream=body.get("stream") is True,
    )


def body_of(answer_id: str, asked: Asked, reply: Reply) -> dict[str, Any]:
    """The whole answer."""
    return {
        "id": answer_id,
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": _blocks(reply),
        "stop_reason": REASONS[reply.reason],
        "stop_sequence": None,
        "stop_details": None,
        "usage": {**_usage(reply), "output_tokens": reply.completion_tokens},
        "container": None,
    }


def frames_of(answer_id: str, asked: Asked, reply: Reply) -> list[bytes]:
    """The frames of the stream."""
    begun = {**body_of(answer_id, asked, reply), "content": [], "stop_reason": None}
    begun["usage"] = {**_usage(reply), "output_tokens": 1}
    frames = [_event("message_start", message=begun), _event("ping")]
    for index, block in enumerate(_blocks(reply)):
        opened, deltas = _pieces(block, reply)
        frames.append(_event("content_block_start", index=index, content_block=opened))
        frames += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        frames.append(_event("content_block_stop", index=index))
    end = {"stop_reason": REASONS[reply.reason], "stop_sequence": None}
    usage = {
        "output_tokens": reply.completion_tokens,
        "output_tokens_details": {"thinking_tokens": reply.thought_tokens},
    }
    return [*frames, _event("message_delta", delta=end, usage=usage), _event("message_stop")]


def _said(message: dict[str, Any]) -> list[Said]:
    content = message["content"]
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    said = [
        Said("tool", " ".join(_texts(block.get("content") or [])))
        for block in blocks
        if block["type"] == "tool_result"
    ]
    images = sum(block["type"] == "image" for block in blocks)
    texts = _texts(blocks)
    return [Said(message["role"], " ".join(texts), images), *said] if texts or images else said


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content if block["type"] == "text"]


def _blocks(reply: Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.thought:
        blocks.append({"type": "thinking", "thinking": reply.thought, "signature": SIGNATURE})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text, "citations": None})
    for call in reply.calls:
        given = orjson.loads(call.arguments)
        called = {"id": call.call_id, "name": call.name, "input": given}
        blocks.append({"type": "tool_use", **called, "caller": {"type": "direct"}})
    return blocks


def _pieces(block: dict[str, Any], reply: Reply) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it is opened, and the deltas that fill it."""
    match block["type"]:
        case "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in reply.pieces]
            return {"type": "text", "text": ""}, deltas
        case "thinking":
            opened = {"type": "thinking", "thinking": "", "signature": ""}
            thought = {"type": "thinking_delta", "thinking": block["thinking"]}
            return opened, [thought, {"type": "signature_delta", "signature": SIGNATURE}]
        case _:
            text = orjson.dumps(block["input"]).decode()
            parts = (text[: len(text) // 2], text[len(text) // 2 :])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
            return {**block, "input": {}}, deltas


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "input_tokens": reply.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens_details": {"thinking_tokens": reply.thought_tokens},
        "server_tool_use": None,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))
