"""Steps that are done again in the journal: repeated ones, and those of a rerun."""

from pathlib import Path
from typing import Any

import pytest

from tests.workflow_backend.journals import OWNER, Gated, follow, journal, step, workflow
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import AttemptResult, RunOptions
from workflow_backend.reruns import kept_states

BAD = AttemptResult("failed", {"stdout": ""}, 1, "bad")


def said(text: str, **outputs: object) -> AttemptResult:
    return AttemptResult("success", {"stdout": text, **outputs}, 0)


def repeated(until: str, limit: int = 3) -> dict[str, Any]:
    return {"repeat": {"until": until, "limit": limit, "interval": "5ms"}}


def calling(*steps: Step, outputs: dict[str, str] | None = None, **fields: Any) -> Workflow:
    inner = {"inputs": {"v": {"type": "string", "default": ""}}, "steps": list(steps)}
    call = Step(name="call", **{"workflow": {"ref": "inner"}, **fields})
    return workflow(
        *([step("a")] if call.depends else []),
        call,
        workflows={"inner": {**inner, "outputs": outputs or {}}},
    )


async def rerun(
    tmp_path: Path, executor: Gated, flow: Workflow, answers: dict[str, Any], **options: Any
) -> Any:
    """The run of a rerun with other answers; the executor has made its attempts alone."""
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await follow(engine, "run-1")
        kept = kept_states(flow, await engine.states("run-1", OWNER), **options)
        executor.answers, executor.specs = answers, []
        run_options = RunOptions(kept=kept, rerun_of="run-1")
        await engine.start("run-2", flow, {}, OWNER, run_options)
        await follow(engine, "run-2")
        return await engine.get("run-2", OWNER)


async def test_every_time_of_a_repeated_step_is_told_apart(tmp_path: Path) -> None:
    flow = workflow(
        Step(name="call", workflow={"ref": "inner"}, **repeated("false", 2)),
        Step(name="pause", wait={"for": "5ms"}, **repeated("false", 2)),
        Step(name="listen", wait={"signal": "go"}, **repeated("false", 2)),
        Step(name="hook", wait={"webhook": True}, **repeated("false", 2)),
        step("poll", **repeated("false", 2)),
        workflows={"inner": {"steps": [step("x")]}},
    )
    executor = Gated()
    executor.says = {"poll": ["text"]}
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await engine.signal("run-1", OWNER, "signal:go", {"payload": 1})
        for key in ("webhook:hook", "webhook:hook@2"):
            await engine.signal("run-1", OWNER, key, {"payload": 1})
        events = await follow(engine, "run-1")
    told = {
        (event["type"], event["step"], event.get("iteration", 1))
        for event in events
        if event.get("attempt") != 0 and "step" in event
    }
    waiting = {(kind, n) for kind in ("wait_started", "step_complete") for n in (1, 2)}
    working = {(kind, n) for kind in ("step_running", "step_complete") for n in (1, 2)}
    for name, expected in {
        "call": working,
        "pause": waiting,
        "listen": waiting,
        "hook": waiting,
        "poll": working | {("step_output", 1), ("step_output", 2)},
    }.items():
        assert {(kind, n) for kind, each, n in told if each == name} == expected, name


async def test_a_repeated_question_is_one_of_its_own_every_time(tmp_path: Path) -> None:
    ask = Step(name="ask", approval={"message": "?"}, **repeated("steps.ask.outputs.values.n == 2"))
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", workflow(ask), {}, OWNER)
        for key, number in (("approval:ask", 1), ("approval:ask@2", 2)):
            answer = {"approved": True, "by": "ann", "values": {"n": number}}
            await engine.signal("run-1", OWNER, key, answer)
        events = await follow(engine, "run-1")
        assert (await engine.get("run-1", OWNER)).status == "success"
    asked = [event["approval_id"] for event in events if event["type"] == "approval_requested"]
    assert asked == ["run-1/ask", "run-1/ask@2"]
    done = [event.get("iteration") for event in events if event["type"] == "step_complete"]
    assert done == [None, 2]


