"""Runs that are stopped, by a cancel or by their time, while the engine dies and comes back."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.workflow_backend.journals import (
    OWNER,
    Gated,
    change_file,
    done_with,
    ends,
    follow,
    journal,
    step,
    until,
    workflow,
)
from workflow_backend.definition.control import RetryPolicy
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import AttemptResult, AttemptSpec, RunOptions
from workflow_backend.engines.journal import EngineClosedError
from workflow_backend.interpreter import notifications
from workflow_backend.interpreter import run as run_module

LAST: dict[str, Any] = {"finally": [step("last")]}
TOLD: dict[str, Any] = {
    "notify": [{"url": "https://x.example/", "on": ["success", "failed", "cancelled", "timed_out"]}]
}
CANCEL = "UPDATE runs SET cancel_reason = 'enough' WHERE run_id = ?"
TIME_IS_OVER = "UPDATE records SET value = '0' WHERE key = ?"
DOWN = AttemptResult("failed", {"stdout": ""}, error="down")


def calling(*steps: Step, **fields: Any) -> Workflow:
    call = Step(name="call", workflow={"ref": "inner"})
    return workflow(call, workflows={"inner": {"steps": list(steps)}}, **fields)


def messages(executor: Gated) -> list[dict[str, Any]]:
    """What was sent, without the run that it is about."""
    requests = [spec.step.http for spec in executor.specs if spec.step.name == "notify"]
    return [request.json_body for request in requests]  # type: ignore[misc, union-attr]


async def die_in_finally(tmp_path: Path, flow: Workflow, gate: str) -> None:
    """Let an engine begin the run, and end while `last` runs, after a cancel at this step."""
    executor = Gated(gate, "last")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await executor.has_started(gate)
        cancelling = asyncio.create_task(engine.cancel("run-1", OWNER, "enough"))
        await executor.has_started("last")
    with contextlib.suppress(EngineClosedError):
        await cancelling


async def test_a_run_that_is_cancelled_in_its_line_still_does_what_comes_last(
    tmp_path: Path,
) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor, max_running_runs=1) as engine:
        await engine.start("busy", workflow(step("a")), {}, OWNER)
        await executor.has_started("a")
        await engine.start("run-1", workflow(step("b"), **LAST), {}, OWNER)
        assert (await engine.cancel("run-1", OWNER, "enough")).status == "cancelled"
        events = await follow(engine, "run-1")
    found = ends(events)
    # It did not begin, however that is called.
    assert found["b"] in (["skipped"], ["cancelled"])
    assert found["last"] == ["success"]
    assert executor.attempts == ["a#1", "last#1"]


async def test_that_a_run_was_cancelled_in_its_line_is_told(tmp_path: Path) -> None:
    executor = Gated("a", "notify")
    async with journal(tmp_path, executor, max_running_runs=1) as engine:
        await engine.start("busy", workflow(step("a")), {}, OWNER)
        await executor.has_started("a")
        await engine.start("run-1", workflow(step("b"), **TOLD), {}, OWNER)
        await engine.cancel("run-1", OWNER, "enough")
        await executor.has_started("notify")
    assert [message["status"] for message in messages(executor)] == ["cancelled"]


async def test_a_newer_run_of_a_group_also_cancels_what_stands_in_line(tmp_path: Path) -> None:
    executor = Gated("a")
    async with journal(tmp_path, executor) as engine:
        for number in range(2):
            options = RunOptions(group="deploy")
            await engine.start(f"run-{number}", workflow(step("a"), **LAST), {}, OWNER, options)
        await executor.has_started("a")
        options = RunOptions(group="deploy", group_policy="cancel_running")
        await engine.start("run-2", workflow(step("z")), {}, OWNER, options)
        for number in range(3):
            await follow(engine, f"run-{number}")
        runs = [await engine.get(f"run-{number}", OWNER) for number in range(3)]
    assert [run.status for run in runs] == ["cancelled", "cancelled", "success"]
    assert sorted(executor.attempts) == ["a#1", "last#1", "last#1", "z#1"]


@pytest.mark.parametrize(
    ("flow", "gate", "inner"),
    [
        (workflow(step("a"), **LAST), "a", ["cancelled"]),
        (workflow(step("a", foreach=["x", "y"]), step("b", "a"), **LAST), "a", ["cancelled"]),
        (calling(step("x"), on_failure=[step("mend")], **LAST), "x", ["cancelled"]),
    ],
    ids=["step", "items", "inner run"],
)
async def test_a_cancelled_run_stays_so_though_the_engine_dies_in_finally(
    tmp_path: Path, flow: Workflow, gate: str, inner: list[str]
) -> None:
    await die_in_finally(tmp_path, flow, gate)
    second = Gated()
    async with journal(tmp_path, second) as engine:
        events = await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    assert (run.status, run.error) == ("cancelled", "enough")
    assert second.attempts == ["last#1"]
    found = ends(events)
    assert all(len(each) == 1 for each in found.values()), found
    assert found[flow.steps[0].name] == inner
    assert found["last"] == ["success"]
    assert {found[name][0] for name in ("b", "mend") if name in found} <= {"skipped"}


async def test_a_timer_that_was_cancelled_does_not_end_a_second_time(tmp_path: Path) -> None:
    first = Gated("last")
    pause = Step(name="pause", wait={"for": "1h"})
    flow = workflow(pause, step("next", "pause"), **LAST)
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await until(engine, "run-1", "wait_started")
        cancelling = asyncio.create_task(engine.cancel("run-1", OWNER, "enough"))
        await first.has_started("last")
    with contextlib.suppress(EngineClosedError):
        await cancelling
    change_file(tmp_path, TIME_IS_OVER, "pause:timer")
    async with journal(tmp_path, Gated()) as engine:
        events = await follow(engine, "run-1")
        assert (await engine.get("run-1", OWNER)).status == "cancelled"
    assert ends(events) == {"pause": ["cancelled"], "next": ["skipped"], "last": ["success"]}


async def test_a_time_that_passes_while_the_engine_is_away_takes_back_no_step(
    tmp_path: Path,
) -> None:
    first = Gated("c")
    flow = workflow(step("a"), step("b", "a"), step("c", "b"), timeout="1h")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await first.has_started("c")
    change_file(tmp_path, TIME_IS_OVER, "run:timeout")
    second = Gated()
    async with journal(tmp_path, second) as engine:
        events = await follow(engine, "run-1")
        states = await engine.states("run-1", OWNER)
        assert (await engine.get("run-1", OWNER)).status == "timed_out"
    assert [states[name].status for name in ("a", "b")] == ["success", "success"]
    found = ends(events)
    assert (found["a"], found["b"], len(found["c"])) == (["success"], ["success"], 1)


@pytest.mark.parametrize("why", ["cancelled", "timed_out"])
async def test_what_is_told_of_a_stopped_run_is_the_same_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    again = RetryPolicy(limit=100, interval="20ms", max_interval="20ms")
    monkeypatch.setattr(notifications, "RETRIES", again)
    flow = workflow(
        step("a"),
        step("b", "a"),
        step("c", "b"),
        timeout="50ms" if why == "timed_out" else "1h",
        outputs={"b": "${{ steps.b.outputs.stdout }}"},
        **TOLD,
    )
    retried = asyncio.Event()

    def refuse(spec: AttemptSpec) -> AttemptResult:
        if spec.attempt > 1:
            retried.set()
        return DOWN

    first = Gated("c")
    first.answers = {"notify": refuse}
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        if why == "cancelled":
            await first.has_started("c")
            await engine.cancel("run-1", OWNER, "enough")
        events = await follow(engine, "run-1")
        await asyncio.wait_for(retried.wait(), 20)
    second = Gated()
    async with journal(tmp_path, second) as engine:
        await done_with(engine)
        assert await follow(engine, "run-1") == events
        assert (await engine.get("run-1", OWNER)).status == why
    assert events[-1]["type"] == "workflow_complete"
    assert len(second.specs) == 1
    assert second.specs[0].attempt > 1
    assert messages(second)[0] == messages(first)[0]
    assert messages(second)[0]["status"] == why


async def test_a_cancel_before_a_crash_takes_back_neither_inner_runs_nor_steps(
    tmp_path: Path,
) -> None:
    first = Gated("c")
    call = Step(name="call", workflow={"ref": "inner"})
    flow = workflow(
        call, step("b", "call"), step("c", "b"), workflows={"inner": {"steps": [step("x")]}}
    )
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await first.has_started("c")
    change_file(tmp_path, CANCEL, "run-1")
    second = Gated()
    async with journal(tmp_path, second) as engine:
        events = await follow(engine, "run-1")
        states = await engine.states("run-1", OWNER)
        assert (await engine.get("run-1", OWNER)).status == "cancelled"
    found = ends(events)
    assert (found["call"], found["b"], len(found["c"])) == (["success"], ["success"], 1)
    assert states["b"].status == "success"
    assert second.attempts == []


async def test_a_cancel_of_an_inner_run_that_is_told_again_takes_back_none_of_its_steps(
    tmp_path: Path,
) -> None:
    first = Gated("c")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", calling(step("a"), step("b", "a"), step("c", "b")), {}, OWNER)
        await first.has_started("c")
    change_file(tmp_path, CANCEL, "run-1")
    async with journal(tmp_path, Gated("c")) as engine:
        await follow(engine, "run-1")
        found = ends(await follow(engine, "run-1.call"))
        inner = await engine.get("run-1.call", OWNER)
    assert inner.status == "cancelled"
    assert (found["a"], found["b"], len(found["c"])) == (["success"], ["success"], 1)


async def test_an_inner_run_does_not_go_on_before_a_recorded_stop_is_told(tmp_path: Path) -> None:
    first = Gated("x")
    flow = workflow(
        Step(name="done", workflow={"ref": "quick"}),
        Step(name="call", workflow={"ref": "inner"}),
        workflows={"quick": {"steps": [step("q")]}, "inner": {"steps": [step("x")]}},
    )
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await first.has_started("x")
        await until(engine, "run-1", "step_complete")
    # It was told to stop, and died before the run inside it was.
    change_file(tmp_path, CANCEL, "run-1")
    change_file(
        tmp_path,
        "INSERT INTO records (run, key, value, turn)"
        " SELECT id, 'run:stop', '\"enough\"', 2 FROM runs WHERE run_id = ?",
        "run-1",
    )
    second = Gated("x")
    async with journal(tmp_path, second) as engine:
        await follow(engine, "run-1")
        runs = [await engine.get(run_id, OWNER) for run_id in ("run-1", "run-1.call")]
        states = await engine.states("run-1", OWNER)
    assert [run.status for run in runs] == ["cancelled", "cancelled"]
    assert [states[name].status for name in ("done", "call")] == ["success", "cancelled"]
    assert second.attempts == []


async def test_a_cancel_right_after_a_restart_takes_back_no_step(tmp_path: Path) -> None:
    first = Gated("c")
    async with journal(tmp_path, first) as engine:
        flow = workflow(step("a"), step("b", "a"), step("c", "b"))
        await engine.start("run-1", flow, {}, OWNER)
        await first.has_started("c")
    async with journal(tmp_path, Gated("c")) as engine:
        assert (await engine.cancel("run-1", OWNER, "enough")).status == "cancelled"
        found = ends(await follow(engine, "run-1"))
    assert (found["a"], found["b"], len(found["c"])) == (["success"], ["success"], 1)


async def test_a_cancel_while_finally_runs_ends_it(tmp_path: Path) -> None:
    executor = Gated("last")
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a"), **LAST), {}, OWNER)
        await executor.has_started("last")
        run = await engine.cancel("run-1", OWNER, "enough")
        events = await follow(engine, "run-1")
    assert (run.status, run.error) == ("cancelled", "enough")
    assert ends(events) == {"a": ["success"], "last": ["cancelled"]}


async def test_finally_ends_by_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "FINALLY_SECONDS", 0.05)
    flow = workflow(step("a"), **{"finally": [step("first"), step("second", "first")]})
    async with journal(tmp_path, Gated("first")) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        found = ends(await follow(engine, "run-1"))
        run = await engine.get("run-1", OWNER)
    assert (run.status, run.error) == ("timed_out", "`finally` took longer than 0.05 s")
    assert found == {"a": ["success"], "first": ["cancelled"], "second": ["skipped"]}


async def test_finallys_time_that_passes_while_the_engine_is_away_takes_back_no_step(
    tmp_path: Path,
) -> None:
    first = Gated("second")
    flow = workflow(step("a"), **{"finally": [step("first"), step("second", "first")]})
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await first.has_started("second")
    change_file(tmp_path, TIME_IS_OVER, "run:finally")
    async with journal(tmp_path, Gated("second")) as engine:
        found = ends(await follow(engine, "run-1"))
        assert (await engine.get("run-1", OWNER)).status == "timed_out"
    assert (found["a"], found["first"], len(found["second"])) == (["success"], ["success"], 1)
