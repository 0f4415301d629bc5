"""The whole server with `--engine kubiya`, against a server that speaks as Kubiya's API."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent_server.doctor_kubiya import check_kubiya
from agent_server.settings import load_settings
from tests.agent_server.command_line import KUBIYA, run_command
from tests.running_server import Answer, RunningServer, ask, running_server
from tests.workflow_backend.kubiya_api import KEY, KubiyaApi, Stream, data, kubiya_api

SOON = 20.0
HELLO = """\
name: hello
inputs: {who: {type: string, default: you}}
steps:
  - {name: greet, run: 'echo hi "$WHO"', env: {WHO: "${{ inputs.who }}"}, timeout: 10s}
outputs: {said: "${{ steps.greet.outputs.stdout }}"}
"""
RUNNING = data('{"type":"step_running","step":{"name":"greet"}}', "2:")
GOOD = Stream(
    [
        RUNNING,
        data('{"type":"heartbeat"}'),
        data('{"type":"step_completed","step":{"name":"greet","output":"hi you"}}'),
        data('{"finishReason":"stop"}', "d:"),
        data("[DONE]"),
    ]
)


def options(api: KubiyaApi) -> dict[str, str]:
    return {"KUBIYA_API_KEY": KEY, "KUBIYA_BASE_URL": api.url}


async def asked(server: RunningServer, method: str, path: str, body: Any = None) -> Answer:
    return await asyncio.to_thread(ask, server.url, method, path, body)


async def ended(server: RunningServer, run_id: str) -> dict[str, Any]:
    """The run once its events have ended."""
    await asyncio.wait_for(asked(server, "GET", f"/v1/workflows/runs/{run_id}/events"), SOON)
    found: dict[str, Any] = (await asked(server, "GET", f"/v1/workflows/runs/{run_id}")).json
    return found


async def test_a_chat_runs_its_workflow_there_and_shows_the_steps(tmp_path: Path) -> None:
    async with kubiya_api(GOOD) as api:
        with running_server(tmp_path, "--engine", "kubiya", environment=options(api)) as server:
            body = {
                "model": "kubiya-workflow-agent",
                "messages": [{"role": "user", "content": f"Run this:\n\n```yaml\n{HELLO}```\n"}],
            }
            answer = await asked(server, "POST", "/v1/chat/completions", body)
        events = answer.json["workflow_events"]
        assert [event["type"] for event in events] == [
            "workflow_started", "step_running", "step_complete", "workflow_complete",
        ]  # fmt: skip
        assert (events[2]["output"], events[3]["status"]) == ("hi you", "success")
        (started,) = api.started
        assert started.headers["Authorization"] == f"UserKey {KEY}"
        assert started.query["operation"] == "execute_workflow"
        assert started.body["parameters"] == {"who": "you"}
        assert KEY not in json.dumps(answer.json) + server.log


async def test_runs_are_started_shown_listed_and_cancelled_over_http(tmp_path: Path) -> None:
    async with kubiya_api(GOOD, Stream([RUNNING], ending="silence")) as api:
        with running_server(tmp_path, "--engine", "kubiya", environment=options(api)) as server:
            start = {"workflow": HELLO, "inputs": {"who": "me"}, "run_id": "r1"}
            first = await asked(server, "POST", "/v1/workflows/runs", start)
            assert first.status in {200, 201, 202}
            again = await asked(server, "POST", "/v1/workflows/runs", start)
            assert again.status == 200
            run = await ended(server, "r1")
            assert (run["status"], run["outputs"]) == ("success", {"said": "hi you"})
            await asked(server, "POST", "/v1/workflows/runs", {**start, "run_id": "r2"})
            for _ in range(2):
                await asyncio.wait_for(api.arrivals.get(), SOON)
            path = "/v1/workflows/runs/r2/cancel"
            cancelled = (await asked(server, "POST", path, {"reason": "enough"})).json
            assert cancelled["status"] == "cancelled"
            assert "may go on there" in cancelled["error"]
            listed = (await asked(server, "GET", "/v1/workflows/runs")).json
            assert [one["run_id"] for one in listed["data"]] == ["r2", "r1"]
        assert len(api.started) == 2


async def test_what_kubiya_lacks_is_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    asking = "name: a\nsteps: [{name: s, approval: {message: go on?}}]\n"
    unknown = HELLO + "runner: nowhere\n"
    async with kubiya_api(GOOD) as api:
        with running_server(tmp_path, "--engine", "kubiya", environment=options(api)) as server:
            for workflow, said in ((asking, "steps[0].approval"), (unknown, "gke")):
                answer = await asked(server, "POST", "/v1/workflows/runs", {"workflow": workflow})
                assert 400 <= answer.status < 500
                assert said in json.dumps(answer.json)
    assert api.started == []


async def test_runs_of_the_journal_stay_there_when_the_engine_changes(tmp_path: Path) -> None:
    async with kubiya_api(GOOD) as api:
        with running_server(tmp_path, environment=options(api)) as server:
            local = {"workflow": HELLO, "run_id": "here"}
            await asked(server, "POST", "/v1/workflows/runs", local)
            assert (await ended(server, "here"))["outputs"] == {"said": "hi you\n"}
        assert api.started == []
        with running_server(tmp_path, "--engine", "kubiya", environment=options(api)) as server:
            there = {"workflow": HELLO, "run_id": "there"}
            await asked(server, "POST", "/v1/workflows/runs", there)
            assert (await ended(server, "there"))["outputs"] == {"said": "hi you"}
        with running_server(tmp_path, environment=options(api)) as server:
            listed = (await asked(server, "GET", "/v1/workflows/runs")).json["data"]
            assert [one["run_id"] for one in listed] == ["there", "here"]
            run = (await asked(server, "GET", "/v1/workflows/runs/there")).json
            assert run["status"] == "success"
        assert len(api.started) == 1


async def test_a_server_that_is_killed_leaves_its_run_lost_and_does_not_send_it_again(
    tmp_path: Path,
) -> None:
    async with kubiya_api(Stream([RUNNING], ending="silence")) as api:
        with running_server(tmp_path, "--engine", "kubiya", environment=options(api)) as server:
            start = {"workflow": HELLO, "run_id": "r1"}
            await asked(server, "POST", "/v1/workflows/runs", start)
            await asyncio.wait_for(api.has_started.wait(), SOON)
            server.process.kill()
            await asyncio.to_thread(server.process.wait)
            await asyncio.wait_for(api.started[0].client_left.wait(), SOON)
        with running_server(tmp_path, "--engine", "kubiya", environment=options(api)) as server:
            run = await ended(server, "r1")
        assert run["status"] == "failed"
        assert "not started again" in run["error"]
        assert len(api.started) == 1


async def test_a_refused_key_is_told_without_the_key(tmp_path: Path) -> None:
    async with kubiya_api(GOOD) as api:
        wrong = {**options(api), "KUBIYA_API_KEY": "kub-not-the-right-one"}
        with running_server(tmp_path, "--engine", "kubiya", environment=wrong) as server:
            start = {"workflow": HELLO + "runner: local\n", "run_id": "r1"}
            await asked(server, "POST", "/v1/workflows/runs", start)
            run = await ended(server, "r1")
    assert run["status"] == "failed"
    assert "KUBIYA_API_KEY" in run["error"]
    assert "kub-not-the-right-one" not in json.dumps(run) + server.log


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "KUBIYA_API_KEY"),
        ({"KUBIYA_API_KEY": "k", "KUBIYA_BASE_URL": "http://api.kubiya.ai"}, "KUBIYA_BASE_URL"),
        ({"KUBIYA_API_KEY": "k", "KUBIYA_BASE_URL": "kubiya"}, "KUBIYA_BASE_URL"),
    ],
)
def test_what_the_engine_needs_is_said_before_the_server_starts(
    tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    arguments = ("--engine", "kubiya", "--provider", "offline", "--port", "0")
    for program in (("mcp", "agent"), ("serve",)):
        kind = {"program": KUBIYA} if program == ("mcp", "agent") else {}
        done = run_command(tmp_path, *program, *arguments, variables=variables, **kind)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("key", "runners", "state", "said"),
    [
        (KEY, ["a", "b"], "ok", "2 runners"),
        (KEY, {}, "broken", "no runner"),
        ("kub-not-the-right-one", ["a"], "broken", "refuses the key"),
    ],
)
async def test_the_doctor_says_whether_the_api_takes_the_key(
    key: str, runners: object, state: str, said: str
) -> None:
    async with kubiya_api(runners=runners) as api:
        settings = load_settings(
            kubiya_api_key=key, kubiya_base_url=api.url, engine="kubiya", provider="offline"
        )
        (finding,) = await asyncio.to_thread(lambda: list(check_kubiya(settings)))
    assert (finding.state, bool(finding.mend)) == (state, state == "broken")
    assert said in finding.detail
    assert key not in str(finding)


def test_the_doctor_finds_an_api_that_is_not_there(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    settings = load_settings(kubiya_api_key=KEY, kubiya_base_url=url, engine="kubiya")
    (finding,) = check_kubiya(settings)
    assert finding.state == "broken"
    assert "KUBIYA_BASE_URL" in finding.mend
    assert list(check_kubiya(load_settings(kubiya_api_key=KEY))) == []


def test_the_key_reaches_the_backend_for_this_engine_alone() -> None:
    here = load_settings(kubiya_api_key=KEY).backend_environment()
    assert KEY not in here.values()
    assert "KUBIYA_BASE_URL" not in here
    there = load_settings(kubiya_api_key=KEY, engine="kubiya").backend_environment()
    assert there["KUBIYA_API_KEY"] == KEY
    assert there["KUBIYA_BASE_URL"] == "https://api.kubiya.ai"
