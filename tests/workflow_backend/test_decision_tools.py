"""Approvals, signals, webhooks and reruns through the tools of the backend, a real process."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp.client import Client

from tests.workflow_backend.backends import Caller, backend
from workflow_backend.engines.journal.lock import LOCK_NAME

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEPLOY = """
name: deploy
inputs: {version: {type: string, default: "1.0"}}
steps:
  - name: ask
    approval:
      message: Deploy ${{ inputs.version }}?
      form:
        replicas: {type: integer, default: 2, minimum: 1, maximum: 9}
        ticket: {type: string, required: true, pattern: '^T-[0-9]+$'}
  - name: roll-out
    depends: [ask]
    run: echo "$REPLICAS of $TICKET"
    env:
      REPLICAS: ${{ string(steps.ask.outputs.values.replicas) }}
      TICKET: ${{ steps.ask.outputs.values.ticket }}
    timeout: 20s
outputs: {done: "${{ steps.roll-out.outputs.stdout }}", by: "${{ steps.ask.outputs.by }}"}
"""
TWO = """
name: two
steps:
  - {name: left, approval: {message: Left?}}
  - {name: right, approval: {message: Right?}}
  - {name: after-left, depends: [left], run: echo left, timeout: 20s}
  - {name: after-right, depends: [right], run: echo right, timeout: 20s}
"""
NESTED = """
name: nested
workflows:
  inner:
    steps:
      - {name: ask, approval: {message: Inner?}}
      - {name: say, depends: [ask], run: echo inner, timeout: 20s}
steps:
  - {name: call, workflow: {ref: inner}}
"""
SIGNALLED = """
name: signalled
steps:
  - {name: listen, wait: {signal: deployed}}
  - name: say
    depends: [listen]
    run: echo "$BUILD"
    env: {BUILD: "${{ string(steps.listen.outputs.payload.build) }}"}
    timeout: 20s
"""
HOOKED = """
name: hooked
steps:
  - {name: listen, wait: {webhook: true}}
  - name: say
    depends: [listen]
    run: echo "$WHO"
    env: {WHO: "${{ steps.listen.outputs.payload.who }}"}
    timeout: 20s
"""
ITEMS = """
name: items
steps:
  - name: ask
    foreach: [a, b]
    approval: {message: "Item ${{ item }}?"}
"""
FLAKY = """
name: flaky
inputs: {file: {type: string}}
env: {FILE: "${{ inputs.file }}"}
steps:
  - {name: first, run: 'echo x >> "$FILE"', timeout: 20s}
  - {name: second, depends: [first], run: 'test -e "$FILE.ok"', timeout: 20s}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    environment = {"AGENT_SERVER_ISOLATION": "none"}
    async with backend(tmp_path_factory.mktemp("decisions"), environment) as opened:
        yield opened


@pytest.fixture
def alice(client: Client) -> Caller:
    return Caller(client, "alice")


@pytest.fixture
def bob(client: Client) -> Caller:
    return Caller(client, "bob")


async def waiting(caller: Caller, text: str, run_id: str, **inputs: Any) -> dict[str, Any]:
    """The run once nothing of it goes on without a person."""
    await caller.answer("start_run", {"workflow": text, "run_id": run_id, "inputs": inputs})
    run = await caller.answer("watch_run", {"run_id": run_id, "until_rest": True})
    assert run["is_waiting"], run
    return run


def decide(run_id: str, step: str, approved: bool = True, **more: Any) -> dict[str, Any]:
    return {"run_id": run_id, "step": step, "approved": approved, "by": "anna", **more}


async def code_of(caller: Caller, tool: str, arguments: dict[str, Any]) -> str:
    result = await caller.call(tool, arguments)
    assert result.is_error
    assert result.structured_content is not None, result
    return str(result.structured_content["code"])


def events_of(caller: Caller) -> list[dict[str, Any]]:
    return [json.loads(message or "") for _, message in caller.progress]


async def test_a_run_that_asks_is_shown_with_what_it_asks(alice: Caller) -> None:
    run = await waiting(alice, DEPLOY, "asks", version="2.1")
    assert run["status"] == "running"
    [approval] = run["approvals"]
    assert approval["approval_id"] == "asks/ask"
    assert approval["message"] == "Deploy 2.1?"
    assert set(approval["form"]) == {"replicas", "ticket"}
    listed = await alice.answer("list_approvals", {})
    assert "asks/ask" in [one["approval_id"] for one in listed["approvals"]]
    assert {step["name"]: step["status"] for step in run["steps"]} == {
        "ask": "waiting",
        "roll-out": "pending",
    }


