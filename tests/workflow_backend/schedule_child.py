"""A journal with a schedule of every minute, in a process to be killed; an hour of it is 15 s.

Tells of each run on stdout, before it begins and once it has begun.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.workflow_backend.journals import OWNER, Gated, journal
from tests.workflow_backend.schedules import NINE, scheduled
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import Run, RunOptions
from workflow_backend.schedules.keeper import ScheduleKeeper

SPEED = 240.0


class FastClock:
    """A clock that goes on from process to process."""

    def __init__(self, begun: float) -> None:
        self._begun = begun

    def now(self) -> float:
        return NINE + (time.time() - self._begun) * SPEED

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / SPEED)


async def main(data_dir: Path, begun: float) -> None:
    async with journal(data_dir, Gated()) as engine:

        async def start(
            run_id: str,
            workflow: Workflow,
            inputs: Mapping[str, object],
            owner: str,
            options: RunOptions,
        ) -> Run:
            print("begins", run_id, flush=True)  # noqa: T201 - the parent reads it
            run = await engine.start(run_id, workflow, inputs, owner, options)
            print("begun", run_id, flush=True)  # noqa: T201 - the parent reads it
            return run

        keeper = ScheduleKeeper(data_dir, engine, start, FastClock(begun))
        await keeper.open()
        if not await keeper.list(OWNER):
            await keeper.put(OWNER, "s", scheduled(overlap="allow", catch_up="30d"), {})
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
