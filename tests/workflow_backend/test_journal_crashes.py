"""Random workflows whose engine dies after some change, and goes on from what was on the disk.

A crash is a copy of the file as it was after so many committed changes; another engine goes on from
the copy, and may crash as well.
"""

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.workflow_backend.journals import OWNER, done_with, ends, follow
from tests.workflow_backend.random_flows import Answering, Chancy, random_flow
from workflow_backend.definition.control import RetryPolicy
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import RunEvent
from workflow_backend.engines.journal import writer
from workflow_backend.interpreter import notifications
from workflow_backend.step_state import StepState

SEEDS = range(40)
STOP = "run:stop"
# What may differ when an engine goes on: what began, what waited for room, and when.
BEGINS = {"step_running", "step_queued"}
TIMES = {"seq", "time", "duration", "expires"}


@dataclass(frozen=True)
class Crash:
    """The folder of a journal as it was when its engine died."""

    folder: Path
    events: Mapping[str, list[RunEvent]]
    records: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Story:
    """What runs came to, by their ids, and which attempts an engine made."""

    events: Mapping[str, list[RunEvent]]
    states: Mapping[str, Mapping[str, StepState]]
    status: Mapping[str, str]
    attempts: list[tuple[str, str]]
    crash: Crash | None


class Commits:
    """Counts what is committed; tells a number of it, and copies the file after another."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        commit = writer.JournalWriter._commit

        def commit_and_count(journal_writer: Any, batch: Any) -> None:
            commit(journal_writer, batch)
            self._count()

        patch.setattr(writer, "MAX_BATCH", 1)
        patch.setattr(writer.JournalWriter, "_commit", commit_and_count)

    def begin(self, folder: Path, copy_after: int, tell_after: int) -> None:
        self._folder, self._copy_after, self._tell_after = folder, copy_after, tell_after
        self.count = 0
        self.told = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def _count(self) -> None:
        """In the writer's thread."""
        self.count += 1
        if self.count == self._copy_after:
            copy = self._folder.with_name(f"{self._folder.name}x")
            copy.mkdir()
            with (
                contextlib.closing(sqlite3.connect(self._folder / "journal.db")) as source,
                contextlib.closing(sqlite3.connect(copy / "journal.db")) as target,
            ):
                source.backup(target)
        if self.count == self._tell_after:
            self._loop.call_soon_threadsafe(self.told.set)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Commits:
    again = RetryPolicy(limit=7, interval="5ms", max_interval="5ms")
    monkeypatch.setattr(notifications, "RETRIES", again)
    return Commits(monkeypatch)


@contextlib.asynccontextmanager
async def answered(engine: Answering) -> AsyncIterator[None]:
    answering = asyncio.create_task(engine.answer())
    try:
        yield
        assert not answering.done(), answering.result()
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


