"""The boundary between workflow and engine: `Runtime` below the interpreter, `Engine` above it.

An engine is these two things. Keys are stable names (`step#attempt`, `step#attempt:sleep`), never
call order, so that replay does not depend on the timing of parallel branches.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from workflow_backend.definition.model import Step, Workflow

RunStatus = Literal["queued", "running", "success", "failed", "cancelled", "timed_out"]
StepStatus = Literal["pending", "running", "success", "failed", "skipped", "cancelled", "timed_out"]
RunEvent = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """One try at one step: everything is resolved but the secrets, which stay references.

    `env` values and http fields may still hold `${{ secrets.NAME }}`; `secrets` lists those names.
    `will_retry` tells, should this attempt fail with a retryable failure, that another follows.
    """

    run_id: str
    step: Step
    attempt: int
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    retries_left: int = 0

    @property
    def key(self) -> str:
        """The attempt's stable name within its run."""
        return f"{self.step.name}#{self.attempt}"


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What one attempt came to; this record and its event are one row of the journal.

    `outputs` always holds `stdout` (capped, masked); `exit_code` is None for http steps.
    """

    status: Literal["success", "failed", "timed_out", "cancelled", "worker_lost"]
    outputs: Mapping[str, object] = field(default_factory=dict)
    exit_code: int | None = None
    error: str | None = None
    duration_seconds: float = 0.0
    will_retry: bool = False


class AttemptWatch(Protocol):
    """What an attempt tells the engine while it runs."""

    async def output(self, text: str) -> None:
        """The attempt wrote this (masked, coalesced, capped)."""
        ...

    def process_started(self, pgid: int, birth: str | None, mark: str) -> None:
        """A process group exists that must not outlive the engine (see `reaper`)."""
        ...


class Executor(Protocol):
    """What has the effects of steps; an engine is given one, so that tests can give another."""

    async def open(self) -> None:
        """Get ready for attempts."""
        ...

    async def close(self) -> None:
        """End what may still run."""
        ...

    async def run_attempt(self, spec: AttemptSpec, watch: AttemptWatch) -> AttemptResult:
        """One attempt. Cancelling the task ends it; the answer then says `cancelled`."""
        ...


class Runtime(Protocol):
    """What the interpreter may ask of the engine that runs it."""

    async def attempt(self, spec: AttemptSpec) -> AttemptResult:
        """Run one attempt, durably: on replay the recorded result comes back."""
        ...

    async def sleep(self, key: str, seconds: float) -> None:
        """A durable timer."""
        ...

    async def emit(self, key: str, event: RunEvent) -> None:
        """Record an event of the run once under `key`; the engine adds run_id, seq and time."""
        ...

    async def cancel_requested(self) -> str:
        """Wait until the run's cancellation is asked for; the answer is the reason."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """The state of one run, as a client may see it. Times are RFC 3339 in UTC."""

    run_id: str
    workflow: str
    owner: str
    status: RunStatus
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    error: str | None = None
    last_seq: int = 0
    definition_sha256: str = ""
    engine: str = "journal"
    inputs: Mapping[str, object] = field(default_factory=dict)
    outputs: Mapping[str, object] = field(default_factory=dict)
    steps: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs, newest first, and where to go on (None: that was all)."""

    runs: tuple[Run, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; `owner` is always set, so that nobody sees another's."""

    owner: str
    status: RunStatus | None = None
    workflow: str | None = None
    limit: int = 50


class Engine(Protocol):
    """What runs workflows durably. Every call names the owner; another's run is unknown.

    Raises `RunNotFoundError` where the owner has no such run.
    """

    async def start(
        self, run_id: str, workflow: Workflow, inputs: Mapping[str, object], owner: str
    ) -> Run:
        """Begin a run; idempotent by `run_id` for the same owner and definition."""
        ...

    async def cancel(self, run_id: str, owner: str, reason: str) -> Run:
        """Cancel a run; cancelling a finished one changes nothing."""
        ...

    async def get(self, run_id: str, owner: str) -> Run:
        """The state of one run with its steps."""
        ...

    async def list(self, run_filter: RunFilter, cursor: str | None = None) -> Page:
        """Runs, newest first."""
        ...

    def events(self, run_id: str, owner: str, after_seq: int = 0) -> AsyncGenerator[RunEvent, None]:
        """The events after `after_seq`, in order, without gaps, until the run has ended."""
        ...


class RunNotFoundError(Exception):
    """The owner has no run of this id."""


class RunConflictError(Exception):
    """The run id is taken by a run of another definition or owner."""
