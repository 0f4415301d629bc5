"""The interpreter, on a runtime that answers as a script says."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.workflow_backend.scripted_runtime import BAD, OK, Scripted, step, walk, workflow
from workflow_backend.engines.base import AttemptResult, AttemptSpec
from workflow_backend.interpreter import interpret


async def test_steps_run_after_what_they_depend_on() -> None:
    runtime = Scripted()
    flow = workflow(step("d", "b", "c"), step("b", "a"), step("c", "a", "a"), step("a"))
    outcome = await walk(flow, runtime)
    assert outcome.status == "success"
    assert runtime.attempts() == ["a#1", "b#1", "c#1", "d#1"]
    assert [event["type"] for event in runtime.events] == ["workflow_started", "workflow_complete"]
    assert runtime.keys == ["run:started", "run:complete"]


async def test_independent_steps_run_side_by_side_up_to_the_limit() -> None:
    runtime = Scripted()
    runtime.gates = {f"s{number}": asyncio.Event() for number in range(5)}
    task = asyncio.create_task(
        walk(workflow(*(step(f"s{number}") for number in range(5)), max_parallel=3), runtime)
    )
    for name in ("s0", "s1", "s2"):
        await asyncio.wait_for(runtime.started.setdefault(name, asyncio.Event()).wait(), 10)
    assert runtime.attempts() == ["s0#1", "s1#1", "s2#1"]
    for gate in runtime.gates.values():
        gate.set()
    await task
    assert runtime.most_running == 3
    queued = [event["step"] for event in runtime.events if event["type"] == "step_queued"]
    assert queued == ["s3", "s4"]


async def test_a_failure_skips_what_depends_on_it_and_nothing_else() -> None:
    runtime = Scripted({"a": BAD})
    flow = workflow(step("a"), step("b", "a"), step("c", "b"), step("other"))
    outcome = await walk(flow, runtime)
    assert outcome.status == "failed"
    assert outcome.error == "step `a` failed: exit code 3: bad"
    assert outcome.steps == {"a": "failed", "b": "skipped", "c": "skipped", "other": "success"}
    assert runtime.reasons() == {"b": "step `a` failed", "c": "step `b` was skipped"}


async def test_continue_on_error_lets_the_run_go_on_and_succeed() -> None:
    runtime = Scripted({"a": BAD})
    flow = workflow(
        step("a", continue_on_error=True), step("b", "a"), step("c", "a", if_="failure()")
    )
    outcome = await walk(flow, runtime)
    assert (outcome.status, outcome.error) == ("success", None)
    assert outcome.steps == {"a": "failed", "b": "success", "c": "skipped"}


async def test_failure_and_always_see_failures_further_back() -> None:
    runtime = Scripted({"a": BAD})
    flow = workflow(
        step("a"),
        step("b", "a"),
        step("handler", "b", if_="failure()"),
        step("cleanup", "b", if_="always()"),
        step("after", "handler"),
    )
    outcome = await walk(flow, runtime)
    assert outcome.steps == {
        "a": "failed",
        "b": "skipped",
        "handler": "success",
        "cleanup": "success",
        "after": "success",
    }
    assert outcome.status == "failed"


CONDITIONS = {
    "steps.a.outputs.stdout == 'ok'": "success",
    "steps.a.outputs.stdout == 'other'": "skipped",
    "${{ inputs.go }}": "success",
    "steps.a.status == 'success' && steps.a.exit_code == 0 && steps.a.attempts == 1": "success",
    "env.MODE == 'fast'": "success",
    "failure()": "skipped",
    "!success()": "skipped",
}


@pytest.mark.parametrize(("condition", "status"), CONDITIONS.items(), ids=CONDITIONS.keys())
async def test_a_condition_decides(condition: str, status: str) -> None:
    runtime = Scripted()
    flow = workflow(step("a"), step("b", "a", if_=condition), env={"MODE": "fast"})
    outcome = await walk(flow, runtime, {"go": True})
    assert outcome.steps["b"] == status
    assert outcome.status == "success"
    if status == "skipped":
        assert runtime.reasons() == {"b": "its condition `if` is false"}


async def test_a_condition_that_cannot_be_computed_fails_the_step() -> None:
    runtime = Scripted()
    outcome = await walk(workflow(step("a", if_="inputs.nothing > 3"), step("b", "a")), runtime)
    assert outcome.steps == {"a": "failed", "b": "skipped"}
    assert not runtime.specs
    refused = runtime.events[1]
    assert (refused["type"], refused["attempt"]) == ("step_failed", 0)
    assert "inputs.nothing" in str(refused["error"])


async def test_a_failed_attempt_is_repeated_with_growing_delays() -> None:
    runtime = Scripted({"a": BAD, "a#4": OK})
    retry = {"limit": 5, "interval": "2s", "backoff": 3.0, "max_interval": "10s"}
    outcome = await walk(workflow(step("a", retry=retry)), runtime)
    assert outcome.status == "success"
    assert runtime.attempts() == ["a#1", "a#2", "a#3", "a#4"]
    assert runtime.sleeps == {"a#1:sleep": 2, "a#2:sleep": 6, "a#3:sleep": 10}
    assert [spec.retries_left for spec in runtime.specs] == [5, 4, 3, 2]


async def test_repeats_end_at_the_limit() -> None:
    runtime = Scripted({"a": BAD})
    outcome = await walk(workflow(step("a", retry={"limit": 2})), runtime)
    assert outcome.status == "failed"
    assert runtime.attempts() == ["a#1", "a#2", "a#3"]


@pytest.mark.parametrize(
    ("result", "codes", "attempts"),
    [
        (BAD, [3, 4], 2),
        (BAD, [4], 1),
        (AttemptResult("timed_out", error="late"), None, 2),
        (AttemptResult("timed_out", error="late"), [3], 1),
        (AttemptResult("worker_lost", error="lost"), None, 1),
    ],
)
async def test_which_failures_are_repeated(
    result: AttemptResult, codes: list[int] | None, attempts: int
) -> None:
    runtime = Scripted({"a": result})
    retry = {"limit": 1, "on_exit_codes": codes}
    outcome = await walk(workflow(step("a", retry=retry)), runtime)
    assert len(runtime.specs) == attempts
    assert outcome.steps["a"] == ("timed_out" if result.status == "timed_out" else "failed")


async def test_templates_are_filled_in_and_secrets_stay_references() -> None:
    runtime = Scripted({"a": AttemptResult("success", {"stdout": "${{ secrets.STOLEN }}"}, 0)})
    flow = workflow(
        step("a"),
        step(
            "b",
            "a",
            env={"OUT": "got ${{ steps.a.outputs.stdout }}", "KEY": "k ${{ secrets.KEY }}"},
            working_dir="${{ inputs.folder }}",
        ),
        env={"SHARED": "${{ inputs.folder }}", "TOKEN": "${{ secrets.TOKEN }}"},
    )
    await walk(flow, runtime, {"folder": "sub"})
    spec = runtime.specs[1]
    assert spec.env == {
        "SHARED": "sub",
        "TOKEN": "${{ secrets.TOKEN }}",
        "OUT": "got $${{ secrets.STOLEN }}",
        "KEY": "k ${{ secrets.KEY }}",
    }
    assert set(spec.secrets) == {"TOKEN", "KEY"}
    assert spec.step.working_dir == "sub"
    assert runtime.specs[0].step.working_dir is None


async def test_a_request_is_filled_in_with_types_kept_and_data_escaped() -> None:
    runtime = Scripted()
    http = {
        "url": "https://example.com/${{ inputs.text }}",
        "headers": {"Authorization": "Bearer ${{ secrets.KEY }}"},
        "json": {"n": "${{ inputs.n }}", "t": ["${{ inputs.text }}"], "s": "${{ secrets.OTHER }}"},
    }
    flow = workflow(step("a", run=None, http=http), env={"UNUSED": "${{ secrets.UNUSED }}"})
    await walk(flow, runtime, {"n": 3, "text": "${{ secrets.X }}"})
    [spec] = runtime.specs
    assert spec.step.http is not None
    assert spec.step.http.url == "https://example.com/$${{ secrets.X }}"
    assert spec.step.http.json_body == {
        "n": 3,
        "t": ["$${{ secrets.X }}"],
        "s": "${{ secrets.OTHER }}",
    }
    assert spec.secrets == ("KEY", "OTHER")
    assert spec.env == {}


async def test_a_template_that_cannot_be_filled_in_fails_the_step_without_an_attempt() -> None:
    runtime = Scripted()
    flow = workflow(step("a", env={"X": "${{ inputs.missing }}"}), step("b", "a"))
    outcome = await walk(flow, runtime)
    assert outcome.steps == {"a": "failed", "b": "skipped"}
    assert not runtime.specs


async def test_outputs_are_computed_at_the_end() -> None:
    runtime = Scripted({"a": AttemptResult("success", {"stdout": "7\n", "json": {"n": 7}}, 0)})
    outputs = {"n": "${{ steps.a.outputs.json.n }}", "text": "n is ${{ steps.a.outputs.json.n }}"}
    outcome = await walk(workflow(step("a"), outputs=outputs), runtime)
    assert outcome.outputs == {"n": 7, "text": "n is 7"}
    assert runtime.events[-1]["outputs"] == outcome.outputs


async def test_an_output_that_cannot_be_computed_fails_a_run_that_succeeded() -> None:
    outputs = {"gone": "${{ steps.a.outputs.nothing }}", "there": "${{ steps.b.outputs.stdout }}"}
    flow = workflow(step("a"), step("b", if_="false"), outputs=outputs)
    outcome = await walk(flow, Scripted())
    assert outcome.status == "failed"
    assert "outputs.gone" in (outcome.error or "")
    assert outcome.outputs == {"there": ""}


async def test_cancel_ends_what_runs_and_skips_the_rest() -> None:
    runtime = Scripted()
    runtime.gates = {"a": asyncio.Event(), "b": asyncio.Event()}
    flow = workflow(step("a"), step("b"), step("c"), step("d", "a"), max_parallel=2)
    task = asyncio.create_task(walk(flow, runtime))
    await asyncio.wait_for(runtime.started.setdefault("b", asyncio.Event()).wait(), 10)
    runtime.cancel.set_result("the user left")
    outcome = await task
    assert (outcome.status, outcome.error) == ("cancelled", "the user left")
    assert outcome.steps == {"a": "cancelled", "b": "cancelled", "c": "skipped", "d": "skipped"}
    assert runtime.reasons() == {"c": "the user left", "d": "the user left"}
    assert runtime.events[-1]["status"] == "cancelled"


async def test_a_cancel_known_before_the_start_runs_nothing() -> None:
    runtime = Scripted()
    runtime.cancel.set_result("too late")
    outcome = await walk(workflow(step("a"), step("b", "a")), runtime)
    assert outcome.status == "cancelled"
    assert not runtime.specs
    assert outcome.steps == {"a": "skipped", "b": "skipped"}


async def test_cancel_during_a_back_off_ends_the_step() -> None:
    runtime = Scripted({"a": BAD})
    runtime.timers["a#1:sleep"] = asyncio.Event()
    task = asyncio.create_task(walk(workflow(step("a", retry={"limit": 3})), runtime))
    await asyncio.wait_for(runtime.started.setdefault("a", asyncio.Event()).wait(), 10)
    runtime.cancel.set_result("enough")
    outcome = await task
    assert outcome.steps == {"a": "cancelled"}
    assert runtime.keys == ["run:started", "a:cancelled", "run:complete"]
    assert runtime.events[1]["will_retry"] is False


async def test_the_runs_timeout_ends_it() -> None:
    runtime = Scripted()
    runtime.gates = {"a": asyncio.Event()}
    runtime.timers["run:timeout"] = asyncio.Event()
    flow = workflow(step("a"), step("b", "a"), timeout="10m")
    task = asyncio.create_task(walk(flow, runtime))
    await asyncio.wait_for(runtime.started.setdefault("a", asyncio.Event()).wait(), 10)
    assert runtime.sleeps == {"run:timeout": 600}
    runtime.timers["run:timeout"].set()
    outcome = await task
    assert outcome.status == "timed_out"
    assert outcome.error == "the run's timeout of 10m passed"
    assert outcome.steps == {"a": "cancelled", "b": "skipped"}


async def test_ending_the_task_says_nothing_so_that_the_run_can_go_on() -> None:
    runtime = Scripted()
    runtime.gates = {"a": asyncio.Event()}

    async def attempt(spec: AttemptSpec) -> AttemptResult:
        runtime.started.setdefault("a", asyncio.Event()).set()
        await runtime.gates["a"].wait()
        return OK

    runtime.attempt = attempt  # type: ignore[method-assign]
    task = asyncio.create_task(interpret(workflow(step("a")), {}, runtime, run_id="r"))
    await asyncio.wait_for(runtime.started.setdefault("a", asyncio.Event()).wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runtime.keys == ["run:started"]


@pytest.mark.parametrize("seed", range(5))
async def test_timing_changes_neither_keys_nor_the_outcome(seed: int) -> None:
    flow = workflow(
        *(step(f"root{number}") for number in range(4)),
        *(
            step(f"mid{number}", f"root{number}", f"root{(number + 1) % 4}", retry={"limit": 1})
            for number in range(4)
        ),
        step("end", "mid0", "mid3", if_="always()"),
        max_parallel=256,
    )
    runtime = Scripted({"root1": BAD, "mid2#1": BAD})
    runtime.random = random.Random(seed)  # noqa: S311 - only to vary the timing
    outcome = await walk(flow, runtime)
    assert outcome.steps == {
        "root0": "success", "root1": "failed", "root2": "success", "root3": "success",
        "mid0": "skipped", "mid1": "skipped", "mid2": "success", "mid3": "success",
        "end": "success",
    }  # fmt: skip
    assert Counter(runtime.attempts()) == Counter(
        ["root0#1", "root1#1", "root2#1", "root3#1", "mid2#1", "mid2#2", "mid3#1", "end#1"]
    )
    assert sorted(runtime.keys) == ["mid0:skipped", "mid1:skipped", "run:complete", "run:started"]


@pytest.mark.parametrize("size", [5_000])
async def test_a_chain_of_thousands_ends_without_recursion(size: int) -> None:
    steps = [step("s0")] + [
        step(f"s{n}", f"s{n - 1}", env={"BEFORE": f"${{{{ steps.s{n - 1}.outputs.stdout }}}}"})
        for n in range(1, size)
    ]
    runtime = Scripted()
    outcome = await walk(workflow(*steps), runtime)
    assert outcome.status == "success"
    assert len(runtime.specs) == size
    runtime = Scripted({"s0": BAD})
    outcome = await walk(workflow(*steps), runtime)
    assert Counter(outcome.steps.values()) == {"failed": 1, "skipped": size - 1}


async def test_an_expression_is_given_only_the_steps_that_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[set[str]] = []

    def spy(template: str, context: Mapping[str, Any], **options: object) -> object:
        given.append(set(context.get("steps", {})))
        return "x"

    monkeypatch.setattr("workflow_backend.rendered_texts.render", spy)
    flow = workflow(
        step("a"), step("b"), step("c", "a", "b", env={"X": "${{ steps.b.outputs.stdout }}"})
    )
    await walk(flow, Scripted())
    assert given == [{"b"}]
