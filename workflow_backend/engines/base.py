"""The boundary between workflow and engine: `Runtime` below the interpreter, `Engine` above it.

An engine is these two things. Keys are stable names (`step#attempt`, `step#attempt:sleep`), never
call order, so that replay does not depend on the timing of parallel branches.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from workflow_backend.definition.model import Step, Workflow
from workflow_backend.step_state import RunStatus, StepState, StepStatus

__all__ = [
    "DEFAULT_OWNER",
    "MAX_DEPTH",
    "Artefact",
    "AttemptResult",
    "AttemptSpec",
    "AttemptWatch",
    "ChildResult",
    "ChildSpec",
    "Engine",
    "EngineBusyError",
    "EngineUnavailableError",
    "Executor",
    "Page",
    "Run",
    "RunConflictError",
    "RunEndedError",
    "RunEvent",
    "RunFilter",
    "RunNotFoundError",
    "RunOptions",
    "RunStatus",
    "Runtime",
    "Signalled",
    "StepState",
    "StepStatus",
]

DEFAULT_OWNER = "local"
# How many agents may stand above one another: an agent step's run that starts a run, and so on.
MAX_DEPTH = 3
RunEvent = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """One try at one step: everything is resolved but the secrets, which stay references.

    `env` values and http fields may still hold `${{ secrets.NAME }}`; `secrets` lists those names.
    `instance` tells the items of a fanned-out step apart (`deploy[0]`), `iteration` the times of a
    repeated one. `depth` is how many agents stand above the run. `sign_with` names the secret that
    signs an http request; a `is_hidden` attempt has no events. `trace` are the headers of the trace
    context (W3C) in which the run was started.
    """

    run_id: str
    step: Step
    attempt: int
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    retries_left: int = 0
    instance: str = ""
    iteration: int = 1
    owner: str = DEFAULT_OWNER
    depth: int = 0
    sign_with: str | None = None
    is_hidden: bool = False
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the step, with its item if it has one."""
        return self.instance or self.step.name

    @property
    def place(self) -> str:
        """The name of this time at the step: its own key without the attempt."""
        return self.name if self.iteration == 1 else f"{self.name}@{self.iteration}"

    @property
    def key(self) -> str:
        """The attempt's stable name within its run."""
        return f"{self.place}#{self.attempt}"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file that a step left to be kept: its name below the run's folder, content and size.

    An attempt whose output was too long to keep whole has the output itself as `is_log`.
    """

    name: str
    sha256: str
    size: int
    is_log: bool = False


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
    artefacts: tuple[Artefact, ...] = ()


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


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A run inside another: `run_id` is made of the parent's, so that a repeat finds it again."""

    run_id: str
    workflow: Workflow
    inputs: Mapping[str, object]
    kept: Mapping[str, StepState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChildResult:
    """What a run inside another came to."""

    status: RunStatus
    error: str | None = None
    outputs: Mapping[str, object] = field(default_factory=dict)
    states: Mapping[str, StepState] = field(default_factory=dict)


class Runtime(Protocol):
    """What the interpreter may ask of the engine that runs it."""

    async def attempt(self, spec: AttemptSpec) -> AttemptResult:
        """Run one attempt, durably: on replay the recorded result comes back."""
        ...

    async def sleep(self, key: str, seconds: float) -> None:
        """A durable timer."""
        ...

    async def wait_signal(
        self, signal: str, key: str, seconds: float | None
    ) -> Mapping[str, object] | None:
        """The payload of the signal, or None once the durable time of this wait is over.

        `key` is the wait's own name: several may wait for one signal. Where both names are the
        same, a signal that comes after the time is refused.
        """
        ...

    async def child(self, key: str, spec: ChildSpec) -> ChildResult:
        """Run a workflow as a run of its own, once; cancelling the task cancels that run."""
        ...

    async def emit(self, key: str, event: RunEvent) -> float:
        """Record an event of the run once under `key`; when that was, in Unix seconds.

        The engine completes the event as `events.stamped` does.
        """
        ...

    async def complete(self, event: RunEvent, states: Mapping[str, StepState]) -> None:
        """Record the run's last event, once, and what its steps came to."""
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
    parent_run_id: str | None = None
    rerun_of: str | None = None
    scheduled_by: str | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs, newest first, and where to go on (None: that was all)."""

    runs: tuple[Run, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; `owner` is always set, so that nobody sees another's.

    Runs inside others are left out unless `parent_run_id` asks for those of one run.
    """

    owner: str
    status: RunStatus | None = None
    workflow: str | None = None
    limit: int = 50
    parent_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run may have besides its workflow and inputs.

    `kept` are steps that need not run again, from the run `rerun_of`. `depth` counts the agents
    above the run. `scheduled_by` is the schedule that began it. `group` and `group_policy` are
    those of `concurrency`, filled in. `trace` are the headers of the caller's trace context (W3C).
    """

    depth: int = 0
    kept: Mapping[str, StepState] = field(default_factory=dict)
    rerun_of: str | None = None
    scheduled_by: str | None = None
    group: str | None = None
    group_policy: Literal["queue", "cancel_running", "refuse"] = "queue"
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signalled:
    """What is recorded under a signal's key now, and whether this signal was the first."""

    payload: Mapping[str, object]
    is_first: bool


class Engine(Protocol):
    """What runs workflows durably. Every call names the owner; another's run is unknown.

    Raises `RunNotFoundError` where the owner has no such run.
    """

    @property
    def name(self) -> str:
        """What `Run.engine` says of its runs: `journal`, `temporal` or `kubiya`."""
        ...

    async def start(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions | None = None,
    ) -> Run:
        """Begin a run; idempotent by `run_id` for the same owner and definition.

        Raises:
            RunConflictError: The id is taken, or the group is busy and its policy is `refuse`.
            EngineBusyError: No further run can be taken now.
        """
        ...

    async def cancel(self, run_id: str, owner: str, reason: str) -> Run:
        """Cancel a run; cancelling a finished one changes nothing."""
        ...

    async def signal(
        self, run_id: str, owner: str, key: str, payload: Mapping[str, object]
    ) -> Signalled:
        """Give a run what it waits for, or will wait for, under `key`; the first one stays.

        Raises:
            RunEndedError: The run has ended without it, or waits for it no more.
        """
        ...

    async def get(self, run_id: str, owner: str) -> Run:
        """The state of one run with its steps."""
        ...

    async def workflow(self, run_id: str, owner: str) -> Workflow:
        """The definition that a run was started with."""
        ...

    async def states(self, run_id: str, owner: str) -> Mapping[str, StepState]:
        """What the steps of an ended run came to, whole, by instance; empty while it goes on."""
        ...

    async def list(self, run_filter: RunFilter, cursor: str | None = None) -> Page:
        """Runs, newest first."""
        ...

    def events(self, run_id: str, owner: str, after_seq: int = 0) -> AsyncGenerator[RunEvent, None]:
        """The events after `after_seq`, in order, without gaps, until the run has ended."""
        ...


class EngineBusyError(Exception):
    """As many runs wait as may; try again when some have ended."""


class EngineUnavailableError(Exception):
    """The engine cannot be reached now; the message says what it is and how to mend it."""


class RunNotFoundError(Exception):
    """The owner has no run of this id."""


class RunConflictError(Exception):
    """The run id is taken by another run, or the run's group is busy."""


class RunEndedError(Exception):
    """The run has ended, or waits no more, so that nothing can be given to it."""
