"""Ten runs of twenty steps under ten `kill -9`: nothing lost, nothing recorded done twice."""

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson

from tests.workflow_backend.attempts import LIMITS
from tests.workflow_backend.journals import OWNER, journal, step, workflow
from workflow_backend.definition.model import Workflow
from workflow_backend.steps import StepExecutor, StepSettings

RUNS = 10
STEPS = 20
KILLS = 10
SEED = 20261122

HOST = """
import asyncio, json, sys
from pathlib import Path
from tests.workflow_backend.test_kill_loop import serve
asyncio.run(serve(Path(sys.argv[1]), json.loads(sys.argv[2])))
"""


def twenty_steps() -> Workflow:
    """Two chains with rungs between them; each step appends its name to a file, and fails once."""
    script = 'echo "$STEP $ATTEMPT" >> log; test "$ATTEMPT" = 2 || test "$FAILS" = no'
    steps = []
    for number in range(STEPS):
        before = [f"s{other}" for other in (number - 2, number - 3) if other >= 0]
        fails = number % 7 == 3
        retry = {"limit": 1, "interval": "1ms"}
        env = {"FAILS": "yes" if fails else "no"}
        steps.append(step(f"s{number}", *before, run=script, env=env, retry=retry))
    return workflow(*steps, name="ladder")


async def serve(data_dir: Path, seen: dict[str, int]) -> None:
    """The process that is killed: runs what there is, prints each event after the ones seen."""
    executor = StepExecutor(StepSettings(data_dir, "none", limits=LIMITS))
    async with journal(data_dir, executor, max_running_attempts=6) as engine:

        async def watch(run_id: str, after_seq: int) -> None:
            await engine.start(run_id, twenty_steps(), {}, OWNER)
            async for event in engine.events(run_id, OWNER, after_seq):
                sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
                sys.stdout.buffer.flush()

        await asyncio.gather(*(watch(run_id, after) for run_id, after in seen.items()))


class Watcher:
    """Follows all runs over the deaths of their engine."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.events: dict[str, list[dict[str, object]]] = {f"run-{n}": [] for n in range(RUNS)}

    def connect(self) -> subprocess.Popen[bytes]:
        """Start an engine and ask for what was not seen yet."""
        seen = {run_id: len(events) for run_id, events in self.events.items()}
        return subprocess.Popen(
            [sys.executable, "-c", HOST, str(self._data_dir), json.dumps(seen)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )

    def read(self, host: subprocess.Popen[bytes], most: int) -> int:
        """Take up to so many events; each continues its run without a gap."""
        assert host.stdout is not None
        for number in range(most):
            line = host.stdout.readline()
            if not line.endswith(b"\n"):
                return number
            event = orjson.loads(line)
            events = self.events[event["run_id"]]
            assert event["seq"] == len(events) + 1
            events.append(event)
        return most


def test_kill_9_loses_no_step_and_repeats_none_that_is_recorded(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    rng = random.Random(SEED)  # noqa: S311 - a repeatable choice of when to kill
    print(f"seed {SEED}")  # noqa: T201 - shown with a failure
    watcher = Watcher(data_dir)
    recorded: dict[tuple[str, str], int] = {}
    for _ in range(KILLS):
        host = watcher.connect()
        watcher.read(host, rng.randrange(1, 30))
        assert host.poll() is None, "the runs ended before the last kill"
        host.kill()
        host.wait(20)
        # What the pipe still holds was committed before the kill.
        watcher.read(host, 10**6)
        assert host.stdout is not None
        host.stdout.close()
        lines = appended(data_dir)
        for key in results(data_dir):
            assert recorded.setdefault(key, lines[key]) == lines[key]
    host = watcher.connect()
    watcher.read(host, 10**6)
    assert host.wait(20) == 0
    assert host.stdout is not None
    host.stdout.close()

    lines = appended(data_dir)
    final = results(data_dir)
    expected = RUNS * (STEPS + sum(number % 7 == 3 for number in range(STEPS)))
    assert len(final) == len(lines) == expected
    assert all(lines[key] == count for key, count in recorded.items())
    assert all(1 <= count <= KILLS + 1 for count in lines.values())
    for events in watcher.events.values():
        assert (events[-1]["type"], events[-1]["status"]) == ("workflow_complete", "success")
        ended = Counter(event["step"] for event in events if event["type"] == "step_complete")
        assert ended == {f"s{number}": 1 for number in range(STEPS)}
    assert recorded, "no kill came after a recorded step"


def appended(data_dir: Path) -> Counter[tuple[str, str]]:
    """How often each attempt of each run did its work, by what it wrote itself."""
    counts: Counter[tuple[str, str]] = Counter()
    for path in data_dir.glob("runs/*/work/log"):
        for line in path.read_text().splitlines():
            name, attempt = line.split()
            counts[path.parts[-3], f"{name}#{attempt}"] += 1
    return counts


def results(data_dir: Path) -> set[tuple[str, str]]:
    """The attempts whose result is in the journal."""
    connection = sqlite3.connect(data_dir / "journal.db")
    rows = connection.execute(
        "SELECT runs.run_id, key FROM records JOIN runs ON runs.id = records.run"
        " WHERE key GLOB 's*#[0-9]'"
    ).fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return {(run_id, key) for run_id, key in rows}
