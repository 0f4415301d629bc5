"""Ten runs of twenty steps while the backend is killed ten times, watched from outside."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_server.workflow_run import WorkflowRun
from mcp_bridge import Bridge
from streaming.events import WorkflowEvent
from tests.agents import BACKEND, PACING, backend_spec, running_bridge

RUNS, STEPS, KILLS = 10, 20, 10
OWNER, SEED = "tester", 20261122
RESUME_SECONDS = 60.0


def workflow(record: Path) -> str:
    """Four chains of five steps; each step writes its name to the record when it acts."""
    steps = []
    for number in range(STEPS):
        depends = f"\n    depends: [step-{number - 4}]" if number >= 4 else ""
        steps.append(
            f"  - name: step-{number}{depends}\n"
            f"    env: {{RECORD: {record}}}\n"
            '    run: echo "$RUN_ID $STEP $ATTEMPT" >> "$RECORD"; echo "$STEP"'
        )
    return "name: killed\nmax_parallel: 4\nsteps:\n" + "\n".join(steps)


class Watcher:
    """Follows one run, leaving and coming back at random, and keeps what it saw."""

    def __init__(self, bridge: Bridge, run_id: str, chance: random.Random) -> None:
        self.events: list[dict[str, Any]] = []
        self._bridge = bridge
        self._run_id = run_id
        self._chance = chance

    async def watch(self, seen: "asyncio.Queue[None]") -> None:
        while not self.events or self.events[-1]["type"] != "workflow_complete":
            run = WorkflowRun(
                self._bridge,
                BACKEND,
                self._run_id,
                OWNER,
                resume_seconds=RESUME_SECONDS,
                after_seq=len(self.events),
            )
            leaves_after = self._chance.randint(3, 30)

            async def emit(event: WorkflowEvent, leaves_at: int = leaves_after) -> None:
                self.events.append(dict(event.data))
                seen.put_nowait(None)
                if len(self.events) % leaves_at == 0:
                    raise LeftError

            with contextlib.suppress(LeftError):
                await run.follow(emit)


class LeftError(Exception):
    """The watcher left, and comes back."""


async def kill_at_random(bridge: Bridge, seen: "asyncio.Queue[None]", chance: random.Random) -> int:
    """Kill the backend by its pid after some events, ten times; how often it was done."""
    killed: int | None = None
    for _ in range(KILLS):
        for _ in range(chance.randint(5, 40)):
            await seen.get()
        while (pid := bridge.status()[0].pid) in (None, killed) or not bridge.is_ready:
            await seen.get()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed = pid
        while not seen.empty():
            seen.get_nowait()
    return KILLS


@pytest.mark.timeout(120)
async def test_ten_kills_lose_no_step_and_repeat_no_finished_one(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - a test's own dice
    record = tmp_path / "record"
    # Whoever is killed this often within seconds would count as failed, were it not ready between.
    spec = backend_spec(tmp_path / "data", pacing=replace(PACING, healthy_after_seconds=0.0))
    async with running_bridge(spec) as bridge:
        watchers = [Watcher(bridge, f"run-{number}", chance) for number in range(RUNS)]
        for number in range(RUNS):
            run = WorkflowRun(
                bridge, BACKEND, f"run-{number}", OWNER, resume_seconds=RESUME_SECONDS
            )
            started = await run.start({"workflow": workflow(record)})
            assert not started.is_error, started.text
        seen: asyncio.Queue[None] = asyncio.Queue()
        killing = asyncio.create_task(kill_at_random(bridge, seen, chance))
        await asyncio.gather(*(watcher.watch(seen) for watcher in watchers))
        assert await asyncio.wait_for(killing, 10) == KILLS
        assert bridge.status()[0].restarts == KILLS
    ran = Counter(record.read_text().splitlines())
    for number, watcher in enumerate(watchers):
        _check(f"run-{number}", watcher.events, ran)
    print(f"steps run again: {sum(count - 1 for count in ran.values())} of {RUNS * STEPS}")  # noqa: T201


def _check(run_id: str, events: list[dict[str, Any]], ran: "Counter[str]") -> None:
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["status"] == "success"
    complete: set[str] = set()
    began: Counter[str] = Counter()
    for event in events:
        if event["type"] == "step_running":
            assert event["step"] not in complete, f"{event['step']} ran again after its result"
            began[event["step"]] += 1
        elif event["type"] == "step_complete":
            assert event["step"] not in complete, f"{event['step']} completed twice"
            complete.add(event["step"])
    assert complete == {f"step-{number}" for number in range(STEPS)}
    for step in complete:
        # A step acts at most once for each time that it began; a repeat keeps its number.
        assert 1 <= ran[f"{run_id} {step} 1"] <= began[step]
