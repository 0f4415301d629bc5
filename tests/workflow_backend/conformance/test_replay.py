"""Recorded histories: this version replays them, and tells the same events of them.

Replays run under different seeds of Python's hashes, because workers are different processes.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from tests.workflow_backend.conformance.histories import FOLDER, RECORDED, told
from workflow_backend.definition.cel import check
from workflow_backend.engines.temporal.history import RunHistory
from workflow_backend.engines.temporal.history_reader import HistoryReader
from workflow_backend.engines.temporal.link import data_converter
from workflow_backend.engines.temporal.sandbox import Sandbox
from workflow_backend.engines.temporal.threads import RoomyThreads
from workflow_backend.engines.temporal.workflows import RunWorkflow
from workflow_backend.process_guard import end_at_once

CONVERTER = data_converter(Path("/nonexistent"), "default")
CODE = """
from tests.workflow_backend.conformance.test_replay import main
main()
"""


def history_of(name: str) -> WorkflowHistory:
    return WorkflowHistory.from_json(name, (FOLDER / f"{name}.json").read_text())


async def replay() -> None:
    """Replay all of them; a replay never ends where the code asks for something else than it did.

    Raises:
        TimeoutError: One is not replayed.
    """
    check("true")
    for name in RECORDED:
        replayer = Replayer(
            workflows=[RunWorkflow],
            workflow_runner=Sandbox(),
            workflow_task_executor=RoomyThreads(4),
            data_converter=CONVERTER,
        )
        async with asyncio.timeout(10):
            await replayer.replay_workflow(history_of(name))
        print(f"replayed {name}", flush=True)  # noqa: T201 - told to the test


def main() -> None:
    """What the child process of the test does."""
    code = 1
    try:
        asyncio.run(replay())
        code = 0
    finally:
        end_at_once(code)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_recorded_history_is_replayed_whatever_the_seed_of_hashes(seed: str) -> None:
    replayed = subprocess.run(
        [sys.executable, "-c", CODE],
        env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=25,
    )
    assert replayed.stdout.splitlines() == [f"replayed {name}" for name in RECORDED]
    assert replayed.returncode == 0


@pytest.mark.parametrize("name", RECORDED)
async def test_a_recorded_history_has_the_events_that_it_had(name: str) -> None:
    history, reader = RunHistory(), HistoryReader(CONVERTER)
    events = []
    for event in history_of(name).events:
        fact = await reader.fact(event)
        taken = history.take(fact) if fact is not None else None
        if taken is not None:
            events.append(taken)
    recorded = (FOLDER / f"{name}.events").read_text().splitlines()
    assert [told(event) for event in events] == [json.loads(line) for line in recorded]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["time"] for event in events] == sorted(str(event["time"]) for event in events)
