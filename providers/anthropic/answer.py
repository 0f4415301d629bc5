"""Anthropic's answers as events: the JSON message, and the stream's events one by one.

Source: Messages API, "Create a Message" (response) and "Streaming messages", 2026-10, with
`anthropic-version: 2023-06-01`. Event types, block types and deltas that are not known here are
skipped, as the versioning rules ("Versions") ask of a client. Blocks of Anthropic's own tools
(`server_tool_use`, `*_tool_result`) are no tool calls for a caller, and are skipped as well.
"""

from collections.abc import Sequence

import orjson

from providers.anthropic.blocks import Block, RedactedBlock, TextBlock, ThinkingBlock, ToolUseBlock
from providers.json_fields import (
    MalformedError,
    index_field,
    list_field,
    object_field,
    text_field,
)
from providers.rejection import Rejection, find_rejection, rejection_to_error
from streaming.errors import UpstreamConnectionError, UpstreamProtocolError
from streaming.events import (
    Event,
    Finished,
    FinishReason,
    JsonObject,
    RefusalDelta,
    Started,
    Usage,
)


def message_to_events(body: bytes, provider: str) -> list[Event]:
    """The events of a whole message, as an answer without a stream holds it.

    Raises:
        UpstreamError: the body is not a message, or tells of an error.
        CallerError: the body tells of an error in the request.
    """
    reader = AnswerReader(provider)
    message = reader.parse(body)
    if message.get("type") == "error":
        return [*reader.read_frame(message)]
    frames: list[JsonObject] = [{"type": "message_start", "message": message}]
    try:
        for index, block in enumerate(list_field(message, "content")):
            frames.append({"type": "content_block_start", "index": index, "content_block": block})
            frames.append({"type": "content_block_stop", "index": index})
    except MalformedError as exc:
        raise reader.malformed(exc) from exc
    frames.append({"type": "message_delta", "delta": message})
    frames.append({"type": "message_stop"})
    return [event for frame in frames for event in reader.read_frame(frame)]


