"""25 runs of 24 steps under 20 `kill -9`, on both engines: nothing lost, nothing recorded repeated.

The watcher reconnects after each kill with what it has seen. On Temporal a part of the kills hits
the cluster instead of the engine, which then goes on by itself.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.workflow_backend.conformance.conftest import require_program
from tests.workflow_backend.conformance.hosts import Host, Task
from tests.workflow_backend.conformance.places import Place
from tests.workflow_backend.journals import step, workflow
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import RunEvent
from workflow_backend.engines.temporal.dev_server import DevServer

RUNS = 25
STEPS = 24
KILLS = 20
CLUSTER_KILLS = 4
SEED = 20261122
QUICK = {
    "heartbeat_timeout_seconds": 1.5,
    "sticky_seconds": 0.5,
    "task_timeout_seconds": 2.0,
    "max_attempts": 6,
}
SETTINGS: dict[str, dict[str, Any]] = {"journal": {"max_running_attempts": 6}, "temporal": QUICK}


def ladder() -> Workflow:
    """Two chains with rungs between them; each step appends its name to a file, some fail once."""
    script = 'echo "$STEP $ATTEMPT" >> log; test "$ATTEMPT" = 2 || test "$FAILS" = no'
    steps = []
    for number in range(STEPS):
        before = [f"s{other}" for other in (number - 2, number - 3) if other >= 0]
        fails = number % 7 == 3
        retry = {"limit": 1, "interval": "1ms"}
        env = {"FAILS": "yes" if fails else "no"}
        steps.append(step(f"s{number}", *before, run=script, env=env, retry=retry))
    return workflow(*steps, name="ladder")


class Watcher:
    """Follows all runs over the deaths of their engine."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.events: dict[str, list[RunEvent]] = {place.id(f"{n}"): [] for n in range(RUNS)}
        # The attempts whose result was told, by what the file of the run held then.
        self.recorded: dict[tuple[str, str], int] = {}

    def connect(self) -> Host:
        """Start an engine and ask for what was not seen yet."""
        seen = {run_id: len(events) for run_id, events in self.events.items()}
        return Host(Task(self._place, ladder(), seen, SETTINGS[self._place.kind]))

    def read(self, host: Host, most: int) -> int:
        """Take up to so many events; each continues its run without a gap."""
        for number in range(most):
            event = host.read()
            if event is None:
                return number
            events = self.events[str(event["run_id"])]
            assert event["seq"] == len(events) + 1
            events.append(event)
        return most

    def note_recorded(self) -> None:
        """What has a recorded result must never be done again."""
        lines = appended(self._place.data_dir)
        for run_id, events in self.events.items():
            for event in events:
                if event["type"] in {"step_complete", "step_failed"}:
                    key = (run_id, f"{event['step']}#{event['attempt']}")
                    assert self.recorded.setdefault(key, lines[key]) == lines[key], key


def kill_loop(watcher: Watcher, servers: list[DevServer]) -> None:
    """Kill at random until as many kills were made as shall be, then let all end."""
    rng = random.Random(SEED)  # noqa: S311 - a repeatable choice of when to kill
    print(f"seed {SEED}")  # noqa: T201 - shown with a failure
    cluster_kills = set(rng.sample(range(KILLS), CLUSTER_KILLS)) if servers else set()
    host = watcher.connect()
    for number in range(KILLS):
        watcher.read(host, rng.randrange(1, 60))
        assert host.is_alive(), "the runs ended before the last kill"
        if number in cluster_kills:
            pid = servers[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            continue
        host.kill()
        # What the pipe still holds was recorded before the kill.
        watcher.read(host, 10**6)
        host.close()
        watcher.note_recorded()
        host = watcher.connect()
    watcher.read(host, 10**6)
    assert host.close() == 0
    watcher.note_recorded()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["journal", "temporal"])
async def test_kill_9_loses_no_step_and_repeats_none_that_is_recorded(
    kind: str, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    servers = []
    if kind == "temporal":
        require_program()
        servers = [DevServer(tmp_path / "server")]
        await servers[0].start()
        place.cluster = servers[0].cluster
    watcher = Watcher(place)
    began = time.monotonic()
    try:
        await asyncio.to_thread(kill_loop, watcher, servers)
    finally:
        for server in servers:
            await server.stop()
    lines = appended(place.data_dir)
    print(  # noqa: T201 - shown with a failure
        f"{place.kind}: {time.monotonic() - began:.0f} s,"
        f" {sum(lines.values()) - len(lines)} attempts made again"
    )
    again = sum(number % 7 == 3 for number in range(STEPS))
    assert len(watcher.recorded) == len(lines) == RUNS * (STEPS + again)
    assert all(1 <= count <= KILLS + 1 for count in lines.values())
    for events in watcher.events.values():
        assert (events[-1]["type"], events[-1]["status"]) == ("workflow_complete", "success")
        ended = Counter(event["step"] for event in events if event["type"] == "step_complete")
        assert ended == {f"s{number}": 1 for number in range(STEPS)}


def appended(data_dir: Path) -> Counter[tuple[str, str]]:
    """How often each attempt of each run did its work, by what it wrote itself."""
    counts: Counter[tuple[str, str]] = Counter()
    for path in data_dir.glob("runs/*/work/log"):
        for line in path.read_text().splitlines():
            name, attempt = line.split()
            counts[path.parts[-3], f"{name}#{attempt}"] += 1
    return counts