async def test_the_outputs_of_a_repeated_step_are_those_of_its_last_time(tmp_path: Path) -> None:
    executor = Gated()
    executor.answers = {"p": lambda spec: said(f"time {spec.iteration}")}
    flow = workflow(
        step("p", **repeated("steps.p.outputs.stdout == 'time 11'", 12)), step("p2"), step("never")
    )
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await follow(engine, "run-1")
        assert (await engine.step_outputs("run-1", OWNER, "p"))["stdout"] == "time 11"
        assert (await engine.step_outputs("run-1", OWNER, "p2"))["stdout"] == "ok"
        assert await engine.step_outputs("run-1", OWNER, "unknown") == {}


async def test_a_step_that_succeeds_in_the_end_shows_no_error(tmp_path: Path) -> None:
    executor = Gated()
    executor.answers = {"a#1": BAD}
    retry = {"limit": 1, "interval": "5ms"}
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", workflow(step("a", retry=retry)), {}, OWNER)
        await follow(engine, "run-1")
        shown = (await engine.get("run-1", OWNER)).steps[0]
    assert (shown["status"], shown["attempt"], shown["exit_code"]) == ("success", 2, 0)
    assert not {"error", "will_retry"}.intersection(shown)


async def test_a_rerun_of_a_repeated_workflow_does_all_of_it_again(tmp_path: Path) -> None:
    flow = calling(
        step("poll"),
        step("bad", "poll"),
        outputs={"v": "${{ steps.poll.outputs.stdout }}"},
        **repeated("steps.call.outputs.v == 'done'"),
    )
    executor = Gated()
    executor.answers = {"poll": said("not yet"), "bad": BAD}
    run = await rerun(tmp_path, executor, flow, {"poll": said("done")})
    assert run.status == "success"
    assert executor.attempts == ["poll#1", "bad#1"]


@pytest.mark.parametrize("from_step", ["a", None])
async def test_a_rerun_keeps_items_only_while_their_list_is_the_same(
    tmp_path: Path, from_step: str | None
) -> None:
    flow = workflow(step("a"), step("b", "a", foreach="${{ steps.a.outputs.json }}"))
    executor = Gated()
    executor.answers = {"a": said("", json=["x", "y"]), "b[1]#1": BAD}
    changed = {"a": said("", json=["new", "y"])}
    run = await rerun(tmp_path, executor, flow, changed, from_step=from_step)
    assert run.status == "success"
    expected = ["a#1", "b[0]#1", "b[1]#1"] if from_step else ["b[1]#1"]
    assert executor.attempts == expected


@pytest.mark.parametrize("from_step", ["a", None])
async def test_a_rerun_keeps_inner_steps_only_while_their_inputs_are_the_same(
    tmp_path: Path, from_step: str | None
) -> None:
    inputs = {"v": "${{ steps.a.outputs.stdout }}"}
    flow = calling(
        step("use", env={"V": "${{ inputs.v }}"}),
        step("bad", "use"),
        depends=["a"],
        workflow={"ref": "inner", "inputs": inputs},
    )
    executor = Gated()
    executor.answers = {"a": said("old"), "bad": BAD}
    run = await rerun(tmp_path, executor, flow, {"a": said("new")}, from_step=from_step)
    assert run.status == "success"
    if from_step is None:
        assert executor.attempts == ["bad#1"]
        return
    assert executor.attempts == ["a#1", "use#1", "bad#1"]
    assert executor.specs[1].env == {"V": "new"}


async def test_a_rerun_that_begins_after_what_an_item_works_on_keeps_the_items(
    tmp_path: Path,
) -> None:
    flow = workflow(step("a"), step("b", "a", foreach=["x", "y"]), step("c", "b"))
    executor = Gated()
    executor.answers = {"b[1]#1": BAD}
    run = await rerun(tmp_path, executor, flow, {}, from_step="c")
    assert run.status == "success"
    assert executor.attempts == ["b[1]#1", "c#1"]
