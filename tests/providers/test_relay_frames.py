"""What becomes of single frames: which go out as they are, which are mended, which break."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from providers.relay.chat_frames import ChatFrames
from providers.relay.frames import FrameScanner
from providers.relay.messages_frames import MessagesFrames
from providers.relay.responses_frames import ResponsesFrames
from streaming.errors import (
    InvalidRequestError,
    UpstreamOverloadedError,
    UpstreamProtocolError,
    UpstreamRejectedError,
)
from streaming.events import Usage
from streaming.sse import MAX_EVENT_BYTES

TOKENS = {"prompt_tokens": 3, "completion_tokens": 2}


def frame(**data: Any) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def event(kind: str, **data: Any) -> bytes:
    return b"event: " + kind.encode() + b"\n" + frame(type=kind, **data)


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return frame(id="c", model="up", choices=choices, **more)


def relayed(scanner: FrameScanner, *pieces: bytes) -> bytes:
    return b"".join(map(scanner.feed, pieces)) + scanner.end()


FIRST, MORE = chunk({"content": "Hi"}), chunk({"content": "there"})
END = chunk({}, "stop")
USAGE = frame(id="c", model="up", choices=[], usage=TOKENS)
DONE = b"data: [DONE]\n\n"
START = event("message_start", message={"id": "m", "model": "up", "usage": {"input_tokens": 1}})
DELTA = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})
CREATED = event("response.created", response={"id": "r", "model": "up", "status": "queued"})
TEXT = event("response.output_text.delta", delta="Hi")


@pytest.mark.parametrize(
    ("make", "sent"), [(ChatFrames, FIRST), (MessagesFrames, DELTA), (ResponsesFrames, TEXT)]
)
def test_a_frame_goes_out_with_its_last_byte(
    make: Callable[[str], FrameScanner], sent: bytes
) -> None:
    scanner = make("up")
    for repeat in range(3):
        out = [scanner.feed(sent[i : i + 1]) for i in range(len(sent))]
        assert out == [b""] * (len(sent) - 1) + [sent], repeat


@pytest.mark.parametrize(
    ("frames", "out"),
    [
        pytest.param([FIRST, END, DONE], [FIRST, END, DONE], id="nothing"),
        pytest.param([FIRST, END], [FIRST, END, DONE], id="no end mark"),
        pytest.param([FIRST, END, DONE, DONE, FIRST], [FIRST, END, DONE], id="after the end"),
        pytest.param([FIRST, END, b"data: [DONE]\n"], [FIRST, END, DONE], id="half an end mark"),
        pytest.param([b"\xef\xbb\xbf", FIRST, END], [FIRST, END, DONE], id="byte order mark"),
        pytest.param(
            [b": hello\n\n", FIRST, END], [b": hello\n\n", FIRST, END, DONE], id="comment"
        ),
        pytest.param([b"\n\n\n", FIRST, b"\n", END], [FIRST, END, DONE], id="blank lines"),
        pytest.param(
            [FIRST, END.replace(b"stop", b"eos")], [FIRST, END, DONE], id="foreign reason"
        ),
        pytest.param([FIRST, END, END], [FIRST, END, DONE], id="second end"),
        pytest.param([FIRST.replace(b"null", b'""'), END], [FIRST, END, DONE], id="empty reason"),
    ],
)
def test_a_chat_stream_is_mended_where_clients_would_stumble(
    frames: list[bytes], out: list[bytes]
) -> None:
    assert relayed(ChatFrames("up"), *frames) == b"".join(out)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([END, USAGE], id="alone"),
        pytest.param([chunk({}, "stop", usage=TOKENS)], id="end"),
        pytest.param([END, chunk({}, usage=TOKENS)], id="late"),
        pytest.param(
            [chunk({}, "stop", x_groq={"usage": TOKENS})],
            id="groq",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_asked", [True, False])
def test_the_usage_chunk_comes_last_if_it_was_asked_for(told: list[bytes], is_asked: bool) -> None:
    scanner = ChatFrames("up", include_usage=is_asked)
    out = relayed(scanner, FIRST, *told, DONE)
    assert out.endswith(DONE)
    chunks = [orjson.loads(frame[6:]) for frame in out.split(b"\n\n")[:-2]]
    alone = [chunk["usage"] for chunk in chunks if not chunk["choices"]]
    assert alone == ([TOKENS] if is_asked else [])
    assert scanner.usage == Usage(3, 2, 5)


def test_usage_that_was_not_asked_for_stays_where_the_upstream_has_it() -> None:
    end = chunk({}, "stop", usage=TOKENS)
    assert relayed(ChatFrames("up", include_usage=False), FIRST, end, DONE) == FIRST + end + DONE


def test_tool_calls_are_numbered_where_the_upstream_is_marked() -> None:
    calls = [
        chunk(
            {"tool_calls": [{"index": 0, "id": name, "function": {"name": "f", "arguments": {}}}]}
        )
        for name in ("a", "b")
    ]
    assert relayed(ChatFrames("up", marks=()), *calls, END, DONE) == b"".join([*calls, END, DONE])
    out = relayed(ChatFrames("up"), *calls, END, DONE)
    assert [b'"index":1,"id":"b"' in frame for frame in out.split(b"\n\n")[:2]] == [False, True]
    assert out.count(b'"arguments":"{}"') == 2


def test_a_tool_call_without_an_id_gets_one() -> None:
    nameless = chunk({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]})
    out = relayed(ChatFrames("up", new_call_id=lambda: "made"), nameless, END)
    assert out.count(b'"id":"made"') == 1


@pytest.mark.parametrize(
    ("make", "frames"),
    [
        (ChatFrames, [FIRST, MORE, FIRST + MORE, END, USAGE, DONE]),
        (ChatFrames, [frame.replace(b'":', b'": ') for frame in (FIRST, MORE, END, DONE)]),
        (MessagesFrames, [START, DELTA]),
        (ResponsesFrames, [CREATED, TEXT]),
    ],
)
def test_the_name_that_the_client_asked_for_stands_in_every_frame(
    make: Callable[..., FrameScanner], frames: list[bytes]
) -> None:
    scanner = make("up", answer_model="mine")
    out = b"".join(map(scanner.feed, frames))
    assert b'"up"' not in out
    assert out.count(b'"mine"') == b"".join(frames).count(b'"up"')
    assert scanner.model == "up"


def test_a_frame_that_names_another_model_is_renamed_too() -> None:
    scanner = ChatFrames("up", answer_model="mine")
    out = scanner.feed(FIRST) + scanner.feed(MORE + MORE.replace(b'"up"', b'"other"'))
    assert out.count(b'"model":"mine"') == 3
    assert b"other" not in out


@pytest.mark.parametrize(
    ("make", "good", "broken", "error"),
    [
        (ChatFrames, FIRST, b"data: {not json\n\n", UpstreamProtocolError),
        (ChatFrames, FIRST, b'data: {"choices":[{"delta"\n\n', UpstreamProtocolError),
        (ChatFrames, FIRST, b"data: Internal error\n\n", UpstreamProtocolError),
        (ChatFrames, FIRST, b"data: []\n\n", UpstreamProtocolError),
        (ChatFrames, FIRST, frame(choices=[7], error=None), UpstreamProtocolError),
        (ChatFrames, FIRST, event("error", message="no"), UpstreamRejectedError),
        (ChatFrames, FIRST, frame(error={"code": 503, "message": "full"}), UpstreamOverloadedError),
        (ChatFrames, FIRST, chunk({}, "error"), UpstreamRejectedError),
        (ChatFrames, FIRST, DONE, UpstreamProtocolError),
        (
            MessagesFrames,
            START + DELTA,
            event("error", error={"type": "overloaded_error", "message": "full"}),
            UpstreamOverloadedError,
        ),
        (MessagesFrames, START + DELTA, DELTA[:-20] + b"\n\n", UpstreamProtocolError),
        (
            ResponsesFrames,
            CREATED + TEXT,
            event("error", code="overloaded", message="full"),
            UpstreamOverloadedError,
        ),
        (
            ResponsesFrames,
            CREATED,
            event("response.failed", response={"error": {"code": "server_error"}}),
            UpstreamRejectedError,
        ),
        (ResponsesFrames, CREATED + TEXT, frame(detail="bad"), UpstreamRejectedError),
        (ResponsesFrames, CREATED + TEXT, DONE, UpstreamProtocolError),
    ],
)
@pytest.mark.parametrize("is_joined", [True, False])
def test_what_broke_a_stream_is_raised_after_what_was_good(
    make: Callable[[str], FrameScanner],
    good: bytes,
    broken: bytes,
    error: type[Exception],
    is_joined: bool,
) -> None:
    scanner = make("up")
    pieces = [good + broken] if is_joined else [good, broken]
    assert b"".join(map(scanner.feed, pieces)) == good
    assert isinstance(scanner.failure, error)
    assert scanner.feed(good) == b""
    with pytest.raises(error):
        scanner.end()


def test_a_response_that_fails_in_its_middle_says_so_itself() -> None:
    error = {"code": "context_length_exceeded", "message": "long"}
    failed = event("response.failed", response={"id": "r", "status": "failed", "error": error})
    scanner = ResponsesFrames("up")
    assert relayed(scanner, CREATED, TEXT, failed) == CREATED + TEXT + failed
    assert isinstance(scanner.reported_error, InvalidRequestError)
    assert scanner.finish_reason is None


@pytest.mark.parametrize("scanner", [ChatFrames("up"), MessagesFrames("up"), ResponsesFrames("up")])
def test_an_event_may_not_grow_without_bound(scanner: FrameScanner) -> None:
    part = b"data: {" + b"x" * (1024 * 1024)
    for _ in range(MAX_EVENT_BYTES // len(part) + 1):
        scanner.feed(part)
    assert isinstance(scanner.failure, UpstreamProtocolError)


@pytest.mark.parametrize(
    ("scanner", "silent", "content"),
    [
        (ChatFrames("up"), chunk({"role": "assistant", "content": ""}), FIRST),
        (ChatFrames("up"), b": PROCESSING\n\n", chunk({"reasoning": "Hm"})),
        (ChatFrames("up"), chunk({}), chunk({"tool_calls": [{"index": 0, "id": "a"}]})),
        (ChatFrames("up"), chunk({}), chunk({"refusal": "No"})),
        (ChatFrames("up"), chunk({}), END),
        (MessagesFrames("up"), START, DELTA),
        (ResponsesFrames("up"), CREATED, TEXT),
        (ResponsesFrames("up", is_stored=True), b"", CREATED),
    ],
)
def test_an_answer_has_begun_with_its_first_content(
    scanner: FrameScanner, silent: bytes, content: bytes
) -> None:
    was_begun = isinstance(scanner, ResponsesFrames) and not silent
    scanner.feed(silent)
    assert scanner.has_content == was_begun
    scanner.feed(content)
    assert scanner.has_content
