"""What every kind of attempt is given, and what it tells while it runs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.engines.base import AttemptSpec, AttemptWatch
from workflow_backend.masking import Masker
from workflow_backend.steps.limits import StepLimits
from workflow_backend.steps.step_log import StepLog


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """One attempt with its secrets resolved, and their limits; nothing of this is ever recorded."""

    spec: AttemptSpec
    secrets: Mapping[str, str]
    masker: Masker
    limits: StepLimits
    watch: AttemptWatch
    timeout_seconds: float
    log: StepLog
    rules: Mapping[str, SecretRule] = field(default_factory=dict)

    @property
    def timed_out(self) -> str:
        """What the result says when the time is over, and whose limit it was."""
        wanted = self.spec.timeout_seconds
        limited = "" if wanted == self.timeout_seconds else " (the server's limit for one attempt)"
        return f"timed out after {self.timeout_seconds:g} s{limited}"


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended, before it is measured and recorded; all texts are masked."""

    status: Literal["success", "failed", "timed_out", "cancelled"]
    outputs: Mapping[str, object]
    exit_code: int | None = None
    error: str | None = None


AttemptRunner = Callable[[AttemptContext], Awaitable[AttemptEnd]]


def cancelled(reason: asyncio.CancelledError) -> str:
    """What the result of a cancelled attempt says: `Task.cancel` was given the reason."""
    return f"cancelled: {reason}" if str(reason) else "cancelled"
