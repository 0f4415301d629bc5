"""What is asked of an upstream, and how long that may take. Values alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from providers.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds of one call, in seconds.

    `connect_seconds` is for each connection (name, TCP, TLS); `first_byte_seconds` for each try,
    until the first byte of the body; `idle_seconds` for each silence after it; `total_seconds`
    for everything from the call to the last byte, repeats and their waits included.
    """

    connect_seconds: float = 5.0
    first_byte_seconds: float = 120.0
    idle_seconds: float = 120.0
    total_seconds: float = 1800.0


_USUAL_TIMEOUTS, _USUAL_RETRY = Timeouts(), RetryPolicy()


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One request to an upstream; `provider` names it in errors and logs, `secrets` are in none."""

    provider: str
    url: str = field(repr=False)
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeouts: Timeouts = _USUAL_TIMEOUTS
    retry: RetryPolicy = _USUAL_RETRY
    secrets: tuple[str, ...] = field(default=(), repr=False)
