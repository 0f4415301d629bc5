"""Recorded streams of Anthropic: read as events and written again, they hold the same message."""

import json
from typing import Any

import pytest

from providers.anthropic.answer import AnswerReader
from streaming.encoder import StreamHead
from streaming.events import Event
from streaming.messages_body import MessageBody
from streaming.messages_sse import MessagesEncoder
from streaming.sse import SSEDecoder
from tests.message_stream import message_of, stream_of
from tests.recordings import WIRE, needs_recordings

STREAMS = sorted(path.parent for path in WIRE.glob("anthropic/messages-stream-*/response.body"))
HEAD = StreamHead("msg_1", "m", 1700000000)
# What the events in the middle have no word for.
SAID_OTHERWISE = {"stop_sequence": "end_turn", "pause_turn": "end_turn"}


def frames_of(body: bytes) -> list[Any]:
    decoder = SSEDecoder()
    frames = [*decoder.feed(body), *decoder.flush()]
    return [json.loads(frame.data) for frame in frames]


def recorded_blocks(frames: list[Any]) -> list[dict[str, Any]]:
    """All blocks of a stream, in their order."""
    blocks: dict[int, dict[str, Any]] = {}
    for frame in frames:
        if frame["type"] == "content_block_start":
            blocks[frame["index"]] = dict(frame["content_block"])
        elif frame["type"] == "content_block_delta":
            block, delta = blocks[frame["index"]], frame["delta"]
            for field in ("text", "thinking", "signature", "partial_json"):
                if field in delta:
                    block[field] = block.get(field, "") + delta[field]
    return [block for _, block in sorted(blocks.items())]


def recorded_content(frames: list[Any]) -> list[dict[str, Any]]:
    """The blocks that a caller sees, texts that stand side by side as one."""
    content: list[dict[str, Any]] = []
    for block in recorded_blocks(frames):
        if block["type"] not in FIELDS or block.get("text") == "":
            continue
        if block["type"] == "tool_use":
            block["input"] = json.loads(block.get("partial_json") or "{}")
        seen = {key: block[key] for key in FIELDS[block["type"]]} | ADDED.get(block["type"], {})
        if content and seen["type"] == "text" == content[-1]["type"]:
            content[-1]["text"] += seen["text"]
        else:
            content.append(seen)
    return content


# What the API documents of every block, and its streams leave out where it says nothing.
ADDED: dict[str, dict[str, Any]] = {
    "text": {"citations": None},
    "tool_use": {"caller": {"type": "direct"}},
}
FIELDS = {
    "text": ("type", "text"),
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
    "tool_use": ("type", "id", "name", "input"),
}


@needs_recordings
@pytest.mark.parametrize("folder", [pytest.param(path, id=path.name) for path in STREAMS])
def test_a_recorded_stream_is_said_again(folder: Any) -> None:
    frames = frames_of((folder / "response.body").read_bytes())
    reader = AnswerReader("anthropic")
    events: list[Event] = [event for frame in frames for event in reader.read_frame(frame)]
    said = message_of(stream_of(MessagesEncoder(HEAD), events))
    body = MessageBody(HEAD)
    for event in events:
        body.add(event)
    assert said == body.body()
    assert said["content"] == recorded_content(frames)
    end = next(frame for frame in frames if frame["type"] == "message_delta")
    reason = end["delta"]["stop_reason"]
    assert said["stop_reason"] == SAID_OTHERWISE.get(reason, reason)
    assert said["usage"]["output_tokens"] == end["usage"]["output_tokens"]


@needs_recordings
def test_there_are_recorded_streams() -> None:
    assert len(STREAMS) >= 70
