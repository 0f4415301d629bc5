"""The journal engine while it is open: runs, events, owners, lists, bounds."""

import asyncio
import contextlib
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow_backend.journals import (
    OWNER,
    Gated,
    chain,
    follow,
    journal,
    step,
    types,
    workflow,
)
from workflow_backend.engines.base import (
    AttemptResult,
    AttemptSpec,
    EngineBusyError,
    RunConflictError,
    RunFilter,
    RunNotFoundError,
)
from workflow_backend.engines.journal import (
    EngineClosedError,
    InvalidCursorError,
    JournalEngine,
    Retention,
)
from workflow_backend.engines.journal.feed import KEPT_EVENTS
from workflow_backend.engines.journal.store import page_query

BAD = AttemptResult("failed", {"stdout": "out"}, 3, "exit code 3: bad", 0.25)


async def test_a_run_tells_its_story_in_numbered_events(tmp_path: Path) -> None:
    executor = Gated()
    executor.answers = {"b#1": BAD}
    executor.says = {"a": ["hello ", "world\n"]}
    retry = {"limit": 1, "interval": "1ms"}
    flow = workflow(
        step("a", description="Say hello"),
        step("b", "a", retry=retry),
        step("c", if_="false"),
        outputs={"said": "${{ steps.a.outputs.stdout }}"},
    )
    async with journal(tmp_path, executor) as engine:
        started = await engine.start("run-1", flow, {"x": 1}, OWNER)
        assert (started.status, started.run_id, started.last_seq) == ("queued", "run-1", 0)
        events = await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    about_a = [event for event in events if event.get("step") == "a"]
    assert types(about_a) == ["step_running", "step_output", "step_output", "step_complete"]
    assert about_a[0]["message"] == "Say hello"
    assert about_a[3]["output"] == "ok"
    assert about_a[3]["duration"] == "0.0s"
    about_b = [event for event in events if event.get("step") == "b"]
    assert types(about_b) == ["step_running", "step_failed", "step_running", "step_complete"]
    failed = about_b[1]
    assert (failed["error"], failed["will_retry"], failed["attempt"]) == (BAD.error, True, 1)
    assert events[0]["type"] == "workflow_started"
    last = events[-1]
    assert (last["type"], last["status"], last["workflow"]) == (
        "workflow_complete",
        "success",
        "test",
    )
    assert re.fullmatch(r"\d+\.\ds", str(last["duration"]))
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(event["time"])) for event in events)
    assert (run.status, run.outputs, run.inputs) == ("success", {"said": "ok"}, {"x": 1})
    assert run.last_seq == len(events)
    assert run.finished_at is not None
    assert len(run.definition_sha256) == 64
    assert [(one["name"], one["status"]) for one in run.steps] == [
        ("a", "success"),
        ("b", "success"),
        ("c", "skipped"),
    ]
    assert run.steps[1]["attempt"] == 2


