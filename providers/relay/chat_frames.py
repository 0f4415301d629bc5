"""Streams of OpenAI's chat format, as they may go out. Pure: no IO.

Source: OpenAI API reference, "The chat completion chunk object", 2026-10. Mended is what the
official clients stumble over: reasons that are not OpenAI's, a second end of a choice, wrong
numbers of tool calls, the usage in another place than the client asked for, a missing `[DONE]`.
"""

from collections.abc import Callable, Iterable

from typing_extensions import override

from providers.openai.wire import FAILURE_REASONS, FINISH_REASONS, find_usage, new_call_id
from providers.rejection import Rejection, find_rejection
from providers.relay.frames import FRAME_END, FrameScanner, write_frame
from providers.relay.tool_indexes import ToolIndexes
from streaming.events import FinishReason, JsonObject, JsonValue

TOOL_CALLS = b'"tool_calls"'
_DONE_LINE = b"data: [DONE]"
_END = _DONE_LINE + FRAME_END
_TOLD_REASONS = (b'"finish_reason":"', b'"finish_reason": "')
_NULL_REASONS = (b'"finish_reason":null', b'"finish_reason": null')


class ChatFrames(FrameScanner):
    """`include_usage` is the client's wish for the usage chunk, `choices` its `n`.

    Frames that hold one of `marks` are decoded, for upstreams that deviate in them.
    """

    end_name = "finish reason"

    def __init__(
        self,
        provider: str,
        *,
        include_usage: bool = True,
        choices: int = 1,
        marks: Iterable[bytes] = (TOOL_CALLS,),
        answer_model: str | None = None,
        new_call_id: Callable[[], str] = new_call_id,
    ) -> None:
        super().__init__(provider, answer_model=answer_model)
        self._include_usage = include_usage
        self._has_many = choices > 1
        self._marks = (b'"prompt_tokens"', b'"error"', *marks)
        self._null_reason = _NULL_REASONS[0]
        self._new_call_id = new_call_id
        self._tools: dict[int, ToolIndexes] = {}
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._usage_frame = b""

    @override
    def _is_plain(self, block: bytes) -> bool:
        # Before the first content and after the first end every frame is decoded.
        if not self.has_content or self._finished or self._has_many:
            return False
        frames = block.count(b'}\n\ndata: {"') + 1
        if (
            2 * frames != block.count(b"\n")
            or not block.startswith(b'data: {"')
            or not block.endswith(b"}\n\n")
            or block.count(b'"finish_reason"') != block.count(self._null_reason)
        ):
            return False
        # A loop, not `any`: this is the one thing that is done for every chunk.
        for mark in self._marks:
            if mark in block:
                return False
        return self._names.writes(block, frames)

    @override
    def _first_mark(self, block: bytes) -> int:
        first = len(block)
        for mark in (*self._marks, *_TOLD_REASONS, _DONE_LINE):
            at = block.find(mark, 0, first)
            if at >= 0:
                first = at
        return first

    @override
    def _read_frame(self, frame: bytes, data: JsonObject) -> bytes:
        self._learn(frame, data)
        if (rejection := find_rejection(data)) is not None:
            raise self._rejected(rejection)
        choices = data.get("choices")
        given = choices if isinstance(choices, list) else []
        kept, is_changed = self._read_choices(given)
        usage = find_usage(data)
        if usage is not None:
            self.usage = usage
            is_late = bool(self._finished) and not self._open
            if not kept or (is_late and not any(map(_says_something, kept))):
                self._hold_usage(frame if not given else b"", data)
                return b""
            if self._include_usage:
                self._hold_usage(b"", data)
                if data.get("usage") is not None:
                    data["usage"] = None
                    is_changed = True
        if given and not kept:
            return b""
        if is_changed:
            data["choices"] = kept
        return self._write(frame, data, is_changed=is_changed)

    @override
    def _finish(self) -> bytes:
        if not self._finished or self._open:
            raise self._cut()
        self.is_ended = True
        return (self._usage_frame if self._include_usage else b"") + _END

    def _learn(self, frame: bytes, data: JsonObject) -> None:
        if self.response_id is None and (response_id := data.get("id")):
            self.response_id = str(response_id)
        if model := data.get("model"):
            self.model = self.model or str(model)
            self._names.learn(frame, model)
        if _NULL_REASONS[1] in frame:
            self._null_reason = _NULL_REASONS[1]

    def _read_choices(self, choices: list[JsonValue]) -> tuple[list[JsonValue], bool]:
        """The choices that may go out, and whether any had to be changed."""
        kept: list[JsonValue] = []
        is_changed = False
        for position, choice in enumerate(choices):
            if not isinstance(choice, dict):
                raise self._error("sent a choice that is no object")
            index = choice.get("index")
            index = index if isinstance(index, int) else position
            reason = choice.get("finish_reason")
            if index in self._finished and reason:
                is_changed = True
                continue
            is_changed |= self._read_reason(choice, index, reason)
            is_changed |= self._read_delta(choice, index)
            kept.append(choice)
        return kept, is_changed

    def _read_reason(self, choice: JsonObject, index: int, reason: JsonValue) -> bool:
        if not isinstance(reason, str):
            if index not in self._finished:
                self._open.add(index)
            return False
        if not reason:
            self._open.add(index)
            choice["finish_reason"] = None
            return True
        if reason in FAILURE_REASONS:
            raise self._rejected(
                find_rejection(choice) or Rejection(f"the answer ended with {reason!r}")
            )
        self._finished.add(index)
        self._open.discard(index)
        self.has_content = True
        known = known_reason(reason)
        if not index or self.finish_reason is None:
            self.finish_reason = known
        if reason in OPENAI_REASONS:
            return False
        choice["finish_reason"] = known
        return True

    def _read_delta(self, choice: JsonObject, index: int) -> bool:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return False
        self.has_content = self.has_content or _has_content(delta)
        calls = delta.get("tool_calls")
        if not calls or TOOL_CALLS not in self._marks:
            return False
        tools = self._tools.get(index)
        if tools is None:
            tools = self._tools[index] = ToolIndexes(self._new_call_id)
        return tools.mend(calls)

    def _hold_usage(self, frame: bytes, data: JsonObject) -> None:
        """Keep the usage as the chunk that goes out last, if the client wants it."""
        if frame:
            self._usage_frame = self._write(frame + FRAME_END, data, is_changed=False, end=b"")
            return
        chunk = {key: data[key] for key in _USAGE_CHUNK_KEYS if data.get(key) is not None}
        groq = data.get("x_groq")
        if "usage" not in chunk and isinstance(groq, dict):
            chunk["usage"] = groq.get("usage")
        chunk |= {"object": "chat.completion.chunk", "choices": []}
        self._usage_frame = self._write(b"", chunk, is_changed=True)

    def _write(
        self, frame: bytes, data: JsonObject, *, is_changed: bool, end: bytes = FRAME_END
    ) -> bytes:
        name = self._names.name
        if name is not None and data.get("model") is not None:
            if not is_changed and self._names.writes(frame, 1):
                return self._names.write(frame) + end
            data = {**data, "model": name}
            is_changed = True
        return write_frame(data) if is_changed else frame + end


def known_reason(reason: str) -> FinishReason:
    """OpenAI's reason for an upstream's word; one that nobody knows counts as `stop`."""
    return FINISH_REASONS.get(reason, "stop")


def _has_content(delta: JsonObject) -> bool:
    return any(delta.get(key) for key in _CONTENT_KEYS)


def _says_something(choice: JsonValue) -> bool:
    if not isinstance(choice, dict):
        return True
    delta = choice.get("delta")
    return bool(choice.get("finish_reason")) or (isinstance(delta, dict) and _has_content(delta))


# `function_call` is the reason of OpenAI's format before tools.
OPENAI_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_CONTENT_KEYS = (
    "content",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "refusal",
    "tool_calls",
    "function_call",
    "audio",
)
_USAGE_CHUNK_KEYS = (
    "id",
    "created",
    "model",
    "provider",
    "service_tier",
    "system_fingerprint",
    "usage",
)
