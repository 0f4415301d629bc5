"""Server-sent events: every line end, every chunk border, the cap, and the framer's way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import UpstreamProtocolError
from streaming.sse import ServerSentEvent, SSEDecoder, frame

CASES = [
    pytest.param(b"data: x\n\n", [ServerSentEvent("message", b"x")], id="one line"),
    pytest.param(b"data:x\n\n", [ServerSentEvent("message", b"x")], id="no blank after the colon"),
    pytest.param(b"data:  x\n\n", [ServerSentEvent("message", b" x")], id="one blank is taken off"),
    pytest.param(b"data\n\n", [ServerSentEvent("message", b"")], id="field without a colon"),
    pytest.param(b"data:\n\n", [ServerSentEvent("message", b"")], id="empty data"),
    pytest.param(
        b"data: a\ndata: b\ndata:\n\n", [ServerSentEvent("message", b"a\nb\n")], id="lines of data"
    ),
    pytest.param(
        b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n",
        [ServerSentEvent("message", b"a\nb"), ServerSentEvent("message", b"c")],
        id="CRLF",
    ),
    pytest.param(
        b"data: a\rdata: b\r\rdata: c\r\r",
        [ServerSentEvent("message", b"a\nb"), ServerSentEvent("message", b"c")],
        id="CR alone",
    ),
    pytest.param(
        b"event: e\r\ndata: a\n\rdata: b\r\n\n",
        [ServerSentEvent("e", b"a"), ServerSentEvent("message", b"b")],
        id="mixed line ends",
    ),
    pytest.param(b"\xef\xbb\xbfdata: x\n\n", [ServerSentEvent("message", b"x")], id="BOM"),
    pytest.param(b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", [], id="a second BOM is part of the name"),
    pytest.param(
        b": ping\n\n:\ndata: x\n: in between\n\n", [ServerSentEvent("message", b"x")], id="comments"
    ),
    pytest.param(
        b"event: a\n\ndata: x\n\n", [ServerSentEvent("message", b"x")], id="event without data"
    ),
    pytest.param(
        b"id: 7\nretry: 250\ndata: x\n\ndata: y\n\n",
        [ServerSentEvent("message", b"x", "7", 250), ServerSentEvent("message", b"y", "7")],
        id="the id stays, the retry time does not",
    ),
    pytest.param(
        b"id: 7\ndata: x\n\nid\nid: 8\0\nretry: 1s\ndata: y\n\n",
        [ServerSentEvent("message", b"x", "7"), ServerSentEvent("message", b"y", "")],
        id="an empty id resets, an id with NUL and a retry with letters are ignored",
    ),
    pytest.param(
        "data: h\u00e9\U0001f600\u2028\x0b.\n\n".encode(),
        [ServerSentEvent("message", "h\u00e9\U0001f600\u2028\x0b.".encode())],
        id="characters of many bytes, and line ends that are none",
    ),
    pytest.param(
        b"what: ever\n data: no\ndata : no\ndata: x\n\n",
        [ServerSentEvent("message", b"x")],
        id="unknown fields",
    ),
    pytest.param(b"data: x\n", [ServerSentEvent("message", b"x")], id="no blank line at the end"),
    pytest.param(b"data: x\n\ndata: {cut", [ServerSentEvent("message", b"x")], id="cut line"),
    pytest.param(b"", [], id="nothing"),
]


def decode(*chunks: bytes) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.flush()


@pytest.mark.parametrize(("stream", "events"), CASES)
def test_a_stream_in_one_chunk_gives_its_events(
    stream: bytes, events: list[ServerSentEvent]
) -> None:
    assert decode(stream) == events


@pytest.mark.parametrize(("stream", "events"), CASES)
def test_a_stream_byte_by_byte_gives_the_same_events(
    stream: bytes, events: list[ServerSentEvent]
) -> None:
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == events


@pytest.mark.parametrize(("stream", "events"), CASES)
def test_any_two_chunks_give_the_same_events(stream: bytes, events: list[ServerSentEvent]) -> None:
    for border in range(len(stream) + 1):
        assert decode(stream[:border], b"", stream[border:]) == events


def test_an_event_comes_with_the_chunk_that_completes_it() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: x\r\n\r") == [ServerSentEvent("message", b"x")]
    assert decoder.feed(b"\ndata: y\n\n") == [ServerSentEvent("message", b"y")]


@given(st.lists(st.binary(max_size=6), max_size=30))
def test_chunk_borders_never_matter(chunks: list[bytes]) -> None:
    assert decode(*chunks) == decode(b"".join(chunks))


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"data:", b"data", b" x", b":", b"id:"])))
def test_chunk_borders_never_matter_among_line_ends(chunks: list[bytes]) -> None:
    assert decode(*chunks) == decode(b"".join(chunks))


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b"data: " + b"x" * 100], id="an unfinished line in one chunk"),
        pytest.param([b"data: "] + [b"x"] * 100, id="an unfinished line in many chunks"),
        pytest.param([b"data: " + b"x" * 100 + b"\n\n"], id="a whole event"),
        pytest.param([b"data: 12345\n"] * 20, id="many lines of one event"),
        pytest.param([b"data\n"] * 101, id="many empty lines of one event"),
        pytest.param([b": " + b"x" * 100], id="a comment"),
    ],
)
def test_an_event_over_the_cap_is_refused(chunks: list[bytes]) -> None:
    decoder = SSEDecoder(max_event_bytes=100)
    with pytest.raises(UpstreamProtocolError, match="larger than 100 bytes"):
        list(map(decoder.feed, chunks))


def test_the_cap_counts_each_event_by_itself() -> None:
    decoder = SSEDecoder(max_event_bytes=100)
    events = [event for _ in range(50) for event in decoder.feed(b"data: " + b"x" * 90 + b"\n\n")]
    assert len(events) == 50


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((b"{}",), b"data: {}\n\n"),
        ((b"{}", "ping"), b"event: ping\ndata: {}\n\n"),
        ((b"{}", "ping", "7"), b"event: ping\nid: 7\ndata: {}\n\n"),
        ((b"a\nb\r\nc\rd",), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        ((b"",), b"data: \n\n"),
    ],
)
def test_a_frame_is_written(arguments: tuple[bytes, ...], expected: bytes) -> None:
    assert frame(*arguments) == expected  # type: ignore[arg-type]  # a table of calls


@pytest.mark.parametrize("field", ["a\nb", "a\rb", "a\0b"])
def test_a_field_that_would_forge_another_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        frame(b"{}", event=field)
    with pytest.raises(ValueError, match="one line"):
        frame(b"{}", id=field)


@given(st.text(), st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1))
def test_what_was_framed_is_decoded(data: str, event: str) -> None:
    stream = frame(data.encode(), event, "7")
    lines = data.replace("\r\n", "\n").replace("\r", "\n")
    assert decode(stream) == [ServerSentEvent(event, lines.encode(), "7")]
