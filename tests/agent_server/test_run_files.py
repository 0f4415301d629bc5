"""Artefacts and logs over HTTP: whole, harmless to a browser, for their owner alone."""

import hashlib
import http.client
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.conftest import ALICE, BOB, CAROL
from tests.running_server import RunningServer, ask, running_server

RUNS = "/v1/workflows/runs"
BUILD = """
name: build
steps:
  - name: compile
    run: |
      mkdir -p out; seq 300000 > out/big.txt; echo '<script>' > 'out/a "b" é.html'
      seq 5000; test "$ATTEMPT" = 2
    artefacts: ["out/*"]
    retry: {limit: 1, interval: 10ms}
  - {name: report, depends: [compile], run: "echo compiled; printf done"}
"""
BIG = "".join(f"{number}\n" for number in range(1, 300_001)).encode()
LINES = "".join(f"{number}\n" for number in range(1, 5_001))
HTML = 'out/a "b" é.html'


def of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def start(server: RunningServer, workflow: str, key: str = ALICE) -> str:
    answer = ask(server.url, "POST", RUNS, {"workflow": workflow}, of(key))
    assert answer.status == 201, answer.body
    return str(answer.json["run_id"])


def get(server: RunningServer, path: str, key: str = ALICE, method: str = "GET") -> Any:
    return ask(server.url, method, f"{RUNS}/{path}", headers=of(key))


def wait(server: RunningServer, run_id: str) -> None:
    """Until the run has ended."""
    assert get(server, f"{run_id}/events").status == 200


@pytest.fixture(scope="module")
def built(keyed_agent: RunningServer) -> str:
    run_id = start(keyed_agent, BUILD)
    wait(keyed_agent, run_id)
    return run_id


def test_artefacts_are_listed(keyed_agent: RunningServer, built: str) -> None:
    listed = get(keyed_agent, f"{built}/artefacts").json
    assert (listed["object"], listed["has_more"], listed["next_cursor"]) == ("list", False, None)
    assert {item["name"]: item["size"] for item in listed["data"]} == {
        "compile#1.log": len(LINES),
        "compile#2.log": len(LINES),
        "out/big.txt": len(BIG),
        HTML: 9,
    }
    page = get(keyed_agent, f"{built}/artefacts?limit=3").json
    rest = get(keyed_agent, f"{built}/artefacts?limit=3&cursor={page['next_cursor']}").json
    assert [*page["data"], *rest["data"]] == listed["data"]


def test_an_artefact_is_a_download_that_no_browser_shows(
    keyed_agent: RunningServer, built: str
) -> None:
    answer = get(keyed_agent, f"{built}/artefacts/compile/{quote(HTML)}")
    assert (answer.status, answer.body) == (200, b"<script>\n")
    headers = answer.headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == (
        "attachment; filename*=UTF-8''a%20%22b%22%20%C3%A9.html"
    )
    assert "sandbox" in headers["content-security-policy"]
    assert headers["etag"] == f'"{hashlib.sha256(answer.body).hexdigest()}"'


def test_a_large_artefact_comes_whole(keyed_agent: RunningServer, built: str) -> None:
    answer = get(keyed_agent, f"{built}/artefacts/compile/out/big.txt")
    assert answer.headers["content-length"] == str(len(BIG))
    assert answer.body == BIG
    head = get(keyed_agent, f"{built}/artefacts/compile/out/big.txt", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(BIG))


def test_logs_are_whole_and_plain_text(keyed_agent: RunningServer, built: str) -> None:
    answer = get(keyed_agent, f"{built}/logs")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.body.decode() == (
        f"== compile (attempt 1) ==\n{LINES}== compile failed: exit code 1: 5000 ==\n"
        f"== compile (attempt 2) ==\n{LINES}"
        "== report (attempt 1) ==\ncompiled\ndone\n"
    )
    alone = get(keyed_agent, f"{built}/logs?step=compile&attempt=2")
    assert alone.body.decode() == LINES
    assert get(keyed_agent, f"{built}/logs", method="HEAD").body == b""


def test_a_finished_run_is_followed_to_its_end_at_once(
    keyed_agent: RunningServer, built: str
) -> None:
    text = get(keyed_agent, f"{built}/logs?follow=true&step=report").body.decode()
    assert text == "== report (attempt 1) ==\ncompiled\ndone"