async def test_the_state_is_final_when_the_last_event_comes(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", chain(3), {}, OWNER)
        async for event in engine.events("run-1", OWNER):
            if event["type"] == "workflow_complete":
                assert (await engine.get("run-1", OWNER)).status == "success"


async def test_a_start_is_idempotent_by_its_id(tmp_path: Path) -> None:
    executor = Gated()
    async with journal(tmp_path, executor) as engine:
        answers = await asyncio.gather(
            *(engine.start("run-1", chain(2), {}, OWNER) for _ in range(5))
        )
        await follow(engine, "run-1")
        again = await engine.start("run-1", chain(2), {}, OWNER)
        with pytest.raises(RunConflictError, match="run-1"):
            await engine.start("run-1", chain(3), {}, OWNER)
        with pytest.raises(RunConflictError):
            await engine.start("run-1", chain(2), {}, "bob")
    assert {run.run_id for run in answers} == {"run-1"}
    assert again.status == "success"
    assert executor.attempts == ["s0#1", "s1#1"]


async def test_anothers_run_is_unknown(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", chain(1), {}, OWNER)
        await follow(engine, "run-1")
        with pytest.raises(RunNotFoundError):
            await engine.get("run-1", "bob")
        with pytest.raises(RunNotFoundError):
            await engine.cancel("run-1", "bob", "mine now")
        with pytest.raises(RunNotFoundError):
            await engine.step_outputs("run-1", "bob", "s0")
        with pytest.raises(RunNotFoundError):
            await anext(engine.events("run-1", "bob"))
        assert (await engine.list(RunFilter("bob"))).runs == ()


@pytest.mark.parametrize("run_id", ["", "../up", "a/b", ".hidden", "x" * 129, "a b", "a\n"])
async def test_a_run_id_that_is_no_folder_name_is_refused(tmp_path: Path, run_id: str) -> None:
    async with journal(tmp_path, Gated()) as engine:
        with pytest.raises(ValueError, match="run id"):
            await engine.start(run_id, chain(1), {}, OWNER)


async def test_inputs_that_are_no_json_are_refused(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated()) as engine:
        for value in (2**70, "\ud800", object()):
            with pytest.raises(ValueError, match="inputs cannot be written as JSON"):
                await engine.start("run-1", chain(1), {"x": value}, OWNER)
        await engine.start("run-1", chain(1), {"x": 1}, OWNER)
        await follow(engine, "run-1")


async def test_runs_are_listed_newest_first_by_pages(tmp_path: Path) -> None:
    executor = Gated()
    executor.answers = {"fails": BAD}
    async with journal(tmp_path, executor) as engine:
        for number in range(5):
            await engine.start(f"good-{number}", chain(1, name="good"), {}, OWNER)
            await follow(engine, f"good-{number}")
            await engine.start(f"bad-{number}", workflow(step("fails"), name="bad"), {}, OWNER)
            await follow(engine, f"bad-{number}")
            await engine.start(f"bob-{number}", chain(1), {}, "bob")
        seen: list[str] = []
        cursor = None
        while True:
            page = await engine.list(RunFilter(OWNER, limit=3), cursor)
            assert len(page.runs) <= 3
            seen += [run.run_id for run in page.runs]
            cursor = page.next_cursor
            if cursor is None:
                break
        expected = [f"{kind}-{number}" for number in range(4, -1, -1) for kind in ("bad", "good")]
        assert seen == expected

        async def ids(run_filter: RunFilter) -> list[str]:
            return [run.run_id for run in (await engine.list(run_filter)).runs]

        assert await ids(RunFilter(OWNER, status="failed", limit=2)) == ["bad-4", "bad-3"]
        assert await ids(RunFilter(OWNER, workflow="good", limit=1)) == ["good-4"]
        assert await ids(RunFilter(OWNER, status="failed", workflow="good")) == []
        for cursor in ("nonsense", "cjE=x", "é", "eDE"):
            with pytest.raises(InvalidCursorError):
                await engine.list(RunFilter(OWNER), cursor)


@pytest.mark.parametrize("status", [None, "failed"])
@pytest.mark.parametrize("name", [None, "test"])
@pytest.mark.parametrize("before", [None, 5])
async def test_every_list_is_read_from_an_index_in_order(
    tmp_path: Path, status: str | None, name: str | None, before: int | None
) -> None:
    async with journal(tmp_path, Gated()):
        run_filter = RunFilter(OWNER, status=status, workflow=name)  # type: ignore[arg-type]
        query, values = page_query(run_filter, before, 50)
        with sqlite3.connect(tmp_path / "journal.db") as connection:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
        connection.close()
    plan = [row[3] for row in rows]
    assert plan[0].startswith("SEARCH runs USING INDEX runs_by_")
    wanted = ["owner=?"] + ["workflow=?"] * bool(name) + ["status=?"] * bool(status)
    assert all(column in plan[0] for column in wanted)
    assert not any("TEMP B-TREE" in line or "SCAN" in line for line in plan)


async def test_a_follower_gets_each_event_when_it_happens(tmp_path: Path) -> None:
    executor = Gated("b")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a"), step("b", "a")), {}, OWNER)
        events = engine.events("run-1", OWNER)
        seen = [await asyncio.wait_for(anext(events), 20) for _ in range(4)]
        assert types(seen) == ["workflow_started", "step_running", "step_complete", "step_running"]
        pending = asyncio.ensure_future(anext(events))
        await executor.has_started("b")
        assert not pending.done()
        executor.gates["b"].set()
        assert (await asyncio.wait_for(pending, 20))["type"] == "step_complete"
        assert [event async for event in events][-1]["type"] == "workflow_complete"
        assert types(await follow(engine, "run-1", after_seq=4))[0] == "step_complete"
        assert await follow(engine, "run-1", after_seq=6) == []


async def test_a_slow_reader_holds_nobody_up_and_misses_nothing(tmp_path: Path) -> None:
    executor = Gated("end")
    executor.says = {"talk": [f"line {number}\n" for number in range(3 * KEPT_EVENTS)]}
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("talk"), step("end", "talk")), {}, OWNER)
        slow = engine.events("run-1", OWNER)
        first = await anext(slow)
        await executor.has_started("end")
        executor.gates["end"].set()
        fast = await follow(engine, "run-1")
        assert [first] + [event async for event in slow] == fast
    assert len(fast) > 3 * KEPT_EVENTS


