"""`runs artefacts` and `runs logs` against a real server."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_server.commands.lazy import CommandError
from agent_server.commands.run_files import below
from agent_server.terminal import PlainText
from tests.agent_server.command_line import clean_environment, run_command
from tests.running_server import RunningServer, ask, running_server

RUNS = "/v1/workflows/runs"
BUILD = r"""
name: build
steps:
  - name: compile
    run: |
      mkdir -p out; seq 200000 > out/big.txt; touch "$(printf 'out/tab\there')" 2>/dev/null
      echo x > 'out/a b%2F?#é'; seq 3000; printf '\033[2Jgone'
    artefacts: ["out/*"]
  - {name: report, depends: [compile], run: "echo compiled"}
"""
BIG = "".join(f"{number}\n" for number in range(1, 200_001))
LINES = "".join(f"{number}\n" for number in range(1, 3_001))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def built(server: RunningServer) -> str:
    answer = ask(server.url, "POST", RUNS, {"workflow": BUILD})
    run_id = str(answer.json["run_id"])
    assert ask(server.url, "GET", f"{RUNS}/{run_id}/events").status == 200
    return run_id


def test_artefacts_are_listed_and_fetched(
    tmp_path: Path, server: RunningServer, built: str
) -> None:
    options = ("--url", server.url)
    shown = run_command(tmp_path, "runs", "artefacts", built, *options)
    assert shown.returncode == 0, shown.stderr
    assert "out/big.txt" in shown.stdout
    listed = json.loads(
        run_command(tmp_path, "runs", "artefacts", built, "--json", *options).stdout
    )
    names = {item["name"] for item in listed}
    assert names == {"out/big.txt", "out/a b%2F?#é", "compile#1.log"}
    folder = tmp_path / "fetched"
    said = run_command(tmp_path, "runs", "artefacts", built, "--download", str(folder), *options)
    assert said.returncode == 0, said.stderr
    assert (folder / "compile/out/big.txt").read_text() == BIG
    assert (folder / "compile/out/a b%2F?#é").read_text() == "x\n"
    assert {
        str(path.relative_to(folder / "compile")) for path in folder.rglob("*") if path.is_file()
    } == names
    assert set(said.stdout.splitlines()) == {str(folder / "compile" / name) for name in names}


def test_logs_are_printed_whole_and_to_a_program_byte_for_byte(
    tmp_path: Path, server: RunningServer, built: str
) -> None:
    options = ("--url", server.url)
    said = run_command(tmp_path, "runs", "logs", built, *options)
    assert said.stdout == (
        f"== compile (attempt 1) ==\n{LINES}\x1b[2Jgone\n== report (attempt 1) ==\ncompiled\n"
    )
    one = run_command(
        tmp_path, "runs", "logs", built, "--step", "report", "--attempt", "1", *options
    )
    assert one.stdout == "compiled\n"
    followed = run_command(
        tmp_path, "runs", "logs", built, "--follow", "--step", "report", *options
    )
    assert followed.stdout == "== report (attempt 1) ==\ncompiled\n"


def test_logs_do_not_drive_a_terminal(tmp_path: Path, server: RunningServer, built: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "agent_server", "runs", "logs", built, "--url", server.url]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, env=clean_environment(tmp_path)
    ) as process:
        os.close(theirs)
        said = b""
        # Linux ends a terminal that nobody writes to any more with an error.
        while chunk := _read(ours):
            said += chunk
        assert process.wait(20) == 0
    os.close(ours)
    assert b"\x1b" not in said
    assert b"3000\r\ngone\r\n== report" in said


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""


def test_what_is_refused_is_one_line(tmp_path: Path, server: RunningServer, built: str) -> None:
    for command in (("artefacts", "none"), ("logs", "none"), ("logs", built, "--step", "none")):
        said = run_command(tmp_path, "runs", *command, "--url", server.url)
        assert said.returncode == 1
        assert said.stderr.count("\n") == 1
        assert "404" in said.stderr


def test_text_is_plain_however_it_is_cut() -> None:
    data = "one \x1b[31mred\x1b[0m é\n\x1b]0;title\x07two\r\nrest".encode()
    for size in range(1, len(data)):
        text = PlainText()
        pieces = [text.feed(data[at : at + size]) for at in range(0, len(data), size)]
        assert "".join([*pieces, text.end()]) == "one red é\ntwo\nrest"
    endless = PlainText()
    assert len(endless.feed(b"x" * 1_000_000)) > 900_000


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a/..", "", ".", "//x"])
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    with pytest.raises(CommandError):
        below("step", name)
    assert below("step[0]", "a/b") == Path("step[0]/a/b")
