"""What the journal costs: steps a second, CPU a step, the way of one step, a long list.

`python -m benchmarks.journal [--rounds 5]` measures at the `Engine` port with an executor that does
nothing, so that what is left is the engine: a durable record, its events, and the outputs kept for
later steps. Files are written where TMPDIR says, with every commit synced. CPU is of the whole
process, the thread that writes included.
"""

import asyncio
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.figures import Figure, print_figures
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import AttemptResult, AttemptSpec, AttemptWatch, RunFilter
from workflow_backend.engines.journal import JournalEngine, JournalSettings, Retention

OWNER = "bench"
CHAIN_STEPS = 50
RUNS, RUN_STEPS = 30, 20
LISTED_RUNS = 100_000
LIST_PAGES = 200
_OK = AttemptResult("success", {"stdout": "ok"}, 0)


class NoOperation:
    """An executor whose attempts succeed at once."""

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def run_attempt(self, spec: AttemptSpec, watch: AttemptWatch) -> AttemptResult:
        """A success."""
        return _OK


@dataclass(frozen=True, slots=True)
class Measured:
    """What one measurement took."""

    steps: int
    seconds: float
    cpu_seconds: float

    @property
    def steps_per_second(self) -> float:
        """Steps done in a second of the clock."""
        return self.steps / self.seconds

    @property
    def milliseconds(self) -> float:
        """What one step takes by the clock."""
        return 1000 * self.seconds / self.steps

    @property
    def cpu_milliseconds(self) -> float:
        """CPU of one step."""
        return 1000 * self.cpu_seconds / self.steps


def chain(length: int) -> Workflow:
    """Steps that follow one another."""
    steps = [
        Step(name=f"s{number}", run="true", depends=[f"s{number - 1}"] if number else [])
        for number in range(length)
    ]
    return Workflow(name="chain", steps=steps)


def parallel(count: int) -> Workflow:
    """Steps side by side."""
    steps = [Step(name=f"s{number}", run="true") for number in range(count)]
    return Workflow(name="parallel", steps=steps, max_parallel=256)


async def run(engine: JournalEngine, run_id: str, workflow: Workflow) -> None:
    """One run, from its start to its last event."""
    await engine.start(run_id, workflow, {}, OWNER)
    async for _ in engine.events(run_id, OWNER):
        pass


async def measure(steps: int, work: Callable[[], Awaitable[object]]) -> Measured:
    """What some work of so many steps takes."""
    began, cpu = time.perf_counter(), _cpu_seconds()
    await work()
    return Measured(steps, time.perf_counter() - began, _cpu_seconds() - cpu)


async def measure_round(folder: Path, number: int) -> dict[str, Measured]:
    """Every measurement once, in a journal of its own."""
    settings = JournalSettings(folder / f"round-{number}", max_running_attempts=64)
    async with JournalEngine(settings, NoOperation()) as engine:
        await run(engine, "warm", chain(5))
        one, long, wide, many = chain(1), chain(CHAIN_STEPS), parallel(50), chain(RUN_STEPS)

        async def all_runs() -> None:
            await asyncio.gather(*(run(engine, f"many-{index}", many) for index in range(RUNS)))

        return {
            "a run of one step": await measure(1, lambda: run(engine, "one", one)),
            "a step in a chain of 50": await measure(
                CHAIN_STEPS, lambda: run(engine, "long", long)
            ),
            "50 steps": await measure(50, lambda: run(engine, "wide", wide)),
            "30 runs of 20 steps": await measure(RUNS * RUN_STEPS, all_runs),
        }


async def measure_list(folder: Path) -> list[float]:
    """The seconds that pages of a list of many runs take, with and without filters."""
    settings = JournalSettings(
        folder / "list", max_running_runs=256, retention=Retention(runs=10 * LISTED_RUNS)
    )
    seconds = []
    async with JournalEngine(settings, NoOperation()) as engine:
        flow = chain(1)
        for first in range(0, LISTED_RUNS, 1_000):
            names = (f"run-{first + index}" for index in range(1_000))
            await asyncio.gather(*(run(engine, name, flow) for name in names))
        filters = (
            RunFilter(OWNER, limit=50),
            RunFilter(OWNER, status="success", limit=50),
            RunFilter(OWNER, status="failed", limit=50),
            RunFilter(OWNER, workflow="chain", limit=50),
        )
        for wanted in filters:
            cursor = None
            for _ in range(LIST_PAGES // len(filters)):
                began = time.perf_counter()
                page = await engine.list(wanted, cursor)
                seconds.append(time.perf_counter() - began)
                cursor = page.next_cursor
    return seconds


async def measure_all(rounds: int, *, with_list: bool) -> list[Figure]:
    """The figures beside their targets; of each measurement the best of all rounds counts."""
    with tempfile.TemporaryDirectory(prefix="bench-journal-") as name:
        folder = Path(name)
        found = [await measure_round(folder, number) for number in range(rounds)]
        best = {
            what: min((one[what] for one in found), key=lambda measured: measured.seconds)
            for what in found[0]
        }
        many = best["30 runs of 20 steps"]
        figures = [
            Figure("30 runs of 20 steps at once: steps a second", many.steps_per_second, 1_000),
            Figure("CPU of one step, ms", many.cpu_milliseconds, 1.0, at_most=True),
            Figure(
                "a step in a chain of 50, ms",
                best["a step in a chain of 50"].milliseconds,
                5.0,
                at_most=True,
            ),
            Figure("a run of one step, ms", best["a run of one step"].milliseconds, 10, True),
            Figure("50 steps side by side, ms", 50 * best["50 steps"].milliseconds, 50, True),
        ]
        if with_list:
            seconds = await measure_list(folder)
            longest = 1000 * max(seconds)
            figures.append(
                Figure(f"longest page of a list of {LISTED_RUNS:,} runs, ms", longest, 50, True)
            )
        return figures


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Of each figure the best counts.")
@click.option("--no-list", is_flag=True, help="Leave the 100,000 runs out.")
def main(*, rounds: int, no_list: bool) -> None:
    """Measure what the journal costs."""
    print_figures(asyncio.run(measure_all(rounds, with_list=not no_list)))


if __name__ == "__main__":
    main()
