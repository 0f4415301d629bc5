"""`agent-server secrets`, as people and programs call it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.agent_server.command_line import AGENT_SERVER, clean_environment, run_command
from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.secrets import SecretStore

KEY = "correct horse battery staple"
VALUE = "hunter2 is the value"
NO_KEY: dict[str, str] = {}


def secrets(
    folder: Path, *arguments: str, text: str = "", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    given = {"SECRET_KEY": KEY} if variables is None else variables
    words = (arguments[0], "--data-dir", str(folder / "data"), *arguments[1:])
    return run_command(folder, "secrets", *words, text=text, variables=given)


def stored(folder: Path) -> dict[str, str]:
    """What the store holds, read by the key."""
    entries = SecretStore(folder / "data", KEY).load()
    return {name: entry.read(name) for name, entry in entries.items()}


def test_a_secret_is_set_listed_and_removed_and_its_value_never_shown(tmp_path: Path) -> None:
    limits = ("--key", "alice", "--key", "bob", "--host", "*.Example.com")
    made = secrets(tmp_path, "set", "API_TOKEN", *limits, text=f"{VALUE}\n")
    assert (made.returncode, made.stdout, made.stderr) == (0, "API_TOKEN set\n", "")
    assert stored(tmp_path) == {"API_TOKEN": VALUE}

    listed = secrets(tmp_path, "list", "--json")
    assert json.loads(listed.stdout)["data"] == [
        {
            "name": "API_TOKEN",
            "source": "store",
            "keys": ["alice", "bob"],
            "hosts": ["*.example.com"],
        }
    ]
    shown = secrets(tmp_path, "list").stdout
    assert "API_TOKEN" in shown
    assert "alice bob" in shown
    assert VALUE not in listed.stdout + shown

    removed = secrets(tmp_path, "rm", "API_TOKEN", variables=NO_KEY)
    assert (removed.returncode, removed.stdout) == (0, "API_TOKEN removed\n")
    assert stored(tmp_path) == {}
    again = secrets(tmp_path, "rm", "API_TOKEN")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("Error: no secret 'API_TOKEN' is in the store ")


@pytest.mark.parametrize("value", [" two\nlines ü\n", "\n"])
def test_a_value_is_taken_as_it_is_but_for_one_newline(tmp_path: Path, value: str) -> None:
    assert secrets(tmp_path, "set", "A", text=f"{value}\n").returncode == 0
    assert stored(tmp_path) == {"A": value}


def test_the_value_is_asked_for_on_a_terminal_and_not_shown_there(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, *AGENT_SERVER, "secrets", "set", "A", "--data-dir"]
    child = subprocess.Popen(
        [*command, str(tmp_path / "data")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=clean_environment(tmp_path, {"SECRET_KEY": KEY}),
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        for prompt in (b"Value of A: ", b"Repeat for confirmation: "):
            while not said.endswith(prompt):
                said += terminal.read(1)
            terminal.write(f"{VALUE}\n".encode())
        # Linux tells the end of a terminal by an error.
        with contextlib.suppress(OSError):
            while piece := terminal.read(1024):
                said += piece
    assert child.wait(20) == 0
    assert stored(tmp_path) == {"A": VALUE}
    assert VALUE.encode() not in said
    assert b"A set" in said


def test_a_value_on_the_command_line_is_no_way_to_give_one(tmp_path: Path) -> None:
    refused = secrets(tmp_path, "set", "A", VALUE)
    assert refused.returncode == 2
    assert "unexpected extra argument" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "variables", "reason"),
    [
        (("set", "A"), "x", NO_KEY, "SECRET_KEY is not set; make a key by `openssl rand"),
        (("set", "A"), "x", {"SECRET_KEY": "short"}, "SECRET_KEY has fewer than 8 characters"),
        (("set", "--", "--host"), "x", None, "a secret's name is letters, digits and _"),
        (("set", "A"), "\n", None, "the value of A is empty"),
        (("set", "A"), "x" * 70_000, None, "the value of A is over 65536 bytes"),
        (("set", "A", "--host", "https://x.de"), "x", None, "'https://x.de' is no host"),
        (("set", "A", "--key", "a b"), "x", None, "'a b' is no owner"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    tmp_path: Path,
    arguments: tuple[str, ...],
    text: str,
    variables: Mapping[str, str] | None,
    reason: str,
) -> None:
    done = secrets(tmp_path, *arguments, text=text, variables=variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {reason}")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data" / "secrets.enc").exists()


def test_the_file_is_useless_with_another_key(tmp_path: Path) -> None:
    SecretStore(tmp_path / "data", KEY).set("A", VALUE, SecretRule())
    before = (tmp_path / "data" / "secrets.enc").read_bytes()
    for arguments in (("set", "B"), ("list",)):
        done = secrets(tmp_path, *arguments, text="x", variables={"SECRET_KEY": KEY[:-1]})
        assert done.returncode == 2
        assert "was made with another SECRET_KEY; give that one" in done.stderr
        assert "Traceback" not in done.stderr
        assert VALUE not in done.stdout + done.stderr
    assert (tmp_path / "data" / "secrets.enc").read_bytes() == before


def test_without_a_key_the_list_says_what_keeps_values_away(tmp_path: Path) -> None:
    SecretStore(tmp_path / "data", KEY).set("A", VALUE, SecretRule())
    [row] = json.loads(secrets(tmp_path, "list", "--json", variables=NO_KEY).stdout)["data"]
    assert row["fault"].endswith("secrets.enc, and SECRET_KEY is not set")


def test_all_sources_are_listed_and_a_name_of_another_one_is_not_set(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text(f"OF_FILE: {{value: {VALUE}, keys: [alice]}}\n")
    variables = {
        "SECRET_KEY": KEY,
        "AGENT_SERVER_SECRETS_FILE": str(path),
        "AGENT_SERVER_SECRET_OF_ENV": VALUE,
    }
    assert secrets(tmp_path, "set", "OF_STORE", text=VALUE, variables=variables).returncode == 0
    listed = secrets(tmp_path, "list", "--json", variables=variables)
    rows = {row["name"]: row["source"] for row in json.loads(listed.stdout)["data"]}
    assert rows == {"OF_ENV": "environment", "OF_FILE": "file", "OF_STORE": "store"}
    assert VALUE not in listed.stdout
    for name, place in {"OF_ENV": "AGENT_SERVER_SECRET_OF_ENV", "OF_FILE": str(path)}.items():
        refused = secrets(tmp_path, "set", name, text="x", variables=variables)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"Error: the secret '{name}' is in the ")
        assert place in refused.stderr
        removed = secrets(tmp_path, "rm", name, variables=variables)
        assert removed.returncode == 1
        assert place in removed.stderr


def test_a_name_in_two_places_is_told_by_the_list(tmp_path: Path) -> None:
    SecretStore(tmp_path / "data", KEY).set("A", VALUE, SecretRule())
    variables = {"SECRET_KEY": KEY, "AGENT_SERVER_SECRET_A": VALUE}
    [row] = json.loads(secrets(tmp_path, "list", "--json", variables=variables).stdout)["data"]
    assert row["fault"].startswith("the secret 'A' is in two places, the variable AGENT_SERVER_SEC")


def test_the_key_of_the_store_by_the_name_of_a_secret_is_a_mistake_that_is_told(
    tmp_path: Path,
) -> None:
    done = secrets(tmp_path, "list", variables={"AGENT_SERVER_SECRET_KEY": KEY})
    assert done.returncode == 2
    assert "AGENT_SERVER_SECRET_KEY: the key of the store of secrets is SECRET_KEY" in done.stderr
    assert KEY not in done.stderr


def test_a_module_of_that_name_where_the_command_is_called_is_not_run(tmp_path: Path) -> None:
    package = tmp_path / "workflow_backend"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import os; open('stolen', 'w').write(os.environ['SECRET_KEY'])"
    )
    program = Path(sys.executable).with_name("agent-server")
    done = subprocess.run(
        [program, "secrets", "list", "--data-dir", "data"],
        cwd=tmp_path,
        env=clean_environment(tmp_path, {"SECRET_KEY": KEY}),
        capture_output=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "stolen").exists()


def test_a_run_is_given_secrets_of_store_and_environment_through_the_whole_server(
    tmp_path: Path,
) -> None:
    SecretStore(tmp_path / "data", KEY).set("OF_STORE", VALUE, SecretRule(("local",)))
    step = {
        "name": "a",
        "run": 'echo "${#A} ${#B} $A $B"; env | grep -c SECRET_ || true',
        "env": {"A": "${{ secrets.OF_STORE }}", "B": "${{ secrets.OF_ENV }}"},
    }
    file = tmp_path / "reads.yaml"
    file.write_text(json.dumps({"name": "reads", "steps": [step]}))
    variables = {
        "SECRET_KEY": KEY,
        "AGENT_SERVER_SECRET_OF_ENV": "value-of-the-variable",
        "AGENT_SERVER_ISOLATION": "none",
    }
    done = run_command(
        tmp_path, "run", str(file), "--data-dir", str(tmp_path / "data"), variables=variables
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "    20 21 *** ***\n    0\n" in done.stdout
    assert VALUE not in done.stdout + done.stderr
