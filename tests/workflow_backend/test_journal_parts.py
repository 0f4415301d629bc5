"""The journal beside scripts in order: signals, inner runs, groups, reruns, messages."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.workflow_backend.journals import (
    OWNER,
    Gated,
    follow,
    journal,
    step,
    types,
    until,
    workflow,
)
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import (
    AttemptResult,
    RunConflictError,
    RunEndedError,
    RunFilter,
    RunNotFoundError,
    RunOptions,
)
from workflow_backend.engines.journal import Retention, schema
from workflow_backend.reruns import kept_states

YES = {"approved": True, "by": "ann", "values": {}, "reason": ""}
NO = {"approved": False, "by": "bob", "values": {}, "reason": "no"}
BAD = AttemptResult("failed", {"stdout": ""}, 3, "exit code 3")


def asked(name: str, *depends: str, **fields: Any) -> Step:
    return Step(name=name, depends=list(depends), approval={"message": "?", **fields})


def nested(*steps: Step, **fields: Any) -> Workflow:
    call = Step(name="call", workflow={"ref": "inner"})
    return workflow(call, workflows={"inner": {"steps": list(steps)}}, **fields)


async def test_a_run_that_waits_outlives_restarts_and_goes_on_with_the_decision(
    tmp_path: Path,
) -> None:
    flow = workflow(step("a"), asked("ask", "a"), step("b", "ask"))
    first = Gated()
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await until(engine, "run-1", "approval_requested")
    async with journal(tmp_path, Gated()) as engine:
        shown = (await engine.get("run-1", OWNER)).steps
        assert {one["name"]: one["status"] for one in shown}["ask"] == "waiting"
        with pytest.raises(RunNotFoundError):
            await engine.signal("run-1", "mallory", "approval:ask", YES)
        assert (await engine.signal("run-1", OWNER, "approval:ask", YES)).is_first
    second = Gated()
    async with journal(tmp_path, second) as engine:
        events = await follow(engine, "run-1")
        assert (await engine.get("run-1", OWNER)).status == "success"
        again = await engine.signal("run-1", OWNER, "approval:ask", NO)
    assert (again.payload, again.is_first) == (YES, False)
    assert types(events).count("approval_requested") == 1
    assert first.attempts == ["a#1"]
    assert second.attempts in ([], ["b#1"])


async def test_a_decision_may_come_before_it_is_asked_for(tmp_path: Path) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a"), asked("ask", "a")), {}, OWNER)
        await executor.has_started("a")
        await engine.signal("run-1", OWNER, "approval:ask", YES)
        executor.gates["a"].set()
        assert types(await follow(engine, "run-1"))[-2:] == ["step_complete", "workflow_complete"]


async def test_a_wait_that_is_over_stays_over_through_a_restart(tmp_path: Path) -> None:
    flow = workflow(
        asked("ask", timeout="50ms", on_timeout="skip"), step("hold"), step("c", "ask", "hold")
    )
    executor = Gated("hold")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await until(engine, "run-1", "step_skipped")
        with pytest.raises(RunEndedError, match="does not wait"):
            await engine.signal("run-1", OWNER, "approval:ask", YES)
    async with journal(tmp_path, Gated()) as engine:
        with pytest.raises(RunEndedError):
            await engine.signal("run-1", OWNER, "approval:ask", YES)
        events = await follow(engine, "run-1")
    assert "approval_decided" not in types(events)
    assert types(events).count("approval_requested") == 1


async def test_an_ended_run_takes_no_signal(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", workflow(step("a")), {}, OWNER)
        await follow(engine, "run-1")
        with pytest.raises(RunEndedError):
            await engine.signal("run-1", OWNER, "signal:x", {"payload": 1})


async def test_an_inner_run_is_a_run_of_its_own_that_lists_leave_out(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", nested(step("a"), step("b", "a")), {}, OWNER)
        await follow(engine, "run-1")
        inner = await engine.get("run-1.call", OWNER)
        page = await engine.list(RunFilter(OWNER))
        children = await engine.list(RunFilter(OWNER, parent_run_id="run-1"))
        events = await follow(engine, "run-1.call")
        with pytest.raises(RunConflictError):
            await engine.start("run-1.call", workflow(step("a")), {}, OWNER)
    assert (inner.parent_run_id, inner.status, inner.workflow) == ("run-1", "success", "inner")
    assert [run.run_id for run in page.runs] == ["run-1"]
    assert [run.run_id for run in children.runs] == ["run-1.call"]
    assert types(events)[-1] == "workflow_complete"


async def test_an_inner_run_whose_id_is_taken_fails_its_step(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1.call", workflow(step("a")), {}, "mallory")
        await engine.start("run-1", nested(step("a"), on_failure=[step("mend")]), {}, OWNER)
        await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    assert run.error == "step `call` failed: the run id run-1.call is taken by another run"
    assert {one["name"]: one["status"] for one in run.steps} == {
        "call": "failed",
        "mend": "success",
    }


async def test_an_inner_run_goes_on_after_a_restart_and_repeats_nothing(tmp_path: Path) -> None:
    first = Gated("b")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", nested(step("a"), step("b", "a")), {}, OWNER)
        await first.has_started("b")
    second = Gated()
    async with journal(tmp_path, second, max_running_runs=1) as engine:
        watching = asyncio.create_task(follow(engine, "run-1.call"))
        await follow(engine, "run-1")
        assert types(await watching)[-1] == "workflow_complete"
        assert (await engine.get("run-1", OWNER)).status == "success"
    assert (first.attempts, second.attempts) == (["a#1", "b#1"], ["b#1"])


async def test_a_run_that_waits_keeps_no_other_from_its_turn(tmp_path: Path) -> None:
    waiting = workflow(asked("ask"), step("after", "ask"))
    inner = nested(asked("ask"))
    pause = workflow(Step(name="pause", wait={"for": "1h"}))
    async with journal(tmp_path, Gated(), max_running_runs=1) as engine:
        for number, flow in enumerate((waiting, inner, pause, waiting)):
            await engine.start(f"run-{number}", flow, {}, OWNER)
        await engine.start("last", workflow(step("a")), {}, OWNER)
        await follow(engine, "last")
        await engine.signal("run-0", OWNER, "approval:ask", YES)
        await engine.signal("run-1.call", OWNER, "approval:ask", YES)
        await follow(engine, "run-0")
        await follow(engine, "run-1")
        await engine.cancel("run-2", OWNER, "enough")
    executor = Gated("a")
    async with journal(tmp_path, executor, max_running_runs=1) as engine:
        await engine.start("busy", workflow(step("a")), {}, OWNER)
        await executor.has_started("a")
        await engine.start("next", workflow(step("b")), {}, OWNER)
        assert (await engine.get("next", OWNER)).status == "queued"
        executor.gates["a"].set()
        await follow(engine, "next")


async def test_one_place_for_runs_is_enough_for_inner_ones(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated(), max_running_runs=1) as engine:
        await engine.start("run-1", nested(step("a")), {}, OWNER)
        assert types(await follow(engine, "run-1"))[-1] == "workflow_complete"


async def test_a_cancel_reaches_the_inner_run(tmp_path: Path) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", nested(step("a")), {}, OWNER)
        await executor.has_started("a")
        run = await engine.cancel("run-1", OWNER, "enough")
        inner = await engine.get("run-1.call", OWNER)
    assert (run.status, inner.status) == ("cancelled", "cancelled")


async def test_an_inner_run_can_be_cancelled_by_itself(tmp_path: Path) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", nested(step("a")), {}, OWNER)
        await executor.has_started("a")
        await engine.cancel("run-1.call", OWNER, "enough")
        await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    assert run.status == "failed"
    assert "its run run-1.call was cancelled: enough" in str(run.error)


async def test_a_cancel_before_a_crash_does_not_take_back_what_had_ended(tmp_path: Path) -> None:
    flow = workflow(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"))
    first = Gated("c")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await first.has_started("c")
        seen = await until(engine, "run-1", "step_complete")
    connection = sqlite3.connect(tmp_path / "journal.db")
    connection.execute("UPDATE runs SET cancel_reason = 'enough'")
    connection.commit()
    connection.close()
    second = Gated()
    async with journal(tmp_path, second) as engine:
        await follow(engine, "run-1", after_seq=len(seen))
        run = await engine.get("run-1", OWNER)
        states = await engine.states("run-1", OWNER)
    assert run.status == "cancelled"
    statuses = {one["name"]: one["status"] for one in run.steps}
    assert statuses == {"a": "success", "b": "success", "c": "cancelled", "d": "skipped"}
    assert states["a"].outputs == {"stdout": "ok"}
    assert second.attempts == []


async def test_what_an_ended_run_keeps_is_written_once(tmp_path: Path) -> None:
    large = AttemptResult("success", {"stdout": "x" * 100_000}, 0)
    executor = Gated()
    executor.answers = {"s": large, "d": large}
    flow = workflow(
        step("s"),
        step("d", foreach=[1, 2]),
        Step(name="call", workflow={"ref": "inner"}),
        workflows={"inner": {"steps": [step("s")]}},
    )
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await follow(engine, "run-1")
        states = await engine.states("run-1", OWNER)
        options = RunOptions(kept={"s": states["s"]}, rerun_of="run-1")
        await engine.start("run-2", flow, {}, OWNER, options)
        await follow(engine, "run-2")
        kept = (await engine.states("run-2", OWNER))["s"]
    connection = sqlite3.connect(tmp_path / "journal.db")
    (longest,) = connection.execute("SELECT max(length(states)) FROM runs").fetchone()
    connection.close()
    assert longest < 2_000
    assert states["s"].outputs == kept.outputs == {"stdout": "x" * 100_000}
    assert states["d"].outputs["items"] == [{"stdout": "x" * 100_000}] * 2
    assert states["call"].inner["s"].outputs == {"stdout": "x" * 100_000}


def in_group(policy: str) -> RunOptions:
    return RunOptions(group="deploy", group_policy=policy)  # type: ignore[arg-type]


async def test_runs_of_a_group_follow_one_another(tmp_path: Path) -> None:
    executor = Gated("a", "b")
    flow = workflow(step("a"))
    async with journal(tmp_path, executor) as engine:
        for number in range(3):
            await engine.start(f"run-{number}", flow, {}, OWNER, in_group("queue"))
        await engine.start("other", workflow(step("b")), {}, "bob", in_group("queue"))
        await executor.has_started("a")
        await executor.has_started("b")
        assert sorted({spec.run_id for spec in executor.specs}) == ["other", "run-0"]
        cancelled = await engine.cancel("run-1", OWNER, "not needed")
        assert cancelled.status == "cancelled"
        executor.gates["a"].set()
        await follow(engine, "run-0")
        await follow(engine, "run-2")
    assert [spec.run_id for spec in executor.specs if spec.owner == OWNER] == ["run-0", "run-2"]


async def test_the_line_of_a_group_outlives_a_restart(tmp_path: Path) -> None:
    first = Gated("a")
    flow = workflow(step("a"))
    async with journal(tmp_path, first) as engine:
        await engine.start("run-0", flow, {}, OWNER, in_group("queue"))
        await engine.start("run-1", flow, {}, OWNER, in_group("queue"))
        await first.has_started("a")
    second = Gated("a")
    async with journal(tmp_path, second) as engine:
        await second.has_started("a")
        assert [spec.run_id for spec in second.specs] == ["run-0"]
        second.gates["a"].set()
        await follow(engine, "run-1")
    assert [spec.run_id for spec in second.specs] == ["run-0", "run-1"]


async def test_a_run_that_ends_holds_its_group_through_a_restart(tmp_path: Path) -> None:
    last: Any = {"finally": [step("last")]}
    first = Gated("a", "last")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-0", workflow(step("a"), **last), {}, OWNER, in_group("queue"))
        await engine.start("run-1", workflow(step("z")), {}, OWNER, in_group("queue"))
        await first.has_started("a")
        cancelling = asyncio.create_task(engine.cancel("run-0", OWNER, "enough"))
        await first.has_started("last")
    await asyncio.gather(cancelling, return_exceptions=True)
    second = Gated("last")
    async with journal(tmp_path, second) as engine:
        await second.has_started("last")
        assert (await engine.get("run-1", OWNER)).status == "queued"
        second.gates["last"].set()
        await follow(engine, "run-1")
    assert second.attempts == ["last#1", "z#1"]


async def test_a_newer_run_of_a_group_may_cancel_the_others(tmp_path: Path) -> None:
    executor = Gated("a")
    flow = workflow(step("a"))
    async with journal(tmp_path, executor) as engine:
        for number in range(3):
            await engine.start(f"run-{number}", flow, {}, OWNER, in_group("cancel_running"))
        await follow(engine, "run-0")
        await follow(engine, "run-1")
        executor.gates["a"].set()
        await follow(engine, "run-2")
        runs = [await engine.get(f"run-{number}", OWNER) for number in range(3)]
    assert [run.status for run in runs] == ["cancelled", "cancelled", "success"]
    assert "took its place" in str(runs[0].error)


async def test_a_run_may_refuse_to_wait_for_its_group(tmp_path: Path) -> None:
    executor = Gated("a")
    flow = workflow(step("a"))
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-0", flow, {}, OWNER, in_group("refuse"))
        with pytest.raises(RunConflictError, match="under way"):
            await engine.start("run-1", flow, {}, OWNER, in_group("refuse"))
        with pytest.raises(RunNotFoundError):
            await engine.get("run-1", OWNER)
        executor.gates["a"].set()
        await follow(engine, "run-0")
        await engine.start("run-1", flow, {}, OWNER, in_group("refuse"))
        await follow(engine, "run-1")


async def test_a_rerun_takes_over_results_through_the_journal(tmp_path: Path) -> None:
    flow = workflow(step("a"), step("b", "a", env={"A": "${{ steps.a.outputs.stdout }}"}))
    executor = Gated()
    executor.answers = {"b": BAD}
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await follow(engine, "run-1")
        kept = kept_states(flow, await engine.states("run-1", OWNER))
        executor.answers = {}
        options = RunOptions(kept=kept, rerun_of="run-1")
        await engine.start("run-2", await engine.workflow("run-1", OWNER), {}, OWNER, options)
        await follow(engine, "run-2")
        run = await engine.get("run-2", OWNER)
    assert (run.status, run.rerun_of) == ("success", "run-1")
    assert executor.attempts == ["a#1", "b#1", "b#1"]
    assert executor.specs[-1].env == {"A": "ok"}
    assert run.steps[0]["kept"] is True


async def test_messages_about_the_end_are_sent_though_the_engine_died_before(
    tmp_path: Path,
) -> None:
    flow = workflow(step("a"), notify=[{"url": "https://x.example/", "on": ["success"]}])
    first = Gated("notify")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        assert types(await follow(engine, "run-1"))[-1] == "workflow_complete"
        await first.has_started("notify")
    second = Gated("notify")
    async with journal(tmp_path, second) as engine:
        await second.has_started("notify")
        assert (await engine.get("run-1", OWNER)).status == "success"
        second.gates["notify"].set()
    third = Gated()
    async with journal(tmp_path, third):
        pass
    assert second.attempts == ["notify[0]:end#1"]
    assert third.attempts == []


async def test_an_inner_run_is_forgotten_with_the_run_that_it_belongs_to(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated(), retention=Retention(runs=1)) as engine:
        for number in range(2):
            await engine.start(f"run-{number}", nested(step("a")), {}, OWNER)
            await follow(engine, f"run-{number}")
        await engine.forget_old_runs()
        await engine.get("run-1.call", OWNER)
        for run_id in ("run-0", "run-0.call"):
            with pytest.raises(RunNotFoundError):
                await engine.get(run_id, OWNER)


async def test_items_are_shown_after_their_step(tmp_path: Path) -> None:
    executor = Gated()
    executor.answers = {"d[1]#1": BAD}
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("d", foreach=["x", "y"]), step("e")), {}, OWNER)
        await follow(engine, "run-1")
        steps = (await engine.get("run-1", OWNER)).steps
    assert [(one["name"], one["status"]) for one in steps] == [
        ("d", "failed"),
        ("d[0]", "success"),
        ("d[1]", "failed"),
        ("e", "success"),
    ]


async def test_a_journal_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
    schema._MIGRATIONS[0](connection)
    connection.execute("INSERT INTO schema_version VALUES (1)")
    first = workflow(step("a"), step("b", "a"))
    body = first.model_dump_json(by_alias=True, exclude_defaults=True)
    connection.execute("INSERT INTO definitions VALUES ('d', ?)", (body.encode(),))
    for number, ended in enumerate((None, "2026-01-01T00:00:01.000Z")):
        connection.execute(
            "INSERT INTO runs (run_id, owner, workflow, definition, interpreter, status, inputs,"
            " created_at, started_at, finished_at) VALUES (?, ?, 'test', 'd', 1, ?, '{}', ?, ?, ?)",
            (
                f"run-{number}",
                OWNER,
                "success" if ended else "running",
                "2026-01-01T00:00:00.000Z",
                "2026-01-01T00:00:00.000Z",
                ended,
            ),
        )
    connection.execute("INSERT INTO records VALUES (1, 'run:started', 'null')")
    record = b'{"status":"success","outputs":{"stdout":"x"},"exit_code":0,"error":null}'
    connection.execute("INSERT INTO records VALUES (1, 'a#1', ?)", (record,))
    connection.close()
    executor = Gated()
    async with journal(tmp_path, executor, retention=Retention(days=36_500.0)) as engine:
        await follow(engine, "run-0")
        assert (await engine.get("run-0", OWNER)).status == "success"
        assert (await engine.get("run-1", OWNER)).status == "success"
    assert executor.attempts == ["b#1"]
