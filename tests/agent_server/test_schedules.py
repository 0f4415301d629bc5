"""Schedules over HTTP and by the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_server.command_line import run_command
from tests.conftest import ALICE, BOB, CAROL
from tests.running_server import Answer, RunningServer, ask, running_server

SCHEDULES = "/v1/workflows/schedules"
RUNS = "/v1/workflows/runs"
NIGHTLY = """\
name: nightly build
inputs: {what: {type: string, default: all}}
steps: [{name: build, run: 'echo "$WHAT"', env: {WHAT: "${{ inputs.what }}"}}]
schedule: {cron: "30 2 * * *", timezone: Europe/Berlin}
"""


def call(
    server: RunningServer, method: str, path: str = "", body: object = None, key: str = ALICE
) -> Answer:
    headers = {"Authorization": f"Bearer {key}"}
    return ask(server.url, method, f"{SCHEDULES}{path}", body, headers)


def test_a_schedule_is_registered_changed_paused_and_deleted(keyed_agent: RunningServer) -> None:
    made = call(keyed_agent, "POST", body={"workflow": NIGHTLY, "inputs": {"what": "x"}})
    assert made.status == 201
    assert made.headers["location"] == f"{SCHEDULES}/nightly-build"
    assert (made.json["object"], made.json["inputs"]) == ("workflow.schedule", {"what": "x"})
    again = call(keyed_agent, "POST", body={"workflow": NIGHTLY, "name": "nightly-build"})
    assert (again.status, again.json["inputs"]) == (200, {})
    listed = call(keyed_agent, "GET").json
    assert (listed["object"], [item["name"] for item in listed["data"]]) == (
        "list",
        ["nightly-build"],
    )
    assert call(keyed_agent, "POST", "/nightly-build/pause", {}).json["next_at"] is None
    assert call(keyed_agent, "POST", "/nightly-build/resume", {}).json["next_at"]
    shown = call(keyed_agent, "GET", "/nightly-build").json
    assert shown["schedule"]["timezone"] == "Europe/Berlin"
    assert call(keyed_agent, "DELETE", "/nightly-build").json["deleted"] is True
    assert call(keyed_agent, "GET", "/nightly-build").error["code"] == "schedule_not_found"


def test_a_trigger_begins_a_run(keyed_agent: RunningServer) -> None:
    call(keyed_agent, "POST", body={"workflow": NIGHTLY, "name": "t"})
    fired = call(keyed_agent, "POST", "/t/trigger", {})
    assert (fired.status, fired.json["state"]) == (201, "started")
    run = fired.headers["location"]
    assert run == f"{RUNS}/{fired.json['run_id']}"
    headers = {"Authorization": f"Bearer {ALICE}"}
    assert ask(keyed_agent.url, "GET", f"{run}/events", headers=headers).status == 200
    state = ask(keyed_agent.url, "GET", run, headers=headers).json
    assert (state["status"], state["scheduled_by"]) == ("success", "t")
    call(keyed_agent, "DELETE", "/t")


def test_a_trigger_beside_a_run_is_a_conflict(keyed_agent: RunningServer) -> None:
    slow = NIGHTLY.replace("""'echo "$WHAT"'""", "sleep 60")
    call(keyed_agent, "POST", body={"workflow": slow, "name": "slow"})
    fired = call(keyed_agent, "POST", "/slow/trigger", {}).json
    again = call(keyed_agent, "POST", "/slow/trigger", {})
    assert (again.status, again.error["code"]) == (409, "schedule_overlap")
    headers = {"Authorization": f"Bearer {ALICE}"}
    ask(keyed_agent.url, "POST", f"{RUNS}/{fired['run_id']}/cancel", {}, headers)
    call(keyed_agent, "DELETE", "/slow")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"workflow": "name: x\nsteps: [{name: a, run: 'true'}]"}, "no_schedule"),
        ({"workflow": NIGHTLY, "name": "a b"}, "invalid_name"),
        ({"workflow": NIGHTLY.replace("30 2", "99 2")}, "invalid_workflow"),
        ({"workflow": NIGHTLY, "inputs": {"other": 1}}, "invalid_inputs"),
        ({"name": "x"}, None),
        ({"workflow": NIGHTLY, "cron": "* * * * *"}, None),
    ],
)
def test_what_is_wrong_is_said(keyed_agent: RunningServer, body: object, code: str | None) -> None:
    answer = call(keyed_agent, "POST", body=body)
    assert answer.status == 400
    assert code is None or answer.json["error"]["code"] == code
    assert call(keyed_agent, "GET").json["data"] == []


def test_schedules_are_their_owners_and_need_the_scope_run(keyed_agent: RunningServer) -> None:
    call(keyed_agent, "POST", body={"workflow": NIGHTLY, "name": "mine"})
    for method, path in (
        ("GET", "/mine"),
        ("DELETE", "/mine"),
        ("POST", "/mine/pause"),
        ("POST", "/mine/resume"),
        ("POST", "/mine/trigger"),
    ):
        body = {} if method == "POST" else None
        answer = call(keyed_agent, method, path, body, BOB)
        assert (answer.status, answer.error["code"]) == (404, "schedule_not_found")
        if method != "GET":
            assert call(keyed_agent, method, path, body, CAROL).status == 403
    assert call(keyed_agent, "POST", body={"workflow": NIGHTLY}, key=CAROL).status == 403
    assert call(keyed_agent, "GET", key=BOB).json["data"] == []
    assert call(keyed_agent, "GET", "/" + "x" * 5_000).status == 404
    call(keyed_agent, "DELETE", "/mine")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def test_the_commands_do_the_same(tmp_path: Path, server: RunningServer) -> None:
    file = tmp_path / "nightly.yaml"
    file.write_text(NIGHTLY)

    def said(*arguments: str) -> str:
        done = run_command(tmp_path, "schedules", *arguments, "--url", server.url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert said("add", str(file), "--input", "what=x").startswith("nightly-build: next at 2")
    said("add", str(file), "--name", "other")
    listed = said("list")
    assert "Europe/Berlin" in listed
    assert "nightly-build" in listed
    assert [row["name"] for row in json.loads(said("list", "--json"))["data"]] == [
        "nightly-build",
        "other",
    ]
    assert json.loads(said("pause", "other"))["is_paused"] is True
    assert "paused" in said("list")
    assert json.loads(said("resume", "other"))["is_paused"] is False
    fired = json.loads(said("trigger", "nightly-build"))
    shown = json.loads(said("show", "nightly-build"))
    assert [firing["run_id"] for firing in shown["firings"]] == [fired["run_id"]]
    assert json.loads(said("rm", "other"))["deleted"] is True
    missing = run_command(tmp_path, "schedules", "show", "other", "--url", server.url)
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)


def test_a_server_that_only_plans_schedules_nothing(tmp_path: Path) -> None:
    environment = {"AGENT_SERVER_WORKFLOW_MODE": "plan"}
    with running_server(tmp_path, environment=environment) as server:
        answer = ask(server.url, "POST", SCHEDULES, {"workflow": NIGHTLY})
        assert (answer.status, answer.error["code"]) == (400, "workflow_mode")
