"""Streams of OpenAI's Responses format, as they may go out. Pure: no IO.

Source: OpenAI API reference, "Responses", "Streaming events", 2026-10.
"""

from typing_extensions import override

from providers.rejection import Rejection, find_rejection
from providers.relay.frames import FRAME_END, FrameScanner, write_frame
from providers.relay.response_object import response_finish_reason, response_usage
from streaming.events import JsonObject

# Only the frames about the response itself hold the whole object.
_RESPONSE = b'"response":'


class ResponsesFrames(FrameScanner):
    """Frames of output go out byte for byte; those that hold the response are also decoded.

    A `response.failed` before any content is a failure; a later one goes out, because it is the
    format's own word for it, and its error is the `reported_error`. What `is_stored` at the
    upstream is told as it was, from its first frame on.
    """

    end_name = "response.completed"

    def __init__(
        self, provider: str, *, answer_model: str | None = None, is_stored: bool = False
    ) -> None:
        super().__init__(provider, answer_model=answer_model)
        self.has_content = is_stored
        self._lines_each = 3

    @override
    def _is_plain(self, block: bytes) -> bool:
        if not self.has_content:
            return False
        lines = block.count(b"\n")
        frames = lines // self._lines_each
        # A frame is `event:`, `data:` and a blank line; some upstreams leave `event:` out.
        head, data = _STRUCTURES[self._lines_each]
        return (
            lines == self._lines_each * frames
            and block.startswith(head)
            and block.count(data) + (self._lines_each == 2) == frames
            and block.count(b"}" + FRAME_END) == frames
            and _RESPONSE not in block
            and b'"error"' not in block
        )

    @override
    def _read_frame(self, frame: bytes, data: JsonObject) -> bytes:
        self._lines_each = 3 if frame.startswith(b"event:") else 2
        response = data.get("response")
        kind = data.get("type")
        if not isinstance(response, dict):
            if "type" not in data:
                raise self._rejected(find_rejection(data) or Rejection("sent an untyped event"))
            self.has_content = self.has_content or _has_content(data)
            return frame + FRAME_END
        self._learn(response)
        if kind == "response.failed":
            self.reported_error = self._rejected(find_rejection(response) or Rejection())
            if not self.has_content:
                raise self.reported_error
        if kind in _LAST_TYPES:
            self.has_content = self.is_ended = True
            self.finish_reason = response_finish_reason(response)
        if self._names.name is None or "model" not in response:
            return frame + FRAME_END
        renamed = {**data, "response": {**response, "model": self._names.name}}
        return write_frame(renamed, str(kind).encode() if self._lines_each == 3 else b"")

    @override
    def _finish(self) -> bytes:
        raise self._cut()

    def _learn(self, response: JsonObject) -> None:
        if response_id := response.get("id"):
            self.response_id = str(response_id)
        if model := response.get("model"):
            self.model = str(model)
        if (usage := response_usage(response)) is not None:
            self.usage = usage


def _has_content(data: JsonObject) -> bool:
    kind = data.get("type")
    item = data.get("item")
    if kind == "response.output_item.added" and isinstance(item, dict):
        return item.get("type") not in {"message", "reasoning"}
    return kind not in _OPENING_TYPES


_OPENING_TYPES = frozenset(
    {
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
        "keepalive",
    }
)
_LAST_TYPES = frozenset({"response.completed", "response.incomplete", "response.failed"})
# How a frame begins, and what each holds once, by its lines.
_STRUCTURES = {3: (b"event: ", b'\ndata: {"'), 2: (b'data: {"', b'}\n\ndata: {"')}