async def test_values_of_the_form_reach_the_steps_after_it(alice: Caller) -> None:
    await waiting(alice, DEPLOY, "values")
    values = {"ticket": "T-17", "replicas": "3"}
    decision = await alice.answer("decide_approval", decide("values", "ask", values=values))
    assert decision["is_first"]
    assert decision["values"] == {"replicas": 3, "ticket": "T-17"}
    run = await alice.answer("watch_run", {"run_id": "values"})
    assert run["outputs"] == {"done": "3 of T-17\n", "by": "anna"}
    assert run["approvals"] == []


async def test_values_that_do_not_fit_decide_nothing(alice: Caller) -> None:
    await waiting(alice, DEPLOY, "unfit")
    values = {"ticket": "17", "replicas": 10, "extra": 1}
    result = await alice.call("decide_approval", decide("unfit", "ask", values=values))
    assert result.is_error
    assert result.structured_content is not None
    assert result.structured_content["code"] == "invalid_values"
    paths = [problem["path"] for problem in result.structured_content["problems"]]
    assert sorted(paths) == ["values.extra", "values.replicas", "values.ticket"]
    assert (await alice.answer("get_run", {"run_id": "unfit"}))["approvals"]


async def test_deciding_twice_answers_the_first_decision_before_and_after_the_end(
    alice: Caller,
) -> None:
    await waiting(alice, TWO, "twice")
    first = await alice.answer("decide_approval", decide("twice", "left", reason="fine"))
    second = await alice.answer("decide_approval", decide("twice", "left", False))
    assert (first["is_first"], second["is_first"]) == (True, False)
    assert (second["approved"], second["by"], second["reason"]) == (True, "anna", "fine")
    await alice.answer("decide_approval", decide("twice", "right"))
    run = await alice.answer("watch_run", {"run_id": "twice"})
    assert run["status"] == "success"
    after = await alice.answer("decide_approval", decide("twice", "left", False))
    assert (after["approved"], after["is_first"]) == (True, False)


async def test_parallel_branches_hold_a_decision_each(alice: Caller) -> None:
    run = await waiting(alice, TWO, "branches")
    assert sorted(one["step"] for one in run["approvals"]) == ["left", "right"]
    await alice.answer("decide_approval", decide("branches", "right"))
    run = await alice.answer("watch_run", {"run_id": "branches", "until_rest": True})
    assert run["is_waiting"]
    assert {step["name"]: step["status"] for step in run["steps"]} == {
        "left": "waiting",
        "right": "success",
        "after-left": "pending",
        "after-right": "success",
    }
    await alice.answer("decide_approval", decide("branches", "left", False, reason="no"))
    run = await alice.answer("watch_run", {"run_id": "branches"})
    assert run["status"] == "failed"
    steps = {step["name"]: step for step in run["steps"]}
    assert steps["left"]["error"] == "rejected by anna: no"
    assert steps["after-left"]["status"] == "skipped"


async def test_each_item_of_a_fanned_out_approval_is_decided_by_itself(alice: Caller) -> None:
    run = await waiting(alice, ITEMS, "items")
    assert [one["approval_id"] for one in run["approvals"]] == ["items/ask[0]", "items/ask[1]"]
    await alice.answer("decide_approval", decide("items", "ask[1]"))
    run = await alice.answer("watch_run", {"run_id": "items", "until_rest": True})
    assert [one["step"] for one in run["approvals"]] == ["ask[0]"]
    await alice.answer("decide_approval", decide("items", "ask[0]"))
    assert (await alice.answer("watch_run", {"run_id": "items"}))["status"] == "success"


async def test_an_approval_inside_another_run_is_told_and_decided_by_its_own_id(
    alice: Caller,
) -> None:
    run = await waiting(alice, NESTED, "nested")
    [approval] = run["approvals"]
    assert approval["approval_id"] == "nested.call/ask"
    decision = await alice.answer("decide_approval", decide("nested.call", "ask"))
    assert decision["parent_run_id"] == "nested"
    run = await alice.answer("watch_run", {"run_id": "nested", "until_rest": True})
    assert (run["status"], run["is_waiting"]) == ("success", False)
    listed = await alice.answer("list_runs", {"parent": "nested"})
    assert [child["run_id"] for child in listed["runs"]] == ["nested.call"]
    assert listed["runs"][0]["parent_run_id"] == "nested"


