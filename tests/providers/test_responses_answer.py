"""Answers of the Responses API as events: what each stream and each whole response says."""

from typing import Any

import orjson
import pytest

from providers.responses.answer import AnswerReader, response_to_events
from providers.responses.reasoning import block_to_item
from streaming.errors import (
    AgentServerError,
    ContextLengthError,
    InvalidRequestError,
    UpstreamConnectionError,
    UpstreamProtocolError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from streaming.events import (
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
)
from streaming.sse import SSEDecoder
from tests.providers.responses_stream import (
    CALL,
    HELLO,
    HELLO_EVENTS,
    REASONING,
    SEARCH,
    added,
    created,
    delta,
    done,
    ended,
    message,
    response,
    stream,
    text,
)

STARTED = Started("resp_1", "m-1")
COUNTED = Usage(12, 5, 17, cached_tokens=4, cache_creation_tokens=3, reasoning_tokens=2)
STOPPED = Finished("stop", usage=COUNTED)
CALLED = Finished("tool_calls", usage=COUNTED)
ITEM_TEXT = orjson.dumps(REASONING).decode()
THOUGHT = ReasoningEnded(ReasoningBlock("I look it up.", signature=ITEM_TEXT))
HIDDEN = {**REASONING, "summary": []}
PLAIN = {"id": "rs_2", "type": "reasoning", "summary": []}
IN_FULL = {**PLAIN, "content": [{"type": "reasoning_text", "text": "Hm."}]}
REFUSAL = message({"type": "refusal", "refusal": "No."})


def read(body: bytes, step: int | None = None) -> list[Event]:
    """The events of a stream that comes in pieces of `step` bytes."""
    decoder, reader = SSEDecoder(), AnswerReader("up")
    events: list[Event] = []
    for start in range(0, len(body), step or len(body)):
        for frame in decoder.feed(body[start : start + (step or len(body))]):
            events += reader.read(frame.data)
    reader.close()
    return events


CASES: dict[str, tuple[tuple[dict[str, Any], ...], list[Event]]] = {
    "text": (HELLO_EVENTS, [STARTED, TextDelta("Grüße "), TextDelta("👋"), STOPPED]),
    "text in the end of its item alone": (
        (created(), added(0, HELLO), done(0, HELLO), ended()),
        [STARTED, TextDelta("Grüße 👋"), STOPPED],
    ),
    "text in the last event alone": (
        (created(), ended(output=[HELLO])),
        [STARTED, TextDelta("Grüße 👋"), STOPPED],
    ),
    "a refusal": (
        (created(), added(0, REFUSAL), delta("refusal", 0, "No."), done(0, REFUSAL), ended()),
        [STARTED, RefusalDelta("No."), STOPPED],
    ),
    "two calls side by side, after another item": (
        (
            created(),
            added(0, HIDDEN),
            done(0, HIDDEN),
            added(1, CALL),
            delta("function_call_arguments", 1, '{"city":'),
            added(2, {**CALL, "call_id": "call_2"}),
            delta("function_call_arguments", 1, '"Köln"}'),
            done(1, CALL),
            done(2, {**CALL, "call_id": "call_2", "arguments": ""}),
            ended(),
        ),
        [
            STARTED,
            ReasoningEnded(ReasoningBlock("", redacted_data=orjson.dumps(HIDDEN).decode())),
            ToolCallStarted(0, "call_1", "weather"),
            ToolCallDelta(0, '{"city":'),
            ToolCallStarted(1, "call_2", "weather"),
            ToolCallDelta(0, '"Köln"}'),
            ToolCallEnded(0, "call_1", "weather", '{"city":"Köln"}'),
            ToolCallDelta(1, "{}"),
            ToolCallEnded(1, "call_2", "weather", "{}"),
            CALLED,
        ],
    ),
    "a summary of the reasoning, by paragraphs": (
        (
            created(),
            added(0, REASONING),
            delta("reasoning_summary_text", 0, "I look", summary_index=0),
            delta("reasoning_summary_text", 0, " it up.", summary_index=0),
            delta("reasoning_summary_text", 0, "Then I say.", summary_index=1),
            done(0, REASONING),
            added(1, HELLO),
            delta("output_text", 1, "Hi"),
            done(1, HELLO),
            ended(),
        ),
        [
            STARTED,
            ReasoningDelta("I look"),
            ReasoningDelta(" it up."),
            ReasoningDelta("\n\nThen I say."),
            ReasoningEnded(ReasoningBlock("I look it up.\n\nThen I say.", signature=ITEM_TEXT)),
            TextDelta("Hi"),
            STOPPED,
        ],
    ),
    "reasoning in full and its summary: the first is shown": (
        (
            created(),
            added(0, REASONING),
            delta("reasoning_text", 0, "Hm.", content_index=0),
            delta("reasoning_summary_text", 0, "I look it up.", summary_index=0),
            done(0, REASONING),
            ended(),
        ),
        [
            STARTED,
            ReasoningDelta("Hm."),
            ReasoningEnded(ReasoningBlock("Hm.", signature=ITEM_TEXT)),
            STOPPED,
        ],
    ),
    "reasoning that is a mere reference": (
        (created(), added(0, PLAIN), done(0, PLAIN), added(1, HELLO), done(1, HELLO), ended()),
        [STARTED, TextDelta("Grüße 👋"), STOPPED],
    ),
    "reasoning that led to a tool of the upstream": (
        (
            created(),
            done(0, REASONING),
            added(1, SEARCH),
            {"type": "response.web_search_call.searching", "output_index": 1},
            done(1, SEARCH),
            done(2, HELLO),
            ended(),
        ),
        [
            STARTED,
            ReasoningDelta("I look it up."),
            ReasoningEnded(ReasoningBlock("I look it up.")),
            TextDelta("Grüße 👋"),
            STOPPED,
        ],
    ),
    "reasoning that ends after the text": (
        (
            created(),
            added(0, REASONING),
            added(1, HELLO),
            done(1, HELLO),
            done(0, REASONING),
            ended(),
        ),
        [STARTED, TextDelta("Grüße 👋"), ReasoningDelta("I look it up."), THOUGHT, STOPPED],
    ),
    "kinds that nobody knows": (
        (
            created(),
            {"type": "response.new", "delta": 1},
            added(0, {"type": "new", "id": "n"}),
            delta("output_text", 0, "not text of the answer"),
            done(0, {"type": "new", "id": "n"}),
            done(1, message({"type": "new"}, text("Hi"))),
            ended(),
        ),
        [STARTED, TextDelta("Hi"), STOPPED],
    ),
    "a limit of tokens in the middle of a call": (
        (
            created(),
            added(0, CALL),
            delta("function_call_arguments", 0, '{"ci'),
            ended("incomplete", incomplete_details={"reason": "max_output_tokens"}),
        ),
        [
            STARTED,
            ToolCallStarted(0, "call_1", "weather"),
            ToolCallDelta(0, '{"ci'),
            ToolCallEnded(0, "call_1", "weather", '{"ci'),
            Finished("length", usage=COUNTED),
        ],
    ),
    "a limit of tokens in the middle of reasoning": (
        (
            created(),
            added(0, REASONING),
            delta("reasoning_summary_text", 0, "I", summary_index=0),
            ended("incomplete", incomplete_details={"reason": "max_output_tokens"}),
        ),
        [
            STARTED,
            ReasoningDelta("I"),
            ReasoningEnded(ReasoningBlock("I")),
            Finished("length", usage=COUNTED),
        ],
    ),
    "a content filter": (
        (
            created(),
            added(0, HELLO),
            delta("output_text", 0, "Hi"),
            ended("incomplete", incomplete_details={"reason": "content_filter"}, usage=None),
        ),
        [STARTED, TextDelta("Hi"), Finished("content_filter")],
    ),
}


@pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "by bytes", "by sevens"])
@pytest.mark.parametrize(("sent", "expected"), CASES.values(), ids=CASES)
def test_a_stream_is_read(
    sent: tuple[dict[str, Any], ...], expected: list[Event], step: int | None
) -> None:
    assert read(stream(*sent), step) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            response("completed", REASONING, HELLO, CALL),
            [
                STARTED,
                ReasoningDelta("I look it up."),
                THOUGHT,
                TextDelta("Grüße 👋"),
                ToolCallStarted(0, "call_1", "weather"),
                ToolCallDelta(0, '{"city":"Köln"}'),
                ToolCallEnded(0, "call_1", "weather", '{"city":"Köln"}'),
                CALLED,
            ],
        ),
        (
            response("incomplete", HELLO, incomplete_details={"reason": "max_output_tokens"}),
            [STARTED, TextDelta("Grüße 👋"), Finished("length", usage=COUNTED)],
        ),
        (response("completed", REFUSAL), [STARTED, RefusalDelta("No."), STOPPED]),
    ],
    ids=["completed", "incomplete", "a refusal"],
)
def test_a_whole_response_is_read(body: dict[str, Any], expected: list[Event]) -> None:
    assert response_to_events(orjson.dumps(body), "up") == expected


