"""The chat format as OpenAI speaks it, for `tests/model_upstream.py`.

Source: OpenAI API reference, "Chat Completions", 2026-11.
"""

from typing import Any

import orjson

from tests.model_reply import SIGNATURE, Asked, Reply, Said, Tool

DONE = b"data: [DONE]\n\n"


def asked_of(body: dict[str, Any]) -> Asked:
    """What a request asks."""
    choice = body.get("tool_choice")
    functions = [tool["function"] for tool in body.get("tools") or []]
    form = body.get("response_format") or {}
    schema = (
        form.get("json_schema", {}).get("schema") if form.get("type") == "json_schema" else None
    )
    return Asked(
        model=body["model"],
        messages=tuple(map(_said, body["messages"])),
        tools=tuple(Tool(f["name"], f.get("parameters") or {}) for f in functions),
        must_call=choice == "required" or isinstance(choice, dict),
        schema=schema,
        thinks=bool(body.get("reasoning_effort")),
        knows=SIGNATURE in str(body["messages"]),
        limit=body.get("max_completion_tokens") or body.get("max_tokens"),
        stream=body.get("stream") is True,
        include_usage=(body.get("stream_options") or {}).get("include_usage") is True,
    )


def body_of(answer_id: str, asked: Asked, reply: Reply) -> dict[str, Any]:
    """The whole answer."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if reply.calls and not reply.text else reply.text,
        "refusal": None,
        "annotations": [],
    }
    if reply.thought:
        message["reasoning_content"] = reply.thought
    if reply.calls:
        message["tool_calls"] = [
            {"id": c.call_id, "type": "function", "function": _function(c.name, c.arguments)}
            for c in reply.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.reason}
    head = _head(answer_id, asked, "chat.completion")
    return {**head, "choices": [choice], "usage": _usage(reply)}


def frames_of(answer_id: str, asked: Asked, reply: Reply) -> list[bytes]:
    """The frames of the stream."""
    head = _head(answer_id, asked, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _frame({**head, "choices": [choice]})

    frames = [chunk({"role": "assistant", "content": "", "refusal": None})]
    if reply.thought:
        frames.append(chunk({"reasoning_content": reply.thought}))
    frames += [chunk({"content": piece}) for piece in reply.pieces]
    for index, call in enumerate(reply.calls):
        first = {"index": index, "id": call.call_id, "type": "function"}
        frames.append(chunk({"tool_calls": [{**first, "function": _function(call.name, "")}]}))
        half = len(call.arguments) // 2
        for part in (call.arguments[:half], call.arguments[half:]):
            function = {"arguments": part}
            frames.append(chunk({"tool_calls": [{"index": index, "function": function}]}))
    frames.append(chunk({}, reply.reason))
    if asked.include_usage:
        frames.append(_frame({**head, "choices": [], "usage": _usage(reply)}))
    return [*frames, DONE]


def _said(message: dict[str, Any]) -> Said:
    content = message.get("content") or ""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    role = "system" if message["role"] == "developer" else message["role"]
    return Said(role, " ".join(texts), sum(part["type"] == "image_url" for part in parts))


def _head(answer_id: str, asked: Asked, kind: str) -> dict[str, Any]:
    more = {"service_tier": "default", "system_fingerprint": "fp_real"}
    return {"id": answer_id, "object": kind, "created": 7, "model": asked.model, **more}


def _function(name: str, arguments: str) -> dict[str, str]:
    return {"name": name, "arguments": arguments}


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reply.thought_tokens},
    }


def _frame(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
