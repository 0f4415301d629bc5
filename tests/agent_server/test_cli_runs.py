import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_server.data_dir import LOCK_NAME, owner_of
from tests.agent_server.command_line import run_command
from tests.running_server import RunningServer, running_server

WORKFLOW = """\
name: greeting
inputs:
  word: {type: string, default: hello}
steps:
  - name: greet
    run: printf 'I say %%s' "$WORD"%s
    env: {WORD: "${{ inputs.word }}"}
    timeout: 20s
outputs:
  said: ${{ steps.greet.outputs.stdout }}
"""
# ESC [2J clears a terminal.
HOSTILE = WORKFLOW % "; printf '\\033[2J'"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "greeting.yaml"
    path.write_text(WORKFLOW % "")
    return path


def run_ids(home: Path, server: RunningServer) -> list[str]:
    said = run_command(home, "runs", "list", "--json", "--data-dir", str(server.data_dir))
    return [row["run_id"] for row in json.loads(said.stdout)["data"]]


def test_run_goes_through_the_server_that_holds_the_folder(
    tmp_path: Path, file: Path, server: RunningServer
) -> None:
    before = run_ids(tmp_path, server)
    options = ("--data-dir", str(server.data_dir), "--input", "word=a 'b'")
    said = run_command(tmp_path, "run", str(file), *options)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "I say a 'b'" in said.stdout
    assert "greeting success" in said.stdout
    (run_id,) = set(run_ids(tmp_path, server)) - set(before)
    assert run_id in said.stdout


def test_run_without_a_server_runs_on_one_of_its_own_and_stops_it(
    tmp_path: Path, file: Path
) -> None:
    data_dir = tmp_path / "data"
    said = run_command(tmp_path, "run", str(file), "--data-dir", str(data_dir))
    assert said.returncode == 0, said.stdout + said.stderr
    assert "I say hello" in said.stdout
    assert owner_of(data_dir) is None
    # It ended by itself: a killed server leaves its address in the file.
    assert (data_dir / LOCK_NAME).read_bytes() == b""


def test_a_failed_workflow_is_exit_code_1(
    tmp_path: Path, file: Path, server: RunningServer
) -> None:
    file.write_text(WORKFLOW % "; exit 3")
    said = run_command(tmp_path, "run", str(file), "--data-dir", str(server.data_dir))
    assert said.returncode == 1
    assert "greeting failed" in said.stdout


def test_what_a_step_prints_never_drives_the_terminal(
    tmp_path: Path, file: Path, server: RunningServer
) -> None:
    file.write_text(HOSTILE)
    said = run_command(tmp_path, "run", str(file), "--data-dir", str(server.data_dir))
    assert "I say hello" in said.stdout
    assert "\x1b" not in said.stdout


def test_runs_are_listed_shown_followed_and_cancelled(
    tmp_path: Path, file: Path, server: RunningServer
) -> None:
    options = ("--data-dir", str(server.data_dir))
    run_command(tmp_path, "run", str(file), *options)
    run_id = run_ids(tmp_path, server)[0]
    assert run_id in run_command(tmp_path, "runs", "list", *options).stdout
    shown = json.loads(run_command(tmp_path, "runs", "show", run_id, *options).stdout)
    assert (shown["workflow"], shown["status"]) == ("greeting", "success")
    drawn = run_command(tmp_path, "runs", "show", run_id, "--graph", *options).stdout
    assert drawn.startswith("flowchart TD")
    assert ":::success" in drawn
    followed = run_command(tmp_path, "runs", "events", run_id, "--json", *options).stdout
    events = [json.loads(line) for line in followed.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, shown["last_seq"] + 1))
    assert events[-1]["type"] == "workflow_complete"
    rest = run_command(tmp_path, "runs", "events", run_id, "--json", "--after", "2", *options)
    assert json.loads(rest.stdout.splitlines()[0])["seq"] == 3
    cancelled = json.loads(run_command(tmp_path, "runs", "cancel", run_id, *options).stdout)
    assert cancelled["status"] == "success"


def test_an_unknown_run_is_one_line(tmp_path: Path, server: RunningServer) -> None:
    said = run_command(tmp_path, "runs", "show", "none", "--data-dir", str(server.data_dir))
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "404" in said.stderr


def test_chat_asks_once_and_prints_the_answer(tmp_path: Path, server: RunningServer) -> None:
    said = run_command(tmp_path, "chat", "hello", "--url", server.url)
    assert said.returncode == 0
    assert "workflow" in said.stdout
    piped = run_command(tmp_path, "chat", "--url", server.url, text="hello")
    assert piped.stdout == said.stdout


def test_chat_tells_a_model_that_is_not_there(tmp_path: Path, server: RunningServer) -> None:
    said = run_command(tmp_path, "chat", "hello", "--model", "openai/gpt", "--url", server.url)
    assert said.returncode == 1
    assert "openai" in said.stderr
    assert "Traceback" not in said.stderr


def test_demo_runs_a_health_check_and_leaves_nothing(tmp_path: Path) -> None:
    said = run_command(tmp_path, "demo", variables={"TMPDIR": str(tmp_path)})
    assert said.returncode == 0, said.stdout + said.stderr
    assert "system-health success" in said.stdout
    assert "Server stopped." in said.stdout
    assert list(tmp_path.iterdir()) == []
