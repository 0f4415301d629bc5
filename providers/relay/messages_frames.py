"""Streams of Anthropic's Messages format, as they may go out. Pure: no IO.

Source: Messages API, "Streaming messages", 2026-10, with `anthropic-version: 2023-06-01`.
"""

from typing_extensions import override

from providers.anthropic.answer import AnswerReader
from providers.relay.frames import FRAME_END, FrameScanner, write_frame
from streaming.events import Finished, JsonObject, Started

_CONTENT = b"event: content_block_"
_PING = b"event: ping"
_HEAD = (_CONTENT, _PING)
_DATA = b'\ndata: {"'


class MessagesFrames(FrameScanner):
    """Everything goes out byte for byte; the frames about the message itself are also decoded."""

    end_name = "message_stop"

    def __init__(self, provider: str, *, answer_model: str | None = None) -> None:
        super().__init__(provider, answer_model=answer_model)
        self._reader = AnswerReader(provider)

    @override
    def _is_plain(self, block: bytes) -> bool:
        if not self.has_content:
            return False
        lines = block.count(b"\n")
        frames = lines // 3
        # Anthropic pads its data with blanks.
        return (
            lines == 3 * frames
            and block.startswith(_HEAD)
            and block.count(_DATA) == frames
            and block.count(_CONTENT) + block.count(_PING) == frames
            and block.count(b"}" + FRAME_END) + block.count(b" " + FRAME_END) == frames
        )

    @override
    def _read_frame(self, frame: bytes, data: JsonObject) -> bytes:
        kind = data.get("type")
        if kind in _MESSAGE_FRAMES:
            # Blocks are left out here, so the reader never has one open.
            for event in self._reader.read_frame(data):
                match event:
                    case Started():
                        self.response_id, self.model = event.response_id, event.model
                    case Finished():
                        self.finish_reason, self.usage = event.reason, event.usage
                    case _:
                        pass
            self.is_ended = self._reader.is_finished
            if kind == "message_start":
                return self._renamed(frame, data)
            self.has_content = self.has_content or kind == "message_delta"
        elif not self.has_content:
            self.has_content = _has_content(data)
        return frame + FRAME_END

    @override
    def _finish(self) -> bytes:
        self._reader.close()
        return b""

    def _renamed(self, frame: bytes, data: JsonObject) -> bytes:
        message = data.get("message")
        if self._names.name is None or not isinstance(message, dict):
            return frame + FRAME_END
        renamed = {**data, "message": {**message, "model": self._names.name}}
        return write_frame(renamed, b"message_start")


def _has_content(data: JsonObject) -> bool:
    if data.get("type") == "content_block_delta":
        return True
    block = data.get("content_block")
    return isinstance(block, dict) and block.get("type") not in {"text", "thinking"}


_MESSAGE_FRAMES = frozenset({"message_start", "message_delta", "message_stop"})
