"""Reads a stream of Anthropic's format as its strictest clients do: one block after another."""

from typing import Any

import orjson

from streaming.encoder import Encoder
from streaming.events import Event
from streaming.sse import SSEDecoder

# Block type -> delta type -> the field of the block that it goes into.
FIELDS = {
    "text": {"text_delta": "text"},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "tool_use": {"input_json_delta": "partial_json"},
    "redacted_thinking": {},
}


def stream_of(encoder: Encoder, events: list[Event]) -> bytes:
    """The whole stream of a whole answer."""
    return encoder.open() + b"".join(map(encoder.encode, events)) + encoder.close()


def message_of(stream: bytes) -> dict[str, Any]:
    """The message that a stream makes up; fails where its events are in no proper order."""
    frames = SSEDecoder().feed(stream)
    events = [orjson.loads(frame.data) for frame in frames]
    assert [event["type"] for event in events] == [frame.event for frame in frames]
    events = [event for event in events if event["type"] != "workflow_event"]
    assert events[0]["type"] == "message_start"
    assert events[-1] == {"type": "message_stop"}
    assert events[-2]["type"] == "message_delta"
    message: dict[str, Any] = events[0]["message"]
    assert message["content"] == []
    _read_blocks(message["content"], events[1:-2])
    message |= events[-2]["delta"]
    message["usage"] |= events[-2]["usage"]
    return message


def _read_blocks(content: list[Any], events: list[Any]) -> None:
    is_open = False
    arguments = ""
    for event in events:
        if event["type"] == "content_block_start":
            assert not is_open, "a block began before the last one stopped"
            assert event["index"] == len(content)
            content.append(event["content_block"])
            is_open, arguments = True, ""
            continue
        assert is_open
        block = content[-1]
        assert event["index"] == len(content) - 1
        if event["type"] == "content_block_stop":
            is_open = False
            if block["type"] == "tool_use":
                block["input"] = orjson.loads(arguments)
            continue
        assert event["type"] == "content_block_delta"
        delta = event["delta"]
        field = FIELDS[block["type"]][delta["type"]]
        if block["type"] == "tool_use":
            arguments += delta[field]
        else:
            block[field] += delta[field]
    assert not is_open
