"""Answers in OpenAI's chat format as events: streamed chunks, and whole JSON bodies.

Source: OpenAI API reference, "The chat completion object" and "The chat completion chunk object",
2026-10, and what Azure, DeepSeek, Groq, Mistral, Ollama, OpenRouter, Perplexity and Together do
otherwise. Pure: no IO.
"""

from collections.abc import Callable
from typing import Literal
from uuid import uuid4

from providers.openai.tool_calls import ToolCalls
from providers.rejection import Rejection, find_rejection, rejection_to_error
from streaming.errors import AgentServerError, UpstreamProtocolError
from streaming.events import (
    Event,
    Finished,
    FinishReason,
    JsonObject,
    JsonValue,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    RefusalDelta,
    Started,
    TextDelta,
    Usage,
)


def new_call_id() -> str:
    """An id for a tool call to which the upstream gave none."""
    return f"call_{uuid4().hex}"


def answer_to_events(
    body: JsonObject, provider: str, new_call_id: Callable[[], str] = new_call_id
) -> list[Event]:
    """The events of a whole answer; raises what `ChunkDecoder` raises."""
    decoder = ChunkDecoder(provider, part="message", new_call_id=new_call_id)
    return decoder.feed(body) + decoder.finish()


class ChunkDecoder:
    """Gives the events of one answer from its chunks.

    `Finished` is held back to the end, so that the last one carries the usage, wherever the
    upstream reports it. A whole body is one chunk whose choices have a `message` as their part.
    """

    def __init__(
        self,
        provider: str,
        *,
        part: Literal["delta", "message"] = "delta",
        new_call_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._provider = provider
        self._part = part
        self._new_call_id = new_call_id
        self._is_started = False
        self._choices: dict[int, _Choice] = {}
        self._usage: Usage | None = None

    def feed(self, chunk: JsonObject) -> list[Event]:
        """The events of one chunk.

        Raises:
            UpstreamError: the chunk is an error, or says that the answer failed.
            CallerError: the chunk is an error that blames the request.
        """
        if (rejection := find_rejection(chunk)) is not None:
            raise self._error(rejection)
        if (usage := find_usage(chunk)) is not None:
            self._usage = usage
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            return []
        events = self._start(chunk)
        for position, choice in enumerate(choices):
            if isinstance(choice, dict):
                events += self._feed_choice(choice, position)
        return events

    def finish(self) -> list[Event]:
        """The events that end the answer, to be asked for at `[DONE]` or the end of the bytes.

        Raises:
            UpstreamProtocolError: the answer was cut before every choice had a finish reason.
        """
        if not self._choices:
            raise self._cut("no choice")
        events: list[Event] = []
        for choice in self._choices.values():
            events += choice.end(self._provider)
        reasons = [(self._reason(choice), choice.index) for choice in self._choices.values()]
        last = len(reasons) - 1
        return events + [
            Finished(reason, index, self._usage if position == last else None)
            for position, (reason, index) in enumerate(reasons)
        ]

    def _start(self, chunk: JsonObject) -> list[Event]:
        if self._is_started or not (chunk.get("choices") or chunk.get("id")):
            return []
        self._is_started = True
        return [Started(str(chunk.get("id") or ""), str(chunk.get("model") or ""))]

    def _feed_choice(self, data: JsonObject, position: int) -> list[Event]:
        index = data.get("index")
        index = index if isinstance(index, int) else position
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index, self._new_call_id)
        part = data.get(self._part)
        events = choice.feed(part) if isinstance(part, dict) else []
        reason = data.get("finish_reason") or legacy_reason(data)
        if isinstance(reason, str) and reason:
            if reason in FAILURE_REASONS:
                raise self._error(
                    find_rejection(data) or Rejection(f"the answer ended with {reason!r}")
                )
            choice.reason = FINISH_REASONS.get(reason, "stop")
        return events

    def _reason(self, choice: "_Choice") -> FinishReason:
        if choice.reason is not None:
            return choice.reason
        if self._part == "message":
            return "tool_calls" if choice.tool_calls else "stop"
        raise self._cut("no finish reason")

    def _error(self, rejection: Rejection) -> AgentServerError:
        return rejection_to_error(rejection, provider=self._provider)

    def _cut(self, missing: str) -> UpstreamProtocolError:
        return UpstreamProtocolError(
            f"{self._provider} ended its answer early: it holds {missing}",
            provider=self._provider,
            is_retryable=True,
        )


