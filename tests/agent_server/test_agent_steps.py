"""Agent steps of real runs: the server, its backend and a model that follows a script."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.agent_server.run_servers import (
    ALICE,
    BOB,
    CHAT,
    ENTRIES,
    RunServer,
    run_server,
    tool_messages,
    workflow_text,
)
from tests.running_server import Answer
from tests.scripted_model import Call, Turn

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND_SECONDS = 20
SCHEMA = {
    "type": "object",
    "properties": {"level": {"enum": ["low", "high"]}},
    "required": ["level"],
    "additionalProperties": False,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunServer]:
    folder = tmp_path_factory.mktemp("steps")
    async with run_server(folder, keys=ENTRIES, AGENT_SERVER_ISOLATION="none") as running:
        yield running


def agent(prompt: str, **task: Any) -> dict[str, Any]:
    """An agent step."""
    return {"name": "think", "agent": {"prompt": prompt, **task}}


async def execute(server: RunServer, workflow: str, key: str | None = ALICE) -> dict[str, Any]:
    """The run of a workflow whose agent step is answered by what the script says; its end."""
    steps = server.script

    def script(body: dict[str, Any]) -> Turn:
        """The one who asks in the chat, and the steps of the run that this starts."""
        newest = [m["content"] for m in body["messages"] if m["role"] == "user"][-1]
        if newest != "run this workflow":
            return steps(body)
        if tool_messages(body):
            return Turn(["done"])
        return Turn(calls=[Call("execute_workflow", {"workflow": workflow})])

    server.script = script
    asked = {"messages": [{"role": "user", "content": "run this workflow"}]}
    answer = await server.call("POST", CHAT, asked, key)
    assert answer.status == 200, answer.body
    events = answer.json["workflow_events"]
    return {**(await run_of(server, events[0]["run_id"], key)).json, "events": events}


async def run_of(server: RunServer, run_id: str, key: str | None = ALICE) -> Answer:
    return await server.call("GET", f"/v1/workflows/runs/{run_id}", key=key)


def step_of(run: dict[str, Any], name: str = "think") -> dict[str, Any]:
    return next(dict(step) for step in run["steps"] if step["name"] == name)


async def test_a_step_sums_up_another_one_as_its_schema_says(server: RunServer) -> None:
    server.say(Turn(["It is high."], usage=(50, 5)), Turn(['{"level": "high"}'], usage=(80, 8)))
    workflow = workflow_text(
        {"name": "read", "run": "echo 'disk is 91% full'"},
        {
            **agent("How full? ${{ steps.read.outputs.stdout }}", output_schema=SCHEMA),
            "depends": ["read"],
        },
        outputs={
            "level": "${{ steps.think.outputs.json.level }}",
            "tokens": "${{ steps.think.outputs.usage.total_tokens }}",
        },
    )
    run = await execute(server, workflow)
    assert run["status"] == "success", run
    assert run["outputs"] == {"level": "high", "tokens": 143}
    first, repair = [body for body in server.model.requests if "response_format" in body]
    assert first["messages"][-1]["content"] == "How full? disk is 91% full\n"
    assert first["response_format"]["json_schema"]["strict"] is True
    assert "no JSON" in repair["messages"][-1]["content"]


async def test_a_step_calls_the_tools_that_it_names(server: RunServer) -> None:
    server.say(
        Turn(calls=[Call("list_runs", {"limit": 5}), Call("cancel_run", {"run_id": "x"})]),
        Turn(["one run"]),
    )
    run = await execute(server, workflow_text(agent("Which runs?", tools=["list_runs"])))
    assert step_of(run)["output"] == "one run"
    asked, told = [body for body in server.model.requests if body["messages"][-1]["content"]][1:3]
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["list_runs"]
    listed, refused = tool_messages(told)
    assert run["run_id"] in listed
    assert refused == "No tool 'cancel_run'. Tools: list_runs."


async def test_a_tool_that_is_not_there_fails_the_step_and_names_the_others(
    server: RunServer,
) -> None:
    server.say()
    run = await execute(server, workflow_text(agent("Go.", tools=["fetch_page"])))
    error = step_of(run)["error"]
    assert run["status"] == "failed"
    assert "'fetch_page'" in error
    assert "list_runs" in error


async def test_a_step_that_has_used_its_budget_fails_and_says_which_field_to_raise(
    server: RunServer,
) -> None:
    listing = Turn(calls=[Call("list_runs")], usage=(400, 100))
    server.say(listing, listing, listing)
    task = agent("Which runs?", tools=["list_runs"], budget={"tokens": 900})
    run = await execute(server, workflow_text(task))
    assert run["status"] == "failed"
    assert "raise `budget.tokens` of the step" in step_of(run)["error"]
    assert "agent_limit" in step_of(run)["error"]


async def test_a_step_sees_the_runs_of_its_owner_alone(server: RunServer) -> None:
    server.say()
    secret = await execute(server, workflow_text({"name": "a", "run": "echo of bob"}), BOB)
    server.say(Turn(calls=[Call("get_run", {"run_id": secret["run_id"]})]), Turn(["seen"]))
    await execute(server, workflow_text(agent("Look.", tools=["get_run"])))
    [told] = [m for body in server.model.requests[-2:-1] for m in tool_messages(body)]
    assert "There is no run" in told
    assert "of bob" not in told


async def test_the_fourth_agent_above_one_another_is_refused(server: RunServer) -> None:
    def nested(level: int) -> str:
        return workflow_text(agent(f"level {level}", tools=["execute_workflow"]), name=f"w{level}")

    def script(body: dict[str, Any]) -> Turn:
        level = int(body["messages"][-1]["content"].split()[-1]) if not tool_messages(body) else 0
        if not level:
            return Turn(["ended: ", tool_messages(body)[-1]])
        return Turn(calls=[Call("execute_workflow", {"workflow": nested(level + 1)})])

    server.say()
    server.script = script
    run = await execute(server, nested(1))
    runs = [run]
    while "ended: " in (output := step_of(runs[-1])["output"]):
        inner = json.loads(output.removeprefix("ended: "))
        runs.append((await run_of(server, inner["run_id"])).json)
    assert [each["workflow"] for each in runs] == ["w1", "w2", "w3", "w4"]
    assert [each["status"] for each in runs] == ["success", "success", "success", "failed"]
    assert "stands below 3 agents" in step_of(runs[-1])["error"]
    assert len(server.model.requests) == 1 + 2 * 3 + 1


@pytest.mark.parametrize("setting", ["AGENT_SERVER_MAX_STEPS", "AGENT_SERVER_MAX_RUNS"])
async def test_a_run_that_an_agent_starts_does_not_wait_for_the_room_that_its_agent_holds(
    tmp_path: Path, setting: str
) -> None:
    inner = workflow_text({"name": "say", "run": "echo hi"})
    variables = {"AGENT_SERVER_ISOLATION": "none", setting: "1"}
    async with run_server(tmp_path, **variables) as server:
        server.say(Turn(calls=[Call("execute_workflow", {"workflow": inner})]), Turn(["well"]))
        task = {**agent("Outer.", tools=["execute_workflow"]), "timeout": "15s"}
        run = await execute(server, workflow_text(task), None)
    assert run["status"] == "success", step_of(run)["error"]


async def test_cancelling_the_run_ends_the_answer_at_the_model(server: RunServer) -> None:
    server.model.hanging.clear()
    server.model.left.clear()
    server.say(Turn(["thinking "], hangs=True))
    running = asyncio.create_task(execute(server, workflow_text(agent("Think for long."))))
    await asyncio.wait_for(server.model.hanging.wait(), BOUND_SECONDS)
    listed = await server.call("GET", "/v1/workflows/runs?status=running", key=ALICE)
    [run] = listed.json["data"]
    path = f"/v1/workflows/runs/{run['run_id']}/cancel"
    assert (await server.call("POST", path, {}, ALICE)).status == 200
    await asyncio.wait_for(server.model.left.wait(), BOUND_SECONDS)
    assert step_of(await running)["status"] == "cancelled"


async def test_an_error_of_the_model_reaches_the_result_in_words(server: RunServer) -> None:
    server.say()
    run = await execute(server, workflow_text(agent("Go.", model="anthropic/claude-opus-4-8")))
    assert "anthropic" in step_of(run)["error"]
    assert "(HTTP 400" in step_of(run)["error"]


async def test_no_token_is_in_the_log_the_data_folder_or_an_answer(server: RunServer) -> None:
    server.say(Turn(["well"]))
    run = await execute(server, workflow_text(agent("Go.")))
    assert step_of(run)["output"] == "well"
    feed = await server.call("GET", f"/v1/workflows/runs/{run['run_id']}/events", key=ALICE)
    assert b"step_complete" in feed.body
    places = [feed.body, json.dumps(run).encode(), server.server.log.encode()]
    places += [path.read_bytes() for path in server.server.data_dir.rglob("*") if path.is_file()]
    assert len(places) > 4
    for place in places:
        assert b"asr_" not in place


async def test_a_server_without_keys_runs_agent_steps_of_local_callers(tmp_path: Path) -> None:
    async with run_server(tmp_path, AGENT_SERVER_ISOLATION="none") as server:
        server.say(
            Turn(calls=[Call("execute_workflow", {"workflow": workflow_text(agent("Inner."))})]),
            Turn(["inner is well"]),
            Turn(["well"]),
        )
        task = agent("Outer.", tools=["execute_workflow"])
        run = await execute(server, workflow_text(task), None)
    assert step_of(run)["output"] == "well"
    inner = json.loads(tool_messages(server.model.requests[-2])[0])
    assert inner["steps"][0]["output"] == "inner is well"
