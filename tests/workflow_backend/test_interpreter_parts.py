"""What the interpreter does beyond scripts in order: people, waits, items, repeats, handlers."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.workflow_backend.scripted_runtime import BAD, OK, Scripted, step, walk, workflow
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import AttemptResult, AttemptSpec
from workflow_backend.interpreter import Outcome, interpret
from workflow_backend.reruns import RerunError, kept_states
from workflow_backend.step_state import StepState, states_from_json, states_to_json

YES = {"approved": True, "by": "ann", "values": {"size": 3}, "reason": ""}
NO = {"approved": False, "by": "ann", "values": {}, "reason": "too early"}


def asked(name: str, *depends: str, **fields: Any) -> Step:
    approval = {"message": "go?", **fields}
    return Step(name=name, depends=list(depends), approval=approval)


def of_type(runtime: Scripted, *types: str) -> list[Mapping[str, object]]:
    return [event for event in runtime.events if event["type"] in types]


def answer(runtime: Scripted, signal: str, payload: Mapping[str, object] | None) -> None:
    loop = asyncio.get_running_loop()
    runtime.signals.setdefault(signal, loop.create_future()).set_result(payload)


async def begun(runtime: Scripted, name: str) -> None:
    async with asyncio.timeout(10):
        await runtime.started.setdefault(name, asyncio.Event()).wait()


async def test_an_approval_lets_the_steps_after_it_see_who_decided_what() -> None:
    runtime = Scripted()
    answer(runtime, "approval:ask", YES)
    use = step("use", "ask", env={"N": "${{ steps.ask.outputs.values.size }}"})
    outcome = await walk(workflow(asked("ask", timeout="1h"), use), runtime)
    assert outcome.status == "success"
    assert runtime.specs[0].env == {"N": "3"}
    assert runtime.waits == {"approval:ask": 3600.0}
    requested, decided = of_type(runtime, "approval_requested", "approval_decided")
    assert requested["approval_id"] == "run-1/ask"
    assert requested["expires_in"] == 3600.0
    assert (decided["approved"], decided["by"]) == (True, "ann")


async def test_a_rejection_fails_the_step_with_its_reason() -> None:
    runtime = Scripted()
    answer(runtime, "approval:ask", NO)
    outcome = await walk(workflow(asked("ask"), step("use", "ask")), runtime)
    assert outcome.error == "step `ask` failed: rejected by ann: too early"
    assert runtime.attempts() == []


@pytest.mark.parametrize(
    ("on_timeout", "status", "attempts"),
    [("fail", "failed", []), ("skip", "success", []), ("approve", "success", ["use#1"])],
)
async def test_an_approval_that_nobody_decides_comes_to_what_it_says(
    on_timeout: str, status: str, attempts: list[str]
) -> None:
    runtime = Scripted()
    answer(runtime, "approval:ask", None)
    flow = workflow(asked("ask", timeout="1s", on_timeout=on_timeout), step("use", "ask"))
    outcome = await walk(flow, runtime)
    assert (outcome.status, runtime.attempts()) == (status, attempts)


async def test_approvals_in_parallel_branches_each_hold_their_own() -> None:
    runtime = Scripted()
    flow = workflow(asked("a"), asked("b"), step("after-a", "a"), step("after-b", "b"))
    task = asyncio.create_task(walk(flow, runtime))
    await begun(runtime, "approval:a")
    await begun(runtime, "approval:b")
    answer(runtime, "approval:b", YES)
    await begun(runtime, "after-b")
    assert runtime.attempts() == ["after-b#1"]
    answer(runtime, "approval:a", YES)
    assert (await task).status == "success"


async def test_an_approval_does_not_take_the_place_of_a_step_that_works() -> None:
    runtime = Scripted()
    flow = workflow(asked("a"), asked("b"), step("work"), max_parallel=1)
    task = asyncio.create_task(walk(flow, runtime))
    await begun(runtime, "work")
    answer(runtime, "approval:a", YES)
    answer(runtime, "approval:b", YES)
    assert (await task).status == "success"


async def test_a_cancel_ends_what_waits_for_somebody() -> None:
    runtime = Scripted()
    flow = workflow(asked("a"), Step(name="b", wait={"signal": "go"}))
    task = asyncio.create_task(walk(flow, runtime))
    await begun(runtime, "approval:a")
    await begun(runtime, "signal:go")
    runtime.cancel.set_result("enough")
    outcome = await task
    assert outcome.status == "cancelled"
    assert outcome.steps == {"a": "cancelled", "b": "cancelled"}


async def test_waits_end_by_their_time_a_signal_or_a_webhook() -> None:
    runtime = Scripted()
    answer(runtime, "signal:ready", {"payload": {"n": 1}})
    answer(runtime, "webhook:hook", {"payload": "body"})
    flow = workflow(
        Step(name="pause", wait={"for": "5m"}),
        Step(name="one", wait={"signal": "ready"}),
        Step(name="two", wait={"signal": "ready"}),
        Step(name="hook", wait={"webhook": True, "timeout": "1h"}),
        step("use", "one", "hook", env={"N": "${{ steps.one.outputs.payload.n }}"}),
    )
    outcome = await walk(flow, runtime)
    assert outcome.status == "success"
    assert runtime.sleeps == {"pause:timer": 300.0}
    assert runtime.specs[0].env == {"N": "1"}
    kinds = [event["kind"] for event in of_type(runtime, "wait_started")]
    assert sorted(map(str, kinds)) == ["signal", "signal", "timer", "webhook"]


async def test_a_fanned_out_step_runs_for_each_item_so_many_at_a_time() -> None:
    runtime = Scripted()
    names = [f"d[{index}]" for index in range(5)]
    runtime.gates = {"d": asyncio.Event()}
    fan = step(
        "d", foreach="${{ inputs.hosts }}", max_parallel=2, env={"H": "${{ item }}-${{ index }}"}
    )
    flow = workflow(
        fan,
        outputs={"all": "${{ steps.d.outputs.statuses }}"},
        inputs={"hosts": {"type": "array"}},
    )
    task = asyncio.create_task(walk(flow, runtime, {"hosts": list("abcde")}))
    await begun(runtime, "d")
    runtime.gates["d"].set()
    outcome = await task
    assert runtime.most_running == 2
    assert [spec.key for spec in runtime.specs] == [f"{name}#1" for name in names]
    assert [spec.env["H"] for spec in runtime.specs] == ["a-0", "b-1", "c-2", "d-3", "e-4"]
    assert outcome.outputs == {"all": ["success"] * 5}
    assert set(outcome.states) == {"d", *names}


async def test_a_matrix_is_every_combination() -> None:
    runtime = Scripted()
    fan = step("t", matrix={"os": ["l", "m"], "py": "${{ [1, 2] }}"}, env={"V": "${{ item }}"})
    await walk(workflow(fan), runtime)
    assert [spec.env["V"] for spec in runtime.specs] == [
        '{"os":"l","py":1}',
        '{"os":"l","py":2}',
        '{"os":"m","py":1}',
        '{"os":"m","py":2}',
    ]


async def test_one_failed_item_fails_the_step_after_all_have_run() -> None:
    runtime = Scripted({"d[1]#1": BAD})
    outcome = await walk(workflow(step("d", foreach=[1, 2, 3]), step("e", "d")), runtime)
    assert len(runtime.specs) == 3
    assert outcome.error == "step `d` failed: item 1 failed: exit code 3: bad"
    assert outcome.steps["e"] == "skipped"


@pytest.mark.parametrize(
    ("items", "reason"),
    [("${{ inputs.n }}", "the items are no list"), ("${{ inputs.many }}", "the limit is 1000")],
)
async def test_items_that_are_none_or_too_many_are_refused(items: str, reason: str) -> None:
    runtime = Scripted()
    flow = workflow(step("d", foreach=items))
    outcome = await walk(flow, runtime, {"n": 3, "many": list(range(1001))})
    assert reason in str(outcome.error)


async def test_a_cancel_ends_the_items_under_way_and_begins_no_other() -> None:
    runtime = Scripted()
    runtime.gates = {"d": asyncio.Event()}
    flow = workflow(step("d", foreach=[1, 2, 3, 4], max_parallel=2))
    task = asyncio.create_task(walk(flow, runtime))
    await begun(runtime, "d")
    runtime.cancel.set_result("enough")
    outcome = await task
    assert outcome.status == "cancelled"
    assert outcome.steps == {"d": "cancelled"}
    assert runtime.attempts() == ["d[0]#1", "d[1]#1"]
    assert outcome.states["d[3]"].status == "skipped"


async def test_a_step_repeats_until_its_condition_holds() -> None:
    def result(spec: AttemptSpec) -> AttemptResult:
        return AttemptResult("success", {"stdout": str(spec.iteration)}, 0)

    runtime = Scripted({"poll": result})
    repeat = {"until": "steps.poll.outputs.stdout == '3'", "limit": 5, "interval": "2s"}
    outcome = await walk(workflow(step("poll", repeat=repeat)), runtime)
    assert outcome.status == "success"
    assert runtime.attempts() == ["poll#1", "poll@2#1", "poll@3#1"]
    assert runtime.sleeps == {"poll:interval": 2.0, "poll@2:interval": 2.0}


async def test_a_condition_that_never_holds_fails_the_step() -> None:
    repeat = {"until": "steps.poll.outputs.stdout == 'x'", "limit": 2, "interval": "1s"}
    runtime = Scripted()
    outcome = await walk(workflow(step("poll", repeat=repeat)), runtime)
    assert "was not true after 2 times" in str(outcome.error)
    assert len(runtime.sleeps) == 1


def inner_flow(*steps: Step, **fields: Any) -> Workflow:
    inner = {"inputs": {"host": {"type": "string"}}, "steps": list(steps), **fields}
    call = Step(name="call", workflow={"ref": "inner", "inputs": {"host": "${{ inputs.host }}"}})
    after = step("after", "call", env={"R": "${{ steps.call.outputs.said }}"})
    return workflow(call, after, workflows={"inner": inner}, inputs={"host": {"type": "string"}})


async def test_a_step_runs_another_workflow_with_values_in_and_out() -> None:
    runtime = Scripted({"say": AttemptResult("success", {"stdout": "hi"}, 0)})
    flow = inner_flow(
        step("say", env={"H": "${{ inputs.host }}"}),
        outputs={"said": "${{ steps.say.outputs.stdout }}"},
    )
    outcome = await walk(flow, runtime, {"host": "h1"})
    assert outcome.status == "success"
    child = runtime.children["call:child"]
    assert (child.run_id, child.inputs) == ("run-1.call", {"host": "h1"})
    assert runtime.specs[0].env == {"H": "h1"}
    assert runtime.specs[-1].env == {"R": "hi"}
    running = of_type(runtime, "step_running")[0]
    assert running["child_run_id"] == "run-1.call"


async def test_an_inner_failure_fails_the_step() -> None:
    runtime = Scripted({"say": BAD})
    outcome = await walk(inner_flow(step("say")), runtime, {"host": "h1"})
    assert outcome.error == "step `call` failed: step `say` failed: exit code 3: bad"


async def test_values_that_do_not_fit_the_other_workflow_are_refused() -> None:
    runtime = Scripted()
    outcome = await walk(inner_flow(step("say")), runtime, {"host": 3})
    assert "inputs.host" in str(outcome.error)
    assert not runtime.children


async def test_handlers_of_a_failure_see_what_failed_and_finally_comes_last() -> None:
    runtime = Scripted({"a": BAD})
    flow = workflow(
        step("a"),
        on_failure=[step("mend", env={"E": "${{ run.status }}: ${{ run.error }}"})],
        **{"finally": [step("last", env={"S": "${{ steps.a.status }}"})]},
    )
    outcome = await walk(flow, runtime)
    assert outcome.status == "failed"
    assert runtime.attempts() == ["a#1", "mend#1", "last#1"]
    assert runtime.specs[1].env == {"E": "failed: step `a` failed: exit code 3: bad"}
    assert runtime.specs[2].env == {"S": "failed"}


async def test_without_a_failure_its_handlers_are_left_out() -> None:
    runtime = Scripted()
    flow = workflow(step("a"), on_failure=[step("mend")], **{"finally": [step("last")]})
    outcome = await walk(flow, runtime)
    assert outcome.status == "success"
    assert runtime.attempts() == ["a#1", "last#1"]
    assert outcome.steps["mend"] == "skipped"


async def test_finally_runs_after_a_cancel_and_a_failure_there_fails_a_run() -> None:
    runtime = Scripted()
    runtime.gates = {"a": asyncio.Event()}
    flow = workflow(step("a"), **{"finally": [step("last")]})
    task = asyncio.create_task(walk(flow, runtime))
    await begun(runtime, "a")
    runtime.cancel.set_result("enough")
    outcome = await task
    assert (outcome.status, runtime.attempts()) == ("cancelled", ["a#1", "last#1"])

    runtime = Scripted({"last": BAD})
    outcome = await walk(flow, runtime)
    assert outcome.error == "step `last` failed: exit code 3: bad"


async def test_a_run_whose_time_is_over_has_its_failure_handled() -> None:
    runtime = Scripted()
    runtime.gates = {"a": asyncio.Event()}
    runtime.timers = {"run:timeout": asyncio.Event()}
    flow = workflow(step("a"), timeout="1m", on_failure=[step("mend")])
    task = asyncio.create_task(walk(flow, runtime))
    await begun(runtime, "a")
    runtime.timers["run:timeout"].set()
    assert (await task).status == "timed_out"
    assert runtime.attempts() == ["a#1", "mend#1"]


async def test_messages_are_attempts_of_their_own_without_events() -> None:
    lost = AttemptResult("failed", {"stdout": ""}, None, "refused")
    runtime = Scripted({"notify[0]:end#1": lost})
    flow = workflow(
        step("a"),
        notify=[
            {"url": "https://x.example/${{ inputs.who }}", "on": ["success"], "secret": "KEY"},
            {"url": "https://y.example/", "on": ["failed"]},
        ],
    )
    outcome = await walk(flow, runtime, {"who": "me"})
    assert outcome.status == "success"
    told = runtime.specs[1:]
    assert [spec.key for spec in told] == ["notify[0]:end#1", "notify[0]:end#2"]
    assert {spec.sign_with for spec in told} == {"KEY"}
    assert all(spec.is_hidden and spec.step.http for spec in told)
    request = told[0].step.http
    assert request is not None
    assert request.url == "https://x.example/me"
    assert request.headers == {"webhook-id": "run-1.notify[0]:end"}
    assert isinstance(request.json_body, dict)
    assert request.json_body["status"] == "success"
    assert runtime.events[-1]["type"] == "workflow_complete"


async def test_a_message_goes_out_when_a_person_is_asked() -> None:
    runtime = Scripted()
    flow = workflow(asked("a"), notify=[{"url": "https://x.example/", "on": ["approval"]}])
    task = asyncio.create_task(walk(flow, runtime))
    await begun(runtime, "notify")
    answer(runtime, "approval:a", YES)
    await task
    request = runtime.specs[0].step.http
    assert request is not None
    assert isinstance(request.json_body, dict)
    assert request.json_body["approval_id"] == "run-1/a"


async def again(flow: Workflow, first: Outcome, runtime: Scripted, **options: Any) -> Outcome:
    states = states_from_json(states_to_json(first.states))
    kept = kept_states(flow, states, **options)
    return await interpret(flow, {"host": "h"}, runtime, run_id="run-2", kept=kept)


async def test_a_rerun_does_only_what_failed_and_what_comes_after() -> None:
    flow = workflow(
        step("a"), step("b", "a", env={"A": "${{ steps.a.outputs.stdout }}"}), step("c", "b")
    )
    first = await walk(flow, Scripted({"b": BAD}))
    runtime = Scripted()
    outcome = await again(flow, first, runtime)
    assert outcome.status == "success"
    assert runtime.attempts() == ["b#1", "c#1"]
    assert runtime.specs[0].env == {"A": "ok"}
    kept = of_type(runtime, "step_complete")[0]
    assert (kept["step"], kept["kept"]) == ("a", True)


async def test_a_rerun_from_a_step_does_it_again_though_it_had_succeeded() -> None:
    flow = workflow(step("a"), step("b", "a"), step("c", "b"))
    first = await walk(flow, Scripted())
    runtime = Scripted()
    await again(flow, first, runtime, from_step="b")
    assert runtime.attempts() == ["b#1", "c#1"]
    with pytest.raises(RerunError, match="every step has succeeded"):
        kept_states(flow, first.states)
    with pytest.raises(RerunError, match="there is no step `x`"):
        kept_states(flow, first.states, "x")


async def test_a_rerun_keeps_finished_items_and_finished_steps_of_inner_runs() -> None:
    flow = workflow(step("d", foreach=[1, 2, 3]))
    first = await walk(flow, Scripted({"d[1]#1": BAD}))
    runtime = Scripted()
    outcome = await again(flow, first, runtime)
    assert (outcome.status, runtime.attempts()) == ("success", ["d[1]#1"])

    flow = inner_flow(step("say"), step("do", "say"), outputs={"said": "x"})
    first = await walk(flow, Scripted({"do": BAD}), {"host": "h"})
    runtime = Scripted()
    outcome = await again(flow, first, runtime)
    assert (outcome.status, runtime.attempts()) == ("success", ["do#1", "after#1"])


def test_states_survive_being_written_down() -> None:
    inner = {"x": StepState("failed", error="e", has_failed_before=True)}
    states = {"a": StepState("success", {"stdout": "o"}, exit_code=0, attempts=2, inner=inner)}
    assert states_from_json(states_to_json(states)) == states


async def test_depth_and_owner_reach_every_attempt() -> None:
    runtime = Scripted({"a": OK})
    await interpret(workflow(step("a")), {}, runtime, run_id="run-1", owner="ann", depth=2)
    assert (runtime.specs[0].owner, runtime.specs[0].depth) == ("ann", 2)