class _Choice:
    """What is open in one choice."""

    def __init__(self, index: int, new_call_id: Callable[[], str]) -> None:
        self.index = index
        self.reason: FinishReason | None = None
        self.tool_calls = ToolCalls(index, new_call_id)
        self._thinking: list[str] = []

    def feed(self, part: JsonObject) -> list[Event]:
        """The events of a delta or a message."""
        events: list[Event] = []
        thinking = part.get("reasoning_content") or part.get("reasoning")
        if thinking and isinstance(thinking, str):
            events += self._think(thinking)
        if content := part.get("content"):
            events += self._content(content)
        refusal = part.get("refusal")
        if refusal and isinstance(refusal, str):
            events.append(RefusalDelta(refusal, self.index))
        fragments = part.get("tool_calls") or _legacy_call(part)
        if fragments and isinstance(fragments, list):
            events += self._end_thinking()
            events += self.tool_calls.feed(fragments)
        return events

    def end(self, provider: str) -> list[Event]:
        """The events that close what is open."""
        return self._end_thinking() + self.tool_calls.end(provider)

    def _content(self, content: JsonValue) -> list[Event]:
        if isinstance(content, str):
            return [*self._end_thinking(), TextDelta(content, self.index)]
        events: list[Event] = []
        for piece in content if isinstance(content, list) else ():
            if not isinstance(piece, dict):
                continue
            if text := _joined(piece.get("text")):
                events += [*self._end_thinking(), TextDelta(text, self.index)]
            elif text := _joined(piece.get("thinking")):
                events += self._think(text)
        return events

    def _think(self, text: str) -> list[Event]:
        self._thinking.append(text)
        return [ReasoningDelta(text, self.index)]

    def _end_thinking(self) -> list[Event]:
        if not self._thinking:
            return []
        block = ReasoningBlock("".join(self._thinking))
        self._thinking.clear()
        return [ReasoningEnded(block, self.index)]


def usage_from_json(data: JsonObject) -> Usage:
    """The tokens of an upstream's `usage` object, wherever it keeps the cached ones."""
    prompt = _count(data.get("prompt_tokens"))
    completion = _count(data.get("completion_tokens"))
    cached = written = thought = 0
    details = data.get("prompt_tokens_details")
    if isinstance(details, dict):
        cached = _count(details.get("cached_tokens"))
        written = _count(details.get("cache_write_tokens"))
    for name in CACHED_FIELDS:
        if name in data:
            cached = cached or _count(data[name])
    details = data.get("completion_tokens_details")
    if isinstance(details, dict):
        thought = _count(details.get("reasoning_tokens"))
    total = _count(data.get("total_tokens")) or prompt + completion
    return Usage(prompt, completion, total, cached, written, thought)


def find_usage(chunk: JsonObject) -> Usage | None:
    """The usage that a chunk or a whole body tells, None if it tells none."""
    usage = chunk.get("usage")
    if not usage:
        groq = chunk.get("x_groq")
        usage = groq.get("usage") if isinstance(groq, dict) else None
    return usage_from_json(usage) if isinstance(usage, dict) and usage else None


def _count(value: JsonValue) -> int:
    if type(value) is int:
        return value
    return int(value) if isinstance(value, float) else 0


def _joined(value: JsonValue) -> str:
    """Text that may be nested: Mistral's `thinking` is a list of text parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    return "".join(_joined(piece.get("text")) for piece in value if isinstance(piece, dict))


def _legacy_call(part: JsonObject) -> list[JsonValue]:
    """The one call of the format before tools, as tools have it."""
    call = part.get("function_call")
    return [{"index": 0, "function": call}] if isinstance(call, dict) else []


def legacy_reason(choice: JsonObject) -> JsonValue:
    """The finish reason of a choice where an old model of OpenAI has it."""
    details = choice.get("finish_details")
    return details.get("type") if isinstance(details, dict) else None


# What upstreams say for OpenAI's four; a word that is not here counts as `stop`.
FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
# The answer is not whole and the upstream says so.
FAILURE_REASONS = frozenset({"error", "abort", "insufficient_system_resource"})
# Together's and HuggingFace's, DeepSeek's, Mistral's place for the cached tokens.
CACHED_FIELDS = ("cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens")
