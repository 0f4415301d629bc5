"""The Responses format as OpenAI speaks it, for `tests/model_upstream.py`.

Source: OpenAI API reference, "Responses" and "Streaming events", 2026-11.
"""

from typing import Any

import orjson

from tests.model_reply import SIGNATURE, Asked, Reply, Said, Tool


def items_of(body: dict[str, Any]) -> list[Any]:
    """The input as items."""
    given = body["input"]
    return [{"role": "user", "content": given}] if isinstance(given, str) else list(given)


def asked_of(body: dict[str, Any], items: list[Any]) -> Asked:
    """What a request asks, whose conversation is these items."""
    messages = [Said("system", body["instructions"])] if body.get("instructions") else []
    messages += [said for item in items if (said := _said(item)) is not None]
    choice = body.get("tool_choice")
    form = (body.get("text") or {}).get("format") or {}
    return Asked(
        model=body["model"],
        messages=tuple(messages),
        tools=tuple(
            Tool(tool["name"], tool.get("parameters") or {})
            for tool in body.get("tools") or []
            if tool["type"] == "function"
        ),
        must_call=choice == "required" or isinstance(choice, dict),
        schema=form.get("schema"),
        thinks=bool((body.get("reasoning") or {}).get("effort")),
        knows=any(item.get("encrypted_content") == SIGNATURE for item in items),
        limit=body.get("max_output_tokens"),
        stream=body.get("stream") is True,
    )


def body_of(answer_id: str, body: dict[str, Any], asked: Asked, reply: Reply) -> dict[str, Any]:
    """The whole response, which repeats what the request said."""
    is_short = reply.reason == "length"
    said = {name: body[name] for name in _FIELDS if body.get(name) is not None}
    if "reasoning" in said:
        said["reasoning"] = {"effort": None, "summary": None, **said["reasoning"]}
    if "tools" in said:
        said["tools"] = [{"strict": False, **tool} for tool in said["tools"]]
    return {
        "id": answer_id,
        "object": "response",
        "created_at": 7,
        "completed_at": 8,
        "status": "incomplete" if is_short else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_short else None,
        "model": asked.model,
        "output": _items(answer_id, reply),
        **_FIELDS,
        **said,
        "usage": {
            "input_tokens": reply.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": reply.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": reply.thought_tokens},
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        },
    }


def frames_of(response: dict[str, Any]) -> list[bytes]:
    """The frames of the stream of a response."""
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    begun |= {"completed_at": None, "incomplete_details": None}
    events = [_event("response.created", response=begun)]
    events.append(_event("response.in_progress", response=begun))
    for index, item in enumerate(response["output"]):
        opened = {**item, "status": "in_progress"} if "status" in item else dict(item)
        opened |= {name: [] for name in ("content", "summary") if name in item}
        opened |= {"arguments": ""} if "arguments" in item else {}
        events.append(_event("response.output_item.added", output_index=index, item=opened))
        at = {"item_id": item["id"], "output_index": index}
        events += _CONTENT[item["type"]](item, at)
        events.append(_event("response.output_item.done", output_index=index, item=item))
    events.append(_event(f"response.{response['status']}", response=response))
    return [_frame({**event, "sequence_number": n}) for n, event in enumerate(events)]


def _said(item: dict[str, Any]) -> Said | None:
    kind = item.get("type", "message")
    if kind == "function_call_output":
        output = item["output"]
        return Said("tool", output if isinstance(output, str) else _text(output))
    if kind != "message":
        return None
    content = item["content"]
    role = "system" if item["role"] == "developer" else item["role"]
    if isinstance(content, str):
        return Said(role, content)
    return Said(role, _text(content), sum(part["type"] == "input_image" for part in content))


def _text(parts: list[dict[str, Any]]) -> str:
    return " ".join(part["text"] for part in parts if "text" in part)


def _items(answer_id: str, reply: Reply) -> list[dict[str, Any]]:
    number = answer_id.removeprefix("resp_")
    items: list[dict[str, Any]] = []
    if reply.thought:
        summary = [{"type": "summary_text", "text": reply.thought}]
        item = {"id": f"rs_{number}", "type": "reasoning", "summary": summary}
        items.append({**item, "encrypted_content": SIGNATURE})
    if reply.text:
        content = [{"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}]
        head = {"id": f"msg_{number}", "type": "message", "status": "completed"}
        items.append({**head, "role": "assistant", "content": content})
    for place, call in enumerate(reply.calls):
        head = {"id": f"fc_{number}{place}", "type": "function_call", "status": "completed"}
        called = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
        items.append({**head, **called})
    return items


def _message(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    part = item["content"][0]
    at = {**at, "content_index": 0}
    words = Reply(part["text"]).pieces
    return [
        _event("response.content_part.added", part={**part, "text": ""}, **at),
        *(_event("response.output_text.delta", delta=word, logprobs=[], **at) for word in words),
        _event("response.output_text.done", text=part["text"], logprobs=[], **at),
        _event("response.content_part.done", part=part, **at),
    ]


def _reasoning(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    part = item["summary"][0]
    at = {**at, "summary_index": 0}
    return [
        _event("response.reasoning_summary_part.added", part={**part, "text": ""}, **at),
        _event("response.reasoning_summary_text.delta", delta=part["text"], **at),
        _event("response.reasoning_summary_text.done", text=part["text"], **at),
        _event("response.reasoning_summary_part.done", part=part, **at),
    ]


def _call(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    arguments = item["arguments"]
    half = len(arguments) // 2
    kind = "response.function_call_arguments"
    return [
        *(_event(f"{kind}.delta", delta=d, **at) for d in (arguments[:half], arguments[half:])),
        _event(f"{kind}.done", arguments=arguments, name=item["name"], **at),
    ]


def _event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def _frame(data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), orjson.dumps(data))


_CONTENT = {"message": _message, "reasoning": _reasoning, "function_call": _call}
_FIELDS: dict[str, Any] = {
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
}
