"""Steps and their ends, on both engines: results, retries, timeouts, large outputs, fan-out."""

import os

import pytest

from tests.workflow_backend.conformance.places import SHORT, Place, of_step, statuses, types
from tests.workflow_backend.journals import Gated, step, workflow
from workflow_backend.definition import InvalidWorkflowError, parse_workflow
from workflow_backend.engines.base import AttemptResult

BAD = AttemptResult("failed", {"stdout": ""}, 3, "exit code 3")


async def test_outputs_reach_later_steps_and_the_run(place: Place) -> None:
    flow = workflow(
        step("a", run="echo hello; echo size=7 >> $OUTPUT"),
        step("b", "a", run="echo $GOT", env={"GOT": "${{ steps.a.outputs.size }}"}),
        outputs={"size": "${{ int(steps.a.outputs.size) }}"},
    )
    async with place.engine() as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        events = await place.follow(engine)
        run = await place.get(engine)
        states = await engine.states(place.id(), place.owner)
    assert (run.status, run.outputs, run.engine) == ("success", {"size": 7}, place.kind)
    assert states["a"].outputs == {"stdout": "hello\n", "size": "7"}
    seen = [kind for kind in types(events) if kind != "step_output"]
    assert seen == [
        "workflow_started",
        *["step_running", "step_complete"] * 2,
        "workflow_complete",
    ]


async def test_what_depends_on_a_failed_step_is_skipped(place: Place) -> None:
    flow = workflow(
        step("a"),
        step("b"),
        step("after-a", "a"),
        step("repair", "a", if_="failure()"),
        on_failure=[step("tell")],
        finally_=[step("clean")],
    )
    executor = Gated()
    executor.answers = {"a": BAD}
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.follow(engine)
        run = await place.get(engine)
    assert run.status == "failed"
    assert statuses(run) == {
        "a": "failed",
        "b": "success",
        "after-a": "skipped",
        "repair": "success",
        "tell": "success",
        "clean": "success",
    }
    assert "step `a` failed" in str(run.error)


async def test_a_failed_attempt_is_repeated_after_a_delay(place: Place) -> None:
    executor = Gated()
    executor.answers = {"a#1": BAD, "a#2": BAD}
    flow = workflow(step("a", retry={"limit": 3, "interval": SHORT}))
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        events = await place.follow(engine)
        run = await place.get(engine)
    assert executor.attempts == ["a#1", "a#2", "a#3"]
    assert run.status == "success"
    ends = [event for event in events if event["type"] in {"step_failed", "step_complete"}]
    assert [event.get("will_retry") for event in ends] == [True, True, None]
    assert [event["attempt"] for event in ends] == [1, 2, 3]


async def test_a_step_and_a_run_that_take_too_long_are_ended(place: Place) -> None:
    slow = workflow(step("a", run="sleep 60", timeout="200ms"))
    long = workflow(step("a", run="sleep 60"), step("b", "a"), timeout="300ms")
    async with place.engine() as engine:
        await engine.start(place.id("slow"), slow, {}, place.owner)
        await engine.start(place.id("long"), long, {}, place.owner)
        await place.follow(engine, "slow")
        await place.follow(engine, "long")
        step_late, run_late = await place.get(engine, "slow"), await place.get(engine, "long")
    assert (step_late.status, statuses(step_late)) == ("failed", {"a": "timed_out"})
    assert run_late.status == "timed_out"
    assert statuses(run_late) == {"a": "cancelled", "b": "skipped"}
    assert "timeout of 300ms" in str(run_late.steps[0]["error"])


async def test_large_inputs_and_outputs_come_through_whole(place: Place) -> None:
    text = os.urandom(150_000).hex()
    executor = Gated()
    executor.answers = {"a": AttemptResult("success", {"stdout": "", "text": text}, 0)}
    flow = workflow(
        step("a"),
        step("b", "a", env={"TEXT": "${{ steps.a.outputs.text + inputs.more }}"}),
        inputs={"more": {"type": "string"}},
        outputs={"text": "${{ steps.a.outputs.text }}"},
    )
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {"more": text}, place.owner)
        events = await place.follow(engine)
        run = await place.get(engine)
        states = await engine.states(place.id(), place.owner)
    assert executor.specs[1].env["TEXT"] == text + text
    assert run.outputs == {"text": text}
    assert run.inputs == {"more": text}
    assert states["a"].outputs["text"] == text
    assert len(str(events[-1]["outputs"])) < 10_000


async def test_each_item_is_a_step_of_its_own(place: Place) -> None:
    executor = Gated()
    executor.answers = {"deploy[1]#1": BAD}
    flow = workflow(
        step(
            "deploy",
            foreach="${{ inputs.hosts }}",
            env={"HOST": "${{ item }}"},
            retry={"limit": 1, "interval": SHORT},
        ),
        step("sum", "deploy", env={"N": "${{ size(steps.deploy.outputs.items) }}"}),
        inputs={"hosts": {"type": "array"}},
        max_parallel=2,
    )
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {"hosts": ["x", "y", "z"]}, place.owner)
        events = await place.follow(engine)
        run = await place.get(engine)
        states = await engine.states(place.id(), place.owner)
    assert sorted(executor.attempts) == sorted(
        ["deploy[0]#1", "deploy[1]#1", "deploy[1]#2", "deploy[2]#1", "sum#1"]
    )
    assert {spec.env["HOST"] for spec in executor.specs if spec.instance != "sum"} == set("xyz")
    assert executor.specs[-1].env == {"N": "3"}
    assert run.status == "success"
    assert statuses(run)["deploy[1]"] == "success"
    assert states["deploy"].outputs["statuses"] == ["success"] * 3
    assert of_step(events, "deploy[1]") == [
        "step_running", "step_failed", "step_running", "step_complete",
    ]  # fmt: skip


async def test_a_step_is_repeated_until_its_condition_holds(place: Place) -> None:
    executor = Gated()
    executor.answers = {
        "poll@3#1": AttemptResult("success", {"stdout": "", "json": {"state": "done"}}, 0),
        "poll": AttemptResult("success", {"stdout": "", "json": {"state": "busy"}}, 0),
    }
    until = {"until": "steps.poll.outputs.json.state == 'done'", "limit": 5, "interval": SHORT}
    async with place.engine(executor) as engine:
        await engine.start(place.id(), workflow(step("poll", repeat=until)), {}, place.owner)
        events = await place.follow(engine)
        assert (await place.get(engine)).status == "success"
    assert executor.attempts == ["poll#1", "poll@2#1", "poll@3#1"]
    ends = [event for event in events if event["type"] == "step_complete"]
    assert [event.get("iteration", 1) for event in ends] == [1, 2, 3]


async def test_deeply_nested_expressions_are_computed_on_either_engine(place: Place) -> None:
    expression = "(" * 32 + "inputs.n" + "+1)" * 32 + "+1" * 400
    flow = workflow(
        step("a", env={"N": f"${{{{ {expression} }}}}"}), inputs={"n": {"type": "integer"}}
    )
    executor = Gated()
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {"n": 1}, place.owner)
        await place.follow(engine)
    assert executor.specs[0].env == {"N": "433"}


def test_a_cycle_never_reaches_an_engine() -> None:
    document = """
name: cycle
steps:
  - {name: a, run: "true", depends: [b]}
  - {name: b, run: "true", depends: [a]}
"""
    with pytest.raises(InvalidWorkflowError, match="a -> b -> a"):
        parse_workflow(document)
