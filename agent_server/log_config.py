"""The log: one line for each record, on stderr, in the same format whoever wrote it.

What this module promises:

- a known secret, and what looks like one, is masked wherever it stands in a line;
- one record is one line, or indented below its first line: control characters are escaped, so
  that no logged value can forge a line or drive a terminal;
- a log that cannot be written never fails the request that wrote it.

`console` is `2024-01-15 10:30:45,123 - INFO - text key=value ...` in local time; `json` is one
object per line with `time` (RFC 3339, UTC), `level`, `event` and the record's own keys.
"""

import asyncio
import atexit
import json
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import IO, Any, Literal, NoReturn, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger
from typing_extensions import override

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LogFormat = Literal["console", "json"]
Record = MutableMapping[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

MASK = b"***"
SHORTEST_SECRET = 6
SECRET_NAME = re.compile(
    r"(^|[_-])(authorization|api[_-]?key|password|passwd|secret|token|cookie|credentials?)$",
    re.IGNORECASE,
)
# Keys of OpenAI, Anthropic, Groq, Together, GitHub and of ours; and what follows `Bearer`.
SECRET_SHAPE = (
    rb"\b(?:sk-|as-|asr_|gsk_|tgp_v1_|gh[pousr]_|xox[abps]-)[A-Za-z0-9_-]{16,}",
    rb"(?i:(?<=bearer )[A-Za-z0-9._~+/=-]{8,})",
)
# One of these is in whatever has the first shape; the second begins with "bearer".
SECRET_MARKS = (
    b"sk-",
    b"as-",
    b"asr_",
    b"gsk_",
    b"tgp_v1_",
    b"xox",
    *(b"gh%c_" % kind for kind in b"pousr"),
)
# The bridge keeps the two of the SDK's client quiet that nobody has set: they write what they read.
MCP_LOGGERS = ("mcp", "mcp.client", "client", "mcp_bridge")
_REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
CONTROL_IN_UTF8 = re.compile(b"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")


def get_logger() -> FilteringBoundLogger:
    """A logger whose calls take a text and keys: `log.info("Workflow created: x", run_id=...)`."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def bind_request(request_id: str) -> None:
    """Put the request's id on every line that is written in its context."""
    _REQUEST_ID.set(request_id)


def log_request(event: str, fields: Record) -> None:
    """Write the line of one request, as `get_logger().info` does; `fields` name no secret.

    It is the one line that every call pays for, so it takes the short way to the sink; `fields`
    are used up.
    """
    if _sinks and _sinks[-1].threshold <= logging.INFO:
        fields["event"] = event
        fields["level"], fields["time"] = "INFO", time.time()
        _sinks[-1].put(_add_request_id(None, "", fields))


def configure_logging(
    level: LogLevel = "INFO",
    log_format: LogFormat = "console",
    *,
    secrets: Iterable[str] = (),
    mcp_debug: bool = False,
    stream: IO[bytes] | None = None,
) -> None:
    """Send our records and those of the standard library to `stream` (stderr) in one format."""
    threshold = logging.getLevelNamesMapping()[level]
    sink = _Sink(stream or sys.stderr.buffer, _RENDERERS[log_format], secrets, threshold)
    _sinks[:] = [sink]
    structlog.configure(
        processors=[_add_request_id, sink.process],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _NoLogger(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_StandardLibraryHandler(sink)]
    # Libraries speak up when something is wrong; at DEBUG they also tell what they do.
    root.setLevel(logging.INFO if level == "DEBUG" else max(threshold, logging.WARNING))
    for name in MCP_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if mcp_debug else logging.NOTSET)
    logging.captureWarnings(capture=True)


def _add_request_id(_logger: object, _method: str, record: Record) -> Record:
    # structlog's own way looks at every variable of the context, for every line.
    request_id = _REQUEST_ID.get()
    if request_id:
        record["request_id"] = request_id
    return record


def mask_in_log(secrets: Iterable[str]) -> None:
    """Mask further secrets, besides those that are masked already."""
    for sink in _sinks:
        sink.mask_also(secrets)


def render_console(record: Record) -> bytes:
    """The line for a person; a traceback follows it, indented."""
    exc_info = _exc_info(record)
    now = record.pop("time")
    text = [
        _local_second(int(now)),
        f",{int(now * 1000) % 1000:03d} - {record.pop('level')} - {escape(record.pop('event'))}",
    ]
    text += [f" {key}={_console_value(value)}" for key, value in record.items()]
    if exc_info:
        lines = "".join(traceback.format_exception(*exc_info)).rstrip().split("\n")
        text += [f"\n    {escape(line)}" for line in lines]
    return "".join(text).encode("utf-8", "backslashreplace")


def render_json(record: Record) -> bytes:
    """One JSON object; values that JSON does not know are written as text."""
    if exc_info := _exc_info(record):
        record["exception"] = "".join(traceback.format_exception(*exc_info))
    now = record.pop("time")
    head = {
        "time": f"{_utc_second(int(now))}.{int(now * 1000) % 1000:03d}+00:00",
        "level": record.pop("level").lower(),
        "event": record.pop("event"),
        **record,
    }
    try:
        line = orjson.dumps(head, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # lone surrogates, or nested too deep
        line = json.dumps(
            {key: value if key in _PLAIN_KEYS else repr(value) for key, value in head.items()}
        ).encode()
    if line.isascii() and b"\x7f" not in line:
        return line
    return CONTROL_IN_UTF8.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), line)


