"""Blocks of whole server-sent frames, cut from the bytes of an upstream and looked at. Pure.

The bytes go out as they came. What a block holds is found by looking for a few marks in it; only a
block that has one is split into its frames, and only the frames that matter are decoded.

Source: WHATWG HTML, section 9.2.5 "Parsing an event stream", 2026-10. All three line ends are read;
what goes out has line feeds alone.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import orjson

from providers.rejection import Rejection, find_rejection, rejection_to_error
from streaming.errors import AgentServerError, UpstreamProtocolError
from streaming.events import FinishReason, JsonObject, Usage
from streaming.sse import MAX_EVENT_BYTES

DONE = b"[DONE]"
FRAME_END = b"\n\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FrameScanner(ABC):
    """Gives the frames of one stream as they may go out, and keeps what they tell.

    `has_content` is true once the answer has begun: text, thinking, a tool call, a refusal or its
    end. `is_ended` is true after the last frame; what comes later is left out. `failure` is the
    error with which the stream broke: nothing goes out after it. `usage` is None until it is known.
    `reported_error` is one that a frame which went out has told already. The border between two
    reads makes no difference to what goes out.
    """

    # The name of the format's end in errors.
    end_name: ClassVar[str]

    def __init__(self, provider: str, *, answer_model: str | None = None) -> None:
        self.has_content = False
        self.is_ended = False
        self.failure: AgentServerError | None = None
        self.reported_error: AgentServerError | None = None
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.response_id: str | None = None
        self.model: str | None = None
        self._provider = provider
        self._names = ModelNames(answer_model)
        self._parts: list[bytes] = []
        self._waiting_bytes = 0
        self._is_first_block = True
        self._has_carriage_return = False

    def feed(self, data: bytes) -> bytes:
        """The frames that these bytes complete, as they may go out; b"" where there are none."""
        if self.is_ended or self.failure is not None or not data:
            return b""
        block = self._whole_frames(data)
        if not block:
            return b""
        if self._is_plain(block):
            return self._names.write(block)
        return self._read_mixed(block)

    def end(self) -> bytes:
        """What is left to go out when the upstream's bytes have ended.

        Raises:
            AgentServerError: the stream failed, or it was cut before its end.
        """
        out = b""
        rest = b"".join(self._parts) + (b"\n" if self._has_carriage_return else b"")
        self._parts.clear()
        # The blank line after the last frame may be missing; a line without its end may be cut.
        lines, line_end, _ = rest.rpartition(b"\n")
        if line_end and not self.is_ended and self.failure is None:
            out = self._read_frames(lines.strip(b"\n") + FRAME_END)
        if self.failure is None and not self.is_ended:
            try:
                out += self._finish()
            except AgentServerError as exc:
                self.failure = exc
        if self.failure is not None:
            raise self.failure
        return out

    @abstractmethod
    def _is_plain(self, block: bytes) -> bool:
        """Whether the block can go out as it is: proper frames of nothing but content."""

    def _first_mark(self, _block: bytes) -> int:
        """Where the first frame that is not plain lies at the earliest."""
        return 0

    @abstractmethod
    def _read_frame(self, frame: bytes, data: JsonObject) -> bytes:
        """The frame as it may go out, given also as its decoded data; raises `AgentServerError`."""

    @abstractmethod
    def _finish(self) -> bytes:
        """What ends the stream after its last frame; raises where it is not complete."""

    def _read_mark(self) -> bytes:
        """What `data: [DONE]` becomes."""
        return self._finish()

    def _read_mixed(self, block: bytes) -> bytes:
        """The frames of a block of which some are to be read: those before its content, and after.

        Between them lie, in a burst, many that are plain and go out together.
        """
        begin = 0
        out = b""
        while not self.has_content and self.failure is None and begin < len(block):
            end = block.find(FRAME_END, begin) + len(FRAME_END)
            out += self._read_frames(block[begin:end])
            begin = end
        end = block.rfind(FRAME_END, begin, begin + self._first_mark(block[begin:]))
        if end > begin:
            end += len(FRAME_END)
            plain = block[begin:end]
            if self.failure is None and self._is_plain(plain):
                out += self._names.write(plain)
                begin = end
        if self.failure is None and not self.is_ended:
            out += self._read_frames(block[begin:])
        return out

    def _read_frames(self, block: bytes) -> bytes:
        out: list[bytes] = []
        for frame in block.split(FRAME_END):
            if not frame or frame == b"\n":
                continue
            try:
                out.append(self._read(frame.lstrip(b"\n")))
            except AgentServerError as exc:
                self.failure = exc
            if self.is_ended or self.failure is not None:
                break
        return b"".join(out)

    def _read(self, frame: bytes) -> bytes:
        event, data = split_frame(frame)
        if data is None:
            return frame + FRAME_END
        if data.strip() == DONE:
            return self._read_mark()
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise self._error("sent a frame that is not JSON") from exc
        if not isinstance(value, dict):
            raise self._error("sent a frame that is no JSON object")
        if event == b"error" or value.get("type") == "error":
            raise self._rejected(find_rejection(value) or _flat_rejection(value))
        return self._read_frame(frame, value)

    def _rejected(self, rejection: Rejection) -> AgentServerError:
        return rejection_to_error(rejection, provider=self._provider)

    def _error(self, text: str, *, is_retryable: bool = False) -> UpstreamProtocolError:
        return UpstreamProtocolError(
            f"{self._provider} {text}", provider=self._provider, is_retryable=is_retryable
        )

    def _cut(self) -> UpstreamProtocolError:
        return self._error(
            f"ended its answer early: it holds no {self.end_name}", is_retryable=True
        )

    def _whole_frames(self, data: bytes) -> bytes:
        """The bytes up to the last end of a frame; the rest waits."""
        if self._has_carriage_return or b"\r" in data:
            data = self._with_line_feeds(data)
        end = data.rfind(FRAME_END)
        if end >= 0:
            end += len(FRAME_END)
        elif data[:1] == b"\n" and self._parts and self._parts[-1][-1:] == b"\n":
            end = 1
        else:
            self._wait(data)
            return b""
        parts = self._parts
        if parts:
            parts.append(data[:end])
            block = b"".join(parts)
            parts.clear()
            self._waiting_bytes = 0
        else:
            block = data if end == len(data) else data[:end]
        if end < len(data):
            self._wait(data[end:])
        if self._is_first_block:
            self._is_first_block = False
            block = block.removeprefix(_BYTE_ORDER_MARK)
        return block

    def _wait(self, data: bytes) -> None:
        if not data:
            return
        self._parts.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_EVENT_BYTES:
            self.failure = self._error(f"sent an event of more than {MAX_EVENT_BYTES} bytes")
            self._parts.clear()

    def _with_line_feeds(self, data: bytes) -> bytes:
        if self._has_carriage_return:
            data = b"\r" + data
        # Whether a line feed follows the last byte is not known yet.
        self._has_carriage_return = data.endswith(b"\r")
        if self._has_carriage_return:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class ModelNames:
    """Writes another model's name into frames; with None they stay as they are."""

    __slots__ = ("_new", "_old", "name")

    def __init__(self, name: str | None) -> None:
        self.name = name
        self._old = b""
        self._new = b""

    def learn(self, frame: bytes, model: object) -> None:
        """Take the way in which a frame writes the upstream's model."""
        if self.name is None or not isinstance(model, str) or (self._old and self._old in frame):
            return
        for key in (b'"model":', b'"model": '):
            if (text := key + orjson.dumps(model)) in frame:
                self._old = text
                self._new = key + orjson.dumps(self.name)

    def writes(self, block: bytes, frames: int) -> bool:
        """Whether each of the frames names the model in the way that was learned."""
        return self.name is None or (bool(self._old) and block.count(self._old) == frames)

    def write(self, block: bytes) -> bytes:
        """The block with the model's name replaced."""
        return block.replace(self._old, self._new) if self._old else block


def split_frame(frame: bytes) -> tuple[bytes, bytes | None]:
    """The event's name (b"" if it has none) and the data of a frame, None for a mere comment."""
    if frame.startswith(b"data: ") and b"\n" not in frame:
        return b"", frame[6:]
    event = b""
    data: list[bytes] = []
    for line in frame.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            event = value.strip()
    return event, b"\n".join(data) if data else None


def write_frame(data: JsonObject, event: bytes = b"") -> bytes:
    """A frame of this data."""
    head = b"event: " + event + b"\n" if event else b""
    return head + b"data: " + orjson.dumps(data) + FRAME_END


def _flat_rejection(value: JsonObject) -> Rejection:
    """The refusal of an `error` event of the Responses format, which holds it at the top."""
    message, code, param = (value.get(name) for name in ("message", "code", "param"))
    return Rejection(
        message=message if isinstance(message, str) else "",
        code="" if code is None else str(code),
        param=param if isinstance(param, str) else None,
    )
