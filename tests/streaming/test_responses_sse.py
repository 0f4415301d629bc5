"""`responses`: the events of every answer, and what OpenAI's SDK and its own types make of them."""

import asyncio
import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from streaming.encoder import StreamHead
from streaming.errors import (
    AgentServerError,
    ContextLengthError,
    InvalidRequestError,
    RateLimitError,
    UpstreamConnectionError,
)
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
from streaming.responses_body import ResponseBody
from streaming.responses_objects import CalledTool, ResponseSettings, decrypted_block
from streaming.responses_sse import ResponsesEncoder
from streaming.sse import SSEDecoder
from tests.servers import Scripted, scripted

HEAD = StreamHead("resp_1", "kubiya-workflow-agent", 1700000000)
COMPLETED_AT = 1700000009
USAGE = Usage(11, 7, 18, cached_tokens=3, cache_creation_tokens=2, reasoning_tokens=5)
USAGE_OBJECT = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 18,
}
STEP: JsonObject = {
    "type": "step_complete",
    "step": "check-disk",
    "output": "65%",
    "run_id": "r",
    "seq": 1,
}
LIVE: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
SETTINGS = ResponseSettings(
    fields={
        "instructions": "Be brief.",
        "temperature": 0.5,
        "tools": [{"type": "function", "name": "look", "parameters": {}, "strict": True}],
    },
    tools={"patch": CalledTool("patch", is_custom=True), "mcp__find": CalledTool("find", "mcp")},
)

TEXT: list[Event] = [
    Started("up", "gpt"),
    TextDelta("He"),
    TextDelta("llo"),
    Finished("stop", usage=USAGE),
]
THOUGHT: list[Event] = [
    ReasoningDelta("h"),
    ReasoningDelta("m"),
    ReasoningEnded(ReasoningBlock("hm", signature="sig")),
    ReasoningEnded(ReasoningBlock("", redacted_data="xyz")),
    TextDelta("Look."),
    ToolCallStarted(0, "call_1", "look"),
    ToolCallDelta(0, '{"a"'),
    ToolCallStarted(1, "call_2", "mcp__find"),
    ToolCallDelta(1, "{}"),
    ToolCallDelta(0, ":1}"),
    ToolCallEnded(0, "call_1", "look", '{"a":1}'),
    ToolCallEnded(1, "call_2", "mcp__find", "{}"),
    TextDelta("Done."),
    Finished("tool_calls", usage=USAGE),
]
CUSTOM: list[Event] = [
    ToolCallStarted(0, "call_1", "patch"),
    ToolCallDelta(0, '{"input":'),
    ToolCallDelta(0, '"*** Begin\\n"}'),
    ToolCallEnded(0, "call_1", "patch", '{"input":"*** Begin\\n"}'),
    Finished("tool_calls"),
]
REFUSED: list[Event] = [
    TextDelta("Well. "),
    RefusalDelta("I "),
    RefusalDelta("won't."),
    Finished("stop"),
]
AGENT: list[Event] = [
    TextDelta("Running. "),
    AgentToolCalled("c", "execute_workflow", {}),
    WorkflowEvent(STEP),
    WorkflowEvent({**STEP, "type": "step_output", "text": "x"}),
    AgentToolReturned("c", "execute_workflow", "ok"),
    TextDelta("Done."),
    Finished("stop"),
]
ANSWERS: dict[str, list[Event]] = {
    "text": TEXT,
    "thinking and calls": THOUGHT,
    "a custom tool": CUSTOM,
    "a refusal": REFUSED,
    "the agent": AGENT,
    "nothing": [Finished("stop")],
    "cut by its length": [TextDelta("He"), Finished("length")],
    "filtered": [TextDelta("He"), Finished("content_filter")],
    "a call in one piece": [ToolCallEnded(0, "call_1", "look", "{}"), Finished("tool_calls")],
    "other choices": [TextDelta("a"), TextDelta("b", choice=1), Finished("stop")],
}


def clock() -> float:
    return COMPLETED_AT + 0.5


def stream_of(events: list[Event], head: StreamHead = HEAD) -> bytes:
    encoder = ResponsesEncoder(head, SETTINGS, clock)
    return encoder.open() + b"".join(map(encoder.encode, events)) + encoder.close()