_PLAIN_KEYS = ("time", "level")


def escape(value: object) -> str:
    """The text of a value, with control characters as Python writes them."""
    text = value if isinstance(value, str) else repr(value)
    return CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def _console_value(value: object) -> str:
    text = escape(value)
    return '"' + text.replace('"', '\\"') + '"' if " " in text or not text else text


@lru_cache(maxsize=4)
def _local_second(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


@lru_cache(maxsize=4)
def _utc_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _exc_info(record: Record) -> ExcInfo | None:
    given = record.pop("exc_info", None)
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    if given is True:
        given = sys.exc_info()
    return given if given and given[0] else None


def _mask_by_name(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without the values of keys that name a secret, at any depth of dicts."""
    return {
        key: "***"
        if isinstance(value, str) and _names_secret(key)
        else _mask_by_name(value)
        if isinstance(value, dict)
        else value
        for key, value in record.items()
    }


@lru_cache(maxsize=1024)
def _names_secret(key: object) -> bool:
    return isinstance(key, str) and SECRET_NAME.search(key) is not None


def _masker(secrets: Iterable[str]) -> Callable[[bytes], bytes]:
    """Replace secrets in a rendered line, as they are and as JSON escapes them."""
    written = {
        form.encode()
        for secret in secrets
        if len(secret) >= SHORTEST_SECRET
        for form in (secret, json.dumps(secret)[1:-1], escape(secret))
    }
    known = [re.escape(form) for form in sorted(written, key=len, reverse=True)]
    pattern = re.compile(b"|".join([*known, *SECRET_SHAPE]))
    marks = (*written, *SECRET_MARKS)

    def mask(line: bytes) -> bytes:
        # Most lines hold nothing like a secret, and looking for that is far cheaper.
        for mark in marks:
            if mark in line:
                return pattern.sub(MASK, line)
        return pattern.sub(MASK, line) if b"bearer" in line.lower() else line

    return mask


class _Sink:
    """Where rendered lines go: masked, and errors of the stream swallowed.

    What one turn of an event loop says goes out in one write, when the turn ends; secrets are
    looked for in all of it at once, which costs little more than in one line.
    """

    def __init__(
        self,
        stream: IO[bytes],
        render: Callable[[Record], bytes],
        secrets: Iterable[str],
        threshold: int,
    ) -> None:
        self.threshold = threshold
        self._stream = stream
        self._render = render
        self._secrets = frozenset(secrets)
        self._mask = _masker(self._secrets)
        self._lock = threading.Lock()
        self._waiting: list[bytes | Record] = []
        atexit.register(self.flush)

    def mask_also(self, secrets: Iterable[str]) -> None:
        """Mask further secrets from now on."""
        self._secrets |= frozenset(secrets)
        self._mask = _masker(self._secrets)

    def process(self, _logger: object, method: str, record: Record) -> NoReturn:
        """Write a record of structlog and end its way: there is no logger behind."""
        self.write(method.upper().replace("EXCEPTION", "ERROR"), time.time(), record)
        raise structlog.DropEvent

    def write(self, level: str, now: float, record: Mapping[str, Any]) -> None:
        """Render and write one record; `now` is in Unix seconds."""
        own = _mask_by_name(record)
        own["level"], own["time"] = level, now
        self.put(self._render(own))

    def put(self, line: bytes | Record) -> None:
        """Write a rendered line, or a record of which no key names a secret, nor an exception."""
        with self._lock:
            is_first = not self._waiting
            self._waiting.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            if is_first:
                loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            if not waiting:
                return
            lines = [line if isinstance(line, bytes) else self._render(line) for line in waiting]
            block = self._mask(b"\n".join((*lines, b"")))
            try:
                self._stream.write(block)
                self._stream.flush()
            except (OSError, ValueError):
                # stderr is closed or full: there is nobody left to tell.
                return


class _NoLogger:
    """What structlog would hand the rendered line to; the sink already wrote it."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_args, **_keys: None


class _StandardLibraryHandler(logging.Handler):
    """Puts records of the standard library's logging into the same lines."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__()
        self._sink = sink

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = f"{record.msg} {record.args!r}"
        keys = {"event": text, "logger": record.name, "exc_info": record.exc_info}
        self._sink.write(record.levelname, record.created, _add_request_id(None, "", keys))


# The sink that is configured, if any.
_sinks: list[_Sink] = []
_RENDERERS: Mapping[LogFormat, Callable[[Record], bytes]] = {
    "console": render_console,
    "json": render_json,
}
