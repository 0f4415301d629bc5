"""`openai-sse` and `sse-inline`: the bytes of every event, and what a loop over them finds."""

import json

import pytest

from streaming.encoder import StreamHead
from streaming.errors import RateLimitError, UpstreamConnectionError
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
from streaming.openai_sse import OpenAISSEEncoder, SSEInlineEncoder
from streaming.sse import SSEDecoder

HEAD = StreamHead("chatcmpl-1", "kubiya-workflow-agent", 1700000000)
SILENT = StreamHead("chatcmpl-1", "kubiya-workflow-agent", 1700000000, progress_text=False)
COUNTED = StreamHead("chatcmpl-1", "kubiya-workflow-agent", 1700000000, include_usage=True)
USAGE = Usage(11, 7, 18, cached_tokens=3, cache_creation_tokens=2, reasoning_tokens=5)
USAGE_JSON = (
    '{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,'
    '"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":2},'
    '"completion_tokens_details":{"reasoning_tokens":5}}'
)
STEP = {"type": "step_complete", "step": "check-disk", "output": "65%", "duration": "1.2s"}
STEP_JSON = '{"type":"step_complete","step":"check-disk","output":"65%","duration":"1.2s"}'


def chunk(delta: str, *, index: int = 0, reason: str = "null", extra: str = "") -> str:
    return (
        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
        '"model":"kubiya-workflow-agent",'
        f'"choices":[{{"index":{index},"delta":{delta},"finish_reason":{reason}}}]{extra}}}\n\n'
    )


CASES = [
    pytest.param([TextDelta('a"\n\u00e9')], [chunk('{"content":"a\\"\\n\u00e9"}')], id="text"),
    pytest.param([Started("upstream", "gpt")], [], id="started is not shown"),
    pytest.param(
        [ReasoningDelta("hm")], [chunk('{"reasoning_content":"hm"}')], id="visible thinking"
    ),
    pytest.param([ReasoningEnded(ReasoningBlock("hm"))], [], id="thinking without a signature"),
    pytest.param(
        [ReasoningEnded(ReasoningBlock("hm", signature="sig"))],
        [chunk('{"thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"sig"}]}')],
        id="signed thinking",
    ),
    pytest.param(
        [ReasoningEnded(ReasoningBlock("", redacted_data="xyz"))],
        [chunk('{"thinking_blocks":[{"type":"redacted_thinking","data":"xyz"}]}')],
        id="hidden thinking",
    ),
    pytest.param([RefusalDelta("no")], [chunk('{"refusal":"no"}')], id="refusal"),
    pytest.param(
        [
            ToolCallStarted(1, "call_1", "look"),
            ToolCallDelta(1, ""),
            ToolCallDelta(1, '{"a"'),
            ToolCallDelta(1, ":1}"),
            ToolCallEnded(1, "call_1", "look", '{"a":1}'),
            Finished("tool_calls"),
        ],
        [
            chunk(
                '{"tool_calls":[{"index":1,"id":"call_1","type":"function",'
                '"function":{"name":"look","arguments":""}}]}'
            ),
            chunk('{"tool_calls":[{"index":1,"function":{"arguments":"{\\"a\\""}}]}'),
            chunk('{"tool_calls":[{"index":1,"function":{"arguments":":1}"}}]}'),
            chunk("{}", reason='"tool_calls"'),
        ],
        id="tool call in parts",
    ),
    pytest.param(
        [ToolCallStarted(0, "call_1", "look"), ToolCallEnded(0, "call_1", "look", "{}")],
        [
            chunk(
                '{"tool_calls":[{"index":0,"id":"call_1","type":"function",'
                '"function":{"name":"look","arguments":""}}]}'
            ),
            chunk('{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}'),
        ],
        id="tool call whose arguments came at its end alone",
    ),
    pytest.param(
        [
            AgentToolCalled("call_1", "plan_workflow", {}),
            AgentToolReturned("call_1", "plan_workflow", "ok"),
        ],
        [],
        id="the agent's own tools are not shown",
    ),
    pytest.param(
        [Finished("length", usage=USAGE)],
        [chunk("{}", reason='"length"', extra=f',"usage":{USAGE_JSON}')],
        id="usage on the finish chunk",
    ),
    pytest.param(
        [TextDelta("a"), TextDelta("b", choice=1), Finished("stop", 1), Finished("stop")],
        [
            chunk('{"content":"a"}'),
            chunk('{"role":"assistant","content":""}', index=1),
            chunk('{"content":"b"}', index=1),
            chunk("{}", index=1, reason='"stop"'),
            chunk("{}", reason='"stop"'),
        ],
        id="two choices, each with its role and its finish",
    ),
]


def encode(encoder: OpenAISSEEncoder, events: list[Event]) -> str:
    return b"".join(map(encoder.encode, events)).decode()


@pytest.mark.parametrize("encoder", [OpenAISSEEncoder, SSEInlineEncoder])
@pytest.mark.parametrize(("events", "chunks"), CASES)
def test_events_become_chunks(
    encoder: type[OpenAISSEEncoder], events: list[Event], chunks: list[str]
) -> None:
    assert encode(encoder(HEAD), events) == "".join(chunks)


@pytest.mark.parametrize("encoder", [OpenAISSEEncoder, SSEInlineEncoder])
def test_a_stream_opens_with_the_role_and_ends_with_done(encoder: type[OpenAISSEEncoder]) -> None:
    stream = encoder(HEAD)
    assert stream.open().decode() == chunk('{"role":"assistant","content":""}')
    assert stream.close() == b"data: [DONE]\n\n"


