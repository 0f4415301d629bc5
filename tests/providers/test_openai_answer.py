"""Answers in OpenAI's format as events, over fixtures written after each provider's documentation.

They come whole and one byte at a time; both must give the same.
"""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from providers.openai.answer import AnswerDecoder
from streaming.errors import (
    AgentServerError,
    UpstreamProtocolError,
    UpstreamRateLimitError,
    UpstreamRejectedError,
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

DATA = Path(__file__).resolve().parents[1] / "data" / "openai"
STARTED = Started("chatcmpl-1", "m-1")
USAGE = Usage(12, 5, 17, cached_tokens=4, reasoning_tokens=2)
PLAIN_USAGE = Usage(12, 5, 17)
CACHED_USAGE = Usage(12, 5, 17, cached_tokens=4)


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


Cut = Callable[[bytes], list[bytes]]
CUTS = pytest.mark.parametrize("cut", [whole, byte_by_byte])


def call(index: int, call_id: str, name: str, *fragments: str) -> list[Event]:
    """A tool call that begins, and its fragments."""
    begun: list[Event] = [ToolCallStarted(index, call_id, name)]
    return begun + [ToolCallDelta(index, fragment) for fragment in fragments]


def thought(*pieces: str) -> list[Event]:
    deltas: list[Event] = [ReasoningDelta(piece) for piece in pieces]
    return [*deltas, ReasoningEnded(ReasoningBlock("".join(pieces)))]


ANSWERS: dict[str, list[Event]] = {
    "openai-text.sse": [
        STARTED, TextDelta("Grüße "), TextDelta("👋 世界"), Finished("stop", 0, USAGE),
    ],
    "openai-tool-calls.sse": [
        STARTED,
        *call(0, "call_a", "weather", '{"city":', '"Köln"}'),
        *call(1, "call_b", "clock"),
        ToolCallEnded(0, "call_a", "weather", '{"city":"Köln"}'),
        ToolCallDelta(1, "{}"),
        ToolCallEnded(1, "call_b", "clock", "{}"),
        Finished("tool_calls", 0, USAGE),
    ],
    "openai-two-choices.sse": [
        STARTED,
        TextDelta("a"), TextDelta("x", 1), TextDelta("y", 1), TextDelta("b"),
        Finished("stop", 0), Finished("length", 1, USAGE),
    ],
    "openai-refusal.sse": [
        STARTED, RefusalDelta("I can't "), RefusalDelta("help."), Finished("content_filter"),
    ],
    "azure-filters.sse": [STARTED, TextDelta("Hi"), Finished("stop", 0, USAGE)],
    "groq-text.sse": [
        STARTED, *thought("Hm."), TextDelta("Yes"), Finished("stop", 0, PLAIN_USAGE),
    ],
    "together-eos.sse": [
        STARTED, TextDelta("One"), TextDelta(" two"), TextDelta("."),
        Finished("stop", 0, CACHED_USAGE),
    ],
    "mistral-thinking.sse": [
        STARTED,
        *thought("First ", "this."),
        TextDelta("Then"), TextDelta(" that"),
        *call(0, "D681PevKs", "weather", '{"city":"Paris"}'),
        *call(1, "E792QfwLt", "clock", "{}"),
        ToolCallEnded(0, "D681PevKs", "weather", '{"city":"Paris"}'),
        ToolCallEnded(1, "E792QfwLt", "clock", "{}"),
        Finished("length", 0, CACHED_USAGE),
    ],
    "deepseek-reasoning.sse": [
        STARTED, *thought("So", " it is"), TextDelta("42"), Finished("stop", 0, USAGE),
    ],
    "llama-cpp-tool-call.sse": [
        STARTED,
        *call(0, "call__0_weather_cmpl-1", "weather", '{"city"', ': "Paris"', "}"),
        ToolCallEnded(0, "call__0_weather_cmpl-1", "weather", '{"city": "Paris"}'),
        Finished("tool_calls"),
    ],
    "ollama-tool-call.sse": [
        STARTED,
        *thought("Need ", "weather."),
        *call(0, "call_x", "weather", '{"city":"Bonn"}'),
        ToolCallEnded(0, "call_x", "weather", '{"city":"Bonn"}'),
        Finished("tool_calls", 0, PLAIN_USAGE),
    ],
    "perplexity-text.sse": [
        STARTED, TextDelta("1 "), TextDelta("2"), Finished("stop", 0, PLAIN_USAGE),
    ],
    "same-index-for-every-call.sse": [
        STARTED,
        *call(0, "fc_1", "weather", '{"city":"Rome"}'),
        *call(1, "fc_2", "clock", '{"zone":"CET"}'),
        ToolCallEnded(0, "fc_1", "weather", '{"city":"Rome"}'),
        ToolCallEnded(1, "fc_2", "clock", '{"zone":"CET"}'),
        Finished("tool_calls"),
    ],
    "no-ids.sse": [
        STARTED,
        *call(0, "made_0", "weather", '{"a":', "1}"),
        *call(1, "made_1", "weather", "{}"),
        ToolCallEnded(0, "made_0", "weather", '{"a":1}'),
        ToolCallEnded(1, "made_1", "weather", "{}"),
        Finished("stop"),
    ],
    "name-after-id.sse": [
        STARTED,
        *call(0, "call_a", "weather", '{"a"', ":1}"),
        ToolCallEnded(0, "call_a", "weather", '{"a":1}'),
        Finished("tool_calls"),
    ],
    "openai-text.json": [STARTED, TextDelta("Grüße 👋"), Finished("stop", 0, USAGE)],
    "openai-tool-calls.json": [
        STARTED,
        *call(0, "call_a", "weather", '{"city":"Köln"}'),
        *call(1, "call_b", "clock"),
        ToolCallEnded(0, "call_a", "weather", '{"city":"Köln"}'),
        ToolCallDelta(1, "{}"),
        ToolCallEnded(1, "call_b", "clock", "{}"),
        Finished("tool_calls", 0, USAGE),
    ],
    "openai-two-choices.json": [
        STARTED, TextDelta("ab"), TextDelta("xy", 1),
        Finished("stop", 0), Finished("length", 1, USAGE),
    ],
    "openai-function-call.json": [
        STARTED,
        *call(0, "made_0", "weather", '{"city":"Bonn"}'),
        ToolCallEnded(0, "made_0", "weather", '{"city":"Bonn"}'),
        Finished("tool_calls", 0, USAGE),
    ],
    "openai-finish-details.json": [STARTED, TextDelta("Half"), Finished("length", 0, USAGE)],
    "mistral-thinking.json": [
        STARTED, *thought("First."), TextDelta("Then."), Finished("stop", 0, USAGE),
    ],
    "perplexity-text.json": [STARTED, TextDelta("1 2"), Finished("stop", 0, USAGE)],
}  # fmt: skip

# What came before the failure, and the error: its class, code and a part of its message.
HALF: list[Event] = [STARTED, TextDelta("Half")]
Failure = tuple[type[AgentServerError], str, str]
FAILURES: dict[str, tuple[list[Event], Failure]] = {
    "openai-error.sse": (
        [STARTED, TextDelta("So")],
        (UpstreamRejectedError, "upstream_error", "The server had an error"),
    ),
    "groq-error.sse": (
        [STARTED, TextDelta("maybe")],
        (UpstreamRejectedError, "tool_use_failed", "did not call a tool"),
    ),
    "openrouter-error.sse": (
        HALF,
        (UpstreamRejectedError, "upstream_error", "disconnected: upstream reset"),
    ),
    "deepseek-interrupted.sse": (
        HALF,
        (UpstreamRejectedError, "upstream_error", "insufficient_system_resource"),
    ),
    "cut-without-finish.sse": (HALF, (UpstreamProtocolError, "upstream_protocol", "ended its")),
    "done-without-finish.sse": (HALF, (UpstreamProtocolError, "upstream_protocol", "ended its")),
    "malformed-chunk.sse": (HALF, (UpstreamProtocolError, "upstream_protocol", "not JSON")),
    "nameless-tool-call.sse": (
        [STARTED],
        (UpstreamProtocolError, "upstream_protocol", "without a name"),
    ),
    "error-with-status-200.json": (
        [],
        (UpstreamRateLimitError, "rate_limit_exceeded", "Rate limited"),
    ),
    "openrouter-choice-error.json": (
        [],
        (UpstreamRateLimitError, "rate_limit_exceeded", "Slow down"),
    ),
    "no-choices.json": ([], (UpstreamProtocolError, "upstream_protocol", "no choice")),
}


def decode(pieces: list[bytes], media_type: str = "") -> Iterator[Event]:
    numbers = count()
    decoder = AnswerDecoder("up", media_type, new_call_id=lambda: f"made_{next(numbers)}")
    for piece in pieces:
        yield from decoder.feed(piece)
        if decoder.is_ended:
            return
    yield from decoder.end()


def test_every_fixture_is_in_a_table() -> None:
    files = {path.name for path in DATA.iterdir()} - {"README.md"}
    assert files == set(ANSWERS) | set(FAILURES)


@CUTS
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_gives_its_events(name: str, cut: Cut) -> None:
    assert list(decode(cut((DATA / name).read_bytes()))) == ANSWERS[name]


@CUTS
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_comes_after_what_was_said_before_it(name: str, cut: Cut) -> None:
    before, (kind, code, message) = FAILURES[name]
    events = decode(cut((DATA / name).read_bytes()))
    seen: list[Event] = []
    with pytest.raises(AgentServerError) as raised:
        seen.extend(events)
    assert seen == before
    assert (type(raised.value), raised.value.code) == (kind, code)
    assert message in raised.value.message


@CUTS
@pytest.mark.parametrize("name", [name for name in ANSWERS if name.endswith(".sse")])
def test_a_stream_cut_before_its_finish_reason_is_never_a_success(name: str, cut: Cut) -> None:
    data = (DATA / name).read_bytes()
    # Without the last event that has a finish reason, and what follows it.
    events = data.replace(b"\r\n", b"\n").split(b"\n\n")
    ends = [at for at, event in enumerate(events) if b'"finish_reason":"' in event]
    kept = b"\n\n".join(events[: ends[-1]]) + b"\n\n"
    with pytest.raises(UpstreamProtocolError):
        list(decode(cut(kept)))


@CUTS
def test_a_cut_json_answer_is_an_error(cut: Cut) -> None:
    data = (DATA / "openai-text.json").read_bytes()
    with pytest.raises(UpstreamProtocolError, match="not JSON"):
        list(decode(cut(data[: len(data) // 2])))


@pytest.mark.parametrize("name", ["openai-text.sse", "openai-text.json"])
def test_white_space_before_an_answer_does_not_count(name: str) -> None:
    data = (DATA / name).read_bytes()
    assert list(decode([b"\n", b" \n" + data]))[-1] == Finished("stop", 0, USAGE)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!DOCTYPE html><html></html>", "answered a web page"),
        (b" \n", "answered nothing"),
        (b"", "answered nothing"),
        (b"data: [1]\n\n", "no object"),
        (b"upstream request timeout", "no choice"),
    ],
)
def test_an_answer_in_another_format_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(UpstreamProtocolError, match=message) as raised:
        list(decode([data], "text/html"))
    if data[:1] not in {b"d", b"u"}:
        assert "(text/html); check its base URL" in raised.value.message


def test_a_stream_without_its_last_line_end_is_complete() -> None:
    data = (DATA / "openai-text.sse").read_bytes()
    without_done = data[: data.index(b"data: [DONE]")].rstrip() + b"\n"
    assert list(decode([without_done])) == ANSWERS["openai-text.sse"]


def test_what_follows_the_end_of_a_stream_is_not_read() -> None:
    data = (DATA / "openai-text.sse").read_bytes()
    assert list(decode([data + b'data: {"error":"late"}\n\n'])) == ANSWERS["openai-text.sse"]
