"""Runs are started, decided, signalled and repeated by the command line."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_server.data_dir import owner_of
from tests.agent_server.command_line import AGENT_SERVER, clean_environment, run_command
from tests.running_server import RunningServer, ask, running_server

WORKFLOW = """\
name: release
steps:
  - name: ask
    approval:
      message: Ship it?
      form: {replicas: {type: integer, default: 1}}
  - name: ship
    depends: [ask]
    run: echo "shipped $REPLICAS"
    env: {REPLICAS: "${{ string(steps.ask.outputs.values.replicas) }}"}
    timeout: 20s
"""
LISTENING = """\
name: listening
steps:
  - {name: listen, wait: {signal: go}}
"""
WAIT_SECONDS = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "release.yaml"
    path.write_text(WORKFLOW)
    return path


def started(home: Path, file: Path, server: RunningServer, *options: str) -> str:
    """The id of a run that asks."""
    said = run_command(home, "runs", "start", str(file), "--url", server.url, *options)
    assert said.returncode == 0, said.stderr
    run_id = said.stdout.strip()
    until_waiting(server, run_id)
    return run_id


def until_waiting(server: RunningServer, run_id: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if ask(server.url, "GET", f"/v1/workflows/runs/{run_id}").json["is_waiting"]:
            return
    raise AssertionError(f"run {run_id} does not wait")


def test_a_run_is_started_approved_and_its_value_used(
    tmp_path: Path, file: Path, server: RunningServer
) -> None:
    url = ("--url", server.url)
    run_id = started(tmp_path, file, server, "--run-id", "release-1")
    assert run_id == "release-1"
    listed = run_command(tmp_path, "runs", "approvals", *url).stdout
    assert "release-1/ask" in listed
    assert "Ship it?" in listed
    as_json = run_command(tmp_path, "runs", "approvals", "release-1", "--json", *url).stdout
    assert [one["approval_id"] for one in json.loads(as_json)["data"]] == ["release-1/ask"]
    wrong = run_command(tmp_path, "runs", "approve", "release-1/ask", "--value", "replicas=x", *url)
    assert wrong.returncode == 1
    assert "values.replicas" in wrong.stderr
    said = run_command(
        tmp_path, "runs", "approve", "release-1", "ask", "--value", "replicas=4", *url
    )
    assert (said.returncode, said.stdout) == (0, "release-1/ask approved by local\n")
    followed = run_command(tmp_path, "runs", "events", "release-1", *url).stdout
    assert "? ask asks" in followed
    assert "    agent-server runs approve release-1 ask\n" in followed
    assert "? ask approved by local" in followed
    assert "shipped 4" in followed


def test_a_decision_that_was_taken_before_is_said_and_the_other_one_is_exit_code_1(
    tmp_path: Path, file: Path, server: RunningServer
) -> None:
    run_id, url = started(tmp_path, file, server), ("--url", server.url)
    first = run_command(tmp_path, "runs", "reject", f"{run_id}/ask", "--reason", "no", *url)
    assert first.returncode == 0
    again = run_command(tmp_path, "runs", "reject", f"{run_id}/ask", *url)
    assert (again.returncode, again.stdout) == (0, f"{run_id}/ask rejected by local before\n")
    other = run_command(tmp_path, "runs", "approve", f"{run_id}/ask", *url)
    assert (other.returncode, other.stdout) == (1, f"{run_id}/ask rejected by local before\n")
    nothing = run_command(tmp_path, "runs", "approve", run_id, *url)
    assert nothing.returncode == 2
    assert "RUN STEP" in nothing.stderr


def test_a_signal_is_sent(tmp_path: Path, file: Path, server: RunningServer) -> None:
    file.write_text(LISTENING)
    run_id, url = started(tmp_path, file, server), ("--url", server.url)
    broken = run_command(tmp_path, "runs", "signal", run_id, "go", "--data", "{", *url)
    assert broken.returncode == 2
    said = run_command(tmp_path, "runs", "signal", run_id, "go", "--data", '{"build": 1}', *url)
    assert json.loads(said.stdout)["is_first"] is True
    followed = run_command(tmp_path, "runs", "events", run_id, *url).stdout
    assert f"    agent-server runs signal {run_id} go\n" in followed
    assert "listening success" in followed


def test_a_rejected_run_is_done_again(tmp_path: Path, file: Path, server: RunningServer) -> None:
    run_id, url = started(tmp_path, file, server), ("--url", server.url)
    run_command(tmp_path, "runs", "reject", f"{run_id}/ask", *url)
    run_command(tmp_path, "runs", "events", run_id, *url)
    said = run_command(tmp_path, "runs", "rerun", run_id, "--from", "ask", *url)
    assert said.returncode == 0, said.stderr
    until_waiting(server, said.stdout.strip())
    shown = json.loads(run_command(tmp_path, "runs", "show", said.stdout.strip(), *url).stdout)
    assert shown["rerun_of"] == run_id
    assert [one["message"] for one in shown["approvals"]] == ["Ship it?"]


def test_a_faulty_workflow_is_not_started_and_its_faults_are_said(
    tmp_path: Path, file: Path, server: RunningServer
) -> None:
    file.write_text("name: x\nsteps: [{name: a, comand: ls}]")
    said = run_command(tmp_path, "runs", "start", str(file), "--url", server.url)
    assert said.returncode == 1
    assert "Did you mean `run`?" in said.stderr


def run_in_background(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *AGENT_SERVER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(home),
    )


def lines_until(process: "subprocess.Popen[str]", mark: str) -> list[str]:
    """What a command prints up to a line that has the mark."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if mark in line:
            return lines
    raise AssertionError("\n".join(lines))


def test_run_waits_for_a_decision_that_another_terminal_takes(tmp_path: Path, file: Path) -> None:
    data_dir = tmp_path / "data"
    running = run_in_background(tmp_path, "run", str(file), "--data-dir", str(data_dir))
    try:
        command = lines_until(running, "agent-server runs approve")[-1].split()
        # As it is shown, on the server that lives as long as the other command.
        said = run_command(tmp_path, *command[1:], "--data-dir", str(data_dir))
        assert said.returncode == 0, said.stderr
        output, _ = running.communicate(timeout=WAIT_SECONDS)
    finally:
        running.kill()
    assert "? ask approved by local" in output
    assert "release success" in output
    assert running.returncode == 0
    assert owner_of(data_dir) is None


def test_ctrl_c_cancels_a_run_that_waits(tmp_path: Path, file: Path, server: RunningServer) -> None:
    running = run_in_background(tmp_path, "run", str(file), "--url", server.url)
    try:
        run_id = lines_until(running, "agent-server runs approve")[-1].split()[-2]
        until_waiting(server, run_id)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=WAIT_SECONDS)
    finally:
        running.kill()
    assert running.returncode == 1
    shown = ask(server.url, "GET", f"/v1/workflows/runs/{run_id}").json
    assert shown["status"] == "cancelled"
