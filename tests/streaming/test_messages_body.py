"""The JSON answer of the Messages format: what the events of one answer come to as a whole."""

import pytest
from anthropic.types import Message

from streaming.encoder import StreamHead
from streaming.events import (
    Event,
    Finished,
    JsonObject,
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
    WorkflowEvent,
)
from streaming.messages_body import MessageBody
from streaming.messages_sse import MessagesEncoder
from tests.message_stream import message_of, stream_of

HEAD = StreamHead("msg_1", "m", 1700000000)
DIRECT = {"caller": {"type": "direct"}}
STEP: JsonObject = {"type": "step_complete", "step": "a", "output": "65%"}
OUTPUT: JsonObject = {"type": "step_output", "step": "a", "text": "6"}


def collect(events: list[Event], head: StreamHead = HEAD) -> JsonObject:
    collector = MessageBody(head)
    for event in events:
        collector.add(event)
    return collector.body()


def test_text_and_usage_make_a_whole_answer() -> None:
    usage = Usage(11, 7, 20, cached_tokens=3, cache_creation_tokens=2, reasoning_tokens=5)
    assert collect(
        [Started("x", "y"), TextDelta("Hel"), TextDelta("lo"), Finished("stop", 0, usage)]
    ) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 6,
            "cache_creation_input_tokens": 2,
            "cache_read_input_tokens": 3,
            "cache_creation": None,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 5},
            "server_tool_use": None,
            "service_tier": None,
            "inference_geo": None,
        },
        "container": None,
    }


@pytest.mark.parametrize(
    ("events", "content"),
    [
        pytest.param([], [], id="nothing but the finish"),
        pytest.param(
            [
                ReasoningDelta("h"),
                ReasoningDelta("m"),
                ReasoningEnded(ReasoningBlock("hm", "sig")),
                ReasoningEnded(ReasoningBlock("", redacted_data="xyz")),
                TextDelta("a"),
            ],
            [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xyz"},
                {"type": "text", "text": "a", "citations": None},
            ],
            id="thinking, signed and hidden",
        ),
        pytest.param(
            [ReasoningDelta("hm"), TextDelta("a"), ReasoningEnded(ReasoningBlock("hm"))],
            [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "a", "citations": None},
            ],
            id="thinking that nobody signed",
        ),
        pytest.param(
            [
                ToolCallStarted(0, "toolu_1", "look"),
                ToolCallStarted(1, "toolu_2", "see"),
                ToolCallDelta(0, '{"a":1}'),
                ToolCallEnded(1, "toolu_2", "see", ""),
                ToolCallEnded(0, "toolu_1", "look", '{"a":1}'),
            ],
            [
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1}, **DIRECT},
                {"type": "tool_use", "id": "toolu_2", "name": "see", "input": {}, **DIRECT},
            ],
            id="tool calls",
        ),
        pytest.param(
            [
                ToolCallStarted(0, "toolu_1", "look"),
                ToolCallEnded(0, "toolu_1", "look", '{"a":'),
            ],
            [
                {
                    "type": "tool_use",
                    "id": "toolu_1",
                    "name": "look",
                    "input": {"INVALID_JSON": '{"a":'},
                    **DIRECT,
                }
            ],
            id="arguments that were cut",
        ),
    ],
)
def test_the_content_of_an_answer(events: list[Event], content: list[JsonObject]) -> None:
    body = collect([*events, Finished("stop")])
    assert body["content"] == content
    assert Message.model_validate(body).to_dict()["content"] == content


def test_a_tool_call_is_a_reason_to_stop_whatever_the_upstream_said() -> None:
    calls: list[Event] = [
        ToolCallStarted(0, "toolu_1", "look"),
        ToolCallEnded(0, "toolu_1", "look", "{}"),
    ]
    for reason, said in (("stop", "tool_use"), ("length", "max_tokens")):
        events = [*calls, Finished(reason)]  # type: ignore[arg-type] # the table holds them
        assert collect(events)["stop_reason"] == said
        assert message_of(stream_of(MessagesEncoder(HEAD), events))["stop_reason"] == said


def test_a_refusal_is_a_reason_to_stop() -> None:
    body = collect([RefusalDelta("I won't"), Finished("content_filter")])
    assert (body["content"], body["stop_reason"]) == ([], "refusal")
    assert body["stop_details"] == {
        "type": "refusal",
        "category": None,
        "explanation": "I won't",
    }


def test_workflow_events_stand_beside_the_message() -> None:
    body = collect([WorkflowEvent(STEP), WorkflowEvent(OUTPUT), TextDelta("a"), Finished("stop")])
    assert body["workflow_events"] == [STEP]
    assert body["content"] == [{"type": "text", "text": "a", "citations": None}]


def test_progress_is_text_where_it_is_asked_for() -> None:
    head = StreamHead("msg_1", "m", 1, progress_text=True)
    body = collect([TextDelta("Go."), WorkflowEvent(STEP), Finished("stop")], head)
    assert body["content"] == [
        {"type": "text", "text": "Go.\nStep 1: a done: 65%\n", "citations": None}
    ]
