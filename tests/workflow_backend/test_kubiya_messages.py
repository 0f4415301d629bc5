"""The bytes of Kubiya's stream, whole and in every way that a network may part them."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_backend.engines.kubiya.messages import (
    MessageDecoder,
    MessageTooLargeError,
    VendorMessage,
)

RUNNING = {"type": "step_running", "step": {"name": "build"}}
FINISHED = {"type": "step_finished", "step": {"name": "build", "output": "ök"}}
END = {"finishReason": "stop"}


def message(kind: str, body: object = None, text: str = "") -> VendorMessage:
    return VendorMessage(kind, body or {}, text)  # type: ignore[arg-type]


CASES = [
    (b'data: {"a":1}\n\n', [message("data", {"a": 1})]),
    (b'data: 2:{"a":1}\n\n', [message("data", {"a": 1})]),
    (b'data: 2:[{"a":1},{"b":2}]\n\n', [message("data", {"a": 1}), message("data", {"b": 2})]),
    (b'data: d:{"finishReason":"stop"}\n\n', [message("done", END)]),
    (b"data: [DONE]\n\n", [message("done")]),
    (b'event: error\ndata: {"error":"boom"}\n\n', [message("error", {"error": "boom"})]),
    (b"event: error\ndata: boom\n\n", [message("error", text="boom")]),
    (b"event: error\n\n", [message("error")]),
    (b"event: end\n\n", [message("done")]),
    (b'event: step_running\ndata: {"a":1}\n\n', [message("data", {"a": 1})]),
    (b'data: 3:"boom"\n\n', [message("error", text="boom")]),
    (b'2:{"a":1}\nd:{"b":1}\n', [message("data", {"a": 1}), message("done", {"b": 1})]),
    (b": ping\n\nid: 7\nretry: 10\n\n", []),
    (b'\xef\xbb\xbfdata: {"a":1}\n\n', [message("data", {"a": 1})]),
    (b'data:{"a":1}\n\n', [message("data", {"a": 1})]),
    (b'data: {"a":\ndata: 1}\n\n', [message("data", {"a": 1})]),
    (b'data: {"a":\n\ndata: {"b":1}\n\n',
     [message("data", text='{"a":'), message("data", {"b": 1})]),
    (b"data: working ...\n\n", [message("data", text="working ...")]),
    (b'data: {"a":1}\ndata: {"b":2}\nevent: error\n\n',
     [message("data", {"a": 1}), message("data", {"b": 2}), message("error")]),
    (b"data: null\n\ndata: 7\n\n", [message("data", text="7")]),
    (b'data: {"a":1}', [message("data", {"a": 1})]),
]  # fmt: skip


def decoded(chunks: list[bytes]) -> list[VendorMessage]:
    decoder = MessageDecoder()
    found = [one for chunk in chunks for one in decoder.feed(chunk)]
    return found + decoder.finish()


@pytest.mark.parametrize(("stream", "messages"), CASES)
def test_each_form_of_a_line_is_read(stream: bytes, messages: list[VendorMessage]) -> None:
    assert decoded([stream]) == messages


@pytest.mark.parametrize(("stream", "messages"), CASES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_line_may_end_in_any_way_and_come_byte_by_byte(
    stream: bytes, messages: list[VendorMessage], end: bytes
) -> None:
    stream = stream.replace(b"\n", end)
    assert decoded([stream[at : at + 1] for at in range(len(stream))]) == messages


def test_a_message_is_given_as_soon_as_its_line_ends() -> None:
    decoder = MessageDecoder()
    assert decoder.feed(b'data: {"a":1}\n') == [message("data", {"a": 1})]


def test_a_character_that_two_chunks_share_is_whole() -> None:
    line = f"data: {json.dumps(FINISHED, ensure_ascii=False)}\n\n".encode()
    at = line.index("ö".encode()) + 1
    assert decoded([line[:at], line[at:]]) == [message("data", FINISHED)]


def test_a_line_without_end_is_refused_before_memory_is() -> None:
    decoder = MessageDecoder(max_bytes=1000)
    for _ in range(9):
        decoder.feed(b"data: " + b"x" * 100)
    with pytest.raises(MessageTooLargeError):
        decoder.feed(b"x" * 100)


def test_a_value_that_never_ends_is_refused_before_memory_is() -> None:
    decoder = MessageDecoder(max_bytes=1000)
    for _ in range(9):
        decoder.feed(b"data: {" + b"x" * 100 + b"\n")
    with pytest.raises(MessageTooLargeError):
        decoder.feed(b"data: {" + b"x" * 100 + b"\n")


@given(st.lists(st.binary(max_size=60), max_size=12))
def test_no_bytes_make_it_fail(chunks: list[bytes]) -> None:
    decoded(chunks)


@given(
    st.lists(st.sampled_from([case[0] for case in CASES[:-1]]), max_size=6),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_the_borders_of_chunks_have_no_meaning(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    places = sorted({0, *(min(cut, len(stream)) for cut in cuts), len(stream)})
    chunks = [stream[low:high] for low, high in itertools.pairwise(places)]
    assert decoded(chunks) == decoded([stream])
