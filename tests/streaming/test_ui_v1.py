"""`ui-v1`: the chunks of every event, with every part closed before the next begins."""

import pytest

from streaming.encoder import StreamHead
from streaming.errors import AgentLimitError
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
from streaming.ui_v1 import UIV1Encoder

HEAD = StreamHead("msg_1", "m", 1700000000)
TALKING = StreamHead("msg_1", "m", 1700000000, progress_text=True)
STEP = {"type": "step_complete", "step": "check-disk", "run_id": "r1"}
STEP_JSON = '{"type":"step_complete","step":"check-disk","run_id":"r1"}'
DONE = {"type": "workflow_complete", "workflow": "system-check", "run_id": "r1"}
DONE_JSON = '{"type":"workflow_complete","workflow":"system-check","run_id":"r1"}'
TEXT_1 = [
    '{"type":"text-start","id":"part_1"}',
    '{"type":"text-delta","id":"part_1","delta":"Hi"}',
]
TEXT_1_END = '{"type":"text-end","id":"part_1"}'
CALLED = (
    '{"type":"tool-input-available","toolCallId":"call_1","toolName":"run","input":{"a":1},'
    '"providerExecuted":true,"dynamic":true}'
)

CASES = [
    pytest.param(
        [TextDelta("Hi"), TextDelta(""), TextDelta(' "you"\n')],
        [*TEXT_1, '{"type":"text-delta","id":"part_1","delta":" \\"you\\"\\n"}'],
        id="one text part for all its deltas",
    ),
    pytest.param([TextDelta("")], [], id="no part for no text"),
    pytest.param([RefusalDelta("Hi")], TEXT_1, id="refusal is text"),
    pytest.param(
        [TextDelta("Hi"), WorkflowEvent(STEP), WorkflowEvent(DONE), TextDelta("Bye")],
        [
            *TEXT_1,
            TEXT_1_END,
            f'{{"type":"data-workflow","id":"step:check-disk","data":{STEP_JSON}}}',
            f'{{"type":"data-workflow","id":"workflow:system-check","data":{DONE_JSON}}}',
            '{"type":"text-start","id":"part_2"}',
            '{"type":"text-delta","id":"part_2","delta":"Bye"}',
        ],
        id="a workflow event closes the text before it",
    ),
    pytest.param(
        [
            WorkflowEvent(STEP),
            WorkflowEvent({**STEP, "run_id": "r2"}),
            WorkflowEvent(STEP),
            WorkflowEvent({"type": "workflow_started", "run_id": "r2"}),
        ],
        [
            f'{{"type":"data-workflow","id":"step:check-disk","data":{STEP_JSON}}}',
            '{"type":"data-workflow","id":"step:check-disk:r2",'
            '"data":{"type":"step_complete","step":"check-disk","run_id":"r2"}}',
            f'{{"type":"data-workflow","id":"step:check-disk","data":{STEP_JSON}}}',
            '{"type":"data-workflow","id":"workflow:r2:r2",'
            '"data":{"type":"workflow_started","run_id":"r2"}}',
        ],
        id="a second run does not overwrite the first",
    ),
    pytest.param(
        [
            ReasoningDelta("hm"),
            ReasoningEnded(ReasoningBlock("hm", signature="sig")),
            ReasoningDelta("so"),
            TextDelta("Hi"),
            ReasoningDelta("oh"),
        ],
        [
            '{"type":"reasoning-start","id":"part_1"}',
            '{"type":"reasoning-delta","id":"part_1","delta":"hm"}',
            '{"type":"reasoning-end","id":"part_1",'
            '"providerMetadata":{"agent_server":{"signature":"sig"}}}',
            '{"type":"reasoning-start","id":"part_2"}',
            '{"type":"reasoning-delta","id":"part_2","delta":"so"}',
            '{"type":"reasoning-end","id":"part_2"}',
            '{"type":"text-start","id":"part_3"}',
            '{"type":"text-delta","id":"part_3","delta":"Hi"}',
            '{"type":"text-end","id":"part_3"}',
            '{"type":"reasoning-start","id":"part_4"}',
            '{"type":"reasoning-delta","id":"part_4","delta":"oh"}',
        ],
        id="thinking is a part of its own, its signature in the metadata",
    ),
    pytest.param(
        [
            TextDelta("Hi"),
            ReasoningEnded(ReasoningBlock("", redacted_data="xyz")),
            ReasoningEnded(ReasoningBlock("")),
        ],
        [
            *TEXT_1,
            TEXT_1_END,
            '{"type":"reasoning-start","id":"part_2"}',
            '{"type":"reasoning-end","id":"part_2",'
            '"providerMetadata":{"agent_server":{"redactedData":"xyz"}}}',
        ],
        id="hidden thinking is kept without a text",
    ),
    pytest.param(
        [
            Started("x", "y"),
            ToolCallStarted(0, "call_1", "look"),
            ToolCallDelta(0, "{}"),
            ToolCallEnded(0, "call_1", "look", '{"a":1}'),
            ToolCallEnded(1, "call_2", "look", "{cut"),
        ],
        [
            '{"type":"tool-input-available","toolCallId":"call_1","toolName":"look",'
            '"input":{"a":1}}',
            '{"type":"tool-input-available","toolCallId":"call_2","toolName":"look",'
            '"input":{"arguments":"{cut"}}',
        ],
        id="a client's tool is left for the client to execute",
    ),
    pytest.param(
        [
            TextDelta("Hi"),
            AgentToolCalled("call_1", "run", {"a": 1}),
            AgentToolReturned("call_1", "run", "text", {"ok": True}),
        ],
        [
            *TEXT_1,
            TEXT_1_END,
            CALLED,
            '{"type":"tool-output-available","toolCallId":"call_1","output":{"ok":true},'
            '"providerExecuted":true,"dynamic":true}',
        ],
        id="the agent's own tool was executed by the server",
    ),
    pytest.param(
        [
            AgentToolCalled("call_1", "run", {"a": 1}),
            AgentToolReturned("call_1", "run", "no such file", is_error=True),
        ],
        [
            CALLED,
            '{"type":"tool-output-error","toolCallId":"call_1","errorText":"no such file",'
            '"providerExecuted":true,"dynamic":true}',
        ],
        id="the agent's own tool failed",
    ),
    pytest.param(
        [AgentToolReturned("call_1", "run", "text")],
        [
            '{"type":"tool-input-available","toolCallId":"call_1","toolName":"run","input":{},'
            '"providerExecuted":true,"dynamic":true}',
            '{"type":"tool-output-available","toolCallId":"call_1","output":"text",'
            '"providerExecuted":true,"dynamic":true}',
        ],
        id="an output never comes without its input",
    ),
    pytest.param(
        [
            TextDelta("b", 1),
            ReasoningDelta("b", 1),
            ReasoningEnded(ReasoningBlock("b", "s"), 1),
            ToolCallEnded(0, "c", "n", "{}", 1),
        ],
        [],
        id="one message",
    ),
]


