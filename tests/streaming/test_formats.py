"""What holds in every format for every well-formed answer, whatever its events are."""

import json
from collections import Counter
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from streaming.encoder import StreamHead
from streaming.errors import AgentServerError, UpstreamTimeoutError
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
    Event,
    Finished,
    FinishReason,
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
from streaming.formats import FORMATS
from streaming.sse import SSEDecoder

TEXT = st.text(max_size=8)
NAME = st.sampled_from(["check-disk", "a b", '"\n\u2028', "\ud800"])
CHOICE = st.integers(0, 2)
COUNT = st.integers(0, 10**6)
USAGE = st.none() | st.builds(Usage, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT)
REASONS: list[FinishReason] = ["stop", "length", "tool_calls", "content_filter"]
BLOCK = st.builds(ReasoningBlock, TEXT, st.none() | TEXT, st.none() | TEXT)
WORKFLOW_EVENT = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["step_running", "step_complete", "step_failed", "step_output", "workflow_complete"]
        ),
        "run_id": st.sampled_from(["r1", "r2"]),
        "seq": COUNT,
    },
    optional={"step": NAME, "workflow": NAME, "output": TEXT, "error": TEXT, "duration": TEXT},
).map(lambda data: WorkflowEvent(cast("JsonObject", data)))


@st.composite
def tool_call(draw: st.DrawFn, index: int) -> list[Event]:
    call_id, name, choice = f"call_{index}", draw(NAME), draw(CHOICE)
    parts = draw(st.lists(TEXT, max_size=3))
    arguments = "".join(parts) or "{}"
    return [
        ToolCallStarted(index, call_id, name, choice),
        *(ToolCallDelta(index, part, choice) for part in parts),
        ToolCallEnded(index, call_id, name, arguments, choice),
    ]


@st.composite
def agent_tool(draw: st.DrawFn, index: int) -> list[Event]:
    call_id, name = f"agent_{index}", draw(NAME)
    structured: JsonObject | None = {"n": 2**70} if draw(st.booleans()) else None
    returned = AgentToolReturned(call_id, name, draw(TEXT), structured, draw(st.booleans()))
    events: list[Event] = [AgentToolCalled(call_id, name, {"a": 1})]
    return [*events, returned] if draw(st.booleans()) else events


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """A well-formed answer: the events of three choices at most, then a finish for each."""
    events: list[Event] = draw(st.lists(st.just(Started("u", "m")), max_size=1))
    single = st.one_of(
        st.builds(TextDelta, TEXT, CHOICE),
        st.builds(ReasoningDelta, TEXT, CHOICE),
        st.builds(ReasoningEnded, BLOCK, CHOICE),
        st.builds(RefusalDelta, TEXT, CHOICE),
        WORKFLOW_EVENT,
    ).map(lambda event: [event])
    for index in range(draw(st.integers(0, 8))):
        events += draw(st.one_of(single, single, tool_call(index), agent_tool(index)))
    choices = sorted({0, *map(choice_of, events)}, reverse=True)
    for choice in choices:
        usage = draw(USAGE) if choice == choices[-1] else None
        events.append(Finished(draw(st.sampled_from(REASONS)), choice, usage))
    return events


def choice_of(event: Event) -> int:
    choice = getattr(event, "choice", 0)
    assert isinstance(choice, int)
    return choice


HEADS = st.builds(
    StreamHead,
    st.just("id-1"),
    st.just("m"),
    st.just(1700000000),
    st.booleans(),
    st.none() | st.booleans(),
)
ERRORS = st.none() | st.just(UpstreamTimeoutError('too "late"\n', provider="p"))


def encode(
    name: str, head: StreamHead, events: list[Event], error: AgentServerError | None
) -> bytes:
    """The whole stream with a keep-alive after each event; an error comes instead of the finish."""
    encoder = FORMATS[name](head)
    if error is not None:
        events = [event for event in events if not isinstance(event, Finished)]
    body = b"".join(encoder.encode(event) + encoder.keep_alive for event in events)
    return encoder.open() + body + (encoder.close() if error is None else encoder.fail(error))


def sse_objects(stream: bytes) -> list[dict[str, Any]]:
    decoder = SSEDecoder()
    frames = decoder.feed(stream)
    assert not decoder.flush()
    assert frames[-1].data == b"[DONE]"
    return [json.loads(frame.data) for frame in frames[:-1]]


@pytest.mark.parametrize("name", ["openai-sse", "sse-inline"])
@given(head=HEADS, events=answers(), error=ERRORS)
def test_openai_chunks_are_one_answer(
    name: str, head: StreamHead, events: list[Event], error: AgentServerError | None
) -> None:
    chunks = sse_objects(encode(name, head, events, error))
    if error is not None:
        assert chunks.pop()["error"]["code"] == "upstream_timeout"
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    roles: Counter[int] = Counter()
    finishes: Counter[int] = Counter()
    usages = []
    for position, chunk in enumerate(chunks):
        assert {key: chunk[key] for key in ("id", "object", "created", "model")} == {
            "id": "id-1",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": "m",
        }
        assert "error" not in chunk
        if "usage" in chunk:
            usages.append((position, chunk["choices"]))
        for choice in chunk["choices"]:
            roles[choice["index"]] += "role" in choice["delta"]
            assert roles[choice["index"]] == 1
            finishes[choice["index"]] += choice["finish_reason"] is not None
            assert all("index" in call for call in choice["delta"].get("tool_calls", ()))
    if error is not None:
        assert not any(finishes.values())
        assert not usages
        return
    choices = {choice_of(event) for event in events}
    assert finishes == dict.fromkeys(choices, 1)
    known = [event for event in events if isinstance(event, Finished) and event.usage is not None]
    assert len(usages) == len(known)
    for position, with_choices in usages:
        assert (with_choices == []) is head.include_usage
        assert position == len(chunks) - 1