def failed_stream(events: list[Event], error: AgentServerError) -> bytes:
    encoder = ResponsesEncoder(HEAD, SETTINGS, clock)
    return encoder.open() + b"".join(map(encoder.encode, events)) + encoder.fail(error)


def events_of(stream: bytes) -> list[JsonObject]:
    """The events, of which each frame's name is the event's type."""
    decoder = SSEDecoder()
    events = []
    for frame in decoder.feed(stream):
        event = json.loads(frame.data)
        assert frame.event == event["type"]
        events.append(event)
    return events


def shape(event: JsonObject) -> str:
    """An event in short: what it is, where, and what it adds."""
    name = str(event["type"]).removeprefix("response.")
    where = ".".join(
        str(event[key])
        for key in ("output_index", "content_index", "summary_index")
        if key in event
    )
    texts = ("delta", "text", "refusal", "arguments", "input")
    text = next((f" {event[key]}" for key in texts if key in event), "")
    return f"{name} {where}".strip() + text


def test_a_text_goes_through_the_whole_life_of_a_response() -> None:
    events = events_of(stream_of(TEXT))
    assert [shape(event) for event in events] == [
        "created",
        "in_progress",
        "output_item.added 0",
        "content_part.added 0.0",
        "output_text.delta 0.0 He",
        "output_text.delta 0.0 llo",
        "output_text.done 0.0 Hello",
        "content_part.done 0.0",
        "output_item.done 0",
        "completed",
    ]
    message = {
        "id": "msg_1_0",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
    }
    assert events[2]["item"] == {**message, "status": "in_progress", "content": []}
    assert events[8]["item"] == message
    created, completed = events[0]["response"], events[-1]["response"]
    assert isinstance(created, dict)
    assert isinstance(completed, dict)
    assert created["status"] == "in_progress"
    assert created["output"] == []
    assert created["usage"] is None
    assert created["instructions"] == "Be brief."
    assert created["temperature"] == 0.5
    assert completed == {
        **created,
        "status": "completed",
        "completed_at": COMPLETED_AT,
        "output": [message],
        "usage": USAGE_OBJECT,
    }


def test_thinking_text_and_calls_are_items_of_their_own() -> None:
    events = events_of(stream_of(THOUGHT))
    assert [shape(event) for event in events[2:-1]] == [
        "output_item.added 0",
        "reasoning_summary_part.added 0.0",
        "reasoning_summary_text.delta 0.0 h",
        "reasoning_summary_text.delta 0.0 m",
        "reasoning_summary_text.done 0.0 hm",
        "reasoning_summary_part.done 0.0",
        "output_item.done 0",
        "output_item.added 1",
        "output_item.done 1",
        "output_item.added 2",
        "content_part.added 2.0",
        "output_text.delta 2.0 Look.",
        "output_text.done 2.0 Look.",
        "content_part.done 2.0",
        "output_item.done 2",
        "output_item.added 3",
        'function_call_arguments.delta 3 {"a"',
        "output_item.added 4",
        "function_call_arguments.delta 4 {}",
        "function_call_arguments.delta 3 :1}",
        'function_call_arguments.done 3 {"a":1}',
        "output_item.done 3",
        "function_call_arguments.done 4 {}",
        "output_item.done 4",
        "output_item.added 5",
        "content_part.added 5.0",
        "output_text.delta 5.0 Done.",
        "output_text.done 5.0 Done.",
        "content_part.done 5.0",
        "output_item.done 5",
    ]
    output = last_response(events)["output"]
    assert [item["type"] for item in output] == [
        "reasoning",
        "reasoning",
        "message",
        "function_call",
        "function_call",
        "message",
    ]
    assert len({item["id"] for item in output}) == 6
    assert output[4]["name"] == "find"
    assert output[4]["namespace"] == "mcp"


def test_signed_and_hidden_thinking_comes_back_as_it_was() -> None:
    signed, hidden = last_response(events_of(stream_of(THOUGHT)))["output"][:2]
    text = signed["summary"][0]["text"]
    assert decrypted_block(text, signed["encrypted_content"]) == ReasoningBlock("hm", "sig")
    assert hidden["summary"] == []
    assert decrypted_block("", hidden["encrypted_content"]) == ReasoningBlock("", None, "xyz")


