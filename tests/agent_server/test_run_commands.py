"""Runs are started, decided, signalled and repeated over HTTP; a real server, killed and all."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_server.accounts.keys import digest_of
from tests.running_server import RunningServer, ask, running_server
from workflow_backend.engines.journal.lock import LOCK_NAME

RUNS = "/v1/workflows/runs"
ANNA, BERT, CAROL, DORA = (f"as-{letter * 40}" for letter in "wxyz")
KEYS = " ".join(
    (
        f"anna=sha256:{digest_of(ANNA)};scopes=chat+run+approve",
        f"bert=sha256:{digest_of(BERT)};scopes=chat+run+approve",
        # Another key of the same owner, which may run and not approve.
        f"carol=sha256:{digest_of(CAROL)};scopes=chat+run;owner=anna",
        f"dora=sha256:{digest_of(DORA)};scopes=chat;owner=anna",
    )
)
ENVIRONMENT = {"AGENT_SERVER_API_KEYS": KEYS, "AGENT_SERVER_ISOLATION": "none"}
DEPLOY = """
name: deploy
inputs: {version: {type: string, default: "1.0"}}
steps:
  - name: ask
    approval:
      message: Deploy ${{ inputs.version }}?
      form: {replicas: {type: integer, default: 2, minimum: 1}}
  - name: roll-out
    depends: [ask]
    run: echo "$REPLICAS"
    env: {REPLICAS: "${{ string(steps.ask.outputs.values.replicas) }}"}
    timeout: 20s
"""
TWO = """
name: two
steps:
  - {name: left, approval: {message: Left?}}
  - {name: right, approval: {message: Right?}}
  - {name: after, depends: [left, right], run: echo both, timeout: 20s}
"""
LISTEN = """
name: listen
steps:
  - {name: signalled, wait: {signal: deployed}}
  - {name: hooked, depends: [signalled], wait: {webhook: true}}
  - name: say
    depends: [hooked]
    run: echo "$WHO"
    env: {WHO: "${{ steps.hooked.outputs.payload[0].who }}"}
    timeout: 20s
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("commands"), environment=ENVIRONMENT) as running:
        yield running


def of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def start(
    server: RunningServer, run_id: str, workflow: object = DEPLOY, key: str = ANNA, **more: Any
) -> Any:
    body = {"workflow": workflow, "run_id": run_id, **more}
    return ask(server.url, "POST", RUNS, body, of(key))


def show(server: RunningServer, run_id: str, key: str = ANNA) -> dict[str, Any]:
    answer = ask(server.url, "GET", f"{RUNS}/{run_id}", headers=of(key))
    assert answer.status == 200, answer.body
    return dict(answer.json)


def decide(
    server: RunningServer,
    run_id: str,
    step: str,
    approved: bool = True,
    key: str = ANNA,
    **more: Any,
) -> Any:
    path = f"{RUNS}/{run_id}/approvals/{step}"
    return ask(server.url, "POST", path, {"approved": approved, **more}, of(key))


def events_until(
    server: RunningServer, run_id: str, is_last: Callable[[dict[str, Any]], bool], after: int = 0
) -> list[dict[str, Any]]:
    """The events of a run after a number, up to one that is waited for."""
    host, port = server.url.removeprefix("http://").split(":")
    found: list[dict[str, Any]] = []
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            f"GET {RUNS}/{run_id}/events HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {ANNA}\r\nLast-Event-ID: {after}\r\n\r\n".encode()
        )
        with connection.makefile("r", encoding="utf-8", newline="") as lines:
            for line in lines:
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: ")))
                    if is_last(found[-1]):
                        return found
    raise AssertionError(f"the feed ended: {found}")


def asked(server: RunningServer, run_id: str, *steps: str) -> list[dict[str, Any]]:
    """The events of a run until these approvals have been requested."""
    missing = set(steps)

    def is_last(event: dict[str, Any]) -> bool:
        if event["type"] == "approval_requested":
            missing.discard(event["step"])
        return not missing

    return events_until(server, run_id, is_last)


def ended(server: RunningServer, run_id: str) -> list[dict[str, Any]]:
    return events_until(server, run_id, lambda event: event["type"] == "workflow_complete")


