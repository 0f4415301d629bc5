"""The backend as a real process over stdio: its tools, events, owners, cancels and its end."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
from mcp.client import Client

from agent_server.mcp_servers import HIDDEN_TOOLS
from tests.workflow_backend.backends import Caller, backend, begun

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOLS = {
    "compile_workflow", "execute_workflow", "get_workflow_runners", "get_integrations",
    "get_workflow_secrets", "plan_workflow", "get_workflow_schema", "list_templates",
    "get_template", "get_run", "list_runs", "cancel_run", "start_run", "watch_run", "rerun_run",
    "decide_approval", "list_approvals", "signal_run", "deliver_webhook", "list_artefacts",
    "read_artefact", "read_log", "import_workflow", "create_schedule", "list_schedules",
    "get_run_graph", "validate_step",
    "get_schedule", "pause_schedule", "resume_schedule", "trigger_schedule", "delete_schedule",
}  # fmt: skip
HELLO = """
name: hello
inputs: {who: {type: string, default: world}}
steps:
  - {name: greet, run: 'echo "hello $WHO"', env: {WHO: "${{ inputs.who }}"}, timeout: 20s}
  - name: shout
    depends: [greet]
    run: printf %s "$TEXT" | tr a-z A-Z
    env: {TEXT: "${{ steps.greet.outputs.stdout }}"}
    timeout: 20s
