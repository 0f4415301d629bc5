"""A runtime that answers as a script says, for tests of the interpreter."""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import (
    AttemptResult,
    AttemptSpec,
    ChildResult,
    ChildSpec,
    RunEvent,
)
from workflow_backend.interpreter import Outcome, interpret
from workflow_backend.retries import will_retry
from workflow_backend.step_state import StepState

OK = AttemptResult("success", {"stdout": "ok"}, 0)
BAD = AttemptResult("failed", {"stdout": "out"}, 3, "exit code 3: bad")
Answer = AttemptResult | Callable[[AttemptSpec], AttemptResult]


class Scripted:
    """A runtime in memory. `answers` are by key (`step#2`) or step; what is missing succeeds."""

    def __init__(self, answers: Mapping[str, Answer] | None = None) -> None:
        self.answers = dict(answers or {})
        self.specs: list[AttemptSpec] = []
        self.events: list[RunEvent] = []
        self.keys: list[str] = []
        self.sleeps: dict[str, float] = {}
        self.running = 0
        self.most_running = 0
        self.gates: dict[str, asyncio.Event] = {}
        self.started: dict[str, asyncio.Event] = {}
        self.cancel: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.timers: dict[str, asyncio.Event] = {}
        self.random: random.Random | None = None
        self.signals: dict[str, asyncio.Future[Mapping[str, object] | None]] = {}
        self.waits: dict[str, float | None] = {}
        self.children: dict[str, ChildSpec] = {}

    async def attempt(self, spec: AttemptSpec) -> AttemptResult:
        self.specs.append(spec)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.started.setdefault(spec.step.name, asyncio.Event()).set()
        try:
            if self.random is not None:
                for _ in range(self.random.randrange(6)):
                    await asyncio.sleep(0)
            if spec.step.name in self.gates:
                await self.gates[spec.step.name].wait()
        except asyncio.CancelledError as reason:
            return AttemptResult("cancelled", {"stdout": ""}, error=f"cancelled: {reason}")
        finally:
            self.running -= 1
        answer = self.answers.get(spec.key, self.answers.get(spec.step.name, OK))
        result = answer if isinstance(answer, AttemptResult) else answer(spec)
        return AttemptResult(
            result.status,
            result.outputs,
            result.exit_code,
            result.error,
            will_retry=will_retry(spec, result),
        )

    async def sleep(self, key: str, seconds: float) -> None:
        self.sleeps[key] = seconds
        if key in self.timers:
            await self.timers[key].wait()
        elif key in {"run:timeout", "run:finally"}:
            await asyncio.Event().wait()

    async def wait_signal(
        self, signal: str, key: str, seconds: float | None
    ) -> Mapping[str, object] | None:
        self.waits[signal] = seconds
        self.started.setdefault(signal, asyncio.Event()).set()
        given = self.signals.setdefault(signal, asyncio.get_running_loop().create_future())
        return await asyncio.shield(given)

    async def child(self, key: str, spec: ChildSpec) -> ChildResult:
        self.children[key] = spec
        inner = Scripted(self.answers)
        inner.cancel = self.cancel
        outcome = await interpret(
            spec.workflow, spec.inputs, inner, run_id=spec.run_id, kept=spec.kept
        )
        self.specs += inner.specs
        return ChildResult(outcome.status, outcome.error, outcome.outputs, outcome.states)

    async def emit(self, key: str, event: RunEvent) -> float:
        assert key not in self.keys, key
        self.keys.append(key)
        self.events.append(event)
        return 0.0

    async def complete(self, event: RunEvent, states: Mapping[str, StepState]) -> None:
        await self.emit("run:complete", event)

    async def cancel_requested(self) -> str:
        return await asyncio.shield(self.cancel)

    def attempts(self) -> list[str]:
        return [spec.key for spec in self.specs]

    def reasons(self) -> dict[str, object]:
        return {
            str(event["step"]): event["reason"]
            for event in self.events
            if event["type"] == "step_skipped"
        }


def workflow(*steps: Step, **fields: Any) -> Workflow:
    return Workflow(**{"name": "test", "steps": list(steps), **fields})


def step(name: str, *depends: str, **fields: Any) -> Step:
    return Step(**{"name": name, "depends": list(depends), "run": "true", **fields})


async def walk(
    flow: Workflow, runtime: Scripted, inputs: Mapping[str, object] | None = None
) -> Outcome:
    async with asyncio.timeout(20):
        return await interpret(flow, inputs or {}, runtime, run_id="run-1")
