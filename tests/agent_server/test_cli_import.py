"""`agent-server import`: the workflow on standard output, the notes on standard error."""

from pathlib import Path

import pytest

from tests.agent_server.command_line import run_command
from workflow_backend.definition import parse_workflow

DATA = Path(__file__).parents[1] / "data" / "imports"


@pytest.mark.parametrize(
    ("file", "source", "name"),
    [("incident.json", "auto", "incident-response"), ("etl.yaml", "dagu", "etl")],
)
def test_a_file_is_printed_as_a_workflow_of_ours(
    tmp_path: Path, file: str, source: str, name: str
) -> None:
    said = run_command(tmp_path, "import", str(DATA / file), "--from", source)
    assert said.returncode == 0, said.stderr
    assert parse_workflow(said.stdout).name == name
    assert all(line.startswith("note: ") for line in said.stderr.splitlines())
    assert "steps[3].mailOnError" in said.stderr or "steps[4].executor" in said.stderr


def test_what_is_no_workflow_is_named_and_nothing_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("steps: []\n")
    said = run_command(tmp_path, "import", str(file))
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("error: steps: there are no steps.")


def test_a_file_that_is_not_there_ends_the_command(tmp_path: Path) -> None:
    said = run_command(tmp_path, "import", str(tmp_path / "none.yaml"))
    assert said.returncode == 2
    assert "cannot read" in said.stderr