outputs: {said: "${{ steps.shout.outputs.stdout }}"}
"""
# Writes a line, so that a test knows it runs, and then goes on for longer than any test.
ENDLESS = """
name: endless
steps: [{name: wait, run: 'echo begun; exec sleep 600', timeout: 15m}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backend")
    secrets = path / "secrets.yaml"
    secrets.write_text("API_TOKEN: tell-nobody-4711\n")
    secrets.chmod(0o600)
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(folder: Path) -> AsyncIterator[Client]:
    environment = {"AGENT_SERVER_SECRETS_FILE": str(folder / "secrets.yaml")}
    async with backend(folder / "data", environment) as opened:
        yield opened


@pytest.fixture
def alice(client: Client) -> Caller:
    return Caller(client, "alice")


@pytest.fixture
def bob(client: Client) -> Caller:
    return Caller(client, "bob")


async def test_one_step_is_checked_without_its_workflow(alice: Caller) -> None:
    step = {"name": "b", "depends": ["a"], "run": "echo $X", "env": {"X": "${{ inputs.x }}"}}
    good = await alice.answer("validate_step", {"step": step, "inputs": ["x"]})
    assert (good["valid"], good["problems"]) == (True, [])
    bad = await alice.answer("validate_step", {"step": {**step, "retry": {"limits": 2}}})
    assert {problem["path"] for problem in bad["problems"]} >= {"retry.limits", "env.X"}
    text = await alice.answer("validate_step", {"step": "name: [", "inputs": []})
    assert not text["valid"]


async def test_a_run_is_drawn_with_what_its_steps_have_come_to(alice: Caller, bob: Caller) -> None:
    flow = """
name: nested
steps:
  - {name: good, run: 'true', timeout: 20s}
  - {name: call, workflow: {ref: inner}, depends: [good]}
workflows:
  inner: {steps: [{name: bad, run: exit 3, timeout: 20s}]}
"""
    run = await alice.answer("execute_workflow", {"workflow": flow})
    drawn = (await alice.answer("get_run_graph", {"run_id": run["run_id"]}))["mermaid"]
    for node in ('["good"]:::success', '[["call"]]:::failed', '["bad"]:::failed'):
        assert node in drawn
    await bob.refusal("get_run_graph", {"run_id": run["run_id"]})


async def test_every_tool_has_a_description_annotations_and_an_output_schema(
    client: Client,
) -> None:
    tools = (await client.list_tools()).tools
    assert {tool.name for tool in tools} == TOOLS
    for tool in tools:
        assert tool.description
        assert tool.annotations is not None
        assert tool.output_schema is not None


async def test_tools_for_the_server_alone_are_marked(client: Client) -> None:
    tools = (await client.list_tools()).tools
    hidden = {tool.name for tool in tools if (tool.meta or {}).get("ai.kubiya/hidden")}
    assert hidden == HIDDEN_TOOLS


async def test_compile_gives_the_normal_form_of_text_and_of_an_object(alice: Caller) -> None:
    as_text = await alice.answer("compile_workflow", {"workflow": HELLO})
    assert as_text["valid"]
    assert as_text["steps"] == ["greet", "shout"]
    again = await alice.answer("compile_workflow", {"workflow": as_text["workflow"]})
    assert again["workflow"] == as_text["workflow"]
    step = {"name": "a", "run": "true"}
    as_object = await alice.answer("compile_workflow", {"workflow": {"name": "x", "steps": [step]}})
    assert as_object["valid"]


async def test_compile_names_path_reason_and_fix_of_every_problem(alice: Caller) -> None:
    text = "name: x\nsteps: [{name: a, comand: ls}, {name: b, run: ls, depends: [c]}]"
    found = await alice.answer("compile_workflow", {"workflow": text})
    assert not found["valid"]
    assert found["problems"] == [
        {
            "path": "steps[0].comand",
            "reason": "`comand` is no key of a step.",
            "fix": "Did you mean `run`?",
        },
        {
            "path": "steps[1].depends[0]",
            "reason": "there is no step `c`.",
            "fix": "The steps are a, b.",
        },
    ]


async def test_a_key_that_is_twice_in_json_text_is_refused(alice: Caller) -> None:
    text = '{"name": "x", "name": "y", "steps": [{"name": "a", "run": "true"}]}'
    found = await alice.answer("compile_workflow", {"workflow": text})
    assert [problem["reason"] for problem in found["problems"]] == [
        "the key `name` is there twice."
    ]


async def test_executing_an_invalid_workflow_tells_the_model_how_to_mend_it(alice: Caller) -> None:
    text = await alice.refusal("execute_workflow", {"workflow": "name: x\nsteps: []"})
    assert "path: steps" in text
    assert "reason:" in text
    assert "fix:" in text


async def test_execute_reports_each_event_once_in_order_and_then_the_result(alice: Caller) -> None:
    run = await alice.answer("execute_workflow", {"workflow": HELLO, "inputs": {"who": "you"}})
    assert run["status"] == "success"
    assert run["outputs"] == {"said": "HELLO YOU\n"}
    assert [step["status"] for step in run["steps"]] == ["success", "success"]
    events = [json.loads(message or "") for _, message in alice.progress]
    assert [event["seq"] for event in events] == list(range(1, run["last_seq"] + 1))
    assert [progress for progress, _ in alice.progress] == [event["seq"] for event in events]
    kinds = [event["type"] for event in events if event["type"] != "step_output"]
    assert kinds == [
        "workflow_started",
        "step_running",
        "step_complete",
        "step_running",
        "step_complete",
        "workflow_complete",
    ]
    assert {event["run_id"] for event in events} == {run["run_id"]}


async def test_a_host_that_asks_for_no_events_is_told_in_sentences(client: Client) -> None:
    host = Caller(client, events=False)
    await host.answer("execute_workflow", {"workflow": HELLO})
    messages = [message for _, message in host.progress]
    assert messages[0] == "Workflow hello started"
    assert messages[-1] == "Workflow hello: success"


async def test_a_run_id_given_in_meta_makes_the_call_idempotent(alice: Caller) -> None:
    first = await alice.answer("execute_workflow", {"workflow": HELLO}, run_id="chosen-1")
    second = await alice.answer("execute_workflow", {"workflow": HELLO}, run_id="chosen-1")
    assert first["run_id"] == second["run_id"] == "chosen-1"
    assert first["created_at"] == second["created_at"]


async def test_a_run_id_that_another_run_has_is_refused(alice: Caller, bob: Caller) -> None:
    await alice.answer("start_run", {"workflow": HELLO, "run_id": "taken-1"})
    text = await bob.refusal("start_run", {"workflow": HELLO, "run_id": "taken-1"})
    assert "taken" in text


@pytest.mark.parametrize("run_id", ["../x", "", "a" * 129, "a b", "-x", "run-1.call"])
async def test_a_run_id_that_is_none_is_refused(alice: Caller, run_id: str) -> None:
    assert await alice.refusal("start_run", {"workflow": HELLO, "run_id": run_id})


async def test_a_started_run_is_watched_to_its_end_from_any_event(alice: Caller) -> None:
    started = await alice.answer("start_run", {"workflow": HELLO})
    run_id = started["run_id"]
    result = await alice.answer("watch_run", {"run_id": run_id, "after_seq": 0})
    assert result["status"] == "success"
    whole = [progress for progress, _ in alice.progress]
    assert whole == [float(seq) for seq in range(1, result["last_seq"] + 1)]
    alice.progress.clear()
    again = await alice.answer("watch_run", {"run_id": run_id, "after_seq": 3})
    assert again == result
    assert [progress for progress, _ in alice.progress] == whole[3:]


async def test_a_cancelled_call_cancels_its_run_and_ends_its_processes(alice: Caller) -> None:
    calling = asyncio.create_task(
        alice.call("execute_workflow", {"workflow": ENDLESS}, run_id="endless-1")
    )
    await begun(alice)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    run = await Caller(alice.client, "alice").answer("watch_run", {"run_id": "endless-1"})
    assert run["status"] == "cancelled"
    assert run["steps"][0]["status"] == "cancelled"


async def test_cancelling_the_watch_of_a_run_leaves_it_running(alice: Caller) -> None:
    await alice.answer("start_run", {"workflow": ENDLESS, "run_id": "endless-2"})
    watching = asyncio.create_task(alice.call("watch_run", {"run_id": "endless-2"}))
    await begun(alice)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert (await alice.answer("get_run", {"run_id": "endless-2"}))["status"] == "running"
    ended = await alice.answer("cancel_run", {"run_id": "endless-2", "reason": "seen enough"})
    assert ended["status"] == "cancelled"
    assert "seen enough" in ended["error"]


async def test_another_owners_run_does_not_exist_in_any_tool(alice: Caller, bob: Caller) -> None:
    await alice.answer("start_run", {"workflow": ENDLESS, "run_id": "private-1"})
    for tool in ("get_run", "watch_run", "cancel_run"):
        foreign = await bob.refusal(tool, {"run_id": "private-1"})
        unknown = await bob.refusal(tool, {"run_id": "private-2"})
        assert foreign.replace("private-1", "private-2") == unknown
    listed = await bob.answer("list_runs", {"limit": 200})
    assert "private-1" not in {run["run_id"] for run in listed["runs"]}
    assert (await alice.answer("get_run", {"run_id": "private-1"}))["status"] != "cancelled"
    await alice.answer("cancel_run", {"run_id": "private-1"})


async def test_without_an_owner_in_meta_runs_belong_to_local(client: Client) -> None:
    nobody, local = Caller(client), Caller(client, "local")
    run = await nobody.answer("execute_workflow", {"workflow": HELLO})
    assert (await local.answer("get_run", {"run_id": run["run_id"]}))["status"] == "success"


@pytest.mark.parametrize("owner", ["", "a\nb", "x" * 201, 7, ["a"]])
async def test_a_malformed_owner_is_refused(client: Client, owner: Any) -> None:
    assert "owner" in await Caller(client, owner).refusal("list_runs")


async def test_runs_are_listed_newest_first_in_pages_and_by_filter(client: Client) -> None:
    carol = Caller(client, "carol")
    for number in range(3):
        await carol.answer("execute_workflow", {"workflow": HELLO}, run_id=f"page-{number}")
    first = await carol.answer("list_runs", {"limit": 2})
    assert [run["run_id"] for run in first["runs"]] == ["page-2", "page-1"]
    rest = await carol.answer("list_runs", {"limit": 2, "cursor": first["next_cursor"]})
    assert [run["run_id"] for run in rest["runs"]] == ["page-0"]
    assert rest["next_cursor"] is None
    assert not (await carol.answer("list_runs", {"status": "failed"}))["runs"]
    assert len((await carol.answer("list_runs", {"workflow": "hello"}))["runs"]) == 3
    assert "cursor" in await carol.refusal("list_runs", {"cursor": "?"})


async def test_inputs_that_do_not_fit_are_refused_before_anything_runs(alice: Caller) -> None:
    arguments = {"workflow": HELLO, "inputs": {"who": 7, "whom": "x"}}
    text = await alice.refusal("execute_workflow", arguments)
    assert "inputs.whom" in text
    assert "Did you mean `who`?" in text
    assert "7 is no string" in text


async def test_a_workflow_that_still_needs_a_command_is_planned_but_not_run(alice: Caller) -> None:
    text = "name: x\nsteps: [{name: a, needs_command: Back up all databases}]"
    planned = await alice.answer("plan_workflow", {"workflow": text})
    assert planned["can_run"] is False
    assert planned["needs_command"] == ["a"]
    assert "needs a command" in await alice.refusal("execute_workflow", {"workflow": text})


async def test_an_unknown_runner_is_a_warning_in_the_plan_and_a_refusal_at_run_time(
    alice: Caller,
) -> None:
    text = HELLO.replace("name: hello", "name: hello\nrunner: moon")
    planned = await alice.answer("plan_workflow", {"workflow": text})
    assert any("moon" in warning for warning in planned["warnings"])
    assert "there is local" in await alice.refusal("execute_workflow", {"workflow": text})


async def test_secrets_are_listed_by_name_and_masked_in_results_and_events(alice: Caller) -> None:
    listed = (await alice.answer("get_workflow_secrets"))["secrets"]
    assert listed == [{"name": "API_TOKEN", "hosts": []}]
    text = """
name: leak
steps: [{name: leak, run: 'echo "token $TOKEN"', env: {TOKEN: "${{ secrets.API_TOKEN }}"}}]
outputs: {all: "${{ steps.leak.outputs.stdout }}"}
"""
    run = await alice.answer("execute_workflow", {"workflow": text})
    everything = json.dumps(run) + json.dumps(alice.progress)
    assert "token ***" in run["outputs"]["all"]
    assert "tell-nobody" not in everything


async def test_a_secret_that_the_server_lacks_is_told_before_the_run(alice: Caller) -> None:
    text = "name: x\nsteps: [{name: a, run: 'true', env: {T: '${{ secrets.NOPE }}'}}]"
    assert "no secret `NOPE`" in await alice.refusal("execute_workflow", {"workflow": text})


async def test_control_characters_of_a_step_reach_nobodys_screen(alice: Caller) -> None:
    script = r"printf '\033[2J\033]0;title\007ok\010\302\233x\342\200\256\n'"
    text = json.dumps({"name": "x", "steps": [{"name": "a", "run": script}]})
    run = await alice.answer("execute_workflow", {"workflow": text})
    assert run["steps"][0]["output"].startswith("ok")
    shown = json.dumps(run) + "".join(message or "" for _, message in alice.progress)
    for escaped in ("\\u001b", "\\u0007", "\\b", "\\u009b", "\\u202e"):
        assert escaped not in shown


async def test_a_long_output_keeps_head_and_tail_within_the_cap(alice: Caller) -> None:
    script = (
        "echo first; i=0; while [ $i -lt 9000 ]; do echo 0123456789; i=$((i+1)); done; echo end"
    )
    text = json.dumps({"name": "x", "steps": [{"name": "a", "run": script}]})
    run = await alice.answer("execute_workflow", {"workflow": text})
    output = run["steps"][0]["output"]
    assert output.startswith("first")
    assert output.rstrip().endswith("end")
    assert len(output) <= 17_000


async def test_the_schema_tool_gives_a_schema_that_accepts_its_example(alice: Caller) -> None:
    found = await alice.answer("get_workflow_schema")
    schema = found["json_schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert (await alice.answer("compile_workflow", {"workflow": found["example"]}))["valid"]


async def test_runners_and_integrations_say_what_can_be_used(alice: Caller) -> None:
    runners = await alice.answer("get_workflow_runners")
    assert [runner["name"] for runner in runners["runners"]] == ["local"]
    found = await alice.answer("get_integrations")
    programs = {program["name"]: program for program in found["integrations"]}
    assert programs["sh"]["available"]
    assert Path(programs["sh"]["path"]).is_absolute()
    kinds = {kind["name"] for kind in found["step_kinds"]}
    # Without a server in front there is nobody whom an agent step could ask.
    assert kinds == {"run", "python", "http", "approval", "wait", "workflow"}


async def test_templates_are_found_by_words_and_by_name(alice: Caller) -> None:
    found = await alice.answer("list_templates", {"query": "is my disk full?"})
    assert found["best"] == "disk-usage"
    assert found["templates"][0]["name"] == "disk-usage"
    assert len((await alice.answer("list_templates"))["templates"]) == 8
    text = await alice.refusal("get_template", {"name": "disk-usge"})
    assert "disk-usage" in text


async def test_runs_of_two_owners_at_once_keep_apart(alice: Caller, bob: Caller) -> None:
    calls = [
        caller.answer("execute_workflow", {"workflow": HELLO, "inputs": {"who": f"{name}{number}"}})
        for number in range(4)
        for name, caller in (("alice", alice), ("bob", bob))
    ]
    results = await asyncio.gather(*calls)
    said = [result["outputs"]["said"] for result in results]
    assert said == [f"HELLO {name}{n}\n".upper() for n in range(4) for name in ("alice", "bob")]
