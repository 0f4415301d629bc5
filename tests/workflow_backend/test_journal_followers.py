"""Who follows a run: from ahead of it, from before its start, while it ends, to its cancel."""

import asyncio
from pathlib import Path

import pytest

from tests.workflow_backend.journals import (
    OWNER,
    Gated,
    done_with,
    follow,
    journal,
    step,
    types,
    workflow,
)
from workflow_backend.definition.model import Step
from workflow_backend.engines.base import AttemptResult, AttemptSpec, RunEvent, RunNotFoundError
from workflow_backend.engines.journal import EngineClosedError, JournalEngine
from workflow_backend.engines.journal.feed import LiveFeed

NOTIFY = [{"url": "https://x.example/", "on": ["success", "cancelled"]}]
DOWN = AttemptResult("failed", {"stdout": ""}, error="down")


async def read(engine: JournalEngine, run_id: str, after_seq: int = 0) -> list[RunEvent]:
    return [event async for event in engine.events(run_id, OWNER, after_seq)]


async def turns() -> None:
    """Let everything that can go on go on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_who_is_ahead_of_a_run_is_let_go_at_its_end(tmp_path: Path) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a")), {}, OWNER)
        await executor.has_started("a")
        ahead = asyncio.create_task(read(engine, "run-1", 50))
        await turns()
        assert not ahead.done()
        executor.gates["a"].set()
        last = len(await follow(engine, "run-1"))
        assert await asyncio.wait_for(ahead, 20) == []
        assert await asyncio.wait_for(read(engine, "run-1", 50), 20) == []
        assert await asyncio.wait_for(read(engine, "run-1", last), 20) == []


async def test_who_is_ahead_of_a_run_is_told_that_the_engine_closes(tmp_path: Path) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a")), {}, OWNER)
        await executor.has_started("a")
        ahead = asyncio.create_task(read(engine, "run-1", 50))
        await turns()
    with pytest.raises(EngineClosedError):
        await asyncio.wait_for(ahead, 20)


async def test_who_comes_between_a_run_and_its_beginning_gets_all_of_it(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated()) as engine:
        submitted = engine._scheduler.submit
        inserted, may_go_on = asyncio.Event(), asyncio.Event()
        insert = engine._insert

        async def insert_slowly(*values: object) -> object:
            engine._scheduler.submit = lambda row: None  # type: ignore[method-assign]
            found = await insert(*values)  # type: ignore[arg-type]
            inserted.set()
            await may_go_on.wait()
            submitted(found.row)  # type: ignore[arg-type]
            return found

        engine._insert = insert_slowly  # type: ignore[method-assign, assignment]
        starting = asyncio.create_task(engine.start("run-1", workflow(step("a")), {}, OWNER))
        await asyncio.wait_for(inserted.wait(), 20)
        following = asyncio.create_task(follow(engine, "run-1"))
        async with asyncio.timeout(20):
            while not (engine._feeds._feeds or following.done()):
                await turns()
        assert not following.done()
        may_go_on.set()
        await starting
        assert types(await following)[-1] == "workflow_complete"


async def test_who_follows_from_before_the_start_gets_all_of_it(tmp_path: Path) -> None:
    async def eagerly(engine: JournalEngine, run_id: str) -> list[RunEvent]:
        async with asyncio.timeout(20):
            while True:
                try:
                    return await read(engine, run_id)
                except RunNotFoundError:
                    await asyncio.sleep(0)

    async with journal(tmp_path, Gated()) as engine:
        for number in range(30):
            following = asyncio.create_task(eagerly(engine, f"run-{number}"))
            await engine.start(f"run-{number}", workflow(step("a")), {}, OWNER)
            assert types(await following)[-1] == "workflow_complete"


async def test_who_comes_while_a_run_ends_gets_its_end(tmp_path: Path) -> None:
    inner = {"inner": {"steps": [step("x")]}}
    flow = workflow(Step(name="call", workflow={"ref": "inner"}), workflows=inner)
    async with journal(tmp_path, Gated()) as engine:
        for number in range(20):
            await engine.start(f"run-{number}", flow, {}, OWNER)
            for event in await follow(engine, f"run-{number}"):
                if event["type"] != "workflow_complete":
                    after = int(str(event["seq"]))
                    found = await asyncio.wait_for(read(engine, f"run-{number}", after), 20)
                    assert types(found)[-1] == "workflow_complete"
            found = await asyncio.wait_for(read(engine, f"run-{number}.call"), 20)
            assert types(found)[-1] == "workflow_complete"
        assert engine._feeds._feeds == {}


async def test_a_run_that_ended_before_its_feed_was_opened_keeps_none(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", workflow(step("a")), {}, OWNER)
        before = await engine._reader.find("run-1", OWNER)
        await follow(engine, "run-1")
        # Found before its end, looked at after it.
        assert before.finished_at is None
        assert await engine._reader._feed_of(before) is None
        assert engine._feeds._feeds == {}


async def test_a_feed_that_has_ended_keeps_nobody_waiting() -> None:
    feed = LiveFeed(3)
    waiting = asyncio.create_task(feed.wait(50))
    await turns()
    assert not waiting.done()
    feed.end()
    await asyncio.wait_for(waiting, 20)


async def test_a_cancel_is_answered_while_its_message_is_tried_again(tmp_path: Path) -> None:
    executor = Gated("a", "notify")
    flow = workflow(step("a"), notify=NOTIFY)
    async with journal(tmp_path, executor, cancel_wait_seconds=3600.0) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await executor.has_started("a")
        run = await asyncio.wait_for(engine.cancel("run-1", OWNER, "enough"), 20)
        assert run.status == "cancelled"
        await executor.has_started("notify")
        assert (await engine._reader.find("run-1", OWNER)).closed_at is None
        executor.gates["notify"].set()
        await done_with(engine)
        assert (await engine._reader.find("run-1", OWNER)).closed_at is not None


async def test_a_message_that_is_tried_again_keeps_no_other_run_waiting(tmp_path: Path) -> None:
    executor = Gated()
    executor.answers = {"notify": DOWN}
    async with journal(tmp_path, executor, max_running_runs=1) as engine:
        await engine.start("run-1", workflow(step("a"), notify=NOTIFY), {}, OWNER)
        await follow(engine, "run-1")
        await engine.start("run-2", workflow(step("z")), {}, OWNER)
        assert types(await follow(engine, "run-2"))[-1] == "workflow_complete"
        assert (await engine._reader.find("run-1", OWNER)).closed_at is None


async def test_a_run_ends_once_though_its_message_fails_inside_the_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(spec: AttemptSpec) -> AttemptResult:
        raise RuntimeError("a bug")

    executor = Gated()
    executor.answers = {"notify": broken}
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a"), notify=NOTIFY), {}, OWNER)
        await done_with(engine)
        run = await engine.get("run-1", OWNER)
        row = await engine._reader.find("run-1", OWNER)
        events = await engine._store.events(row.id, 0)
    assert "a bug" in caplog.text
    assert types(list(events)).count("workflow_complete") == 1
    assert (run.status, row.closed_at is None) == ("success", False)
