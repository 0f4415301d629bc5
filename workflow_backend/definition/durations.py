"""Durations as people write them: `30s`, `5m`, `1h30m`, `500ms`."""

import re

MAX_SECONDS = 30 * 86_400.0

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_MAX_CHARACTERS = 32


class DurationError(ValueError):
    """The text is no duration; the message names the accepted form."""


def parse_duration(text: str) -> float:
    """The duration in seconds: whole units from days to milliseconds, each at most once, in order.

    Raises:
        DurationError: The text has another form, is zero, or is longer than 30 days.
    """
    match = _DURATION.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
    if match is None or not text:
        raise DurationError('use a number with a unit, such as "30s", "5m", "1h30m" or "500ms"')
    seconds = sum(
        float(number) * factor
        for number, factor in zip(match.groups(), _UNITS.values(), strict=True)
        if number is not None
    )
    if not 0 < seconds <= MAX_SECONDS:
        raise DurationError('a duration is more than zero and at most "30d"')
    return seconds


def format_duration(seconds: float) -> str:
    """The duration as events show it: `0.4s`, `12.0s`, `3m05s`, `2h04m`."""
    if seconds < 60:
        return f"{max(seconds, 0.0):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"
