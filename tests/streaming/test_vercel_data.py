"""`vercel` and `data-v1`: the line of every event, and the codes that old clients know."""

import pytest

from streaming.encoder import StreamHead
from streaming.errors import BridgeTimeoutError
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
from streaming.vercel_data import DataV1Encoder, VercelEncoder

HEAD = StreamHead("chatcmpl-1", "m", 1700000000)
SILENT = StreamHead("chatcmpl-1", "m", 1700000000, progress_text=False)
TALKING = StreamHead("chatcmpl-1", "m", 1700000000, progress_text=True)
RUNNING = {"type": "step_running", "step": "check-cpu", "message": "Checking CPU usage"}
RUNNING_JSON = '{"type":"step_running","step":"check-cpu","message":"Checking CPU usage"}'

CASES = [
    pytest.param([TextDelta('a"\n\u00e9')], '0:"a\\"\\n\u00e9"\n', id="text"),
    pytest.param([RefusalDelta("no")], '0:"no"\n', id="refusal is text"),
    pytest.param(
        [
            Started("x", "y"),
            ReasoningDelta("hm"),
            ReasoningEnded(ReasoningBlock("hm", signature="s")),
        ],
        "",
        id="thinking has no code that all clients know",
    ),
    pytest.param(
        [
            ToolCallStarted(0, "call_1", "look"),
            ToolCallDelta(0, '{"a":1}'),
            ToolCallEnded(0, "call_1", "look", '{"a":1}'),
        ],
        '9:{"toolCallId":"call_1","toolName":"look","args":{"a":1}}\n',
        id="a client's tool call comes whole",
    ),
    pytest.param(
        [ToolCallEnded(0, "call_1", "look", "{cut"), ToolCallEnded(1, "call_2", "look", "[1]")],
        '9:{"toolCallId":"call_1","toolName":"look","args":{"arguments":"{cut"}}\n'
        '9:{"toolCallId":"call_2","toolName":"look","args":{"arguments":"[1]"}}\n',
        id="arguments are always an object",
    ),
    pytest.param([TextDelta("b", 1), ToolCallEnded(0, "c", "n", "{}", 1)], "", id="one message"),
]


@pytest.mark.parametrize("encoder", [VercelEncoder, DataV1Encoder])
@pytest.mark.parametrize(("events", "lines"), CASES)
def test_events_become_lines(encoder: type[VercelEncoder], events: list[Event], lines: str) -> None:
    stream = encoder(HEAD)
    assert stream.open() == b""
    assert b"".join(map(stream.encode, events)).decode() == lines


@pytest.mark.parametrize(
    ("encoder", "line"),
    [
        pytest.param(VercelEncoder(SILENT), f"2:{RUNNING_JSON}\n", id="vercel: an object"),
        pytest.param(DataV1Encoder(HEAD), f"2:[{RUNNING_JSON}]\n", id="data-v1: a list"),
        pytest.param(
            VercelEncoder(HEAD),
            f'0:"Step 1: check-cpu - Checking CPU usage\\n"\n2:{RUNNING_JSON}\n',
            id="vercel: with progress as text, as the guide shows",
        ),
        pytest.param(
            DataV1Encoder(TALKING),
            f'0:"Step 1: check-cpu - Checking CPU usage\\n"\n2:[{RUNNING_JSON}]\n',
            id="data-v1: with progress as text where asked for",
        ),
    ],
)
def test_a_workflow_event_is_data(encoder: VercelEncoder, line: str) -> None:
    assert encoder.encode(WorkflowEvent(RUNNING)).decode() == line


def test_the_agents_own_tools_are_data_so_that_no_client_answers_them() -> None:
    called = AgentToolCalled("call_1", "run", {"a": 1})
    returned = AgentToolReturned("call_1", "run", "text", {"ok": True})
    failed = AgentToolReturned("call_1", "run", "no such file", is_error=True)
    encoder = DataV1Encoder(HEAD)
    assert encoder.encode(called) == (
        b'2:[{"type":"agent_tool_called","call_id":"call_1","tool":"run","arguments":{"a":1}}]\n'
    )
    assert encoder.encode(returned) == (
        b'2:[{"type":"agent_tool_returned","call_id":"call_1","tool":"run",'
        b'"result":{"ok":true},"is_error":false}]\n'
    )
    assert VercelEncoder(HEAD).encode(failed) == (
        b'2:{"type":"agent_tool_returned","call_id":"call_1","tool":"run",'
        b'"result":"no such file","is_error":true}\n'
    )


@pytest.mark.parametrize(
    ("finish", "vercel", "data_v1"),
    [
        (
            Finished("stop", usage=Usage(11, 7, 18)),
            'd:{"finishReason":"stop"}\n',
            'd:{"finishReason":"stop","usage":{"promptTokens":11,"completionTokens":7}}\n',
        ),
        (
            Finished("tool_calls"),
            'd:{"finishReason":"tool-calls"}\n',
            'd:{"finishReason":"tool-calls"}\n',
        ),
        (
            Finished("content_filter"),
            'd:{"finishReason":"content-filter"}\n',
            'd:{"finishReason":"content-filter"}\n',
        ),
        (Finished("length"), 'd:{"finishReason":"length"}\n', 'd:{"finishReason":"length"}\n'),
    ],
)
def test_a_stream_ends_with_its_one_finish(finish: Finished, vercel: str, data_v1: str) -> None:
    for encoder, line in ((VercelEncoder(HEAD), vercel), (DataV1Encoder(HEAD), data_v1)):
        assert encoder.encode(finish) == b""
        assert encoder.close().decode() == line


def test_the_first_choice_gives_the_reason_and_the_last_the_usage() -> None:
    encoder = DataV1Encoder(HEAD)
    encoder.encode(Finished("length"))
    encoder.encode(Finished("stop", 1, Usage(1, 2, 3)))
    assert encoder.close() == (
        b'd:{"finishReason":"length","usage":{"promptTokens":1,"completionTokens":2}}\n'
    )


@pytest.mark.parametrize("encoder", [VercelEncoder, DataV1Encoder])
@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="before any event"),
        pytest.param([TextDelta("a")], id="after text"),
        pytest.param([Finished("stop", usage=Usage(1, 2, 3))], id="after the finish"),
    ],
)
def test_a_failure_is_the_error_line_and_one_finish(
    encoder: type[VercelEncoder], events: list[Event]
) -> None:
    stream = encoder(HEAD)
    for event in events:
        stream.encode(event)
    assert stream.fail(BridgeTimeoutError('no "answer"\nin 30 s')) == (
        b'3:"no \\"answer\\"\\nin 30 s"\nd:{"finishReason":"error"}\n'
    )


@pytest.mark.parametrize("encoder", [VercelEncoder, DataV1Encoder])
def test_the_headers_name_the_protocol(encoder: type[VercelEncoder]) -> None:
    stream = encoder(HEAD)
    assert stream.content_type == "text/plain; charset=utf-8"
    assert stream.keep_alive == b"\n"
    assert dict(stream.headers) == {
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "vary": "X-Streaming-Format",
        "x-vercel-ai-data-stream": "v1",
    }