def test_a_run_is_started_once_and_goes_on_by_itself(server: RunningServer) -> None:
    answer = start(server, "first", inputs={"version": "2"})
    assert answer.status == 201, answer.body
    assert answer.headers["location"] == f"{RUNS}/first"
    assert answer.json["run_id"] == "first"
    again = start(server, "first", inputs={"version": "2"})
    assert (again.status, again.json["created_at"]) == (200, answer.json["created_at"])
    other = start(server, "first", TWO)
    assert (other.status, other.error["code"]) == (409, "run_conflict")
    values = start(server, "first", inputs={"version": "3"})
    assert (values.status, values.error["code"]) == (409, "run_conflict")
    foreign = start(server, "first", key=BERT)
    assert (foreign.status, foreign.error["code"]) == (409, "run_conflict")


def test_a_workflow_may_be_an_object_and_the_run_id_the_servers(server: RunningServer) -> None:
    workflow = {"name": "object", "steps": [{"name": "a", "run": "echo a", "timeout": "20s"}]}
    answer = ask(server.url, "POST", RUNS, {"workflow": workflow}, of(ANNA))
    assert answer.status == 201
    assert ended(server, answer.json["run_id"])[-1]["status"] == "success"


def test_faults_of_a_workflow_are_told_by_path_reason_and_fix(server: RunningServer) -> None:
    text = "name: x\nsteps: [{name: a, comand: ls}]"
    answer = start(server, "faulty", text)
    assert answer.status == 400
    error = answer.json["error"]
    assert (error["code"], error["param"]) == ("invalid_workflow", "workflow")
    assert error["problems"] == [
        {
            "path": "steps[0].comand",
            "reason": "`comand` is no key of a step.",
            "fix": "Did you mean `run`?",
        }
    ]
    unfit = start(server, "faulty", inputs={"verson": "1"})
    assert unfit.status == 400
    assert unfit.json["error"]["code"] == "invalid_inputs"
    assert [one["path"] for one in unfit.json["error"]["problems"]] == ["inputs.verson"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "workflow"),
        ({"workflow": 3}, "workflow"),
        ({"workflow": DEPLOY, "inputs": []}, "inputs"),
        ({"workflow": DEPLOY, "run_id": "a/b"}, "run_id"),
        ({"workflow": DEPLOY, "runid": "a"}, "runid"),
    ],
    ids=["empty", "number", "inputs", "run-id", "unknown"],
)
def test_a_field_that_is_wrong_is_named(
    server: RunningServer, body: dict[str, Any], param: str
) -> None:
    answer = ask(server.url, "POST", RUNS, body, of(ANNA))
    assert (answer.status, answer.error["param"]) == (400, param)


def test_an_approval_is_shown_decided_and_told_in_the_events(server: RunningServer) -> None:
    start(server, "shown", inputs={"version": "7"})
    [*_, requested] = asked(server, "shown", "ask")
    assert requested["message"] == "Deploy 7?"
    assert requested["approval_id"] == "shown/ask"
    assert requested["form"] == {"replicas": {"type": "integer", "default": 2, "minimum": 1.0}}
    for path in (f"{RUNS}/shown/approvals", "/v1/workflows/approvals"):
        listed = ask(server.url, "GET", path, headers=of(ANNA)).json
        [one] = [one for one in listed["data"] if one["run_id"] == "shown"]
        assert (one["approval_id"], one["message"]) == ("shown/ask", "Deploy 7?")
    answer = decide(server, "shown", "ask", values={"replicas": 5}, reason="looks good")
    assert answer.status == 200
    decided = answer.json
    assert (decided["approved"], decided["by"], decided["is_first"]) == (True, "anna", True)
    events = ended(server, "shown")
    [told] = [event for event in events if event["type"] == "approval_decided"]
    assert (told["approved"], told["by"], told["reason"]) == (True, "anna", "looks good")
    run = show(server, "shown")
    assert run["status"] == "success"
    assert run["steps"][1]["output"] == "5\n"
    assert ask(server.url, "GET", f"{RUNS}/shown/approvals", headers=of(ANNA)).json["data"] == []


def test_deciding_twice_changes_nothing(server: RunningServer) -> None:
    start(server, "twice", TWO)
    asked(server, "twice", "left", "right")
    assert decide(server, "twice", "left").json["is_first"]
    second = decide(server, "twice", "left", False, key=ANNA)
    assert second.status == 200
    assert (second.json["approved"], second.json["is_first"]) == (True, False)
    assert decide(server, "twice", "right", False, reason="no").status == 200
    assert ended(server, "twice")[-1]["status"] == "failed"
    after = decide(server, "twice", "right")
    assert (after.json["approved"], after.json["reason"]) == (False, "no")


