"""What holds for every stream that an upstream may send, however it deviates and is cut."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.relay.chat_frames import ChatFrames
from providers.relay.frames import FrameScanner
from providers.relay.messages_frames import MessagesFrames
from providers.relay.responses_frames import ResponsesFrames
from streaming.errors import UpstreamError, UpstreamProtocolError
from streaming.sse import SSEDecoder

OPENAI_REASONS = {"stop", "length", "tool_calls", "content_filter"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
TEXTS = st.sampled_from(
    [
        "Hi",
        " there",
        "\n\n",
        'data: [DONE]\n\n"finish_reason":"stop"',
        "é🙂",
        '"usage":{"error"',
        "",
    ]
)


@dataclass
class Call:
    """A tool call as the model made it."""

    call_id: str
    name: str
    pieces: list[str]


@dataclass
class Told:
    """What an upstream's stream says, and the frames in which it says it."""

    text: list[str]
    calls: list[Call]
    reason: str
    choices: int
    frames: list[bytes] = field(default_factory=list)


@st.composite
def chat_streams(draw: st.DrawFn) -> Told:
    """A stream of one upstream with its own set of deviations."""
    told = Told(
        text=draw(st.lists(TEXTS, max_size=5)),
        calls=[
            Call(f"id{number}", f"tool{number}", draw(st.lists(st.just('{"a":1}'), max_size=2)))
            for number in range(draw(st.integers(0, 3)))
        ],
        reason=draw(st.sampled_from(["stop", "eos", "length", "tool_calls", "max_tokens", "odd"])),
        choices=draw(st.integers(1, 2)),
    )
    writer = _ChatWriter(draw, told)
    told.frames = writer.write()
    return told


class _ChatWriter:
    """Writes a stream with the deviations that it draws."""

    def __init__(self, draw: st.DrawFn, told: Told) -> None:
        self._told = told
        self._numbers = draw(st.sampled_from(["right", "zero", "from one", "none"]))
        self._repeats_id = draw(st.booleans())
        self._ends_twice = draw(st.booleans())
        self._usage = draw(
            st.sampled_from(["alone", "with finish", "late delta", "groq", "every", "none"])
        )
        self._null_reason = draw(st.booleans())
        self._comments = draw(st.booleans())
        self._done = draw(st.booleans())
        self._spaced = draw(st.booleans())

    def write(self) -> list[bytes]:
        told = self._told
        out = [b": PROCESSING\n\n"] if self._comments else []
        for choice in range(told.choices):
            out.append(self._chunk({"role": "assistant", "content": ""}, choice))
            out += [self._chunk({"content": text}, choice) for text in told.text]
            for number, call in enumerate(told.calls):
                out += [self._chunk(delta, choice) for delta in self._call(number, call)]
        last = {"usage": USAGE} if self._usage == "with finish" else {}
        if self._usage == "groq":
            last = {"x_groq": {"id": "r", "usage": USAGE}}
        for choice in range(told.choices):
            is_last = choice == told.choices - 1
            out.append(self._chunk({}, choice, told.reason, **(last if is_last else {})))
        if self._ends_twice:
            out.append(self._chunk({"content": ""}, 0, told.reason))
        if self._usage == "alone":
            out.append(self._frame({**IDENTITY, "choices": [], "usage": USAGE}))
        if self._usage == "late delta":
            out.append(self._chunk({"content": ""}, 0, usage=USAGE))
        return [*out, b"data: [DONE]\n\n"] if self._done else out

    def _call(self, number: int, call: Call) -> list[dict[str, Any]]:
        index = {"right": number, "zero": 0, "from one": number + 1, "none": None}[self._numbers]
        head = {"id": call.call_id, "type": "function"}
        first = {**head, "function": {"name": call.name, "arguments": ""}}
        fragments: list[dict[str, Any]] = [first]
        for piece in call.pieces:
            again = head if self._repeats_id else {}
            name = {"name": call.name} if self._repeats_id else {}
            fragments.append({**again, "function": {**name, "arguments": piece}})
        if index is not None:
            fragments = [{"index": index, **fragment} for fragment in fragments]
        return [{"tool_calls": [fragment]} for fragment in fragments]

    def _chunk(
        self, delta: dict[str, Any], choice: int, reason: str | None = None, **more: Any
    ) -> bytes:
        row: dict[str, Any] = {"index": choice, "delta": delta}
        if reason is not None or self._null_reason:
            row["finish_reason"] = reason
        if self._usage == "every":
            more["usage"] = USAGE
        return self._frame({**IDENTITY, "choices": [row], **more})

    def _frame(self, data: dict[str, Any]) -> bytes:
        text = orjson.dumps(data)
        if self._spaced:
            text = text.replace(b'":null', b'": null').replace(b'"index":', b'"index": ')
        return b"data: " + text + b"\n\n"


