"""Whether to ask an upstream again, and how long to wait before it. No IO and no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

REQUEST_TIMEOUT, TOO_MANY_REQUESTS, SERVER_ERROR = 408, 429, 500


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a call is repeated before its first byte has come.

    `limit` counts the repeats, so 0 asks once. Waits grow from `base_seconds` to `max_seconds`,
    each drawn evenly from zero to that bound (full jitter). A `Retry-After` is honoured exactly
    up to `max_retry_after_seconds`; the answer that asks for more is given to the caller instead.
    """

    limit: int = 2
    base_seconds: float = 0.5
    max_seconds: float = 8.0
    max_retry_after_seconds: float = 30.0

    def wait_seconds(
        self, repeat: int, retry_after_seconds: float | None, jitter: float
    ) -> float | None:
        """The wait before the repeat of this number (from 0), or None if there shall be none.

        `jitter` is a draw from 0 to 1.
        """
        if repeat >= self.limit:
            return None
        if retry_after_seconds is None:
            return jitter * min(self.max_seconds, self.base_seconds * 2.0**repeat)
        return retry_after_seconds if retry_after_seconds <= self.max_retry_after_seconds else None


def should_repeat(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer of this status is worth a repeat; `x-should-retry` has the last word."""
    told = headers.get("x-should-retry")
    if told in {"true", "false"}:
        return told == "true"
    return status in {REQUEST_TIMEOUT, TOO_MANY_REQUESTS} or status >= SERVER_ERROR


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """The wait that an answer asks for, in seconds, or None if it asks for none we understand.

    Reads `retry-after-ms`, then `Retry-After` as seconds or as an HTTP date (RFC 9110, section
    10.2.3); `now` is in Unix seconds. `headers` must ignore case.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now)


def _number(text: str | None) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