def test_a_running_run_is_followed_as_it_writes(keyed_agent: RunningServer) -> None:
    script = "echo begun; until test -e go; do sleep 0.05; done; echo gone"
    steps = f"[{{name: wait, run: '{script}'}}, {{name: other, run: 'sleep 60'}}]"
    run_id = start(keyed_agent, f"name: slow\nsteps: {steps}")
    connection = http.client.HTTPConnection(keyed_agent.url.removeprefix("http://"), timeout=20)
    connection.request("GET", f"{RUNS}/{run_id}/logs?follow=true&step=wait", headers=of(ALICE))
    response = connection.getresponse()
    read = b""
    while b"begun\n" not in read:
        read += response.read1(1000)
    assert read == b"== wait (attempt 1) ==\nbegun\n"
    # Without following, it is what there is now.
    assert get(keyed_agent, f"{run_id}/logs").body == read
    (work,) = keyed_agent.data_dir.glob(f"runs/{run_id}/work")
    (work / "go").touch()
    while b"gone\n" not in read:
        read += response.read1(1000)
    ask(keyed_agent.url, "POST", f"{RUNS}/{run_id}/cancel", {}, of(ALICE))
    assert response.read() == b""
    response.close()
    connection.close()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("artefacts/compile/none", 404, "artefact_not_found"),
        ("artefacts/none/out/big.txt", 404, "artefact_not_found"),
        ("artefacts/compile/../../x", 404, None),
        ("artefacts/compile/%2e%2e/%2e%2e/etc/passwd", 404, "artefact_not_found"),
        ("artefacts/compile/" + "x" * 5_000, 404, "artefact_not_found"),
        ("artefacts/" + "x" * 5_000 + "/x", 404, "artefact_not_found"),
        ("artefacts?cursor=x", 400, "invalid_cursor"),
        ("artefacts?cursor=" + "1" * 101, 400, None),
        ("artefacts?limit=0", 400, None),
        ("artefacts?limit=" + "9" * 5_000, 400, None),
        ("logs?step=none", 404, "log_not_found"),
        ("logs?step=" + "x" * 201, 400, None),
        ("logs?attempt=one", 400, None),
        ("logs?follow=perhaps", 400, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_said_in_our_own_words(
    keyed_agent: RunningServer, built: str, path: str, status: int, code: str | None
) -> None:
    answer = get(keyed_agent, f"{built}/{path}")
    assert answer.status == status
    assert code is None or answer.error["code"] == code
    assert "validation" not in answer.error["message"]


@pytest.mark.parametrize("path", ["artefacts", "artefacts/compile/out/big.txt", "logs"])
@pytest.mark.parametrize("query", ["", "?follow=true"])
def test_files_and_logs_are_their_owners_alone(
    keyed_agent: RunningServer, built: str, path: str, query: str
) -> None:
    answer = get(keyed_agent, f"{built}/{path}{query}", BOB)
    assert (answer.status, answer.error["code"]) == (404, "run_not_found")
    assert get(keyed_agent, f"none/{path}", ALICE).error["code"] == "run_not_found"
    assert ask(keyed_agent.url, "GET", f"{RUNS}/{built}/{path}").status == 401
    # Reading needs no more than the scope by which runs are read.
    assert get(keyed_agent, f"{built}/{path}", CAROL).status == 404


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path) as server:
        yield server


def test_a_download_that_breaks_off_is_no_whole_one(own: RunningServer) -> None:
    flow = "name: big\nsteps: [{name: a, run: 'truncate -s 100M big', artefacts: [big]}]"
    run_id = start(own, flow)
    wait(own, run_id)
    connection = http.client.HTTPConnection(own.url.removeprefix("http://"), timeout=20)
    connection.request("GET", f"{RUNS}/{run_id}/artefacts/a/big")
    response = connection.getresponse()
    assert response.length == 100 * 1024 * 1024
    assert response.read(1_000) == bytes(1_000)
    (content,) = own.data_dir.glob(f"artefacts/runs/{run_id}/*")
    content.unlink()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    response.close()
    connection.close()
    assert ask(own.url, "GET", f"{RUNS}/{run_id}").status == 200


def test_a_client_that_reads_nothing_or_goes_away_holds_little(own: RunningServer) -> None:
    flow = "name: big\nsteps: [{name: a, run: 'truncate -s 100M big', artefacts: [big]}]"
    run_id = start(own, flow)
    wait(own, run_id)
    before = psutil.Process(own.process.pid).memory_info().rss
    host, _, port = own.url.removeprefix("http://").partition(":")
    clients = [socket.create_connection((host, int(port))) for _ in range(5)]
    for client in clients:
        client.sendall(
            f"GET {RUNS}/{run_id}/artefacts/a/big HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        assert client.recv(1_000)
    answer = ask(own.url, "GET", f"{RUNS}/{run_id}/artefacts/a/big")
    assert len(answer.body) == 100 * 1024 * 1024
    grown = psutil.Process(own.process.pid).memory_info().rss - before
    for client in clients:
        client.close()
    assert grown < 64 * 1024 * 1024
    assert ask(own.url, "GET", "/health").status == 200


def test_files_are_there_after_the_server_was_killed(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        run_id = start(server, BUILD)
        wait(server, run_id)
        children = psutil.Process(server.process.pid).children(recursive=True)
        os.kill(server.process.pid, signal.SIGKILL)
        psutil.wait_procs(children, 20)
    with running_server(tmp_path) as server:
        assert get(server, f"{run_id}/artefacts/compile/out/big.txt").body == BIG
        assert LINES in get(server, f"{run_id}/logs").body.decode()
