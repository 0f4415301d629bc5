"""Schedules for tests: a clock that is set by hand, and a keeper on a journal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from tests.workflow_backend.journals import OWNER, Gated, journal, step, workflow
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import Engine, Run, RunOptions
from workflow_backend.schedules.base import Firing, FiringRefusedError
from workflow_backend.schedules.keeper import ScheduleKeeper

T = TypeVar("T")

NINE = datetime(2026, 11, 27, 9, 0, tzinfo=UTC).timestamp()
MINUTE = 60.0
HOUR = 3_600.0


class SetClock:
    """A clock that goes only as far as it is told to."""

    def __init__(self, now: float = NINE) -> None:
        self._wall = now
        self._passed = 0.0
        self._moved = asyncio.Event()
        self.sleeps = 0
        self.slept = asyncio.Event()
        self._untils: list[float] = []

    def now(self) -> float:
        return self._wall

    async def sleep(self, seconds: float) -> None:
        until = self._passed + seconds
        self.sleeps += 1
        self._untils.append(until)
        self.slept.set()
        try:
            while self._passed < until:
                await self._moved.wait()
        finally:
            self._untils.remove(until)

    async def asleep(self, count: int) -> None:
        """Wait until so many sleep, and none is about to wake."""
        async with asyncio.timeout(20):
            while sum(until > self._passed for until in self._untils) < count:
                self.slept.clear()
                await self.slept.wait()

    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self._passed += seconds
        self.set(self._wall + seconds)

    def set(self, wall: float) -> None:
        """Somebody sets the clock."""
        self._wall = wall
        self._moved.set()
        # Of all that sleep, each must see it.
        self._moved = asyncio.Event()


@dataclass
class Kept:
    """A keeper that is open, and what it works with."""

    keeper: ScheduleKeeper
    engine: Engine
    executor: Gated
    clock: SetClock
    refusals: dict[str, FiringRefusedError] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    async def start(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions,
    ) -> Run:
        if workflow.name in self.refusals:
            raise self.refusals[workflow.name]
        self.begun.append(run_id)
        return await self.engine.start(run_id, workflow, inputs, owner, options)

    async def add(self, name: str = "s", owner: str = OWNER, **schedule: Any) -> None:
        await self.seen(self.keeper.put(owner, name, scheduled(**schedule), {}))

    async def seen(self, change: Awaitable[T]) -> T:
        """What a change of a schedule gives, once the timer has looked at it and sleeps."""
        before = self.clock.sleeps
        result = await change
        if self.clock.sleeps == before:
            await self.looked()
        return result

    async def firings(
        self,
        until: Callable[[list[Firing]], bool],
        name: str = "s",
        owner: str = OWNER,
    ) -> list[Firing]:
        """The firings of a schedule, the first first, once they are so."""
        async with asyncio.timeout(20), self.keeper._settled:
            while True:
                found = list(reversed((await self.keeper.get(owner, name)).firings))
                if until(found):
                    return found
                await self.keeper._settled.wait()

    async def states(self, *expected: str, name: str = "s") -> list[Firing]:
        """The firings of a schedule, once their states are these."""
        return await self.firings(lambda found: [each.state for each in found] == [*expected], name)

    async def looked(self, count: int = 1) -> None:
        """Wait until the timer has looked so many times more, and sleeps."""
        wanted = self.clock.sleeps + count
        async with asyncio.timeout(20):
            while self.clock.sleeps < wanted:
                self.clock.slept.clear()
                await self.clock.slept.wait()

    async def pass_time(self, seconds: float) -> None:
        """Time passes, and the timer has looked."""
        self.clock.pass_time(seconds)
        await self.looked()

    async def set(self, wall: float) -> None:
        """The clock is set, and half a minute passes until it is looked at."""
        self.clock.set(wall)
        await self.pass_time(30)


@contextlib.asynccontextmanager
async def kept(
    data_dir: Path, executor: Gated | None = None, clock: SetClock | None = None
) -> AsyncIterator[Kept]:
    """A keeper on a journal, both opened on the folder."""
    executor, clock = executor or Gated(), clock or SetClock()
    async with journal(data_dir, executor) as engine:
        found = Kept(None, engine, executor, clock)  # type: ignore[arg-type]  # two lines below
        found.keeper = ScheduleKeeper(data_dir, engine, found.start, clock)
        await found.keeper.open()
        await found.looked()
        try:
            yield found
        finally:
            await found.keeper.close()


def scheduled(cron: str = "* * * * *", name: str = "test", **schedule: Any) -> Workflow:
    """A workflow of one step `a`, with a schedule."""
    return workflow(step("a"), name=name, schedule={"cron": cron, **schedule})
