"""What holds for every translated stream, whatever an upstream says and however it is cut."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_server.gateway.translate import TranslatedBody, TranslatedStream
from providers.anthropic.answer import AnswerReader as MessageReader
from providers.openai.answer import AnswerDecoder
from providers.responses.answer import AnswerReader as ResponseReader
from streaming.chat_completion import ChatCompletionBody
from streaming.encoder import EncoderClass, StreamHead
from streaming.errors import AgentServerError, UpstreamError
from streaming.events import Event
from streaming.messages_body import MessageBody
from streaming.messages_sse import MessagesEncoder
from streaming.openai_sse import OpenAISSEEncoder
from streaming.responses_body import ResponseBody
from streaming.responses_sse import ResponsesEncoder
from streaming.sse import SSEDecoder
from tests import model_chat, model_messages, model_responses
from tests.message_stream import message_of
from tests.model_reply import THOUGHT, Asked, Call, Reply
from tests.providers.test_relay_properties import TEXTS, Told, chat_streams, cut_anywhere

HEAD = StreamHead("answer-1", "m", 7, include_usage=True)
ENCODERS: dict[str, EncoderClass] = {
    "chat": OpenAISSEEncoder,
    "messages": MessagesEncoder,
    "responses": ResponsesEncoder,
}
BODIES: dict[str, Any] = {
    "chat": ChatCompletionBody,
    "messages": MessageBody,
    "responses": ResponseBody,
}
PAIRS = [
    ("chat", "messages"),
    ("chat", "responses"),
    ("messages", "chat"),
    ("messages", "responses"),
    ("responses", "chat"),
    ("responses", "messages"),
]
# What a stream of an upstream holds once it is whole, so a cut before it is one.
LAST = {
    "chat": b'"finish_reason":"',
    "messages": b"event: message_stop",
    "responses": b"event: response.",
}
ARGUMENTS = st.sampled_from(["{}", '{"a":1}', '{"city":"Os\\nlo é","n":[1,{"b":null}]}'])


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """An answer of a model: text, thinking and calls, each of which may be absent."""
    calls = tuple(
        Call(f"call_{number}", f"tool{number}", draw(ARGUMENTS))
        for number in range(draw(st.integers(0, 3)))
    )
    reason = draw(st.sampled_from(["length", "tool_calls" if calls else "stop"]))
    return Reply(
        "".join(draw(st.lists(TEXTS, max_size=4))),
        reason,  # type: ignore[arg-type] # the list holds reasons
        calls,
        draw(st.sampled_from(["", THOUGHT])),
        draw(st.integers(0, 9)),
    )


def frames_of(reply: Reply, wire: str) -> list[bytes]:
    """The stream of an upstream."""
    asked = Asked("m", (), include_usage=True)
    match wire:
        case "chat":
            return model_chat.frames_of("chatcmpl-up", asked, reply)
        case "messages":
            return model_messages.frames_of("msg_up", asked, reply)
        case _:
            return model_responses.frames_of(model_responses.body_of("resp_up", {}, asked, reply))


async def events_of(pieces: Sequence[bytes], wire: str) -> AsyncGenerator[Event, None]:
    """The events of a stream as the adapters read them, piece by piece."""
    if wire == "chat":
        decoder = AnswerDecoder("up")
        for piece in pieces:
            for event in decoder.feed(piece):
                yield event
            if decoder.is_ended:
                return
        for event in decoder.end():
            yield event
        return
    reader: Any = MessageReader("up") if wire == "messages" else ResponseReader("up")
    sse = SSEDecoder()
    for piece in pieces:
        for frame in sse.feed(piece):
            for event in reader.read(frame.data):
                yield event
    reader.close()


@dataclass(frozen=True)
class Written:
    """What a client got; without `head` it was an HTTP error."""

    frames: bytes
    error: AgentServerError | None
    head: bool = True


async def write(pieces: Sequence[bytes], wire: str, door: str, head: StreamHead = HEAD) -> Written:
    """The answer as the gateway writes it to a client of this door."""
    stream = TranslatedStream(events_of(pieces, wire), lambda _: ENCODERS[door](head))
    try:
        await stream.prove()
    except AgentServerError as exc:
        return Written(b"", exc, head=False)
    out = b""
    try:
        while data := await stream.read():
            out += data
    except AgentServerError as exc:
        return Written(out + stream.fail(exc), exc)
    finally:
        await stream.aclose()
    return Written(out, None)


async def collect(pieces: Sequence[bytes], wire: str, door: str) -> Any:
    """The same answer as one JSON body."""
    body = TranslatedBody(events_of(pieces, wire), lambda _: BODIES[door](HEAD))
    await body.prove()
    return orjson.loads(await body.read())


def data_of(out: bytes) -> list[Any]:
    """The objects of the frames; `[DONE]` as it is."""
    decoder = SSEDecoder()
    frames = [*decoder.feed(out), *decoder.flush()]
    assert out.endswith(b"\n\n")
    return [frame.data if frame.data == b"[DONE]" else orjson.loads(frame.data) for frame in frames]


def check_chat(out: bytes, reply: Reply, head: StreamHead) -> None:
    *chunks, done = data_of(out)
    assert done == b"[DONE]"
    assert {chunk["id"] for chunk in chunks} == {head.response_id}
    assert {chunk["model"] for chunk in chunks} == {head.model}
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [choice["delta"].get("role") for choice in choices] == [
        "assistant",
        *[None] * (len(choices) - 1),
    ]
    reasons = [choice["finish_reason"] for choice in choices]
    assert reasons == [*[None] * (len(choices) - 1), reply.reason]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert len(usages) == 1
    assert (chunks[-1]["choices"] == []) == head.include_usage
    assert chunks[-1]["usage"] == usages[0]
    assert usages[0]["prompt_tokens"] == reply.prompt_tokens
    assert usages[0]["completion_tokens"] == reply.completion_tokens
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == reply.text
    thoughts = [choice["delta"].get("reasoning_content") or "" for choice in choices]
    assert "".join(thoughts) == reply.thought
    assert calls_of(choices) == [(call.call_id, call.name, call.arguments) for call in reply.calls]


def calls_of(choices: list[Any]) -> list[tuple[str, str, str]]:
    """The calls as a client puts them together: a new number is the next one, and has an id."""
    calls: list[list[str]] = []
    for fragment in [part for c in choices for part in c["delta"].get("tool_calls") or []]:
        assert fragment["index"] <= len(calls)
        if fragment["index"] == len(calls):
            calls.append([fragment["id"], fragment["function"]["name"], ""])
        calls[fragment["index"]][2] += fragment["function"].get("arguments") or ""
    return [(call_id, name, arguments) for call_id, name, arguments in calls]


def check_messages(out: bytes, reply: Reply, head: StreamHead) -> None:
    # Fails where blocks overlap, or events are in no proper order.
    message = message_of(out)
    assert (message["id"], message["model"]) == (head.response_id, head.model)
    assert message["stop_reason"] == model_messages.REASONS[reply.reason]
    blocks = message["content"]
    assert "".join(block.get("thinking", "") for block in blocks) == reply.thought
    assert "".join(block.get("text", "") for block in blocks) == reply.text
    assert [(b["id"], b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"] == [
        (call.call_id, call.name, orjson.loads(call.arguments)) for call in reply.calls
    ]
    assert message["usage"]["input_tokens"] == reply.prompt_tokens
    assert message["usage"]["output_tokens"] == reply.completion_tokens


def check_responses(out: bytes, reply: Reply, head: StreamHead) -> None:
    events = data_of(out)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    status = "incomplete" if reply.reason == "length" else "completed"
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count(f"response.{status}") == 1
    response = events[-1]["response"]
    assert (kinds[-1], response["id"]) == (f"response.{status}", head.response_id)
    begun = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    ended = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert begun == list(range(len(response["output"])))
    assert ended == response["output"]
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    items = {item["type"]: item for item in response["output"]}
    texts = [part["text"] for part in items.get("message", {}).get("content", [])]
    assert "".join(deltas) == "".join(texts) == reply.text
    thoughts = [part["text"] for part in items.get("reasoning", {}).get("summary", [])]
    assert "".join(thoughts) == reply.thought
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    assert [(c["call_id"], c["name"], c["arguments"]) for c in calls] == [
        (call.call_id, call.name, call.arguments) for call in reply.calls
    ]
    usage = response["usage"]
    assert usage["input_tokens"] == reply.prompt_tokens
    assert usage["output_tokens"] == reply.completion_tokens


CHECKS = {"chat": check_chat, "messages": check_messages, "responses": check_responses}


@pytest.mark.parametrize(("wire", "door"), PAIRS)
@settings(max_examples=40)
@given(reply=replies(), include_usage=st.booleans(), data=st.data())
def test_a_translated_stream_keeps_every_promise(
    wire: str, door: str, reply: Reply, include_usage: bool, data: st.DataObject
) -> None:
    frames = frames_of(reply, wire)
    place = data.draw(st.integers(0, len(frames) - 1))
    body = b"".join([*frames[:place], b": ping\n\n", *frames[place:]])
    head = StreamHead("answer-1", "m", 7, include_usage=include_usage)
    whole = asyncio.run(write([body], wire, door, head))
    assert whole.error is None
    CHECKS[door](whole.frames, reply, head)
    pieces = data.draw(cut_anywhere(body))
    again = asyncio.run(write(pieces, wire, door, head))
    assert data_of(again.frames)[:-1] == data_of(whole.frames)[:-1]
    CHECKS[door](again.frames, reply, head)


@pytest.mark.parametrize(("wire", "door"), PAIRS)
@settings(max_examples=40)
@given(reply=replies(), data=st.data())
def test_a_truncated_stream_is_never_a_success(
    wire: str, door: str, reply: Reply, data: st.DataObject
) -> None:
    body = b"".join(frames_of(reply, wire))
    end = body.rindex(LAST[wire])
    pieces = data.draw(cut_anywhere(body[: data.draw(st.integers(0, end))]))
    written = asyncio.run(write(pieces, wire, door))
    assert isinstance(written.error, UpstreamError)
    with pytest.raises(UpstreamError):
        asyncio.run(collect(pieces, wire, door))
    if not written.head:
        return
    told = [event for event in data_of(written.frames) if isinstance(event, dict)]
    assert any(event.get("error") or event.get("response", {}).get("error") for event in told)
    kinds = {event.get("type") for event in told}
    assert not kinds & {"message_stop", "response.completed", "response.incomplete"}
    reasons = [c["finish_reason"] for event in told for c in event.get("choices", [])]
    assert not any(reasons)


@pytest.mark.parametrize(("wire", "door"), PAIRS)
@settings(max_examples=25)
@given(reply=replies())
def test_the_json_answer_is_what_its_stream_tells(wire: str, door: str, reply: Reply) -> None:
    body = b"".join(frames_of(reply, wire))
    written = asyncio.run(write([body], wire, door))
    whole = asyncio.run(collect([body], wire, door))
    match door:
        case "messages":
            assert whole == message_of(written.frames)
        case "responses":
            streamed = data_of(written.frames)[-1]["response"]
            assert {**whole, "completed_at": 0} == {**streamed, "completed_at": 0}
        case _:
            [choice] = whole["choices"]
            assert choice["finish_reason"] == reply.reason
            assert (choice["message"]["content"] or "") == reply.text
            assert whole["usage"] == data_of(written.frames)[-2]["usage"]


@settings(max_examples=80)
@given(told=chat_streams(), data=st.data())
def test_what_upstreams_do_otherwise_is_told_as_it_was_meant(
    told: Told, data: st.DataObject
) -> None:
    pieces = data.draw(cut_anywhere(b"".join(told.frames)))
    written = asyncio.run(write(pieces, "chat", "responses"))
    assert written.error is None
    output = data_of(written.frames)[-1]["response"]["output"]
    called = [(i["call_id"], i["name"], i["arguments"]) for i in output if "call_id" in i]
    assert called == [
        # A call without arguments has none, which is an empty object.
        (call.call_id, call.name, "".join(call.pieces) or "{}")
        for call in told.calls
    ]
    texts = [part["text"] for item in output for part in item.get("content", [])]
    assert "".join(texts) == "".join(told.text)
    if any(len(call.pieces) > 1 for call in told.calls):
        # Two objects are no JSON, which a message has to be.
        return
    message = message_of(asyncio.run(write(pieces, "chat", "messages")).frames)
    blocks = message["content"]
    assert "".join(block.get("text", "") for block in blocks) == "".join(told.text)
    assert [block["id"] for block in blocks if block["type"] == "tool_use"] == [
        call.call_id for call in told.calls
    ]
