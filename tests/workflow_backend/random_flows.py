"""Workflows at random, an executor that fails by chance, and answers to all that they wait for."""

import asyncio
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.workflow_backend.journals import OWNER, Gated, step, workflow
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import (
    AttemptResult,
    AttemptSpec,
    AttemptWatch,
    RunEndedError,
    RunEvent,
)
from workflow_backend.engines.journal import JournalEngine, JournalSettings
from workflow_backend.engines.journal.changes import Appended

_KINDS = ("run", "run", "run", "run", "approval", "wait", "signal", "workflow", "workflow")
_CONDITIONS = ("always()", "failure()", "success()", "false")


def random_flow(dice: random.Random) -> Workflow:
    """A workflow of up to five steps of all kinds that need nothing from outside."""
    fields: dict[str, Any] = {}
    if dice.random() < 0.5:
        fields["finally"] = [step("last"), step("very-last", "last")]
    if dice.random() < 0.5:
        fields["on_failure"] = [step("mend")]
    if dice.random() < 0.4:
        on = ["success", "failed", "cancelled", "approval"]
        fields["notify"] = [{"url": "https://x.example/", "on": on}]
    inner: dict[str, Any] = {"steps": _steps(dice, 3, _KINDS[:-2])}
    if dice.random() < 0.3:
        inner["finally"] = [step("inner-last")]
    steps = _steps(dice, 5, _KINDS)
    return workflow(*steps, workflows={"inner": inner}, max_parallel=dice.randint(1, 4), **fields)


def _steps(dice: random.Random, most: int, kinds: Sequence[str]) -> list[Step]:
    steps: list[Step] = []
    for number in range(dice.randint(1, most)):
        kind = dice.choice(kinds)
        fields = _action(dice, kind)
        depends = [before.name for before in steps if dice.random() < 0.4]
        if dice.random() < 0.3:
            fields["foreach"] = list(range(dice.randint(0, 3)))
        if kind in {"run", "workflow"} and dice.random() < 0.2:
            until = dice.choice(["true", "false"])
            fields["repeat"] = {"until": until, "limit": dice.randint(1, 2), "interval": "5ms"}
        if dice.random() < 0.25:
            fields["continue_on_error"] = True
        if depends and dice.random() < 0.25:
            fields["if"] = dice.choice(_CONDITIONS)
        steps.append(Step(name=f"s{number}", depends=depends, **fields))
    return steps


def _action(dice: random.Random, kind: str) -> dict[str, Any]:
    match kind:
        case "approval":
            late = {"timeout": "20ms", "on_timeout": dice.choice(["fail", "skip", "approve"])}
            return {"approval": {"message": "?", **(late if dice.random() < 0.3 else {})}}
        case "wait":
            return {"wait": {"for": "10ms"}}
        case "signal":
            return {"wait": {"signal": "go"}}
        case "workflow":
            return {"workflow": {"ref": "inner"}}
    retry = {"retry": {"limit": dice.randint(1, 2), "interval": "5ms"}}
    return {"run": "true", **(retry if dice.random() < 0.3 else {})}


class Chancy(Gated):
    """An executor of which a quarter of the attempts fails: the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._dice = random.Random(seed)  # noqa: S311 - not for secrets

    async def run_attempt(self, spec: AttemptSpec, watch: AttemptWatch) -> AttemptResult:
        self.specs.append(spec)
        for _ in range(self._dice.randrange(4)):
            await asyncio.sleep(0)
        if _chance(f"{self._seed}/{spec.run_id}/{spec.key}") < 25:
            return AttemptResult("failed", {"stdout": spec.key}, 1, "by chance")
        return AttemptResult("success", {"stdout": spec.key}, 0)


class Answering(JournalEngine):
    """A journal whose runs get every decision and signal that they wait for."""

    def __init__(self, data_dir: Path, executor: Gated) -> None:
        self.asked: asyncio.Queue[RunEvent] = asyncio.Queue()
        super().__init__(JournalSettings(data_dir), executor)

    def _publish(self, appended: Sequence[Appended]) -> None:
        super()._publish(appended)
        for each in appended:
            self.asked.put_nowait(each.event)

    async def answer(self) -> None:
        """Answer, until cancelled; what has a time of its own is left to that."""
        while True:
            event = await self.asked.get()
            run_id, name = str(event["run_id"]), event.get("step")
            approved = _chance(f"{run_id}/{name}") >= 25
            try:
                if event["type"] == "approval_requested" and "expires" not in event:
                    decision = {"approved": approved, "by": "ann"}
                    await self.signal(run_id, OWNER, f"approval:{name}", decision)
                elif event["type"] == "wait_started" and event["kind"] == "signal":
                    await self.signal(run_id, OWNER, "signal:go", {"payload": 1})
            except RunEndedError:
                continue


def _chance(text: str) -> int:
    return zlib.crc32(text.encode()) % 100