def test_what_another_server_encrypted_is_none_of_ours() -> None:
    assert decrypted_block("hm", "gAAAA") is None


def test_a_custom_tool_gets_its_text_out_of_the_json() -> None:
    events = events_of(stream_of(CUSTOM))
    assert [shape(event) for event in events[2:-1]] == [
        "output_item.added 0",
        "custom_tool_call_input.delta 0 *** Begin\n",
        "custom_tool_call_input.done 0 *** Begin\n",
        "output_item.done 0",
    ]
    assert last_response(events)["output"] == [
        {
            "id": "ctc_1_0",
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "call_1",
            "name": "patch",
            "input": "*** Begin\n",
        }
    ]


@pytest.mark.parametrize("arguments", ["no json", '{"other":1}', '{"input":1}', "[]"])
def test_a_custom_tool_called_in_another_form_gets_all_of_it(arguments: str) -> None:
    events = events_of(stream_of([ToolCallEnded(0, "c", "patch", arguments), Finished("stop")]))
    assert last_response(events)["output"][0]["input"] == arguments


def test_a_call_whose_arguments_came_at_its_end_alone_has_a_delta() -> None:
    events = events_of(stream_of(ANSWERS["a call in one piece"]))
    assert [shape(event) for event in events[2:5]] == [
        "output_item.added 0",
        "function_call_arguments.delta 0 {}",
        "function_call_arguments.done 0 {}",
    ]


def test_a_refusal_is_a_part_of_its_own() -> None:
    events = events_of(stream_of(REFUSED))
    assert [shape(event) for event in events[3:-2]] == [
        "content_part.added 0.0",
        "output_text.delta 0.0 Well. ",
        "output_text.done 0.0 Well. ",
        "content_part.done 0.0",
        "content_part.added 0.1",
        "refusal.delta 0.1 I ",
        "refusal.delta 0.1 won't.",
        "refusal.done 0.1 I won't.",
        "content_part.done 0.1",
    ]


def test_the_agents_own_tools_are_not_shown_and_its_steps_are() -> None:
    events = events_of(stream_of(AGENT))
    steps = [event for event in events if event["type"] == "response.workflow.event"]
    assert len(steps) == 2
    assert steps[0]["workflow_event"] == STEP
    response = last_response(events)
    assert [item["type"] for item in response["output"]] == ["message"]
    assert response["output"][0]["content"][0]["text"] == "Running. Done."
    assert response["workflow_events"] == [STEP]


def test_progress_is_text_where_it_was_asked_for() -> None:
    head = StreamHead("resp_1", "m", 1, progress_text=True)
    text = last_response(events_of(stream_of(AGENT, head)))["output"][0]["content"][0]["text"]
    assert text == "Running. \nStep 1: check-disk done: 65%\nDone."


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("cut by its length", "max_output_tokens"), ("filtered", "content_filter")],
)
def test_an_answer_that_was_cut_is_incomplete(answer: str, reason: str) -> None:
    events = events_of(stream_of(ANSWERS[answer]))
    assert events[-1]["type"] == "response.incomplete"
    response = last_response(events)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert response["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamConnectionError("cut off"), "server_error"),
        (RateLimitError("too much"), "rate_limit_exceeded"),
        (InvalidRequestError("bad image"), "invalid_prompt"),
        (ContextLengthError("too long"), "context_length_exceeded"),
    ],
)
def test_a_failure_closes_what_is_open_and_is_told_twice(
    error: AgentServerError, code: str
) -> None:
    begun: list[Event] = [TextDelta("Hel"), ToolCallStarted(0, "c", "look"), ToolCallDelta(0, "{")]
    events = events_of(failed_stream(begun, error))
    assert [event["type"] for event in events[-4:]] == [
        "response.function_call_arguments.done",
        "response.output_item.done",
        "error",
        "response.failed",
    ]
    told = events[-2]
    assert (told["code"], told["message"], told["param"]) == (code, error.message, None)
    nested = told["error"]
    assert isinstance(nested, dict)
    assert nested["message"] == error.message
    response = last_response(events)
    assert response["status"] == "failed"
    assert response["error"] == {"code": code, "message": error.message}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_a_cancelled_response_ends_without_an_error() -> None:
    cancelled = AgentServerError("cancelled", code="response_cancelled")
    events = events_of(failed_stream([TextDelta("Hel")], cancelled))
    assert [event["type"] for event in events[-2:]] == [
        "response.output_item.done",
        "response.incomplete",
    ]
    assert last_response(events)["status"] == "cancelled"
    assert last_response(events)["error"] is None


