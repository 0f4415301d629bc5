"""The format `messages`: the bytes of every event, and the order that its clients rely on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.encoder import StreamHead
from streaming.errors import (
    AgentServerError,
    ContextLengthError,
    RateLimitError,
    UpstreamConnectionError,
)
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
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
    WorkflowEvent,
)
from streaming.messages_body import MessageBody
from streaming.messages_sse import MessagesEncoder
from streaming.sse import SSEDecoder
from tests.message_stream import message_of, stream_of

HEAD = StreamHead("msg_1", "m", 1700000000)
TALKING = StreamHead("msg_1", "m", 1700000000, progress_text=True)
USAGE = Usage(11, 7, 18, cached_tokens=3, cache_creation_tokens=2, reasoning_tokens=5)
STEP = {"type": "step_complete", "step": "check-disk", "output": "65%", "duration": "1.2s"}
STEP_JSON = '{"type":"step_complete","step":"check-disk","output":"65%","duration":"1.2s"}'
NO_USAGE = (
    '{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,'
    '"cache_creation":null,"output_tokens":0,"output_tokens_details":null,"server_tool_use":null,'
    '"service_tier":null,"inference_geo":null}'
)


def frame(name: str, fields: str = "") -> str:
    return f'event: {name}\ndata: {{"type":"{name}"{fields}}}\n\n'


def start(index: int, block: str) -> str:
    return frame("content_block_start", f',"index":{index},"content_block":{block}')


def delta(index: int, inner: str) -> str:
    return frame("content_block_delta", f',"index":{index},"delta":{inner}')


def stop(index: int) -> str:
    return frame("content_block_stop", f',"index":{index}')


def tool(index: int, call_id: str, name: str) -> str:
    return start(
        index,
        f'{{"type":"tool_use","id":"{call_id}","name":"{name}","input":{{}},'
        '"caller":{"type":"direct"}}',
    )


def piece(index: int, text: str) -> str:
    return delta(index, f'{{"type":"input_json_delta","partial_json":{json.dumps(text)}}}')


def text(index: int, said: str) -> str:
    return delta(index, f'{{"type":"text_delta","text":{json.dumps(said, ensure_ascii=False)}}}')


TEXT = '{"type":"text","text":"","citations":null}'
THINKING = '{"type":"thinking","thinking":"","signature":""}'
HM = delta(0, '{"type":"thinking_delta","thinking":"hm"}')
CASES = [
    pytest.param(
        [TextDelta('a"\n\u00e9'), TextDelta("b")],
        [start(0, TEXT), text(0, 'a"\n\u00e9'), text(0, "b")],
        id="text",
    ),
    pytest.param([Started("upstream", "gpt")], [], id="started is not shown"),
    pytest.param(
        [
            AgentToolCalled("call_1", "plan_workflow", {}),
            AgentToolReturned("call_1", "plan_workflow", "ok"),
        ],
        [],
        id="the agent's own tools are not shown",
    ),
    pytest.param(
        [
            ReasoningDelta("hm"),
            ReasoningEnded(ReasoningBlock("hm", signature="sig")),
            TextDelta("a"),
        ],
        [
            start(0, THINKING),
            HM,
            delta(0, '{"type":"signature_delta","signature":"sig"}'),
            stop(0),
            start(1, TEXT),
            text(1, "a"),
        ],
        id="signed thinking, then text",
    ),
    pytest.param(
        [ReasoningDelta("hm"), TextDelta("a"), ReasoningEnded(ReasoningBlock("hm"))],
        [start(0, THINKING), HM, stop(0), start(1, TEXT), text(1, "a")],
        id="thinking that nobody signed",
    ),
    pytest.param(
        [ReasoningEnded(ReasoningBlock("", signature="sig"))],
        [start(0, THINKING), delta(0, '{"type":"signature_delta","signature":"sig"}'), stop(0)],
        id="signed thinking that is not shown",
    ),
    pytest.param(
        [ReasoningEnded(ReasoningBlock("", redacted_data="xyz"))],
        [start(0, '{"type":"redacted_thinking","data":"xyz"}'), stop(0)],
        id="hidden thinking",
    ),
    pytest.param(
        [
            TextDelta("Let me look."),
            ToolCallStarted(0, "toolu_1", "look"),
            ToolCallDelta(0, '{"a"'),
            ToolCallDelta(0, ":1}"),
            ToolCallEnded(0, "toolu_1", "look", '{"a":1}'),
        ],
        [
            start(0, TEXT),
            text(0, "Let me look."),
            stop(0),
            tool(1, "toolu_1", "look"),
            piece(1, '{"a"'),
            piece(1, ":1}"),
            stop(1),
        ],
        id="the index of a block is not that of the call",
    ),
    pytest.param(
        [ToolCallStarted(0, "toolu_1", "look"), ToolCallEnded(0, "toolu_1", "look", "{}")],
        [tool(0, "toolu_1", "look"), piece(0, "{}"), stop(0)],
        id="tool call whose arguments came at its end alone",
    ),
    pytest.param(
        [
            ToolCallStarted(0, "toolu_1", "look"),
            ToolCallDelta(0, "{}"),
            ToolCallStarted(1, "toolu_2", "see"),
            ToolCallDelta(1, "{}"),
        ],
        [
            tool(0, "toolu_1", "look"),
            piece(0, "{}"),
            stop(0),
            tool(1, "toolu_2", "see"),
            piece(1, "{}"),
        ],
        id="a call that is whole makes room for the next at once",
    ),
    pytest.param(
        [
            ToolCallStarted(0, "toolu_1", "look"),
            ToolCallStarted(1, "toolu_2", "see"),
            ToolCallDelta(1, '{"b":'),
            ToolCallDelta(0, '{"a":1}'),
            ToolCallDelta(1, "2}"),
            TextDelta("so"),
            ToolCallEnded(0, "toolu_1", "look", '{"a":1}'),
            ToolCallEnded(1, "toolu_2", "see", '{"b":2}'),
        ],
        [
            tool(0, "toolu_1", "look"),
            piece(0, '{"a":1}'),
            stop(0),
            tool(1, "toolu_2", "see"),
            piece(1, '{"b":'),
            piece(1, "2}"),
            stop(1),
            start(2, TEXT),
            text(2, "so"),
        ],
        id="calls that come side by side are written one after another",
    ),
    pytest.param(
        [RefusalDelta("I "), RefusalDelta("won't"), Finished("stop")],
        [
            frame(
                "message_delta",
                ',"delta":{"stop_reason":"refusal","stop_sequence":null,"stop_details":'
                '{"type":"refusal","category":null,"explanation":"I won\'t"}},'
                f'"usage":{NO_USAGE}',
            )
        ],
        id="refusal",
    ),
    pytest.param(
        [TextDelta("a"), Finished("length", usage=USAGE)],
        [
            start(0, TEXT),
            text(0, "a"),
            stop(0),
            frame(
                "message_delta",
                ',"delta":{"stop_reason":"max_tokens","stop_sequence":null,'
                '"stop_details":null},"usage":{"input_tokens":6,"cache_creation_input_tokens":2,'
                '"cache_read_input_tokens":3,"cache_creation":null,"output_tokens":7,'
                '"output_tokens_details":{"thinking_tokens":5},"server_tool_use":null,'
                '"service_tier":null,"inference_geo":null}',
            ),
        ],
        id="usage on the last event but one",
    ),
    pytest.param(
        [TextDelta("a"), TextDelta("b", choice=1), Finished("stop", 1)],
        [start(0, TEXT), text(0, "a")],
        id="the format has one choice",
    ),
    pytest.param(
        [TextDelta("a"), WorkflowEvent(STEP), TextDelta("b")],
        [
            start(0, TEXT),
            text(0, "a"),
            frame("workflow_event", f',"workflow_event":{STEP_JSON}'),
            text(0, "b"),
        ],
        id="a workflow event is an event of its own",
    ),
]


@pytest.mark.parametrize(("events", "expected"), CASES)
def test_the_bytes_of_events(events: list[Event], expected: list[str]) -> None:
    encoder = MessagesEncoder(HEAD)
    encoder.open()
    assert b"".join(map(encoder.encode, events)).decode() == "".join(expected)


def test_a_stream_begins_with_the_message_and_ends_with_its_stop() -> None:
    encoder = MessagesEncoder(HEAD)
    assert encoder.open().decode() == frame(
        "message_start",
        ',"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],'
        '"stop_reason":null,"stop_sequence":null,"stop_details":null,'
        f'"usage":{NO_USAGE},"container":null}}',
    )
    assert encoder.close().decode() == frame("message_stop")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
    ],
)
def test_every_finish_reason_has_its_stop_reason(reason: str, said: str) -> None:
    stream = stream_of(MessagesEncoder(HEAD), [Finished(reason)])  # type: ignore[arg-type] # the table holds them
    assert message_of(stream)["stop_reason"] == said


def test_progress_is_text_where_it_is_asked_for() -> None:
    encoder = MessagesEncoder(TALKING)
    stream = stream_of(encoder, [TextDelta("Go."), WorkflowEvent(STEP), Finished("stop")])
    assert message_of(stream)["content"] == [
        {"type": "text", "text": "Go.\nStep 1: check-disk done in 1.2s: 65%\n", "citations": None}
    ]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (RateLimitError("Slow down."), "rate_limit_error", "Slow down."),
        (UpstreamConnectionError("Lost it."), "api_error", "Lost it."),
        (
            ContextLengthError("8193 tokens"),
            "invalid_request_error",
            "prompt is too long: 8193 tokens",
        ),
    ],
)
def test_a_failure_is_the_last_event_and_stops_no_block(
    error: AgentServerError, kind: str, message: str
) -> None:
    encoder = MessagesEncoder(HEAD)
    encoder.encode(ToolCallStarted(0, "toolu_1", "look"))
    (failed,) = SSEDecoder().feed(encoder.fail(error))
    assert failed.event == "error"
    assert json.loads(failed.data) == {"type": "error", "error": {"type": kind, "message": message}}


def test_keep_alives_are_comments() -> None:
    assert SSEDecoder().feed(MessagesEncoder(HEAD).keep_alive) == []


ARGUMENTS = ('{"a": [1, 2]}', "{}", '{"text": "\u00e9\\n"}')
SAID: tuple[list[Event], ...] = (
    [TextDelta("a"), TextDelta("b"), TextDelta("c")],
    [ReasoningDelta("hm"), ReasoningEnded(ReasoningBlock("hm", signature="sig"))],
    [ReasoningDelta("so"), ReasoningDelta("?"), ReasoningEnded(ReasoningBlock("so?"))],
)


def call(index: int, size: int) -> list[Event]:
    """A tool call whose arguments come in pieces of this size."""
    arguments = ARGUMENTS[index]
    parts = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    return [
        ToolCallStarted(index, f"toolu_{index}", "look"),
        *(ToolCallDelta(index, part) for part in parts),
        ToolCallEnded(index, f"toolu_{index}", "look", arguments),
    ]


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Well-formed answers: calls side by side in any pieces, with text and thoughts in between."""
    size = draw(st.sampled_from([1, 4, 50]))
    calls = [call(index, size) for index in range(len(ARGUMENTS))]
    lanes = [*calls, *SAID[: draw(st.integers(0, len(SAID)))]]
    order = draw(st.permutations([n for n, lane in enumerate(lanes) for _ in lane]))
    # Calls begin in the order of their index, whichever the order drew first.
    first_seen = iter(range(len(calls)))
    numbers = {n: next(first_seen) for n in dict.fromkeys(order) if n < len(calls)}
    left = [list(lane) for lane in lanes]
    # Of two calls that trade places one may be longer, so the rest comes at the end.
    places = [left[numbers.get(n, n)] for n in order] + [*left] * 50
    return [*(lane.pop(0) for lane in places if lane), Finished("tool_calls", usage=USAGE)]


@given(answers())
def test_a_stream_and_a_whole_answer_say_the_same(events: list[Event]) -> None:
    body = MessageBody(HEAD)
    for event in events:
        body.add(event)
    assert message_of(stream_of(MessagesEncoder(HEAD), events)) == body.body()