async def tell(
    commits: Commits,
    flow: Workflow,
    seed: int,
    folder: Path,
    *,
    crash_after: int = 0,
    cancel_after: int = 0,
    before: Crash | None = None,
) -> Story:
    """Let an engine on this folder go on to the end of all its runs."""
    commits.begin(folder, crash_after, cancel_after)
    executor = Chancy(seed)
    engine = Answering(folder, executor)
    for event in all_events(before.events if before else {}):
        engine.asked.put_nowait(event)
    async with engine, answered(engine):
        await engine.start("run", flow, {}, OWNER)
        if cancel_after:
            told = asyncio.create_task(commits.told.wait())
            ended = asyncio.create_task(follow(engine, "run"))
            await asyncio.wait([told, ended], return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            await engine.cancel("run", OWNER, "enough")
            await ended
        await follow(engine, "run")
        await done_with(engine)
        events, _ = await asyncio.to_thread(read, folder)
        status = {run_id: (await engine.get(run_id, OWNER)).status for run_id in events}
        states = {run_id: await engine.states(run_id, OWNER) for run_id in events}
    copy = folder.with_name(f"{folder.name}x")
    crash = None
    if copy.exists():
        crash = Crash(copy, *await asyncio.to_thread(read, copy))
    attempts = [(spec.run_id, spec.key) for spec in executor.specs]
    return Story(events, states, status, attempts, crash)


def read(folder: Path) -> tuple[dict[str, list[RunEvent]], frozenset[tuple[str, str]]]:
    """The events by run, and all records, of a file."""
    with contextlib.closing(sqlite3.connect(folder / "journal.db")) as connection:
        runs = dict(connection.execute("SELECT id, run_id FROM runs"))
        events: dict[str, list[RunEvent]] = {run_id: [] for run_id in runs.values()}
        for run, body in connection.execute("SELECT run, data FROM events ORDER BY run, seq"):
            events[runs[run]].append(orjson.loads(body))
        records = connection.execute("SELECT run, key FROM records").fetchall()
    return events, frozenset((runs[run], key) for run, key in records)


def all_events(events: Mapping[str, list[RunEvent]]) -> Iterable[RunEvent]:
    return (event for of_run in events.values() for event in of_run)


def check(story: Story, flow: Workflow, before: Crash | None) -> None:
    """What holds for every run, whatever happened to its engine."""
    inner = [each for called in flow.workflows.values() for each in called.steps]
    repeated = {each.name for each in (*flow.steps, *inner) if each.repeat is not None}
    for run_id, events in story.events.items():
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        kinds = [event["type"] for event in events]
        assert kinds[-1] == "workflow_complete", (run_id, kinds)
        assert kinds.count("workflow_complete") == 1, (run_id, kinds)
        done = Counter(
            (event["step"], event.get("iteration"))
            for event in events
            if event["type"] == "step_complete"
        )
        assert set(done.values()) <= {1}, (run_id, done)
        found = ends(events)
        for name, statuses in found.items():
            assert len(statuses) == 1 or name.partition("[")[0] in repeated, (run_id, found)
        # Items that a stop kept from beginning have no end of their own.
        assert set(found) >= {name for name in story.states[run_id] if "[" not in name}
    if before is not None:
        assert not before.records.intersection(story.attempts)
        for run_id, events in before.events.items():
            assert story.events[run_id][: len(events)] == events


def outcome(story: Story) -> object:
    """What must be the same, whether the engine died or not."""
    events = {
        run_id: sorted(
            repr(sorted((name, value) for name, value in event.items() if name not in TIMES))
            for event in of_run
            if event["type"] not in BEGINS
        )
        for run_id, of_run in story.events.items()
    }
    return story.status, story.states, events


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_run_comes_to_the_same_though_its_engine_dies(
    tmp_path: Path, commits: Commits, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - not for secrets
    flow = random_flow(dice)
    whole = await tell(commits, flow, seed, tmp_path / "a", crash_after=dice.randint(1, 15))
    check(whole, flow, None)
    story = whole
    for _ in range(2):
        before = story.crash
        if before is None:
            break
        after = dice.randint(1, 20)
        story = await tell(commits, flow, seed, before.folder, crash_after=after, before=before)
        check(story, flow, before)
        assert outcome(story) == outcome(whole)
    assert caplog.text == ""


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_cancelled_run_ends_once_though_its_engine_dies(
    tmp_path: Path, commits: Commits, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    dice = random.Random(1_000 + seed)  # noqa: S311 - not for secrets
    flow = random_flow(dice)
    cancel_after = dice.randint(1, 12)
    crash_after = cancel_after + dice.randint(1, 10)
    folder = tmp_path / "a"
    whole = await tell(
        commits, flow, seed, folder, crash_after=crash_after, cancel_after=cancel_after
    )
    check(whole, flow, None)
    before = whole.crash
    if before is not None:
        story = await tell(commits, flow, seed, before.folder, before=before)
        check(story, flow, before)
        if ("run", STOP) in before.records:
            assert story.status["run"] == whole.status["run"]
    assert caplog.text == ""