@given(head=HEADS, events=answers())
def test_openai_chunks_hold_the_whole_text_and_every_workflow_event(
    head: StreamHead, events: list[Event]
) -> None:
    silent = StreamHead(head.response_id, head.model, head.created, progress_text=False)
    chunks = sse_objects(encode("openai-sse", silent, events, None))
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    for kind, key in ((TextDelta, "content"), (ReasoningDelta, "reasoning_content")):
        sent = Counter("".join(e.text for e in events if isinstance(e, kind)))
        assert Counter("".join(delta.get(key, "") for delta in deltas)) == sent
    assert [chunk["workflow_event"]["seq"] for chunk in chunks if "workflow_event" in chunk] == [
        event.data["seq"] for event in events if isinstance(event, WorkflowEvent)
    ]
    calls: dict[tuple[int, int], str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls", ()):
                key_ = (choice["index"], call["index"])
                calls[key_] = calls.get(key_, "") + call["function"]["arguments"]
    assert calls == {
        (event.choice, event.index): event.arguments
        for event in events
        if isinstance(event, ToolCallEnded)
    }


@pytest.mark.parametrize("name", ["vercel", "data-v1"])
@given(head=HEADS, events=answers(), error=ERRORS)
def test_lines_stay_in_the_dialect_that_every_client_knows(
    name: str, head: StreamHead, events: list[Event], error: AgentServerError | None
) -> None:
    stream = encode(name, head, events, error)
    assert stream.endswith(b"\n")
    assert b"\r" not in stream
    lines = [line.split(b":", 1) for line in stream.split(b"\n") if line]
    codes = [code.decode() for code, _ in lines]
    assert set(codes) <= set("02389abcde")
    assert codes.count("d") == 1
    assert codes[-1] == "d"
    assert codes.count("3") == (error is not None)
    for code, text in lines:
        value = json.loads(text)
        if code in {b"0", b"3"}:
            assert isinstance(value, str)
        elif code == b"2":
            assert isinstance(value, dict if name == "vercel" else list)
        elif code == b"9":
            assert isinstance(value["args"], dict)
        else:
            assert isinstance(value["finishReason"], str)


# Keys that 5.0.0, 6.0.0 and 7.0.0 declare for the types that we write, besides `type`.
UI_KEYS = {
    "start": {"messageId", "messageMetadata"},
    "start-step": set(),
    "text-start": {"id", "providerMetadata"},
    "text-delta": {"id", "delta", "providerMetadata"},
    "text-end": {"id", "providerMetadata"},
    "reasoning-start": {"id", "providerMetadata"},
    "reasoning-delta": {"id", "delta", "providerMetadata"},
    "reasoning-end": {"id", "providerMetadata"},
    "tool-input-available": {
        "toolCallId",
        "toolName",
        "input",
        "providerExecuted",
        "providerMetadata",
        "dynamic",
    },
    "tool-output-available": {"toolCallId", "output", "providerExecuted", "dynamic"},
    "tool-output-error": {"toolCallId", "errorText", "providerExecuted", "dynamic"},
    "data-workflow": {"id", "data", "transient"},
    "error": {"errorText"},
    "finish-step": set(),
    "finish": {"messageMetadata"},
}


@given(head=HEADS, events=answers(), error=ERRORS)
def test_ui_chunks_declare_their_keys_and_close_their_parts(
    head: StreamHead, events: list[Event], error: AgentServerError | None
) -> None:
    chunks = sse_objects(encode("ui-v1", head, events, error))
    open_part: tuple[str, str] | None = None
    seen_parts: set[str] = set()
    tools: dict[str, bool] = {}
    for chunk in chunks:
        assert chunk.keys() - {"type"} <= UI_KEYS[chunk["type"]]
        kind, _, phase = chunk["type"].rpartition("-")
        if kind in {"text", "reasoning"}:
            if phase == "start":
                assert open_part is None
                assert chunk["id"] not in seen_parts
                seen_parts.add(chunk["id"])
                open_part = (kind, chunk["id"])
            assert open_part == (kind, chunk["id"])
            if phase == "end":
                open_part = None
        else:
            assert open_part is None
        if chunk["type"] == "tool-input-available":
            tools[chunk["toolCallId"]] = not chunk.get("providerExecuted", False)
        elif chunk["type"].startswith("tool-output"):
            assert tools[chunk["toolCallId"]] is False
            tools[chunk["toolCallId"]] = True
    assert all(tools.values())
    types = [chunk["type"] for chunk in chunks]
    assert types[:2] == ["start", "start-step"]
    assert types[-2:] == ["finish-step", "finish"]
    assert all(types.count(once) == 1 for once in ("start", "start-step", "finish-step", "finish"))
    assert types.count("error") == (error is not None)


def test_every_encoder_can_be_made_from_its_name_and_a_head() -> None:
    assert list(FORMATS) == ["openai-sse", "sse-inline", "vercel", "data-v1", "ui-v1"]
    for name, encoder in FORMATS.items():
        made = encoder(StreamHead("id", "m", 1))
        assert made.keep_alive, name
