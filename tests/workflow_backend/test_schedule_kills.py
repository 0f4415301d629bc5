"""kill -9 around the times of a schedule: none is lost, none begins twice."""

import itertools
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.workflow_backend.backends import ROOT
from tests.workflow_backend.journals import OWNER
from tests.workflow_backend.schedule_child import FastClock
from tests.workflow_backend.schedules import SetClock, kept
from workflow_backend.engines.base import RunFilter

KILLS = 8


def run_until_killed(data_dir: Path, begun: float, lines: int, word: str) -> list[str]:
    """What a process told until it was killed: at a line of this kind, after so many others."""
    command = [sys.executable, "-m", "tests.workflow_backend.schedule_child"]
    command += [str(data_dir), str(begun)]
    told: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        for line in child.stdout:
            told.append(line.strip())
            if len(told) > lines and line.startswith(word):
                break
        child.kill()
    return told


@pytest.mark.timeout(120)
async def test_a_schedule_that_is_killed_at_its_times_begins_each_once(tmp_path: Path) -> None:
    chance, begun = random.Random(4711), time.time()  # noqa: S311 - the kills are the same each time
    told: list[str] = []
    for number in range(KILLS):
        word = ("begins", "begun ")[number % 2]
        told += run_until_killed(tmp_path, begun, chance.randrange(6), word)
    clock = SetClock(FastClock(begun).now())
    async with kept(tmp_path, clock=clock) as at:
        await at.firings(lambda found: all(each.state == "started" for each in found))
        page = await at.engine.list(RunFilter(OWNER))
        runs = [run.run_id for run in page.runs]
        while page.next_cursor:
            page = await at.engine.list(RunFilter(OWNER), page.next_cursor)
            runs += [run.run_id for run in page.runs]
        assert (await at.keeper.get(OWNER, "s")).missed == 0
    minutes = sorted(
        datetime.strptime(run[2:16], "%Y%m%dT%H%MZ").replace(tzinfo=UTC) for run in runs
    )
    assert len(minutes) > KILLS
    between = {later - earlier for earlier, later in itertools.pairwise(minutes)}
    assert between == {timedelta(minutes=1)}
    # What was told before a kill, whether it had begun or not, is there once.
    assert {line.split()[1] for line in told} <= set(runs)
    first = {line.split()[1] for line in told if line.startswith("begun")}
    assert len([line for line in told if line.startswith("begun")]) == len(first)