def test_nobody_decides_without_the_scope_or_for_another_owner(server: RunningServer) -> None:
    start(server, "guarded")
    asked(server, "guarded", "ask")
    for key, status, code in (
        (CAROL, 403, "permission_denied"),
        (DORA, 403, "permission_denied"),
        (BERT, 404, "run_not_found"),
    ):
        answer = decide(server, "guarded", "ask", key=key)
        assert (answer.status, answer.error["code"]) == (status, code)
    missing = decide(server, "unknown", "ask")
    assert (missing.status, missing.error["code"]) == (404, "run_not_found")
    assert show(server, "guarded", CAROL)["approvals"]
    listed = ask(server.url, "GET", "/v1/workflows/approvals", headers=of(BERT)).json["data"]
    assert "guarded" not in {one["run_id"] for one in listed}


def test_a_key_that_may_only_chat_starts_signals_and_repeats_nothing(
    server: RunningServer,
) -> None:
    start(server, "chatted")
    for path, body in (
        (RUNS, {"workflow": DEPLOY}),
        (f"{RUNS}/chatted/rerun", {}),
        (f"{RUNS}/chatted/signals/x", {}),
        (f"{RUNS}/chatted/cancel", {}),
    ):
        answer = ask(server.url, "POST", path, body, of(DORA))
        assert (answer.status, answer.error["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    ("step", "body", "status", "code"),
    [
        ("roll-out", {"approved": True}, 404, "approval_not_found"),
        ("nothing", {"approved": True}, 404, "approval_not_found"),
        ("ask", {"approved": True, "values": {"replicas": 0}}, 400, "invalid_values"),
        ("ask", {"approved": True, "values": {"extra": 1}}, 400, "invalid_values"),
        ("ask", {"approved": "yes"}, 400, None),
        ("ask", {}, 400, None),
    ],
    ids=["no-approval", "no-step", "value", "name", "no-boolean", "empty"],
)
def test_a_decision_that_does_not_fit_decides_nothing(
    server: RunningServer, step: str, body: dict[str, Any], status: int, code: str | None
) -> None:
    start(server, "unfit")
    asked(server, "unfit", "ask")
    answer = ask(server.url, "POST", f"{RUNS}/unfit/approvals/{step}", body, of(ANNA))
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    assert len(show(server, "unfit")["approvals"]) == 1


def test_an_approval_that_expired_is_a_conflict(server: RunningServer) -> None:
    text = DEPLOY.replace("message: Deploy", "timeout: 100ms\n      message: Deploy")
    start(server, "expired", text)
    events = ended(server, "expired")
    [requested] = [event for event in events if event["type"] == "approval_requested"]
    assert requested["expires"].endswith("Z")
    answer = decide(server, "expired", "ask")
    assert (answer.status, answer.error["code"]) == (409, "approval_not_open")


def test_signals_and_webhooks_let_a_run_go_on(server: RunningServer) -> None:
    start(server, "listens", LISTEN)
    events_until(server, "listens", lambda event: event["type"] == "wait_started")
    unknown = ask(server.url, "POST", f"{RUNS}/listens/signals/deploy", {}, of(ANNA))
    assert (unknown.status, unknown.error["code"]) == (404, "signal_not_found")
    sent = ask(server.url, "POST", f"{RUNS}/listens/signals/deployed", {"build": 1}, of(ANNA))
    assert (sent.status, sent.json["is_first"]) == (200, True)
    events = events_until(server, "listens", lambda event: "url_path" in event)
    path = events[-1]["url_path"]
    for wrong in (path[:-1], f"{path}A", "/v1/workflows/hooks/x.y", "/v1/workflows/hooks/AAAA"):
        refused = ask(server.url, "POST", wrong, {})
        assert (refused.status, refused.error["code"]) == (404, "hook_not_found")
    form = ask(server.url, "POST", path, b"who=me", {"content-type": "text/plain"})
    assert form.status == 415
    large = ask(server.url, "POST", path, ["x" * 300_000])
    assert large.status == 413
    assert ask(server.url, "GET", path).status == 405
    taken = ask(server.url, "POST", path, [{"who": "you"}])
    assert (taken.status, taken.json) == (200, {"object": "workflow.hook", "accepted": True})
    assert ended(server, "listens")[-1]["status"] == "success"
    assert show(server, "listens")["steps"][2]["output"] == "you\n"
    assert ask(server.url, "POST", path, [{"who": "me"}]).status == 200


def test_the_secret_of_a_webhook_is_in_no_log(server: RunningServer) -> None:
    secret = "s" * 60
    for method, path in (("POST", secret), ("POST", f"{secret}/more"), ("GET", secret)):
        body = {} if method == "POST" else None
        assert ask(server.url, method, f"/v1/workflows/hooks/{path}", body).status >= 400
    assert "/v1/workflows/hooks/..." in server.log
    assert secret not in server.log


def test_a_rerun_is_a_new_run_that_keeps_what_had_succeeded(
    server: RunningServer, tmp_path: Path
) -> None:
    text = f"""
name: flaky
steps:
  - {{name: first, run: 'echo x >> {tmp_path}/seen', timeout: 20s}}
  - {{name: second, depends: [first], run: 'test -e {tmp_path}/ok', timeout: 20s}}
"""
    start(server, "flaky", text)
    assert ended(server, "flaky")[-1]["status"] == "failed"
    (tmp_path / "ok").touch()
    path = f"{RUNS}/flaky/rerun"
    unknown = ask(server.url, "POST", path, {"from_step": "frist"}, of(ANNA))
    assert (unknown.status, unknown.error["param"]) == (400, "from_step")
    again = ask(server.url, "POST", path, {"run_id": "flaky-again"}, of(ANNA))
    assert (again.status, again.json["rerun_of"]) == (201, "flaky")
    assert ended(server, "flaky-again")[-1]["status"] == "success"
    assert (tmp_path / "seen").read_text() == "x\n"
    same = ask(server.url, "POST", path, {"run_id": "flaky-again"}, of(ANNA))
    assert (same.status, same.json["run_id"]) == (200, "flaky-again")
    foreign = ask(server.url, "POST", path, {}, of(BERT))
    assert (foreign.status, foreign.error["code"]) == (404, "run_not_found")
    start(server, "going-on", TWO)
    busy = ask(server.url, "POST", f"{RUNS}/going-on/rerun", {}, of(ANNA))
    assert (busy.status, busy.error["code"]) == (409, "run_not_ended")


def test_runs_inside_a_run_are_listed_by_it_alone(server: RunningServer) -> None:
    text = """
name: outer
workflows:
  inner: {steps: [{name: ask, approval: {message: Inner?}}]}
steps:
  - {name: call, workflow: {ref: inner}}
"""
    start(server, "outer", text)
    events_until(server, "outer", lambda event: "child_run_id" in event)
    asked(server, "outer.call", "ask")
    top = ask(server.url, "GET", f"{RUNS}?limit=200", headers=of(ANNA)).json["data"]
    assert "outer.call" not in {run["run_id"] for run in top}
    inner = ask(server.url, "GET", f"{RUNS}?parent=outer", headers=of(ANNA)).json["data"]
    assert [run["run_id"] for run in inner] == ["outer.call"]
    assert decide(server, "outer.call", "ask").json["parent_run_id"] == "outer"
    assert ended(server, "outer")[-1]["status"] == "success"


def test_a_server_that_only_plans_starts_nothing(tmp_path: Path) -> None:
    with running_server(tmp_path, environment={"AGENT_SERVER_WORKFLOW_MODE": "plan"}) as server:
        answer = ask(server.url, "POST", RUNS, {"workflow": TWO})
        assert (answer.status, answer.error["code"]) == (400, "workflow_mode")


def test_a_paused_run_outlives_kills_and_is_approved_after_them(tmp_path: Path) -> None:
    with running_server(tmp_path, environment=ENVIRONMENT) as server:
        start(server, "paused", TWO)
        asked(server, "paused", "left", "right")
        assert decide(server, "paused", "left").status == 200
        backend = json.loads((server.data_dir / LOCK_NAME).read_text())["pid"]
        os.kill(server.process.pid, signal.SIGKILL)
        os.kill(backend, signal.SIGKILL)
        server.process.wait(20)
    with running_server(tmp_path, environment=ENVIRONMENT) as server:
        assert [one["step"] for one in show(server, "paused")["approvals"]] == ["right"]
        assert not decide(server, "paused", "left", False).json["is_first"]
        assert decide(server, "paused", "right").json["is_first"]
        events = ended(server, "paused")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["status"] == "success"
    assert len([event for event in events if event["type"] == "approval_requested"]) == 2