IDENTITY = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}


def _run(scanner: FrameScanner, pieces: Sequence[bytes]) -> bytes:
    """What goes out; raises where the scanner does."""
    out = b"".join(scanner.feed(piece) for piece in pieces)
    return out + scanner.end()


def _chunks(out: bytes) -> list[dict[str, Any]]:
    frames = [frame.data for frame in SSEDecoder().feed(out)]
    assert frames[-1] == b"[DONE]"
    assert frames.count(b"[DONE]") == 1
    return [orjson.loads(data) for data in frames[:-1]]


def _ways(body: bytes) -> list[list[bytes]]:
    """The body in one piece, by frame and by byte."""
    frames = [frame + b"\n\n" for frame in body.split(b"\n\n") if frame]
    return [[body], frames, [body[i : i + 1] for i in range(len(body))]]


@st.composite
def cut_anywhere(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The bytes in pieces with any borders."""
    borders = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=12)))
    starts, ends = [0, *borders], [*borders, len(data)]
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(chat_streams(), st.booleans(), st.data())
def test_a_chat_stream_keeps_every_promise(
    told: Told, include_usage: bool, data: st.DataObject
) -> None:
    body = b"".join(told.frames)
    scanner = ChatFrames("up", include_usage=include_usage, choices=told.choices)
    out = _run(scanner, [body])
    chunks = _chunks(out)
    ends = [
        (choice["index"], choice["finish_reason"])
        for chunk in chunks
        for choice in chunk["choices"]
        if choice.get("finish_reason") is not None
    ]
    assert sorted(index for index, _ in ends) == list(range(told.choices))
    assert {reason for _, reason in ends} <= OPENAI_REASONS
    usages = [chunk for chunk in chunks if not chunk["choices"]]
    tells_usage = b"prompt_tokens" in body
    assert len(usages) == (include_usage and tells_usage)
    if usages:
        assert chunks[-1] == usages[0]
        assert usages[0]["usage"] == USAGE
        assert not any(chunk.get("usage") for chunk in chunks[:-1])
    assert (scanner.usage is not None) == tells_usage
    for choice in range(told.choices):
        assert _said(chunks, choice) == (
            "".join(told.text),
            [(call.call_id, call.name, "".join(call.pieces)) for call in told.calls],
        )
    for pieces in [*_ways(body), data.draw(cut_anywhere(body))]:
        again = ChatFrames("up", include_usage=include_usage, choices=told.choices)
        assert _run(again, pieces) == out


def _said(chunks: list[dict[str, Any]], index: int) -> tuple[str, list[tuple[str, str, str]]]:
    """The text and the tool calls of a choice, put together as a client does."""
    text, calls = "", list[list[str]]()
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            text += choice["delta"].get("content") or ""
            for fragment in choice["delta"].get("tool_calls") or []:
                number = fragment["index"]
                assert number <= len(calls)
                if number == len(calls):
                    calls.append(["", "", ""])
                function = fragment["function"]
                calls[number][0] += fragment.get("id") or ""
                calls[number][1] += function.get("name") or ""
                calls[number][2] += function.get("arguments") or ""
    return text, [(call_id, name, arguments) for call_id, name, arguments in calls]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(chat_streams(), st.data())
def test_a_chat_stream_that_is_cut_is_never_a_success(told: Told, data: st.DataObject) -> None:
    body = b"".join(told.frames)
    end = body.rindex(b'"finish_reason":"') if told.choices == 1 else body.index(b'"role"')
    end = min(end, body.index(b'"finish_reason":"'))
    cut = body[: data.draw(st.integers(0, end))]
    scanner = ChatFrames("up", choices=told.choices)
    out = b"".join(scanner.feed(piece) for piece in data.draw(cut_anywhere(cut)))
    with pytest.raises(UpstreamProtocolError, match="ended its answer early") as caught:
        scanner.end()
    assert caught.value.is_retryable
    assert b"[DONE]" not in out.replace(rb"data: [DONE]\n\n", b"")


def _event(kind: str, **fields: Any) -> bytes:
    data = orjson.dumps({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


@st.composite
def messages_streams(draw: st.DrawFn) -> bytes:
    """A stream of Anthropic's format."""
    usage = {"input_tokens": 3, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "model": "up", "content": [], "usage": usage}
    out = [_event("message_start", message=message)]
    for index, text in enumerate(draw(st.lists(TEXTS, max_size=4))):
        block = {"type": "text", "text": ""}
        out.append(_event("content_block_start", index=index, content_block=block))
        out += [_event("ping")] * draw(st.integers(0, 1))
        delta = {"type": "text_delta", "text": text}
        padded = _event("content_block_delta", index=index, delta=delta)
        out.append(padded.replace(b"}\n\n", b"}   \n\n") if draw(st.booleans()) else padded)
        out.append(_event("content_block_stop", index=index))
    reason = {"stop_reason": "end_turn", "stop_sequence": None}
    out.append(_event("message_delta", delta=reason, usage={"output_tokens": 7}))
    return b"".join([*out, _event("message_stop")])


@st.composite
def responses_streams(draw: st.DrawFn) -> bytes:
    """A stream of the Responses format, with `event:` lines or without."""
    head = {"id": "resp_1", "object": "response", "model": "up", "output": []}
    out = [_event("response.created", response={**head, "status": "in_progress"})]
    item = {"id": "msg_1", "type": "message"}
    out.append(_event("response.output_item.added", output_index=0, item=item))
    texts = draw(st.lists(TEXTS, max_size=4))
    out += [_event("response.output_text.delta", delta=text) for text in texts]
    out.append(_event("response.output_item.done", output_index=0, item=item))
    usage = {"input_tokens": 3, "output_tokens": 7, "total_tokens": 10}
    out.append(
        _event("response.completed", response={**head, "status": "completed", "usage": usage})
    )
    if draw(st.booleans()):
        out = [frame[frame.index(b"data:") :] for frame in out]
    return b"".join(out)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(messages_streams(), st.data())
def test_a_messages_stream_goes_out_as_it_came_or_not_at_all(
    body: bytes, data: st.DataObject
) -> None:
    for pieces in [*_ways(body), data.draw(cut_anywhere(body))]:
        scanner = MessagesFrames("up")
        assert _run(scanner, pieces) == body
        assert scanner.usage is not None
        assert (scanner.usage.prompt_tokens, scanner.usage.completion_tokens) == (3, 7)
    _is_cut_loudly(MessagesFrames("up"), body, b"event: message_stop", data)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(responses_streams(), st.data())
def test_a_responses_stream_goes_out_as_it_came_or_not_at_all(
    body: bytes, data: st.DataObject
) -> None:
    for pieces in [*_ways(body), data.draw(cut_anywhere(body))]:
        scanner = ResponsesFrames("up")
        assert _run(scanner, pieces) == body
        assert scanner.usage is not None
        assert (scanner.usage.prompt_tokens, scanner.usage.completion_tokens) == (3, 7)
    _is_cut_loudly(ResponsesFrames("up"), body, b'"type":"response.completed"', data)


def _is_cut_loudly(scanner: FrameScanner, body: bytes, before: bytes, data: st.DataObject) -> None:
    cut = body[: data.draw(st.integers(0, body.index(before)))]
    out = b"".join(scanner.feed(piece) for piece in data.draw(cut_anywhere(cut)))
    assert body.startswith(out)
    with pytest.raises(UpstreamError):
        scanner.end()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(chat_streams(), messages_streams(), st.data())
def test_a_stream_may_have_any_line_ends(told: Told, messages: bytes, data: st.DataObject) -> None:
    line_end = data.draw(st.sampled_from([b"\r\n", b"\r"]))
    chat = b"".join(told.frames)
    expected = _run(ChatFrames("up", choices=told.choices), [chat])
    for body, out in ((chat, expected), (messages, messages)):
        other = body.replace(b"\n", line_end)
        for pieces in [_ways(other)[-1], data.draw(cut_anywhere(other))]:
            is_chat = body is chat
            scanner = ChatFrames("up", choices=told.choices) if is_chat else MessagesFrames("up")
            assert _run(scanner, pieces) == out