@pytest.mark.parametrize(
    "item", [REASONING, HIDDEN, IN_FULL], ids=["with a summary", "hidden", "in full"]
)
def test_a_reasoning_item_comes_out_of_its_block_as_it_went_in(item: dict[str, Any]) -> None:
    events = response_to_events(orjson.dumps(response("completed", item, CALL)), "up")
    [block] = [event.block for event in events if isinstance(event, ReasoningEnded)]
    assert block_to_item(block) == item


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"item_reference","id":"msg_of_somebody_else","content":[]}',
        '{"type":"reasoning","id":"rs_of_somebody_else","summary":[]}',
        '{"type":"reasoning","encrypted_content":',
        "EqQBCgIYAhIM",
        "",
    ],
)
def test_no_other_block_makes_an_item(data: str) -> None:
    assert block_to_item(ReasoningBlock("t", signature=data)) is None
    assert block_to_item(ReasoningBlock("", redacted_data=data)) is None
    assert block_to_item(ReasoningBlock("t")) is None


def failure_of(*sent: dict[str, Any]) -> AgentServerError:
    with pytest.raises(AgentServerError) as caught:
        read(stream(*sent))
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind", "is_retryable"),
    [
        ("server_error", UpstreamRejectedError, True),
        ("rate_limit_exceeded", UpstreamRateLimitError, True),
        ("insufficient_quota", UpstreamRateLimitError, False),
        ("vector_store_timeout", UpstreamTimeoutError, True),
        ("context_length_exceeded", ContextLengthError, False),
        ("invalid_prompt", InvalidRequestError, False),
        ("image_too_large", InvalidRequestError, False),
    ],
)
def test_a_failed_response_is_the_error_that_its_code_says(
    code: str, kind: type[AgentServerError], is_retryable: bool
) -> None:
    error = {"code": code, "message": "the words"}
    failures = [
        failure_of(created(), ended("failed", error=error)),
        failure_of(created(), {"type": "error", **error, "param": None}),
        failure_of(created(), {"type": "error", "error": {"type": "x", **error}}),
    ]
    for failure in failures:
        assert type(failure) is kind
        assert failure.is_retryable is is_retryable
        assert "up" in failure.message
        assert "the words" in failure.message


