"""Every recorded request of the Responses API, read by our own door and said again."""

from collections.abc import Mapping
from typing import Any

import pytest

from agent_server.requests.responses import read_responses
from providers.responses.request import chat_to_responses
from streaming.errors import InvalidRequestError
from tests.recordings import Replay, exchanges_of, needs_recordings, provider_folders

ENDPOINT = "responses"


@needs_recordings
@pytest.mark.parametrize("provider", provider_folders(ENDPOINT))
def test_every_request_is_sent_with_the_meaning_it_had(provider: str, replay: Replay) -> None:
    exchanges = exchanges_of(replay, provider, ENDPOINT)
    assert exchanges
    for exchange in exchanges:
        body = exchange.request["body"]
        if exchange.id in REFUSED:
            with pytest.raises(InvalidRequestError):
                read_responses(body)
            continue
        if exchange.id in REORDERED:
            continue
        sent = chat_to_responses(read_responses(body).chat, provider).body
        assert _meaning(sent) == _meaning(body), exchange.id


def _meaning(body: Mapping[str, Any]) -> dict[str, Any]:
    out = {k: v for k, v in body.items() if v not in (None, []) and k not in NOT_SAID_AGAIN}
    out["stream"] = bool(body.get("stream"))
    if "reasoning" in out:
        out["reasoning"] = {"effort": out["reasoning"].get("effort")}
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    if instructions := out.pop("instructions", None):
        items.insert(0, {"role": "system", "content": instructions})
    out["input"] = [_item_meaning(item) for item in items if _is_said_again(item)]
    out["tools"] = [_tool_meaning(tool) for tool in body.get("tools") or []]
    return out


def _is_said_again(item: Mapping[str, Any]) -> bool:
    # Thinking that is not encrypted is text to our door: the chat format of its provider takes it.
    return item.get("type") != "reasoning" or bool(item.get("encrypted_content"))


def _item_meaning(item: Mapping[str, Any]) -> dict[str, Any]:
    match item.get("type", "message"):
        case "message":
            role = {"developer": "system"}.get(item["role"], item["role"])
            return {"role": role, "content": _content_meaning(item["content"])}
        case "function_call_output":
            return {**item, "output": _content_meaning(item["output"])}
        case "function_call":
            return {k: v for k, v in item.items() if k not in ("id", "status")}
        case _:
            return dict(item)


def _content_meaning(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts = []
    for part in content:
        out = {k: v for k, v in part.items() if k not in PART_HINTS}
        out["type"] = {"input_text": "text", "output_text": "text"}.get(part["type"], part["type"])
        if part["type"] == "input_image" and out.get("detail") == "auto":
            del out["detail"]
        parts.append(out)
    return parts


def _tool_meaning(tool: Mapping[str, Any]) -> dict[str, Any]:
    # Whoever leaves `strict` out, as one SDK does, sends schemas that are not.
    return {
        **tool,
        "description": tool.get("description") or "",
        "strict": tool.get("strict", False),
    }


# What our server decides itself, and hints that our door leaves out.
NOT_SAID_AGAIN = {"include", "store", "service_tier", "prompt_cache_options"}
PART_HINTS = {"annotations", "prompt_cache_breakpoint"}
# What our door refuses, as only the upstream itself could do it.
REFUSED = {
    "azure/responses-json-reasoning-01",  # web_search_preview
    "openai/responses-json-error400-tool-result-01",  # a file by URL
    "openai/responses-json-image-01",  # an image by id
    "openai/responses-json-text-01",  # web_search_preview
    "openai/responses-json-text-03",  # web_search_preview
    "openai/responses-json-tool-result-01",  # previous_response_id
    "openai/responses-json-tool-result-04",  # previous_response_id
    "openai/responses-stream-reasoning-04",  # mcp
    "openai/responses-stream-reasoning-05",  # web_search
    "openai/responses-stream-text-10",  # web_search
    "openai/responses-stream-text-11",  # web_search
    "openai/responses-stream-text-14",  # a file by URL
    "openai/responses-stream-text-15",  # web_search
    "openai/responses-stream-text-17",  # tool_search
    "openai/responses-stream-text-18",  # web_search
    "openai/responses-stream-text-19",  # file_search
    "openai/responses-stream-tool-call-05",  # tool_search
    "xai/responses-json-reasoning-02",  # web_search
}
# Texts and calls by turns, which are one turn with its text before its calls to us.
REORDERED = {"deepseek/responses-json-error400-tool-result-01"}
