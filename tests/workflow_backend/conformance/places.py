"""Where a scenario of the conformance suite runs: one engine or the other, opened again at will."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.workflow_backend.attempts import LIMITS, pids_with
from workflow_backend.engines.base import Engine, Executor, Run, RunEvent
from workflow_backend.engines.journal import JournalEngine, JournalSettings
from workflow_backend.engines.temporal.engine import TemporalEngine
from workflow_backend.engines.temporal.options import Cluster, TemporalSettings
from workflow_backend.steps import StepExecutor, StepSettings

SECONDS = 25.0
SHORT = "10ms"


@dataclass
class Place:
    """One engine's data, used by one test alone. `cluster` is None for the journal."""

    data_dir: Path
    cluster: Cluster | None = None
    name: str = field(default_factory=lambda: f"t{uuid4().hex[:12]}")

    @property
    def kind(self) -> str:
        return "journal" if self.cluster is None else "temporal"

    @property
    def owner(self) -> str:
        return f"owner-{self.name}"

    def id(self, name: str = "run") -> str:
        """The id of a run, which no other test has."""
        return f"{self.name}-{name}"

    def engine(
        self, executor: Executor | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[Engine]:
        """An engine on the place's data, with the real executor unless another is given.

        `is_temporal` without a cluster is the engine with a dev server of its own.
        """
        used = executor or self.executor()
        is_temporal = settings.pop("is_temporal", self.cluster is not None)
        if not is_temporal:
            return JournalEngine(JournalSettings(self.data_dir, **settings), used)
        temporal = TemporalSettings(
            self.data_dir,
            self.data_dir / "artefacts",
            self.cluster,
            **{"task_queue": self.name, **settings},
        )
        return TemporalEngine(temporal, used)

    def executor(self) -> StepExecutor:
        """What really runs the steps."""
        return StepExecutor(StepSettings(self.data_dir, "none", limits=LIMITS))

    def work(self, name: str = "run") -> Path:
        """The folder in which the steps of a run work."""
        return self.data_dir / "runs" / self.id(name) / "work"

    async def follow(
        self,
        engine: Engine,
        name: str = "run",
        after_seq: int = 0,
        until: Callable[[RunEvent], bool] = lambda _: False,
    ) -> list[RunEvent]:
        """The events of a run to its end; they must be numbered without gaps, and end once.

        `until` stops before.
        """
        found: list[RunEvent] = []
        events = engine.events(self.id(name), self.owner, after_seq)
        async with asyncio.timeout(SECONDS):
            async for event in events:
                found.append(event)
                assert event["seq"] == after_seq + len(found)
                assert event["run_id"] == self.id(name)
                if until(event):
                    break
        await events.aclose()
        kinds = types(found)
        assert kinds.count("workflow_complete") <= 1
        assert "workflow_complete" not in kinds[:-1]
        return found

    async def until(
        self, engine: Engine, kind: str, step: str | None = None, name: str = "run"
    ) -> RunEvent:
        """The first event of this type, of this step."""
        found = await self.follow(
            engine,
            name,
            until=lambda event: event["type"] == kind and step in {None, event.get("step")},
        )
        assert found[-1]["type"] == kind
        return found[-1]

    async def get(self, engine: Engine, name: str = "run") -> Run:
        return await engine.get(self.id(name), self.owner)


def types(events: Sequence[RunEvent]) -> list[object]:
    return [event["type"] for event in events]


def of_step(events: Sequence[RunEvent], step: str) -> list[object]:
    """The types of the events of one step, but for its output."""
    return [
        event["type"]
        for event in events
        if event.get("step") == step and event["type"] not in {"step_output", "step_queued"}
    ]


def statuses(run: Run) -> dict[object, object]:
    return {step["name"]: step["status"] for step in run.steps}


async def processes(word: str, count: int = 1) -> list[int]:
    """The processes with this word in their command line, once there are so many."""
    async with asyncio.timeout(SECONDS):
        while len(found := pids_with(word)) < count:  # noqa: ASYNC110 - no children of ours
            await asyncio.sleep(0.01)
    return found