async def test_what_is_no_open_approval_is_refused_with_a_code(alice: Caller, bob: Caller) -> None:
    await waiting(alice, DEPLOY, "refused")
    assert await code_of(bob, "decide_approval", decide("refused", "ask")) == "run_not_found"
    refused = decide("refused", "roll-out")
    assert await code_of(alice, "decide_approval", refused) == "approval_not_found"
    text = DEPLOY.replace("approval:", "depends: [wait-for]\n    approval:", 1)
    text += "on_failure: []\n"
    text = text.replace("steps:\n", "steps:\n  - {name: wait-for, wait: {signal: go}}\n", 1)
    await waiting(alice, text, "not-yet")
    assert await code_of(alice, "decide_approval", decide("not-yet", "ask")) == "approval_not_open"
    await alice.answer("cancel_run", {"run_id": "refused"})
    assert await code_of(alice, "decide_approval", decide("refused", "ask")) == "approval_not_open"


async def test_an_approval_that_nobody_decided_in_time_is_decided_no_more(alice: Caller) -> None:
    text = TWO.replace("message: Left?", "message: Left?, timeout: 100ms")
    text = text.replace("message: Right?", "message: Right?, timeout: 100ms, on_timeout: skip")
    await alice.answer("start_run", {"workflow": text, "run_id": "late"})
    run = await alice.answer("watch_run", {"run_id": "late"})
    steps = {step["name"]: step["status"] for step in run["steps"]}
    assert (steps["left"], steps["right"]) == ("timed_out", "skipped")
    assert await code_of(alice, "decide_approval", decide("late", "left")) == "approval_not_open"


async def test_a_host_whose_model_sees_every_tool_decides_nothing(client: Client) -> None:
    host = Caller(client)
    await waiting(host, TWO, "hosted")
    assert await code_of(host, "decide_approval", decide("hosted", "left")) == "server_only"
    assert len((await host.answer("get_run", {"run_id": "hosted"}))["approvals"]) == 2


async def test_a_call_that_runs_a_workflow_ends_where_a_person_must_decide(alice: Caller) -> None:
    run = await alice.answer("execute_workflow", {"workflow": TWO}, run_id="executed")
    assert run["is_waiting"]
    assert len(run["approvals"]) == 2
    assert (await alice.answer("get_run", {"run_id": "executed"}))["status"] == "running"


async def test_the_run_of_a_cancelled_call_goes_on_if_it_waits_for_somebody(alice: Caller) -> None:
    text = TWO + "  - {name: busy, run: 'echo begun; exec sleep 600', timeout: 15m}\n"
    call = asyncio.create_task(
        alice.call("execute_workflow", {"workflow": text}, run_id="left-alone")
    )
    async with asyncio.timeout(20):
        while len([e for e in events_of(alice) if e["type"] == "approval_requested"]) < 2:
            alice.reported.clear()
            await alice.reported.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    run = await alice.answer("get_run", {"run_id": "left-alone"})
    assert run["status"] == "running"
    await alice.answer("cancel_run", {"run_id": "left-alone"})


async def test_a_signal_is_given_once_and_only_if_a_step_waits_for_it(alice: Caller) -> None:
    run = await waiting(alice, SIGNALLED, "signalled")
    assert run["waits"] == [
        {
            "run_id": "signalled",
            "step": "listen",
            "kind": "signal",
            "signal": "deployed",
            "expires": None,
        }
    ]
    unknown = {"run_id": "signalled", "name": "deploy"}
    assert await code_of(alice, "signal_run", unknown) == "signal_not_found"
    sent = {"run_id": "signalled", "name": "deployed"}
    first = await alice.answer("signal_run", {**sent, "payload_json": json.dumps({"build": 42})})
    second = await alice.answer("signal_run", {**sent, "payload_json": json.dumps({"build": 43})})
    assert (first["is_first"], second["is_first"]) == (True, False)
    run = await alice.answer("watch_run", {"run_id": "signalled"})
    assert run["steps"][1]["output"] == "42\n"
    large = {**sent, "payload_json": json.dumps("x" * 300_000)}
    assert await code_of(alice, "signal_run", large) == "invalid_values"


