"""Errors that litellm raises, as ours: by their class and status, never by their words.

Source: litellm documentation, "Exception Mapping", 2026-10. Its classes derive from those of the
package openai.
"""

from collections.abc import Iterable, Mapping

from providers.rejection import Rejection, rejection_to_error
from providers.retry import retry_after_seconds
from streaming.errors import (
    AgentServerError,
    ContextLengthError,
    InvalidRequestError,
    UnsupportedFieldError,
    UpstreamConnectionError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)


def library_error_to_error(
    error: Exception, *, provider: str, now: float, secrets: Iterable[str] = ()
) -> AgentServerError:
    """Our error for one of litellm's; `now` is in Unix seconds, for a `Retry-After` that is a date.

    An error of no known class is one of the upstream, as litellm knows no other.
    """
    original = getattr(error, "original_exception", None)
    if isinstance(original, Exception):
        error = original
    message = _plain(str(getattr(error, "message", error)), secrets)
    names = {kind.__name__ for kind in type(error).__mro__}
    for name, caller_kind in _CALLER_KINDS.items():
        if name in names:
            return caller_kind(f"{provider}: {message}")
    for name, upstream_kind in _UPSTREAM_KINDS.items():
        if name in names:
            return upstream_kind(f"{provider}: {message}", provider=provider)
    status = getattr(error, "status_code", None)
    headers = getattr(error, "litellm_response_headers", None)
    return rejection_to_error(
        Rejection(message, code="model_not_found" if "NotFoundError" in names else ""),
        provider=provider,
        status=status if isinstance(status, int) else None,
        retry_after_seconds=(
            retry_after_seconds(headers, now) if isinstance(headers, Mapping) else None
        ),
    )


def _plain(message: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        message = message.replace(secret, "***") if secret else message
    return message


# The first name that the error's class or one of its bases has.
_CALLER_KINDS: dict[str, type[InvalidRequestError]] = {
    "ContextWindowExceededError": ContextLengthError,
    "UnsupportedParamsError": UnsupportedFieldError,
}
_UPSTREAM_KINDS: dict[
    str,
    type[UpstreamTimeoutError] | type[UpstreamConnectionError] | type[UpstreamProtocolError],
] = {
    "APITimeoutError": UpstreamTimeoutError,
    "APIConnectionError": UpstreamConnectionError,
    "APIResponseValidationError": UpstreamProtocolError,
}
