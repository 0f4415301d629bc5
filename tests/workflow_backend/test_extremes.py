"""Workflows at the edge: a thousand steps at once, two thousand in a row, no disk, a wrong clock.

Each test states its result. An output of 100 MB is in `test_steps_log.py`.
"""

import asyncio
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.workflow_backend.attempts import LIMITS, has_died, pids_with
from tests.workflow_backend.journals import OWNER, Gated, chain, follow, journal, step, workflow
from workflow_backend.engines.base import AttemptResult
from workflow_backend.engines.journal import JournalBrokenError
from workflow_backend.steps import StepExecutor, StepSettings

DISK_BYTES = 2 * 1024 * 1024


@pytest.mark.timeout(120)
async def test_a_thousand_steps_at_once_each_run_once(tmp_path: Path) -> None:
    """Result: success, every process ran once, no event is missing."""
    names = [f"s{number}" for number in range(1_000)]
    script = 'echo "$STEP" >> log'
    flow = workflow(*(step(name, run=script) for name in names), max_parallel=256)
    executor = StepExecutor(StepSettings(tmp_path, "none", limits=LIMITS))
    async with journal(tmp_path, executor, max_running_attempts=32) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        events = await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    assert run.status == "success"
    lines = (tmp_path / "runs/run-1/work/log").read_text().splitlines()
    assert Counter(lines) == dict.fromkeys(names, 1)
    ended = Counter(event["step"] for event in events if event["type"] == "step_complete")
    assert ended == dict.fromkeys(names, 1)


async def test_two_thousand_steps_in_a_row_go_on_after_a_restart(tmp_path: Path) -> None:
    """Result: success; what had ended before the restart is not done again."""
    flow = chain(2_000)
    first = Gated("s1000")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await first.has_started("s1000")
    second = Gated()
    async with journal(tmp_path, second) as engine:
        events = await follow(engine, "run-1", after_seq=2_000)
        assert (await engine.get("run-1", OWNER)).status == "success"
    assert len(first.attempts) == 1_001
    assert second.attempts == [f"s{number}#1" for number in range(1_000, 2_000)]
    assert events[-1]["type"] == "workflow_complete"


async def test_a_step_that_forks_and_ignores_sigterm_is_ended_all_the_same(tmp_path: Path) -> None:
    """Result: after the grace every process of it is killed, in a session of its own too."""
    word = f"88{uuid4().int % 10**9}"
    script = (
        f"trap '' TERM; sleep {word} & setsid sleep {word} & echo up; sleep {word}; sleep {word}"
    )
    flow = workflow(step("a", run=script))
    executor = StepExecutor(StepSettings(tmp_path, "none", limits=LIMITS))
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        async for event in engine.events("run-1", OWNER):
            if event["type"] == "step_output":
                break
        pids = pids_with(word)
        assert len(pids) >= 3
        run = await engine.cancel("run-1", OWNER, "enough")
        assert run.status == "cancelled"
    assert all(has_died(pid) for pid in pids)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False).returncode:
        pytest.skip("only root can mount a small file system, and not everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_stops_the_engine_and_loses_nothing(small_disk: Path) -> None:
    """Result: the engine says so and takes nothing more; with room again the run goes on."""
    noise = AttemptResult("success", {"stdout": "x" * 100_000}, 0)
    executor = Gated()
    executor.answers = {f"s{number}": noise for number in range(12)}
    filler = small_disk / "filler"
    flow = chain(12)
    async with journal(small_disk, executor) as engine:
        filler.write_bytes(b"x" * (DISK_BYTES - 1_400_000))
        await engine.start("run-1", flow, {}, OWNER)
        reason = await asyncio.wait_for(engine.failure(), 20)
        assert isinstance(reason, JournalBrokenError)
        assert "disk is full" in str(reason)
        with pytest.raises(JournalBrokenError):
            await engine.start("run-2", flow, {}, OWNER)
    done = len(executor.attempts)
    assert 1 <= done < 12
    filler.unlink()
    executor.answers = {}
    executor.specs.clear()
    async with journal(small_disk, executor) as engine:
        await follow(engine, "run-1")
        assert (await engine.get("run-1", OWNER)).status == "success"
    # The step whose result could not be written is the only one that was done twice.
    assert executor.attempts == [f"s{number}#1" for number in range(done - 1, 12)]


class Clock:
    """The time of day as the tests set it; the monotonic clock goes on as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.ahead)


async def test_a_clock_that_jumps_ahead_ends_a_wait_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Result: an hour's delay is over when the clock says so, without waiting for it."""
    clock = Clock(monkeypatch)
    executor = Gated()
    executor.answers = {"a#1": AttemptResult("failed", {"stdout": ""}, 1, "exit code 1")}
    flow = workflow(step("a", retry={"limit": 1, "interval": "1h", "max_interval": "2h"}))
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        async for event in engine.events("run-1", OWNER):
            if event["type"] == "step_failed":
                break
    clock.ahead = 3_700.0
    async with journal(tmp_path, executor) as engine:
        await follow(engine, "run-1", after_seq=int(str(event["seq"])))
        run = await engine.get("run-1", OWNER)
    assert (run.status, executor.attempts) == ("success", ["a#1", "a#2"])


async def test_a_clock_that_is_set_back_makes_no_wait_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Result: a delay of 50 ms takes at most that again, though the clock is a day behind."""
    clock = Clock(monkeypatch)
    executor = Gated()
    executor.answers = {"a#1": AttemptResult("failed", {"stdout": ""}, 1, "exit code 1")}
    flow = workflow(step("a", retry={"limit": 1, "interval": "50ms"}))
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        async for event in engine.events("run-1", OWNER):
            if event["type"] == "step_failed":
                break
    clock.ahead = -86_400.0
    async with journal(tmp_path, executor) as engine:
        await follow(engine, "run-1", after_seq=int(str(event["seq"])))
        run = await engine.get("run-1", OWNER)
    assert (run.status, executor.attempts) == ("success", ["a#1", "a#2"])
