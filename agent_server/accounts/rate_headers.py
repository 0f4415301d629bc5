"""The headers that tell a caller what is left of its limits.

Source: OpenAI API, "Rate limits", section "Rate limits in headers", 2026-10.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]

# Of a limit, what is left of it, and when it is whole again; by its kind.
HEADER_NAMES: Final[Mapping[str, tuple[bytes, bytes, bytes]]] = {
    kind: (
        b"x-ratelimit-limit-%b" % kind.encode(),
        b"x-ratelimit-remaining-%b" % kind.encode(),
        b"x-ratelimit-reset-%b" % kind.encode(),
    )
    for kind in ("requests", "tokens")
}


def rate_headers(
    names: tuple[bytes, bytes, bytes], limit: int, remaining: int, reset_seconds: float
) -> RawHeaders:
    """One limit: what it is, what is left of it, and in how many seconds it is whole again."""
    of_limit, of_rest, of_reset = names
    return (
        (of_limit, b"%d" % limit),
        (of_rest, b"%d" % max(0, remaining)),
        (of_reset, duration_text(reset_seconds).encode()),
    )


def duration_text(seconds: float) -> str:
    """A duration as OpenAI writes it: `0s`, `250ms`, `1s`, `6m0s`."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