def frames(*chunks: str) -> str:
    return "".join(f"data: {chunk}\n\n" for chunk in chunks)


@pytest.mark.parametrize(("events", "chunks"), CASES)
def test_events_become_chunks(events: list[Event], chunks: list[str]) -> None:
    encoder = UIV1Encoder(HEAD)
    assert b"".join(map(encoder.encode, events)).decode() == frames(*chunks)


def test_a_stream_opens_with_a_message_of_its_own_id_and_its_step() -> None:
    assert UIV1Encoder(HEAD).open().decode() == frames(
        '{"type":"start","messageId":"msg_1"}', '{"type":"start-step"}'
    )


def test_an_answer_that_continues_a_message_names_no_id_and_keeps_its_runs_apart() -> None:
    encoder = UIV1Encoder(StreamHead("msg_1", "m", 1700000000, continues_message=True))
    assert encoder.open().decode() == frames('{"type":"start"}', '{"type":"start-step"}')
    assert encoder.encode(WorkflowEvent(STEP)).decode() == frames(
        f'{{"type":"data-workflow","id":"step:check-disk:r1","data":{STEP_JSON}}}'
    )


def test_a_stream_ends_with_its_text_closed_and_the_reason_in_the_metadata() -> None:
    encoder = UIV1Encoder(HEAD)
    encoder.encode(TextDelta("Hi"))
    assert encoder.encode(Finished("tool_calls", usage=Usage(11, 7, 20))) == b""
    assert encoder.close().decode() == frames(
        TEXT_1_END,
        '{"type":"finish-step"}',
        '{"type":"finish","messageMetadata":{"finishReason":"tool-calls",'
        '"usage":{"inputTokens":11,"outputTokens":7,"totalTokens":20}}}',
        "[DONE]",
    )


@pytest.mark.parametrize(
    ("events", "closing"),
    [
        pytest.param([], [], id="before any event"),
        pytest.param([TextDelta("Hi")], [TEXT_1_END], id="with a text open"),
        pytest.param(
            [ReasoningDelta("hm")], ['{"type":"reasoning-end","id":"part_1"}'], id="while thinking"
        ),
        pytest.param(
            [AgentToolCalled("call_1", "run", {"a": 1}), TextDelta("Hi")],
            [
                TEXT_1_END,
                '{"type":"tool-output-error","toolCallId":"call_1","errorText":"enough",'
                '"providerExecuted":true,"dynamic":true}',
            ],
            id="during a tool of the agent",
        ),
        pytest.param([Finished("stop", usage=Usage(1, 2, 3))], [], id="after the finish"),
    ],
)
def test_a_failure_closes_what_is_open_before_the_error(
    events: list[Event], closing: list[str]
) -> None:
    encoder = UIV1Encoder(HEAD)
    for event in events:
        encoder.encode(event)
    assert encoder.fail(AgentLimitError("enough")).decode() == frames(
        *closing,
        '{"type":"error","errorText":"enough"}',
        '{"type":"finish-step"}',
        '{"type":"finish","messageMetadata":{"finishReason":"error"}}',
        "[DONE]",
    )


def test_progress_as_text_is_a_text_part_before_its_event() -> None:
    assert UIV1Encoder(TALKING).encode(WorkflowEvent(STEP)).decode() == frames(
        '{"type":"text-start","id":"part_1"}',
        '{"type":"text-delta","id":"part_1","delta":"Step 1: check-disk done\\n"}',
        TEXT_1_END,
        f'{{"type":"data-workflow","id":"step:check-disk","data":{STEP_JSON}}}',
    )


def test_the_headers_name_the_protocol() -> None:
    encoder = UIV1Encoder(HEAD)
    assert encoder.content_type == "text/event-stream; charset=utf-8"
    assert encoder.keep_alive == b": ping\n\n"
    assert dict(encoder.headers) == {
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "vary": "X-Streaming-Format",
        "x-vercel-ai-ui-message-stream": "v1",
    }
