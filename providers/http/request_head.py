"""The bytes of a request's head, and where they go. Pure.

Source: RFC 9112 (HTTP/1.1), sections 2.2, 3 and 5; RFC 9110, sections 5.5 and 7.2. What a caller
gives is checked here once: nothing with a line break, a NUL or another control character gets into
a head, so no value can begin a header or a request of its own.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from providers.http.errors import RequestError, UrlError

DEFAULT_PORTS = {"http": 80, "https": 443}
# The same few routes are asked again and again; where one header differs in each call (the id of a
# trace) the other lines are still known. Keys are among them: they live in the process's settings
# anyway, and the caches are small.
MAX_CACHED_HEADS = 128
MAX_CACHED_TARGETS = 128
MAX_CACHED_LINES = 256

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_TAB = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PATH_CHARACTERS = "/?:@!$&'()*+,;=%~[]"
# What frames the message or steers the connection, which this client does itself.
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Sent unless the caller names them. Compression would hold back the events of a stream, and costs
# more than it saves.
_DEFAULTS = (
    (b"\r\nuser-agent: ", b"user-agent: agent-server\r\n"),
    (b"\r\naccept: ", b"accept: */*\r\n"),
    (b"\r\naccept-encoding: ", b"accept-encoding: identity\r\n"),
)
_METHODS_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


class Origin(NamedTuple):
    """Where connections go; `host` is a name in ASCII or an address without brackets."""

    scheme: str
    host: str
    port: int


class _Target(NamedTuple):
    origin: Origin
    request_line: bytes
    host_line: bytes


def request_head(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> tuple[Origin, bytes]:
    """Where a request goes and its head, with the empty line at its end.

    `user-agent`, `accept` and `accept-encoding: identity` are added where `headers` does not name
    them, `host` is replaced where it does.

    Raises:
        UrlError: no http(s) URL with a host, or one with a user or password in it.
        RequestError: a method, URL or header that cannot be sent, or that this client sets itself.
    """
    origin, prefix = _prefix(method, url, tuple(headers.items()))
    if body is not None:
        return origin, b"%bcontent-length: %d\r\n\r\n" % (prefix, len(body))
    if method in _METHODS_WITHOUT_BODY:
        return origin, prefix + b"\r\n"
    return origin, prefix + b"content-length: 0\r\n\r\n"


@lru_cache(MAX_CACHED_HEADS)
def _prefix(method: str, url: str, headers: tuple[tuple[str, str], ...]) -> tuple[Origin, bytes]:
    """What does not depend on the body: all but the content length and the empty line."""
    target = _target(method, url)
    lines = b"".join([header_line(name, value) for name, value in headers])
    head = target.request_line + lines
    if b"\r\nhost: " not in head:
        head = target.request_line + target.host_line + lines
    for marker, line in _DEFAULTS:
        if marker not in head:
            head += line
    return target.origin, head


@lru_cache(MAX_CACHED_LINES)
def header_line(name: str, value: str) -> bytes:
    """One header with its line break, the name in lower case, the value in UTF-8.

    Raises:
        RequestError: it cannot be sent, or this client sets it itself.
    """
    name = name.lower()
    if not _TOKEN.fullmatch(name) or _CONTROL_BUT_TAB.search(value):
        raise RequestError
    if name in _OWN_HEADERS:
        raise RequestError
    try:
        return f"{name}: {value.strip()}\r\n".encode()
    except UnicodeEncodeError as exc:
        raise RequestError from exc


@lru_cache(MAX_CACHED_TARGETS)
def _target(method: str, url: str) -> _Target:
    # Before it is split: `urlsplit` removes line breaks in silence.
    if not _TOKEN.fullmatch(method) or _CONTROL.search(url):
        raise RequestError
    try:
        parts = urlsplit(url)
        host, port = _ascii_host(parts), parts.port
    except ValueError as exc:
        raise UrlError from exc
    if parts.scheme not in DEFAULT_PORTS or not host or port == 0 or "@" in parts.netloc:
        raise UrlError
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    try:
        target = quote(path + query, safe=_PATH_CHARACTERS)
    except UnicodeEncodeError as exc:
        raise RequestError from exc
    default_port = DEFAULT_PORTS[parts.scheme]
    name = f"[{host}]" if ":" in host else host
    name = name if port in {None, default_port} else f"{name}:{port}"
    return _Target(
        Origin(parts.scheme, host, port or default_port),
        f"{method} {target} HTTP/1.1\r\n".encode("ascii"),
        f"host: {name}\r\n".encode("ascii"),
    )


def _ascii_host(parts: SplitResult) -> str:
    """The host as it is resolved and named; raises ValueError for one that no name can be."""
    host = parts.hostname or ""
    # An IPv6 zone ("%eth0") is for the socket, and an address has no labels to encode.
    name = host if ":" in host else host.encode("idna").decode("ascii")
    if " " in name or "/" in name:
        raise ValueError("no host name")
    return name