async def test_long_outputs_are_whole_in_the_journal_and_cut_in_events(tmp_path: Path) -> None:
    text = "head" + "x" * 200_000 + "tail"
    executor = Gated()
    executor.answers = {"a": AttemptResult("success", {"stdout": text, "k": "v"}, 0)}
    async with journal(tmp_path, executor) as engine:
        flow = workflow(step("a"), outputs={"all": "${{ steps.a.outputs.stdout }}"})
        await engine.start("run-1", flow, {}, OWNER)
        events = await follow(engine, "run-1")
        assert await engine.step_outputs("run-1", OWNER, "a") == {"stdout": text, "k": "v"}
        assert (await engine.get("run-1", OWNER)).outputs == {"all": text}
        assert await engine.step_outputs("run-1", OWNER, "unknown") == {}
    for shown in (events[2]["output"], events[-1]["outputs"]["all"]):  # type: ignore[index]
        assert str(shown).startswith("head")
        assert str(shown).endswith("tail")
        assert len(str(shown)) < 10_000


async def test_cancel_ends_a_running_run(tmp_path: Path) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a"), step("b", "a")), {}, OWNER)
        await executor.has_started("a")
        run = await engine.cancel("run-1", OWNER, "no longer needed")
        assert (run.status, run.error) == ("cancelled", "no longer needed")
        assert [one["status"] for one in run.steps] == ["cancelled", "skipped"]
        events = await follow(engine, "run-1")
        assert types(events)[1:] == [
            "step_running",
            "step_failed",
            "step_skipped",
            "workflow_complete",
        ]
        assert events[2]["error"] == "cancelled: no longer needed"
        again = await engine.cancel("run-1", OWNER, "another reason")
        assert again == await engine.get("run-1", OWNER)
        assert again.error == "no longer needed"


async def test_runs_at_a_time_are_bounded_and_a_waiting_one_can_be_cancelled(
    tmp_path: Path,
) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor, max_running_runs=1, max_waiting_runs=2) as engine:
        for number in range(3):
            await engine.start(f"run-{number}", workflow(step("a")), {}, OWNER)
        with pytest.raises(EngineBusyError):
            await engine.start("run-3", workflow(step("a")), {}, OWNER)
        await executor.has_started("a")
        assert (await engine.get("run-2", OWNER)).status == "queued"
        run = await engine.cancel("run-2", OWNER, "not now")
        assert run.status == "cancelled"
        assert len(executor.specs) == 1
        executor.gates["a"].set()
        assert types(await follow(engine, "run-1"))[-1] == "workflow_complete"
        assert [spec.run_id for spec in executor.specs] == ["run-0", "run-1"]