def test_a_workflow_event_is_an_extra_on_an_empty_delta() -> None:
    expected = chunk("{}", extra=f',"workflow_event":{STEP_JSON}')
    assert encode(OpenAISSEEncoder(SILENT), [WorkflowEvent(STEP)]) == expected


def test_a_workflow_event_is_the_whole_content_of_its_chunk_in_the_inline_format() -> None:
    content = json.dumps("2:" + STEP_JSON)
    expected = chunk(f'{{"content":{content}}}', extra=f',"workflow_event":{STEP_JSON}')
    assert encode(SSEInlineEncoder(SILENT), [WorkflowEvent(STEP)]) == expected


@pytest.mark.parametrize("encoder", [OpenAISSEEncoder, SSEInlineEncoder])
def test_progress_is_written_as_text_of_its_own_chunk_before_the_event(
    encoder: type[OpenAISSEEncoder],
) -> None:
    written = encode(encoder(HEAD), [TextDelta("Running."), WorkflowEvent(STEP)])
    first, second, third = written.removesuffix("\n\n").split("\n\n")
    assert first + "\n\n" == chunk('{"content":"Running."}')
    assert second + "\n\n" == chunk('{"content":"\\nStep 1: check-disk done in 1.2s: 65%\\n"}')
    assert json.loads(third.removeprefix("data: "))["workflow_event"] == STEP


def test_a_new_line_is_begun_only_where_the_text_did_not_end_one() -> None:
    written = encode(OpenAISSEEncoder(HEAD), [TextDelta("Running.\n"), WorkflowEvent(STEP)])
    assert '"content":"Step 1: check-disk' in written


def test_an_event_that_says_nothing_to_people_has_no_text() -> None:
    output = WorkflowEvent({"type": "step_output", "step": "a", "text": "x"})
    expected = chunk("{}", extra=',"workflow_event":{"type":"step_output","step":"a","text":"x"}')
    assert encode(OpenAISSEEncoder(HEAD), [output]) == expected


def test_the_documented_loop_finds_every_event_of_the_inline_format() -> None:
    running = {"type": "step_running", "step": "check-disk", "message": "2: checking"}
    encoder = SSEInlineEncoder(HEAD)
    events: list[Event] = [WorkflowEvent(running), WorkflowEvent(STEP), Finished("stop")]
    stream = encoder.open() + encode(encoder, events).encode() + encoder.close()
    found = []
    for frame in SSEDecoder().feed(stream):
        if frame.data == b"[DONE]":
            break
        content = json.loads(frame.data)["choices"][0]["delta"].get("content")
        if content and content.startswith("2:"):
            found.append(json.loads(content[2:]))
    assert found == [running, STEP]


def test_no_text_of_the_inline_format_begins_as_an_event_does() -> None:
    encoder = SSEInlineEncoder(HEAD)
    written = encode(encoder, [TextDelta("It is "), TextDelta("2:30"), TextDelta("2:")]).encode()
    contents = [
        json.loads(frame.data)["choices"][0]["delta"]["content"]
        for frame in SSEDecoder().feed(written)
    ]
    assert "".join(contents) == "It is 2:302:"
    assert not [content for content in contents if content.startswith("2:")]


def test_usage_that_was_asked_for_comes_in_one_last_chunk_and_there_alone() -> None:
    encoder = OpenAISSEEncoder(COUNTED)
    written = encode(encoder, [Finished("stop", usage=USAGE)])
    assert written == chunk("{}", reason='"stop"')
    assert encoder.close().decode() == (
        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
        f'"model":"kubiya-workflow-agent","choices":[],"usage":{USAGE_JSON}}}\n\n'
        "data: [DONE]\n\n"
    )


def test_no_usage_is_made_up_where_none_is_known() -> None:
    encoder = OpenAISSEEncoder(COUNTED)
    encode(encoder, [Finished("stop")])
    assert encoder.close() == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="before any event"),
        pytest.param([TextDelta("a")], id="after text"),
        pytest.param([Finished("stop", usage=USAGE)], id="after the finish"),
    ],
)
def test_a_failure_is_an_error_object_and_the_end(events: list[Event]) -> None:
    encoder = OpenAISSEEncoder(COUNTED)
    encode(encoder, events)
    assert encoder.fail(UpstreamConnectionError("cut", provider="openai")).decode() == (
        'data: {"error":{"message":"cut","type":"server_error","param":null,'
        '"code":"upstream_connection"}}\n\ndata: [DONE]\n\n'
    )


def test_an_error_keeps_its_type_and_its_field() -> None:
    error = RateLimitError("slow down", param="n")
    assert b'"type":"rate_limit_exceeded","param":"n"' in OpenAISSEEncoder(HEAD).fail(error)


def test_names_with_quotes_do_not_break_the_chunk() -> None:
    encoder = OpenAISSEEncoder(StreamHead('a"b', 'm"\u00e9%d', 1))
    (event,) = SSEDecoder().feed(encoder.encode(TextDelta("100%s")))
    data = json.loads(event.data)
    assert (data["id"], data["model"]) == ('a"b', 'm"\u00e9%d')
    assert data["choices"][0]["delta"] == {"content": "100%s"}


def test_the_headers_keep_proxies_from_buffering() -> None:
    encoder = OpenAISSEEncoder(HEAD)
    assert encoder.content_type == "text/event-stream; charset=utf-8"
    assert encoder.keep_alive == b": ping\n\n"
    assert dict(encoder.headers) == {
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "vary": "X-Streaming-Format",
    }
