"""Anthropic's answers as events, over fixtures written after its documentation."""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from providers.anthropic.answer import AnswerReader, message_to_events
from streaming.errors import (
    AgentServerError,
    InvalidRequestError,
    UpstreamConnectionError,
    UpstreamCredentialsError,
    UpstreamOverloadedError,
    UpstreamProtocolError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
)
from streaming.events import (
    Event,
    Finished,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from streaming.sse import SSEDecoder

DATA = Path(__file__).resolve().parents[1] / "data" / "anthropic"
STARTED = Started("msg_01Fixture", "claude-sonnet-5")


def usage(prompt: int, completion: int, **more: int) -> Usage:
    return Usage(prompt, completion, prompt + completion, **more)


def call(index: int, call_id: str, name: str, *pieces: str) -> list[Event]:
    return [
        ToolCallStarted(index, call_id, name),
        *(ToolCallDelta(index, piece) for piece in pieces),
        ToolCallEnded(index, call_id, name, "".join(pieces)),
    ]


STREAMS: dict[str, list[Event]] = {
    "text": [
        TextDelta("Grüße, "),
        TextDelta("世界 🌍"),
        Finished("stop", usage=usage(25, 15)),
    ],
    "parallel-tools": [
        TextDelta("I look at both."),
        *call(0, "toolu_01A", "get_weather", '{"city": "Par', 'is"}'),
        *call(1, "toolu_01B", "get_weather", '{"city":', ' "Rome"}'),
        Finished("tool_calls", usage=usage(25, 80)),
    ],
    "tool-without-input": [
        *call(0, "toolu_01C", "now", "{}"),
        *call(1, "toolu_01D", "uptime", "{}"),
        Finished("tool_calls", usage=usage(25, 20)),
    ],
    "thinking-tool": [
        ReasoningDelta("The user wants "),
        ReasoningDelta("the version."),
        ReasoningEnded(
            ReasoningBlock("The user wants the version.", signature="c2lnbmVkLWJ5LW5vYm9keQ==")
        ),
        ReasoningEnded(ReasoningBlock("", redacted_data="cmVkYWN0ZWQ=")),
        *call(0, "toolu_01E", "get_version", '{"package": "agent-server"}'),
        Finished("tool_calls", usage=usage(25, 90, reasoning_tokens=41)),
    ],
    "hidden-thinking": [
        ReasoningEnded(ReasoningBlock("", signature="b25seS1hLXNpZ25hdHVyZQ==")),
        TextDelta("42"),
        Finished("stop", usage=usage(25, 15)),
    ],
    "server-tool": [
        TextDelta("Let me search."),
        TextDelta(" High at noon."),
        *call(0, "toolu_01F", "save", '{"note":"high at noon"}'),
        Finished("tool_calls", usage=usage(900, 60)),
    ],
    "cached": [
        TextDelta("ok"),
        Finished("stop", usage=usage(2125, 4, cached_tokens=2001, cache_creation_tokens=121)),
    ],
    "refusal": [
        RefusalDelta("This request was refused due to policy."),
        Finished("content_filter", usage=usage(25, 0)),
    ],
    "refusal-unexplained": [
        TextDelta("Hi"),
        Finished("content_filter", usage=usage(25, 7)),
    ],
    "unknown-kinds": [
        TextDelta("Begun "),
        TextDelta("whole"),
        Finished("stop", usage=usage(25, 15)),
    ],
    "stop-end-turn": [TextDelta("Some text"), Finished("stop", usage=usage(25, 15))],
    "stop-stop-sequence": [TextDelta("Some text"), Finished("stop", usage=usage(25, 15))],
    "stop-pause-turn": [TextDelta("Some text"), Finished("stop", usage=usage(25, 15))],
    "stop-max-tokens": [TextDelta("Some text"), Finished("length", usage=usage(25, 15))],
    "stop-model-context-window-exceeded": [
        TextDelta("Some text"),
        Finished("length", usage=usage(25, 15)),
    ],
}

FAILURES: dict[str, tuple[list[Event], type[AgentServerError]]] = {
    "error-overloaded": ([STARTED, TextDelta("Half an ans")], UpstreamOverloadedError),
    "error-first": ([], UpstreamRejectedError),
    "error-rate-limit": ([STARTED], UpstreamRateLimitError),
    "cut": ([STARTED, TextDelta("Half an ans")], UpstreamConnectionError),
    "cut-before-stop": ([STARTED, TextDelta("All of the text")], UpstreamConnectionError),
}

CHUNK_SIZES = pytest.mark.parametrize("size", [1_000_000, 1], ids=["whole", "byte by byte"])


def read(name: str, size: int, events: list[Event]) -> None:
    """Append the events of a fixture to `events`, so that they can be seen after a failure."""
    body = (DATA / f"{name}.sse").read_bytes()
    decoder, reader = SSEDecoder(), AnswerReader("anthropic")
    for at in range(0, len(body), size):
        for frame in decoder.feed(body[at : at + size]):
            events.extend(reader.read(frame.data))
    reader.close()


@CHUNK_SIZES
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_gives_its_events(name: str, size: int) -> None:
    events: list[Event] = []
    read(name, size, events)
    assert events == [STARTED, *STREAMS[name]]


@CHUNK_SIZES
@pytest.mark.parametrize("name", FAILURES)
def test_a_stream_that_fails_raises_after_what_had_come(name: str, size: int) -> None:
    expected, kind = FAILURES[name]
    events: list[Event] = []
    with pytest.raises(kind) as caught:
        read(name, size, events)
    assert events == expected
    assert type(caught.value) is kind
    assert caught.value.is_retryable


def test_every_fixture_is_read_by_a_test() -> None:
    assert {path.stem for path in DATA.glob("*.sse")} == STREAMS.keys() | FAILURES.keys()


def test_a_whole_message_gives_the_events_of_its_blocks() -> None:
    assert message_to_events((DATA / "message.json").read_bytes(), "anthropic") == [
        Started("msg_01Whole", "claude-haiku-4-5-20251001"),
        ReasoningDelta("Two calls."),
        ReasoningEnded(ReasoningBlock("Two calls.", signature="d2hvbGU=")),
        ReasoningEnded(ReasoningBlock("", redacted_data="aGlkZGVu")),
        TextDelta("Both at once."),
        *call(0, "toolu_01G", "now", "{}"),
        *call(1, "toolu_01H", "get_weather", '{"city":"Zürich","days":2}'),
        Finished(
            "tool_calls",
            usage=usage(22, 30, cached_tokens=7, cache_creation_tokens=5, reasoning_tokens=12),
        ),
    ]


def frame(kind: str, **fields: object) -> bytes:
    return orjson.dumps({"type": kind, **fields})


START = frame(
    "message_start",
    message={"id": "msg_1", "model": "claude-sonnet-5", "usage": {"input_tokens": 1}},
)
TEXT = frame("content_block_start", index=0, content_block={"type": "text", "text": ""})
TOOL = frame("content_block_start", index=0, content_block={"type": "tool_use", "id": "t"})
MALFORMED: dict[str, Sequence[bytes]] = {
    "no JSON": [b"<html>"],
    "no object": [b"[1, 2]"],
    "no type": [b'{"message": {}}'],
    "a start without a message": [frame("message_start")],
    "a message without an id": [frame("message_start", message={"model": "m"})],
    "content before the start": [TEXT],
    "a tool without a name": [START, TOOL],
    "text that is a number": [
        START,
        TEXT,
        frame("content_block_delta", index=0, delta={"type": "text_delta", "text": 7}),
    ],
    "a delta of no block": [START, frame("content_block_delta", index=0, delta={})],
    "a stop of no block": [START, frame("content_block_stop", index=0)],
    "an end without a reason": [START, frame("message_stop")],
    "an end inside a block": [
        START,
        TEXT,
        frame("message_delta", delta={"stop_reason": "end_turn"}),
        frame("message_stop"),
    ],
}


@pytest.mark.parametrize("frames", MALFORMED.values(), ids=MALFORMED)
def test_a_frame_that_breaks_the_format_is_a_protocol_error(frames: Sequence[bytes]) -> None:
    reader = AnswerReader("anthropic")
    for data in frames[:-1]:
        reader.read(data)
    with pytest.raises(UpstreamProtocolError, match="anthropic sent an answer without a proper"):
        reader.read(frames[-1])


def test_a_body_without_content_is_a_protocol_error() -> None:
    with pytest.raises(UpstreamProtocolError, match="content"):
        message_to_events(b'{"type": "message", "id": "m", "model": "x"}', "anthropic")


@pytest.mark.parametrize(
    ("error_type", "kind"),
    [
        ("invalid_request_error", InvalidRequestError),
        ("authentication_error", UpstreamCredentialsError),
        ("api_error", UpstreamRejectedError),
        ("an_error_of_next_year", UpstreamRejectedError),
    ],
)
def test_an_error_in_a_body_is_raised(error_type: str, kind: type[AgentServerError]) -> None:
    body = frame("error", error={"type": error_type, "message": "told"})
    with pytest.raises(kind) as caught:
        message_to_events(body, "anthropic")
    assert type(caught.value) is kind


def test_arguments_cut_by_the_token_limit_are_given_as_they_are() -> None:
    reader = AnswerReader("anthropic")
    tool = {"type": "tool_use", "id": "toolu_1", "name": "save", "input": {}}
    piece = {"type": "input_json_delta", "partial_json": '{"text": "begun and not'}
    frames = [
        START,
        frame("content_block_start", index=0, content_block=tool),
        frame("content_block_delta", index=0, delta=piece),
        frame("content_block_stop", index=0),
        frame("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": 9}),
        frame("message_stop"),
    ]
    events = [event for data in frames for event in reader.read(data)]
    assert events[-2:] == [
        ToolCallEnded(0, "toolu_1", "save", '{"text": "begun and not'),
        Finished("length", usage=usage(1, 9)),
    ]
