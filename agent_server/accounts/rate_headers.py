"""The headers that tell a caller what is left of its limits.

Source: OpenAI API, "Rate limits", section "Rate limits in headers", 2026-10.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit: what it is, what is left of it, and in how many seconds it is whole again."""

    limit: int
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What is left of a key's limits per minute; None where there is no limit."""

    requests: LimitState | None = None
    tokens: LimitState | None = None

    def headers(self) -> dict[str, str]:
        """The headers by name."""
        found: dict[str, str] = {}
        for what, state in (("requests", self.requests), ("tokens", self.tokens)):
            if state is not None:
                found[f"x-ratelimit-limit-{what}"] = str(state.limit)
                found[f"x-ratelimit-remaining-{what}"] = str(max(0, state.remaining))
                found[f"x-ratelimit-reset-{what}"] = duration_text(state.reset_seconds)
        return found


def duration_text(seconds: float) -> str:
    """A duration as OpenAI writes it: `0s`, `250ms`, `1s`, `6m0s`."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
