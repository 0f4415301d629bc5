"""Which of our errors a failed call is, and its line in the log. No text holds a URL or a key."""

from urllib.parse import urlsplit

import structlog

from providers.http import (
    AnswerError,
    ClosedError,
    CodingError,
    DisconnectedError,
    HttpError,
    RefusedError,
    RequestError,
    ResolutionError,
    TlsError,
    TruncatedError,
    UrlError,
)
from providers.upstream_call import UpstreamCall
from streaming.errors import (
    UpstreamConnectionError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)

_log = structlog.get_logger(__name__)


def timed_out(call: UpstreamCall, name: str) -> UpstreamTimeoutError:
    """The error for a bound that was passed: "connect", "first_byte", "idle" or "total"."""
    field_name = _TIMEOUT_FIELDS[name]
    reason = f"{_TIMEOUT_TEXTS[name]} {getattr(call.timeouts, field_name):g} s ({field_name})"
    _log_failure(call, reason)
    return UpstreamTimeoutError(
        f"{call.provider} {reason}", provider=call.provider, param=field_name
    )


def failed(call: UpstreamCall, exc: HttpError) -> UpstreamError:
    """The error for what went wrong on the connection."""
    kind, text, is_retryable = _FAILURES[type(exc)]
    reason = text or str(exc)
    _log_failure(call, reason)
    return kind(f"{call.provider}: {reason}", provider=call.provider, is_retryable=is_retryable)


def _log_failure(call: UpstreamCall, reason: str) -> None:
    """The one place that names the address: a caller need not know where the upstream is."""
    _log.warning("Upstream failed", provider=call.provider, host=_host(call), reason=reason)


def _host(call: UpstreamCall) -> str:
    return urlsplit(call.url).netloc.rpartition("@")[2] or "an address without a host"


def is_early(error: UpstreamError) -> bool:
    """Whether a try failed so early that the upstream can hardly have worked on it."""
    if isinstance(error, UpstreamTimeoutError):
        return error.param == _TIMEOUT_FIELDS["connect"]
    return error.is_retryable


_TIMEOUT_FIELDS = {
    "connect": "connect_seconds",
    "first_byte": "first_byte_seconds",
    "idle": "idle_seconds",
    "total": "total_seconds",
}
_TIMEOUT_TEXTS = {
    "connect": "could not be reached in",
    "first_byte": "did not begin to answer in",
    "idle": "stopped in the middle of its answer and sent nothing for",
    "total": "did not finish its answer in",
}
# An empty text is the error's own, which tells more and holds no secret.
_FAILURES: dict[type[HttpError], tuple[type[UpstreamError], str, bool]] = {
    UrlError: (UpstreamConnectionError, "the base URL is not a valid http(s) URL", False),
    RequestError: (
        UpstreamConnectionError,
        "the base URL or the key holds what no HTTP request can",
        False,
    ),
    ResolutionError: (UpstreamConnectionError, "the host name could not be resolved", True),
    TlsError: (
        UpstreamConnectionError,
        "no trusted TLS connection could be made; check the certificate and the base URL",
        False,
    ),
    RefusedError: (
        UpstreamConnectionError,
        "the connection was refused or the host is down",
        True,
    ),
    DisconnectedError: (
        UpstreamConnectionError,
        "the connection was closed before an answer came",
        True,
    ),
    TruncatedError: (
        UpstreamConnectionError,
        "the connection was lost in the middle of the answer",
        True,
    ),
    ClosedError: (UpstreamConnectionError, "the server is stopping and asks nobody", False),
    AnswerError: (UpstreamProtocolError, "the answer is not HTTP", False),
    CodingError: (UpstreamProtocolError, "", False),
}
