"""Journals for tests: an executor without effects, workflows, and what to wait for."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import AttemptResult, AttemptSpec, AttemptWatch, RunEvent
from workflow_backend.engines.journal import JournalEngine, JournalSettings

OWNER = "alice"
OK = AttemptResult("success", {"stdout": "ok"}, 0)


class Gated:
    """An executor whose attempts end at once, or when the gate of their step is opened."""

    def __init__(self, *gated: str) -> None:
        self.specs: list[AttemptSpec] = []
        self.answers: dict[str, AttemptResult | Callable[[AttemptSpec], AttemptResult]] = {}
        self.gates = {name: asyncio.Event() for name in gated}
        self.started = {name: asyncio.Event() for name in gated}
        self.says: dict[str, list[str]] = {}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def run_attempt(self, spec: AttemptSpec, watch: AttemptWatch) -> AttemptResult:
        self.specs.append(spec)
        name = spec.step.name
        for text in self.says.get(name, ()):
            await watch.output(text)
        try:
            if name in self.gates:
                self.started[name].set()
                await self.gates[name].wait()
        except asyncio.CancelledError as reason:
            return AttemptResult("cancelled", {"stdout": ""}, error=f"cancelled: {reason}")
        answer = self.answers.get(spec.key, self.answers.get(name, OK))
        return answer if isinstance(answer, AttemptResult) else answer(spec)

    @property
    def attempts(self) -> list[str]:
        return [spec.key for spec in self.specs]

    async def has_started(self, name: str) -> None:
        await asyncio.wait_for(self.started[name].wait(), 20)


def step(name: str, *depends: str, **fields: Any) -> Step:
    return Step(**{"name": name, "depends": list(depends), "run": "true", **fields})


def workflow(*steps: Step, **fields: Any) -> Workflow:
    return Workflow(**{"name": "test", "steps": list(steps), **fields})


def chain(length: int, **fields: Any) -> Workflow:
    first, *others = (f"s{number}" for number in range(length))
    steps = [step(first)]
    for name in others:
        steps.append(step(name, steps[-1].name))
    return workflow(*steps, **fields)


def journal(data_dir: Path, executor: Any, **settings: Any) -> JournalEngine:
    return JournalEngine(JournalSettings(data_dir, **settings), executor)


async def follow(
    engine: JournalEngine, run_id: str, owner: str = OWNER, after_seq: int = 0
) -> list[RunEvent]:
    """All events to the run's end; they must be numbered without gaps."""
    found: list[RunEvent] = []
    async with asyncio.timeout(25):
        async for event in engine.events(run_id, owner, after_seq):
            found.append(event)
            assert event["seq"] == after_seq + len(found)
            assert event["run_id"] == run_id
    return found


async def until(engine: JournalEngine, run_id: str, kind: str) -> list[RunEvent]:
    """The events of the run up to the first of this type."""
    seen: list[RunEvent] = []
    async with asyncio.timeout(20):
        async for event in engine.events(run_id, OWNER):
            seen.append(event)
            if event["type"] == kind:
                break
    return seen


async def done_with(engine: JournalEngine) -> None:
    """Until nothing of any run goes on, its messages included."""
    async with asyncio.timeout(25):
        while active := [each.task for each in engine._scheduler._active.values()]:
            await asyncio.wait(active)


def ends(events: list[RunEvent]) -> dict[str, list[str]]:
    """How each step has ended: one status each, unless it ended twice."""
    found: dict[str, list[str]] = {}
    for event in events:
        kind = event["type"]
        if kind in _ENDS and not event.get("will_retry"):
            found.setdefault(str(event["step"]), []).append(str(event.get("status", _ENDS[kind])))
    return found


def change_file(data_dir: Path, statement: str, *values: object) -> None:
    """Change a journal that no engine has open."""
    with contextlib.closing(sqlite3.connect(data_dir / "journal.db")) as connection:
        assert connection.execute(statement, values).rowcount == 1
        connection.commit()


def types(events: list[RunEvent]) -> list[object]:
    return [event["type"] for event in events]


_ENDS = {"step_complete": "success", "step_failed": "failed", "step_skipped": "skipped"}