class AnswerReader:
    """Reads one stream: give it the data of each SSE frame in their order, then `close()` it.

    `provider` names the upstream in errors.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._blocks: dict[int, Block] = {}
        self._tool_count = 0
        self._is_started = False
        self._is_finished = False
        self._stop_reason: str | None = None
        self._refusal = ""
        self._usage: dict[str, int] = {}

    @property
    def is_finished(self) -> bool:
        """Whether the answer is complete."""
        return self._is_finished

    def read(self, data: bytes) -> Sequence[Event]:
        """The events of one frame, given its data.

        Raises:
            UpstreamError: the frame is not what the format says, or tells of an error.
            CallerError: the frame tells of an error in the request.
        """
        return self.read_frame(self.parse(data))

    def read_frame(self, frame: JsonObject) -> Sequence[Event]:
        """The events of one parsed frame; raises what `read` raises."""
        try:
            handle = _FRAMES.get(text_field(frame, "type"))
            return () if handle is None else handle(self, frame)
        except MalformedError as exc:
            raise self.malformed(exc) from exc

    def parse(self, data: bytes) -> JsonObject:
        """The JSON object that `data` holds; raises `UpstreamProtocolError`."""
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise self.malformed(MalformedError("JSON text")) from exc
        if not isinstance(value, dict):
            raise self.malformed(MalformedError("JSON object"))
        return value

    def malformed(self, error: MalformedError) -> UpstreamProtocolError:
        """The error for an answer that lacks what the format demands."""
        return UpstreamProtocolError(
            f"{self._provider} sent an answer without a proper {error}", provider=self._provider
        )

    def close(self) -> None:
        """Say that the stream has ended.

        Raises:
            UpstreamProtocolError: it was no stream of this format.
            UpstreamConnectionError: it ended before the answer was complete.
        """
        if not self._is_started:
            raise UpstreamProtocolError(
                f"{self._provider} answered without a message; check its base URL",
                provider=self._provider,
            )
        if not self._is_finished:
            raise UpstreamConnectionError(
                f"{self._provider} ended its stream before the answer was complete",
                provider=self._provider,
            )

    def _start_message(self, frame: JsonObject) -> Sequence[Event]:
        message = object_field(frame, "message")
        self._is_started = True
        self._add_usage(message)
        return (Started(text_field(message, "id"), text_field(message, "model")),)

    def _start_block(self, frame: JsonObject) -> Sequence[Event]:
        if not self._is_started:
            raise MalformedError("message_start before its content")
        block = self._open_block(object_field(frame, "content_block"))
        self._blocks[index_field(frame)] = block
        return block.start()

    def _open_block(self, content: JsonObject) -> Block:
        match text_field(content, "type"):
            case "text":
                return TextBlock(content)
            case "thinking":
                return ThinkingBlock(content)
            case "redacted_thinking":
                return RedactedBlock(content)
            case "tool_use":
                self._tool_count += 1
                return ToolUseBlock(self._tool_count - 1, content)
            case _:
                return Block()

    def _add_delta(self, frame: JsonObject) -> Sequence[Event]:
        block = self._blocks.get(index_field(frame))
        if block is None:
            raise MalformedError("content_block_start before a delta")
        return block.add(object_field(frame, "delta"))

    def _stop_block(self, frame: JsonObject) -> Sequence[Event]:
        block = self._blocks.pop(index_field(frame), None)
        if block is None:
            raise MalformedError("content_block_start before its stop")
        return block.stop()

    def _end_message(self, frame: JsonObject) -> Sequence[Event]:
        delta = object_field(frame, "delta")
        if delta.get("stop_reason") is not None:
            self._stop_reason = text_field(delta, "stop_reason")
        details = delta.get("stop_details")
        if isinstance(details, dict) and details.get("explanation"):
            self._refusal = text_field(details, "explanation")
        self._add_usage(frame)
        return ()

    def _stop_message(self, frame: JsonObject) -> Sequence[Event]:
        del frame
        if self._stop_reason is None:
            raise MalformedError("stop_reason before its end")
        if self._blocks:
            raise MalformedError("content_block_stop before its end")
        self._is_finished = True
        reason = _FINISH_REASONS.get(self._stop_reason, "stop")
        finished = Finished(reason, usage=_usage(self._usage))
        return (RefusalDelta(self._refusal), finished) if self._refusal else (finished,)

    def _fail(self, frame: JsonObject) -> Sequence[Event]:
        raise rejection_to_error(find_rejection(frame) or Rejection(), provider=self._provider)

    def _add_usage(self, holder: JsonObject) -> None:
        """Take the counts that are told: each is the total so far, and stays where it is absent."""
        usage = holder.get("usage")
        if not isinstance(usage, dict):
            return
        details = usage.get("output_tokens_details")
        counts = {**usage, **details} if isinstance(details, dict) else usage
        for name in _COUNTS:
            if isinstance(count := counts.get(name), int):
                self._usage[name] = count


def _usage(counts: dict[str, int]) -> Usage:
    """Usage in OpenAI's sense: Anthropic's `input_tokens` leaves the cached ones out."""
    fresh, created, cached, completion, thinking = (counts.get(name, 0) for name in _COUNTS)
    prompt = fresh + created + cached
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=cached,
        cache_creation_tokens=created,
        reasoning_tokens=thinking,
    )


_FRAMES = {
    "message_start": AnswerReader._start_message,
    "content_block_start": AnswerReader._start_block,
    "content_block_delta": AnswerReader._add_delta,
    "content_block_stop": AnswerReader._stop_block,
    "message_delta": AnswerReader._end_message,
    "message_stop": AnswerReader._stop_message,
    "error": AnswerReader._fail,
}
# `pause_turn` ends a turn in which Anthropic's own tools ran long: a caller may go on from it.
_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_COUNTS = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "thinking_tokens",
)