async def test_attempts_at_a_time_are_bounded_over_all_runs(tmp_path: Path) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor, max_running_attempts=1) as engine:
        await engine.start("run-1", workflow(step("a")), {}, OWNER)
        await executor.has_started("a")
        await engine.start("run-2", workflow(step("b")), {}, OWNER)
        events = engine.events("run-2", OWNER)
        seen = [await asyncio.wait_for(anext(events), 20) for _ in range(2)]
        assert types(seen) == ["workflow_started", "step_queued"]
        await events.aclose()
        assert executor.attempts == ["a#1"]
        executor.gates["a"].set()
        assert types(await follow(engine, "run-2", after_seq=2))[0] == "step_running"


async def test_an_error_of_the_engine_ends_the_run_as_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(spec: AttemptSpec) -> AttemptResult:
        raise RuntimeError("a bug")

    executor = Gated()
    executor.answers = {"a": broken}
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a"), step("b", "a")), {}, OWNER)
        events = await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    assert run.status == "failed"
    assert run.error == "the engine failed: RuntimeError; see the server's log"
    assert types(events)[-1] == "workflow_complete"
    assert "a bug" in caplog.text


async def test_a_caller_that_goes_away_leaves_no_run_that_nobody_interprets(
    tmp_path: Path,
) -> None:
    executor = Gated()
    async with journal(tmp_path, executor) as engine:
        with blocked_writer(engine):
            task = asyncio.create_task(engine.start("run-1", chain(1), {}, OWNER))
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await engine._store.put_now(lambda _: None)
        assert types(await follow(engine, "run-1"))[-1] == "workflow_complete"


async def test_a_step_begins_only_when_the_result_before_it_is_on_the_disk(
    tmp_path: Path,
) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a"), step("b", "a")), {}, OWNER)
        await executor.has_started("a")
        with blocked_writer(engine):
            executor.gates["a"].set()
            await turns()
            assert executor.attempts == ["a#1"]
        await follow(engine, "run-1")
    assert executor.attempts == ["a#1", "b#1"]


@contextlib.contextmanager
def blocked_writer(engine: JournalEngine) -> Iterator[None]:
    """Nothing gets to the disk meanwhile."""
    gate = threading.Event()
    engine._store.put_now(lambda _: gate.wait(20))
    try:
        yield
    finally:
        gate.set()


async def turns() -> None:
    """Let everything that can go on go on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    engine = journal(tmp_path, Gated())
    with pytest.raises(EngineClosedError):
        await engine.start("run-1", chain(1), {}, OWNER)
    await engine.open()
    await engine.close()
    with pytest.raises(EngineClosedError):
        await engine.get("run-1", OWNER)
    await engine.close()


async def test_old_and_surplus_runs_are_forgotten_with_their_folders(tmp_path: Path) -> None:
    executor = Gated("waits")
    async with journal(tmp_path, executor) as engine:
        for number in range(5):
            await engine.start(f"run-{number}", chain(1), {}, OWNER)
            await follow(engine, f"run-{number}")
            (tmp_path / f"runs/run-{number}/work").mkdir(parents=True)
        await engine.start("open", workflow(step("waits")), {}, OWNER)
        await executor.has_started("waits")
    executor = Gated("waits")
    async with journal(tmp_path, executor, retention=Retention(runs=2)) as engine:
        await engine.forget_old_runs()
        page = await engine.list(RunFilter(OWNER))
        assert [run.run_id for run in page.runs] == ["open", "run-4", "run-3"]
        with pytest.raises(RunNotFoundError):
            await engine.get("run-0", OWNER)
        assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["run-3", "run-4"]
    async with journal(tmp_path, Gated(), retention=Retention(runs=0)) as engine:
        await follow(engine, "open")
        await engine.forget_old_runs()
        assert (await engine.list(RunFilter(OWNER))).runs == ()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        for table in ("runs", "events", "records", "definitions"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # noqa: S608
    connection.close()
