"""Server-sent events, both ways: bytes to events for an upstream, one frame for a client.

Source: WHATWG HTML, section 9.2 "Server-sent events" (9.2.5 "Parsing an event stream", 9.2.6
"Interpreting an event stream"), 2026-10. Bytes stay bytes: every line end and every field name is
ASCII, so a character that two chunks share is never decoded in halves.
"""

from dataclasses import dataclass

from streaming.errors import UpstreamProtocolError

MAX_EVENT_BYTES = 16 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One dispatched event; `data` is UTF-8, its lines joined by a newline.

    `id` is the last id of the stream so far ("" before the first), `retry` the reconnection time
    in milliseconds if this event's lines gave one.
    """

    event: str
    data: bytes
    id: str = ""
    retry: int | None = None


class SSEDecoder:
    """Gives the events of a stream that arrives in chunks with any borders, in linear time.

    An event may hold `max_event_bytes` of data, the unfinished line included; a larger one raises.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line_parts: list[bytes] = []
        self._line_bytes = 0
        self._is_first_line = True
        self._skip_line_feed = False
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = ""
        self._id = ""
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that `chunk` completes.

        Raises:
            UpstreamProtocolError: an event is larger than the cap.
        """
        if self._skip_line_feed and chunk:
            # The line ended with the CR of the last chunk; its LF does not end another.
            self._skip_line_feed = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        if not chunk:
            return []
        lines = chunk.splitlines()
        rest = b""
        if chunk[-1] == 0x0D:
            self._skip_line_feed = True
        elif chunk[-1] != 0x0A:
            rest = lines.pop()
        if lines and self._line_parts:
            self._line_parts.append(lines[0])
            lines[0] = b"".join(self._line_parts)
            self._line_parts.clear()
            self._line_bytes = 0
        if lines and self._is_first_line:
            self._is_first_line = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        events = self._interpret(lines)
        if rest:
            self._line_parts.append(rest)
            self._line_bytes += len(rest)
            self._check_size()
        return events

    def flush(self) -> list[ServerSentEvent]:
        """The event whose closing blank line the end of the stream took away, if there is one.

        WHATWG drops it; some servers end with `data: [DONE]` and one line end. A line without
        its end is dropped, because it may have been cut.
        """
        self._line_parts.clear()
        self._line_bytes = 0
        return self._interpret([b""])

    def _interpret(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._add_data(line[6:] if line[5:6] == b" " else line[5:])
            elif not line:
                if self._data:
                    events.append(self._dispatch())
                self._event = ""
                self._retry = None
            else:
                self._set_field(line)
        return events

    def _add_data(self, value: bytes) -> None:
        self._data.append(value)
        self._data_bytes += len(value) + 1
        self._check_size()

    def _dispatch(self) -> ServerSentEvent:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._data_bytes = 0
        return ServerSentEvent(self._event or "message", data, self._id, self._retry)

    def _set_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"data":
            self._add_data(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 18:
            self._retry = int(value)

    def _check_size(self) -> None:
        if self._data_bytes + self._line_bytes > self._max_event_bytes:
            raise UpstreamProtocolError(
                f"One server-sent event of the upstream is larger than {self._max_event_bytes} "
                "bytes. Ask for a smaller answer, or check that the address is that of the API."
            )


def frame(data: bytes, event: str | None = None, id: str | None = None) -> bytes:
    """One whole SSE frame; data with line ends becomes one `data:` line for each of its lines.

    Raises:
        ValueError: `event` or `id` holds a line end or NUL, which would forge further fields.
    """
    head = b""
    if event is not None:
        head = b"event: " + _one_line(event) + b"\n"
    if id is not None:
        head += b"id: " + _one_line(id) + b"\n"
    if b"\n" in data or b"\r" in data:
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        data = b"\ndata: ".join(lines)
    return head + b"data: " + data + b"\n\n"


def _one_line(value: str) -> bytes:
    if any(character in value for character in "\r\n\0"):
        raise ValueError(f"an SSE field must be one line without NUL, not {value!r}")
    return value.encode()
