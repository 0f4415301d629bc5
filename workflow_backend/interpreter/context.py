"""What the parts of one interpretation share."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import Runtime
from workflow_backend.rendering import Renderer
from workflow_backend.step_state import RunStatus, StepState

FAILURES = frozenset({"failed", "timed_out"})


class Stop:
    """Whether what runs is to end, and why; `changed` wakes who walks the steps."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.reason: str | None = None
        self.status: RunStatus = "cancelled"

    def is_requested(self) -> bool:
        """Whether it is to end."""
        return self.reason is not None

    def request(self, status: RunStatus, reason: str) -> None:
        """Let it end; the first reason stays."""
        if self.reason is None:
            self.status, self.reason = status, reason
            self.changed.set()


@dataclass(slots=True)
class RunContext:
    """One run while it is interpreted.

    `states` are the settled steps by name, `items` the settled items of fanned-out steps by
    instance; `slots` bound how many steps are at work at the same time.
    """

    workflow: Workflow
    runtime: Runtime
    renderer: Renderer
    run_id: str
    owner: str
    depth: int
    trace: Mapping[str, str]
    kept: Mapping[str, StepState]
    slots: asyncio.Semaphore
    stop: Stop
    states: dict[str, StepState] = field(default_factory=dict)
    items: dict[str, StepState] = field(default_factory=dict)
    deliveries: list[asyncio.Task[None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """One doing of a step: which item, which time, and what only its expressions see."""

    step: Step
    instance: str
    iteration: int = 1
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its stable name within the run."""
        return self.instance if self.iteration == 1 else f"{self.instance}@{self.iteration}"


class NeverBegunError(Exception):
    """The step was stopped before it began: it has no end of its own."""
