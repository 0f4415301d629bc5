"""Reading the chat requests that real clients sent, as they were recorded."""

import json
from typing import Any

import pytest

from agent_server.requests.chat import read_chat
from providers.chat_request import ImagePart, Message
from streaming.errors import InvalidRequestError
from tests.recordings import WIRE, needs_recordings

# Recorded requests that a provider took and we refuse, with the field: what cannot be translated,
# OpenAI's functions of 2023, and another API's own words.
REFUSED = {
    "mistral/chat-json-reasoning-03": "messages[1].content[0].type",
    "mistral/chat-json-tool-call-06": "tool_choice",
    "mistral/chat-stream-tool-call-01": "tool_choice",
    "openai/chat-json-tool-call-function-call-01": "function_call",
    "openai/chat-json-tool-call-function-call-03": "function_call",
    "openrouter/chat-json-text-06": "tools[0].type",
    "openrouter/chat-stream-text-03": "tools[0].type",
    "openrouter/chat-stream-text-06": "tools[0].type",
    "perplexity/chat-json-structured-01": "response_format.json_schema.name",
}


@needs_recordings
def test_what_providers_took_in_recorded_requests_is_read_as_it_was_written() -> None:
    count = 0
    for path in sorted(WIRE.glob("*/*/request.json")):
        meta = json.loads((path.parent / "response.meta.json").read_text())
        body = json.loads(path.read_text()).get("body")
        if meta["endpoint"] != "chat.completions" or meta["status"] != 200:
            continue
        name = path.parent.relative_to(WIRE).as_posix()
        if name in REFUSED:
            with pytest.raises(InvalidRequestError) as caught:
                read_chat(body)
            assert caught.value.param == REFUSED[name], name
            continue
        request = read_chat(body)
        assert [summary_of(message) for message in request.messages] == [
            summary_of_json(message) for message in body["messages"]
        ], name
        assert [tool.name for tool in request.tools] == [
            tool["function"]["name"] for tool in body.get("tools") or ()
        ], name
        count += 1
    assert count > 200


def summary_of(message: Message) -> list[Any]:
    images = [part.url for part in message.parts if isinstance(part, ImagePart)]
    calls = [[call.call_id, call.name, call.arguments] for call in message.tool_calls]
    return [message.role, message.text, images, calls, message.tool_call_id]


def summary_of_json(message: dict[str, Any]) -> list[Any]:
    content = message.get("content") or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = [part["text"] for part in parts if part["type"] == "text"]
    images = [part["image_url"] for part in parts if part["type"] == "image_url"]
    calls = [
        [call["id"], call["function"]["name"], call["function"]["arguments"]]
        for call in message.get("tool_calls") or ()
    ]
    return [
        "system" if message["role"] == "developer" else message["role"],
        "".join(texts),
        [image if isinstance(image, str) else image["url"] for image in images],
        calls,
        message.get("tool_call_id"),
    ]
