"""Reads answers of every door, so that one can be compared with another and with a recording."""

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from providers.anthropic.answer import AnswerReader as MessageReader
from providers.anthropic.answer import message_to_events
from providers.openai.answer import AnswerDecoder
from providers.responses.answer import AnswerReader as ResponseReader
from providers.responses.answer import response_to_events
from streaming.events import Event, Usage
from streaming.sse import SSEDecoder
from tests.recordings import read_events

NAME = "recorded"
_MADE_ID = re.compile(r"(call|toolu)_[0-9a-f]{24,32}")


@dataclass
class Told:
    """What the first choice of an answer tells, however it was delivered.

    What formats cannot tell apart is told in one way: arguments without white space; the id of a
    call that our server made as "made"; a call or a refusal as the reason to end, where OpenAI says
    `stop`. Of the usage: what went in (with what a cache gave, which a few upstreams leave out),
    what came out, what a cache gave and took, what was thought.
    """

    text: str
    reasoning: str
    refusal: str
    calls: list[tuple[str, str, str]]
    reason: str | None
    usage: tuple[int, ...]


def events_of(body: bytes, wire: str) -> list[Event]:
    """The events of a whole answer, a stream or JSON; raises what its reader raises."""
    if wire == "chat":
        decoder = AnswerDecoder(NAME)
        events = list(decoder.feed(body))
        return events if decoder.is_ended else events + list(decoder.end())
    if body.lstrip().startswith(b"{"):
        read = message_to_events if wire == "messages" else response_to_events
        return list(read(body, NAME))
    reader: Any = MessageReader(NAME) if wire == "messages" else ResponseReader(NAME)
    sse = SSEDecoder()
    frames = [frame.data for frame in sse.feed(body) + sse.flush()]
    events = [event for data in frames for event in reader.read(data) if data != b"[DONE]"]
    reader.close()
    return events


async def told_by(body: bytes, wire: str) -> Told:
    """What an answer tells; raises what its reader raises, and where events are ill-formed."""
    reading = await read_events(_each(events_of(body, wire)))
    choice = reading.choice(0)
    reason = choice.finish_reason
    if reason == "stop" and choice.tool_calls:
        reason = "tool_calls"
    elif reason == "stop" and choice.refusal:
        reason = "content_filter"
    return Told(
        choice.text,
        choice.reasoning,
        choice.refusal,
        [
            (_MADE_ID.sub("made", call.call_id), call.name, _compact(call.arguments))
            for call in choice.tool_calls
        ],
        reason,
        _counts(reading.usage or Usage()),
    )


def _compact(arguments: str) -> str:
    try:
        return orjson.dumps(orjson.loads(arguments)).decode()
    except orjson.JSONDecodeError:
        return arguments


def _counts(usage: Usage) -> tuple[int, ...]:
    cached, created = usage.cached_tokens, usage.cache_creation_tokens
    prompt = max(usage.prompt_tokens, cached + created)
    return (prompt, usage.completion_tokens, cached, created, usage.reasoning_tokens)


async def _each(events: Iterable[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event