def test_an_error_object_in_the_place_of_an_event_is_an_error() -> None:
    body = b'data: {"error":{"message":"busy","code":"rate_limit_exceeded"}}\n\n'
    with pytest.raises(UpstreamRateLimitError, match="busy"):
        read(body)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_response_that_did_not_end_well_is_an_error(status: str) -> None:
    assert isinstance(failure_of(created(), ended(status)), UpstreamRejectedError)
    with pytest.raises(UpstreamRejectedError):
        response_to_events(orjson.dumps(response(status)), "up")


@pytest.mark.parametrize("count", range(1, len(HELLO_EVENTS)))
def test_a_stream_that_is_cut_is_an_error(count: int) -> None:
    with pytest.raises(UpstreamConnectionError, match="before it was complete"):
        read(stream(*HELLO_EVENTS[:count]))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"nonsense", b'{"id":"chatcmpl-1","choices":[]}', b'{"status":["x"]}'],
)
def test_a_body_that_is_no_response_is_an_error(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError, match="up"):
        response_to_events(body, "up")


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_that_is_not_finished_is_an_error(status: str) -> None:
    with pytest.raises(UpstreamConnectionError):
        response_to_events(orjson.dumps(response(status)), "up")


@pytest.mark.parametrize(
    "sent",
    [
        (added(0, HELLO),),
        (created(), delta("output_text", 0, "no item")),
        (created(), added(0, HELLO), {"type": "response.output_text.delta", "output_index": 0}),
        (created(), added(0, HELLO), added(0, HELLO)),
        (created(), done(0, HELLO), done(0, HELLO)),
        (created(), added(0, HELLO), ended()),
        (created(), added(0, {"type": "function_call", "call_id": "c"})),
        (created(), done(0, message("no part"))),  # type: ignore[arg-type] # as it should not be
        (created(), {"type": "response.output_item.added", "output_index": [], "item": CALL}),
        (created(), {"type": "response.completed"}),
        (created(), ended(output="nothing")),
    ],
)
def test_a_stream_that_is_not_of_this_format_is_an_error(sent: tuple[dict[str, Any], ...]) -> None:
    assert isinstance(failure_of(*sent), UpstreamProtocolError)


@pytest.mark.parametrize("data", [b"nonsense", b"[1]", b'{"type":["x"]}', b'{"delta":"x"}'])
def test_a_frame_that_is_no_event_is_an_error(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        AnswerReader("up").read(data)


def test_the_end_mark_of_another_format_is_skipped() -> None:
    assert read(b": PROCESSING\n\n" + stream(*HELLO_EVENTS) + b"data: [DONE]\n\n")[-1] == STOPPED
