import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from agent_server.accounts.keys import digest_of, parse_api_keys
from agent_server.cli import main
from tests.agent_server.command_line import KUBIYA, clean_environment, run_command

VALID = """\
name: hello
inputs:
  word: {type: string, required: true}
steps:
  - name: greet
    run: printf '%s' "$WORD"
    env: {WORD: "${{ inputs.word }}"}
    timeout: 10s
  - name: call
    depends: [greet]
    http: {url: "https://example.com/", headers: {Authorization: "${{ secrets.TOKEN }}"}}
    timeout: 10s
"""
HEAVY = ("mcp", "openai", "aiohttp", "starlette", "uvicorn", "pydantic", "rich")


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    file = tmp_path / "hello.yaml"
    file.write_text(VALID)
    return file


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom agent_server.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(tmp_path),
    ).stdout
    assert "HEAVY []" in said


def test_help_names_every_command(tmp_path: Path) -> None:
    said = run_command(tmp_path, "--help").stdout
    listed = set(re.findall(r"^  ([a-z-]+)  +\S", said, re.MULTILINE))
    assert listed >= {
        *("serve", "demo", "chat", "run", "validate", "plan", "runs", "doctor", "mcp", "hash-key")
    }


def test_the_list_of_commands_says_what_each_says_itself(tmp_path: Path) -> None:
    said = run_command(tmp_path, "--help").stdout
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        shown = re.escape(command.short_help or "")
        assert re.search(rf"^  {name} +{shown}$", said, re.MULTILINE), name


def test_kubiya_takes_the_guides_command(tmp_path: Path) -> None:
    said = run_command(tmp_path, "mcp", "agent", "--help", program=KUBIYA)
    assert said.returncode == 0
    for option in ("--provider", "--model", "--port", "--host", "--api-key"):
        assert option in said.stdout


def test_a_valid_file_is_called_valid(tmp_path: Path, workflow: Path) -> None:
    said = run_command(tmp_path, "validate", str(workflow))
    assert said.returncode == 0
    assert said.stdout.endswith(": valid\n")


def test_a_fault_is_told_with_its_place_and_its_fix(tmp_path: Path, workflow: Path) -> None:
    workflow.write_text(VALID.replace("depends:", "dependz:"))
    said = run_command(tmp_path, "validate", str(workflow))
    assert said.returncode == 1
    assert "steps[1].dependz" in said.stdout
    assert "Did you mean `depends`?" in said.stdout
    as_json = run_command(tmp_path, "validate", str(workflow), "--json")
    assert as_json.returncode == 1
    answer = json.loads(as_json.stdout)
    assert answer["valid"] is False
    assert answer["problems"][0]["path"] == "steps[1].dependz"


def test_a_plan_shows_order_inputs_hosts_and_secrets_and_runs_nothing(
    tmp_path: Path, workflow: Path
) -> None:
    said = run_command(tmp_path, "plan", str(workflow), "--input", "word=hi there")
    assert said.returncode == 0
    for part in ("greet", "after greet", "word = 'hi there'", "example.com", "TOKEN", "It can run"):
        assert part in said.stdout
    planned = json.loads(
        run_command(tmp_path, "plan", str(workflow), "--input", "word=hi", "--json").stdout
    )
    assert planned["levels"] == [["greet"], ["call"]]
    assert planned["can_run"] is True


def test_a_plan_without_a_required_input_cannot_run(tmp_path: Path, workflow: Path) -> None:
    said = run_command(tmp_path, "plan", str(workflow))
    assert said.returncode == 1
    assert "inputs.word" in said.stdout


def test_a_plan_is_held_to_a_file_of_rules(tmp_path: Path, workflow: Path) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text("rules: [{name: no-http, deny_step: step.kind == 'http', message: Not here.}]")
    arguments = ("plan", str(workflow), "--input", "word=hi", "--policy", str(rules))
    said = run_command(tmp_path, *arguments)
    assert said.returncode == 1
    assert "policy `no-http`: Not here. (call)" in said.stdout
    rules.write_text("rules: [{name: no-http, deny_step: step.knd == 'http'}]")
    said = run_command(tmp_path, *arguments)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "rule `no-http`: `step` has no `knd`; did you mean `step.kind`?" in said.stderr


def test_a_plan_shows_handlers_and_workflows_inside_below_the_steps(
    tmp_path: Path, workflow: Path
) -> None:
    workflow.write_text(
        """\
name: x
timeout: 1m
workflows: {inner: {steps: [{name: deep, run: echo deep}]}}
steps:
  - {name: ask, approval: {message: Go on?}}
  - {name: call, depends: [ask], foreach: [a, b], workflow: {ref: inner}}
on_failure: [{name: tell, run: echo bad}]
finally: [{name: tidy, run: echo tidy}]
"""
    )
    said = run_command(tmp_path, "plan", str(workflow)).stdout
    titles = ["If it fails", "tell [run]", "Last, whatever", "tidy [run]", "Workflow inner"]
    places = [said.index(title) for title in titles]
    assert places == sorted(places)
    assert "call [workflow]  after ask; for up to 2 items; if ask is approved" in said
    assert "inner/deep [run]  if ask is approved" in said


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_a_file_that_cannot_be_read_is_one_line_and_exit_code_2(
    tmp_path: Path, command: str
) -> None:
    said = run_command(tmp_path, command, str(tmp_path / "none.yaml"))
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "none.yaml" in said.stderr


def test_run_tells_faults_before_it_starts_anything(tmp_path: Path, workflow: Path) -> None:
    said = run_command(tmp_path, "run", str(workflow), "--input", "wrod=x")
    assert said.returncode == 1
    assert "Did you mean `word`?" in said.stdout
    assert not (tmp_path / ".local").exists()


def test_hash_key_makes_a_key_and_its_entry(tmp_path: Path) -> None:
    said = run_command(tmp_path, "hash-key", "--name", "alice", "--scopes", "chat+admin")
    key = said.stderr.strip().rsplit(" ", 1)[1]
    (entry,) = parse_api_keys([said.stdout.strip()])
    assert (entry.name, entry.sha256) == ("alice", digest_of(key))
    assert entry.scopes == {"chat", "admin"}


def test_hash_key_takes_a_key_from_stdin_and_never_repeats_it(tmp_path: Path) -> None:
    said = run_command(tmp_path, "hash-key", "--stdin", text="a-key-of-enough-length\n")
    assert digest_of("a-key-of-enough-length") in said.stdout
    assert "a-key-of" not in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--stdin",), "short\n"),
        (("--scopes", "fly"), ""),
        (("--name", "a b"), ""),
    ],
)
def test_hash_key_refuses_what_would_not_be_taken(
    tmp_path: Path, arguments: tuple[str, ...], text: str
) -> None:
    said = run_command(tmp_path, "hash-key", *arguments, text=text)
    assert said.returncode == 2
    assert said.stdout == ""


@pytest.mark.parametrize("command", [("chat", "hello"), ("runs", "list")])
def test_a_command_without_a_server_says_how_to_start_one(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    said = run_command(tmp_path, *command)
    assert said.returncode == 2
    assert "agent-server serve" in said.stderr


def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    said = run_command(tmp_path, "runs", "list", "--url", "http://127.0.0.1:9")
    assert said.returncode == 1
    assert said.stderr.startswith("Error: http://127.0.0.1:9 does not answer")