@pytest.mark.parametrize("name", ANSWERS)
def test_events_are_numbered_without_a_gap_and_keep_to_openais_types(name: str) -> None:
    events = events_of(stream_of(ANSWERS[name]))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    check_types(events)
    begun = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    assert begun == list(range(len(begun)))


def test_the_events_of_a_failure_keep_to_openais_types() -> None:
    events = events_of(failed_stream(THOUGHT[:9], UpstreamConnectionError("cut off")))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    check_types(events)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_json_answer_is_what_ends_the_stream(name: str) -> None:
    body = ResponseBody(HEAD, SETTINGS, clock)
    for event in ANSWERS[name]:
        body.add(event)
    assert body.body() == last_response(events_of(stream_of(ANSWERS[name])))
    Response.model_validate(body.body())


@pytest.mark.parametrize("name", ANSWERS)
async def test_the_openai_sdk_accumulates_the_stream(name: str) -> None:
    stream = stream_of(ANSWERS[name])
    expected = last_response(events_of(stream))
    async with scripted(sse(b": ping\n\n" + stream)) as server, client_of(server.url) as client:
        async with client.responses.stream(model="m", input="hi") as answer:
            kinds = [event.type async for event in answer]
        raw = [event async for event in await create(client)]
    assert kinds == [event["type"] for event in events_of(stream)]
    assert [event.type for event in raw] == kinds
    final = raw[-1]
    assert final.type in {"response.completed", "response.incomplete"}
    assert [item.type for item in final.response.output] == [
        item["type"] for item in expected["output"]
    ]
    if expected["status"] == "completed":
        text = "".join(
            part["text"]
            for item in expected["output"]
            for part in item.get("content", [])
            if part["type"] == "output_text"
        )
        accumulated = await answer.get_final_response()
        assert accumulated.output_text == text


async def test_the_openai_sdk_raises_a_failure() -> None:
    stream = failed_stream([TextDelta("Hel")], UpstreamConnectionError("the line was cut"))
    async with scripted(sse(stream)) as server, client_of(server.url) as client:
        answer = await create(client)
        with pytest.raises(openai.APIError, match="the line was cut"):
            async for _ in answer:
                pass


async def test_the_openai_sdk_reads_the_json_answer() -> None:
    body = ResponseBody(HEAD, SETTINGS, clock)
    for event in TEXT:
        body.add(event)
    whole = json.dumps(body.body()).encode()
    answer = Scripted(200, (whole,), {"content-type": "application/json"})
    async with scripted(answer) as server, client_of(server.url) as client:
        response = await client.responses.create(model="m", input="hi")
    assert response.output_text == "Hello"
    assert response.usage is not None
    assert response.usage.total_tokens == 18


def last_response(events: list[JsonObject]) -> dict[str, Any]:
    response = events[-1]["response"]
    assert isinstance(response, dict)
    return response


def check_types(events: list[JsonObject]) -> None:
    """Each event is of the type that OpenAI's SDK declares for it."""
    for event in events:
        if event["type"] == "response.workflow.event":
            continue
        read = LIVE.validate_python(event)
        assert read.type == event["type"]
        fields = type(read).model_fields
        missing = {name for name, field in fields.items() if field.is_required()} - {*event}
        assert not missing, f"{event['type']} lacks {missing}"


def sse(stream: bytes) -> Scripted:
    return Scripted(200, (stream,), {"content-type": "text/event-stream"})


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


async def create(client: openai.AsyncOpenAI) -> openai.AsyncStream[Any]:
    async with asyncio.timeout(10):
        return await client.responses.create(model="m", input="hi", stream=True)