async def test_a_webhook_is_delivered_by_whoever_has_its_token(
    alice: Caller, client: Client
) -> None:
    await waiting(alice, HOOKED, "hooked")
    [started] = [event for event in events_of(alice) if event["type"] == "wait_started"]
    token = started["url_path"].removeprefix("/v1/workflows/hooks/")
    assert "hook" not in started
    anybody = Caller(client)
    for wrong in (token[:-1], token[:-2] + "AA", "", "hooked/listen", token + "A"):
        arguments = {"token": wrong, "payload_json": json.dumps({"who": "mallory"})}
        assert await code_of(anybody, "deliver_webhook", arguments) == "hook_not_found"
    await anybody.answer(
        "deliver_webhook", {"token": token, "payload_json": json.dumps({"who": "you"})}
    )
    again = await anybody.answer(
        "deliver_webhook", {"token": token, "payload_json": json.dumps({"who": "me"})}
    )
    assert not again["is_first"]
    run = await alice.answer("watch_run", {"run_id": "hooked"})
    assert run["steps"][1]["output"] == "you\n"


async def test_a_rerun_keeps_what_had_succeeded(alice: Caller, tmp_path: Path) -> None:
    file = tmp_path / "seen"
    inputs = {"file": str(file)}
    await alice.answer("start_run", {"workflow": FLAKY, "run_id": "flaky", "inputs": inputs})
    assert (await alice.answer("watch_run", {"run_id": "flaky"}))["status"] == "failed"
    (tmp_path / "seen.ok").touch()
    again = await alice.answer("rerun_run", {"run_id": "flaky", "new_run_id": "flaky-2"})
    assert (again["is_new"], again["rerun_of"]) == (True, "flaky")
    run = await alice.answer("watch_run", {"run_id": "flaky-2"})
    assert run["status"] == "success"
    assert file.read_text() == "x\n"
    same = await alice.answer("rerun_run", {"run_id": "flaky", "new_run_id": "flaky-2"})
    assert not same["is_new"]
    everything = {"run_id": "flaky", "new_run_id": "flaky-3", "from_step": "first"}
    await alice.answer("rerun_run", everything)
    await alice.answer("watch_run", {"run_id": "flaky-3"})
    assert file.read_text() == "x\nx\n"
    unknown = {"run_id": "flaky", "from_step": "frist"}
    assert await code_of(alice, "rerun_run", unknown) == "invalid_step"
    await waiting(alice, TWO, "unended")
    assert await code_of(alice, "rerun_run", {"run_id": "unended"}) == "run_not_ended"


async def test_a_run_id_is_one_run_of_the_same_workflow_and_inputs(alice: Caller) -> None:
    start = {"workflow": DEPLOY, "run_id": "same"}
    first = await alice.answer("start_run", start)
    second = await alice.answer("start_run", start)
    assert (first["is_new"], second["is_new"]) == (True, False)
    other = {**start, "inputs": {"version": "9"}}
    assert await code_of(alice, "start_run", other) == "run_conflict"
    assert await code_of(alice, "start_run", {**start, "workflow": TWO}) == "run_conflict"
    broken = {"workflow": "name: x\nsteps: []"}
    assert await code_of(alice, "start_run", broken) == "invalid_workflow"
    unfit = {"workflow": DEPLOY, "inputs": {"version": 3}}
    assert await code_of(alice, "start_run", unfit) == "invalid_inputs"


async def test_a_killed_backend_still_waits_and_goes_on_after_its_start(tmp_path: Path) -> None:
    environment = {"AGENT_SERVER_ISOLATION": "none"}
    async with backend(tmp_path, environment) as opened:
        caller = Caller(opened, "alice")
        await waiting(caller, TWO, "survivor")
        await waiting(caller, HOOKED, "hooked")
        hooks = [event for event in events_of(caller) if event["type"] == "wait_started"]
        await caller.answer("decide_approval", decide("survivor", "left"))
        os.kill(json.loads((tmp_path / LOCK_NAME).read_text())["pid"], signal.SIGKILL)
    async with backend(tmp_path, environment) as opened:
        caller = Caller(opened, "alice")
        run = await caller.answer("watch_run", {"run_id": "survivor", "until_rest": True})
        assert [one["step"] for one in run["approvals"]] == ["right"]
        again = await caller.answer("decide_approval", decide("survivor", "left", False))
        assert (again["approved"], again["is_first"]) == (True, False)
        await caller.answer("decide_approval", decide("survivor", "right"))
        assert (await caller.answer("watch_run", {"run_id": "survivor"}))["status"] == "success"
        token = hooks[0]["url_path"].rpartition("/")[2]
        await caller.answer(
            "deliver_webhook", {"token": token, "payload_json": json.dumps({"who": "late"})}
        )
        run = await caller.answer("watch_run", {"run_id": "hooked"})
        assert run["status"] == "success"
