"""The JSON answer: what the events of one answer come to as a whole."""

import pytest
from openai.types.chat import ChatCompletion

from streaming.chat_completion import ChatCompletionBody
from streaming.encoder import StreamHead
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
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

HEAD = StreamHead("chatcmpl-1", "m", 1700000000)
TALKING = StreamHead("chatcmpl-1", "m", 1700000000, progress_text=True)
STEP: JsonObject = {"type": "step_complete", "step": "a", "output": "65%"}
OUTPUT: JsonObject = {"type": "step_output", "step": "a", "text": "6"}


def collect(events: list[Event], head: StreamHead = HEAD) -> JsonObject:
    collector = ChatCompletionBody(head)
    for event in events:
        collector.add(event)
    return collector.body()


def choice(message: JsonObject, reason: str, index: int = 0) -> JsonObject:
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def test_text_and_usage_make_a_whole_answer() -> None:
    usage = Usage(11, 7, 20, cached_tokens=3, cache_creation_tokens=2, reasoning_tokens=5)
    assert collect(
        [Started("x", "y"), TextDelta("Hel"), TextDelta("lo"), Finished("stop", 0, usage)]
    ) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            choice(
                {"role": "assistant", "content": "Hello", "refusal": None, "annotations": []},
                "stop",
            )
        ],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }


@pytest.mark.parametrize(
    ("events", "message"),
    [
        pytest.param(
            [], {"content": "", "refusal": None, "annotations": []}, id="nothing but the finish"
        ),
        pytest.param(
            [RefusalDelta("I "), RefusalDelta("won't")],
            {"content": None, "refusal": "I won't", "annotations": []},
            id="refusal",
        ),
        pytest.param(
            [
                ToolCallStarted(0, "call_1", "look"),
                ToolCallStarted(1, "call_2", "see"),
                ToolCallDelta(0, '{"a":1}'),
                ToolCallEnded(1, "call_2", "see", "{}"),
                ToolCallEnded(0, "call_1", "look", '{"a":1}'),
            ],
            {
                "content": None,
                "refusal": None,
                "annotations": [],
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"a":1}'},
                    },
                    {
                        "id": "call_2",
                        "type": "function",
                        "function": {"name": "see", "arguments": "{}"},
                    },
                ],
            },
            id="tool calls in the order of their index",
        ),
        pytest.param(
            [
                ReasoningDelta("h"),
                ReasoningDelta("m"),
                ReasoningEnded(ReasoningBlock("hm", signature="sig")),
                ReasoningEnded(ReasoningBlock("", redacted_data="xyz")),
                ReasoningEnded(ReasoningBlock("unsigned")),
                TextDelta("Hi"),
            ],
            {
                "content": "Hi",
                "refusal": None,
                "annotations": [],
                "reasoning_content": "hm",
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "xyz"},
                ],
            },
            id="thinking",
        ),
        pytest.param(
            [AgentToolCalled("c", "run", {}), AgentToolReturned("c", "run", "x"), TextDelta("Hi")],
            {"content": "Hi", "refusal": None, "annotations": []},
            id="the agent's own tools are not shown",
        ),
    ],
)
def test_events_make_a_message(events: list[Event], message: JsonObject) -> None:
    body = collect([*events, Finished("stop")])
    assert body["choices"] == [choice({"role": "assistant", **message}, "stop")]
    assert "usage" not in body
    assert "workflow_events" not in body


def test_the_official_client_reads_the_body() -> None:
    events: list[Event] = [
        TextDelta("Hi"),
        ToolCallEnded(0, "call_1", "look", "{}"),
        WorkflowEvent(STEP),
        Finished("tool_calls", usage=Usage(1, 2, 3, cached_tokens=1)),
    ]
    answer = ChatCompletion.model_validate(collect(events))
    assert answer.choices[0].message.content == "Hi"
    assert answer.choices[0].message.tool_calls is not None
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1
    assert answer.model_extra == {"workflow_events": [STEP]}


def test_every_choice_has_its_message_and_its_reason() -> None:
    body = collect(
        [
            TextDelta("b", 1),
            TextDelta("a"),
            Finished("length", 1),
            Finished("stop", usage=Usage(1, 2, 3)),
        ]
    )
    assert body["choices"] == [
        choice({"role": "assistant", "content": "a", "refusal": None, "annotations": []}, "stop"),
        choice(
            {"role": "assistant", "content": "b", "refusal": None, "annotations": []}, "length", 1
        ),
    ]


def test_workflow_events_are_listed_without_the_running_output() -> None:
    body = collect([WorkflowEvent(OUTPUT), WorkflowEvent(STEP), TextDelta("Hi"), Finished("stop")])
    assert body["workflow_events"] == [STEP]
    assert body["choices"] == [
        choice({"role": "assistant", "content": "Hi", "refusal": None, "annotations": []}, "stop")
    ]


def test_progress_is_text_where_it_was_asked_for() -> None:
    body = collect([TextDelta("Go."), WorkflowEvent(STEP), Finished("stop")], TALKING)
    assert body["choices"] == [
        choice(
            {
                "role": "assistant",
                "content": "Go.\nStep 1: a done: 65%\n",
                "refusal": None,
                "annotations": [],
            },
            "stop",
        )
    ]
