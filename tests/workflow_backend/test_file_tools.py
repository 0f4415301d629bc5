"""Files and outputs of runs, asked of the real backend: whole, in parts, by their owner alone."""

import asyncio
import base64
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from mcp.client import Client

from tests.workflow_backend.backends import Caller, backend, begun

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUILD = """
name: build
steps:
  - name: compile
    run: |
      mkdir -p out; seq 200000 > out/big.txt; printf ok > "out/a b.txt"
      seq 5000; test "$ATTEMPT" = 2
    artefacts: ["out/*"]
    retry: {limit: 1, interval: 10ms}
  - {name: report, depends: [compile], run: "echo compiled; printf done"}
"""
BIG = "".join(f"{number}\n" for number in range(1, 200_001)).encode()
LINES = "".join(f"{number}\n" for number in range(1, 5_001))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with backend(tmp_path_factory.mktemp("files")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def built(client: Client) -> dict[str, Any]:
    run = await Caller(client, "alice").answer("execute_workflow", {"workflow": BUILD})
    assert run["status"] == "success"
    return run


@pytest.fixture
def alice(client: Client) -> Caller:
    return Caller(client, "alice")


async def read(caller: Caller, run_id: str, step: str, name: str, part: int) -> bytes:
    content, sha256 = b"", None
    while True:
        arguments = {"run_id": run_id, "step": step, "name": name, "offset": len(content)}
        arguments |= {"max_bytes": part} | ({"sha256": sha256} if sha256 else {})
        answer = await caller.answer("read_artefact", arguments)
        content += base64.b64decode(answer["data"])
        sha256 = answer["sha256"]
        if len(content) == answer["size"]:
            assert hashlib.sha256(content).hexdigest() == sha256
            return content
        assert answer["data"]


async def log(caller: Caller, run_id: str, **arguments: Any) -> str:
    text, cursor = "", None
    while True:
        part = await caller.answer("read_log", {"run_id": run_id, "cursor": cursor, **arguments})
        text += part["text"]
        cursor = part["cursor"]
        if part["is_end"]:
            return text
        assert part["text"]


async def test_artefacts_are_listed_with_the_logs_of_long_outputs(
    alice: Caller, built: dict[str, Any]
) -> None:
    listed = await alice.answer("list_artefacts", {"run_id": built["run_id"]})
    assert listed["next_cursor"] is None
    found = {item["name"]: item for item in listed["artefacts"]}
    assert {name: (item["attempt"], item["is_log"]) for name, item in found.items()} == {
        "compile#1.log": (1, True),
        "out/a b.txt": (2, False),
        "out/big.txt": (2, False),
        "compile#2.log": (2, True),
    }
    assert found["out/big.txt"]["sha256"] == hashlib.sha256(BIG).hexdigest()
    assert found["out/big.txt"]["size"] == len(BIG)


async def test_a_list_goes_on_where_its_page_ended(alice: Caller, built: dict[str, Any]) -> None:
    names, cursor = [], None
    while True:
        arguments = {"run_id": built["run_id"], "limit": 3, "cursor": cursor}
        page = await alice.answer("list_artefacts", arguments)
        names += [item["name"] for item in page["artefacts"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(names) == len(set(names)) == 4


@pytest.mark.parametrize("part", [512 * 1024, 100_000])
async def test_an_artefact_is_read_in_parts(
    alice: Caller, built: dict[str, Any], part: int
) -> None:
    assert await read(alice, built["run_id"], "compile", "out/big.txt", part) == BIG
    assert await read(alice, built["run_id"], "compile", "out/a b.txt", part) == b"ok"


async def test_the_output_of_every_attempt_is_given_whole(
    alice: Caller, built: dict[str, Any]
) -> None:
    assert await log(alice, built["run_id"]) == (
        f"== compile (attempt 1) ==\n{LINES}== compile failed: exit code 1: 5000 ==\n"
        f"== compile (attempt 2) ==\n{LINES}"
        "== report (attempt 1) ==\ncompiled\ndone\n"
    )
    assert await log(alice, built["run_id"], step="compile", attempt=1) == LINES
    assert await log(alice, built["run_id"], step="report", attempt=1) == "compiled\ndone"


async def test_what_nobody_has_is_refused(alice: Caller, built: dict[str, Any]) -> None:
    of = {"run_id": built["run_id"]}
    for step, name in (("compile", "out/none"), ("none", "out/big.txt"), ("compile", "../x")):
        said = await alice.refusal("read_artefact", {**of, "step": step, "name": name})
        assert "has no artefact" in said
    wrong = {"step": "compile", "name": "out/big.txt", "sha256": "0" * 64}
    assert "not in the artefact folder" in await alice.refusal("read_artefact", {**of, **wrong})
    assert "No attempt of run" in await alice.refusal("read_log", {**of, "step": "none"})
    for tool in ("read_log", "list_artefacts"):
        assert "cursor is not valid" in await alice.refusal(tool, {**of, "cursor": "x"})
        assert "There is no run" in await alice.refusal(tool, {"run_id": "none"})


async def test_files_are_their_owners_alone(client: Client, built: dict[str, Any]) -> None:
    bob = Caller(client, "bob")
    of = {"run_id": built["run_id"]}
    file = {**of, "step": "compile", "name": "out/big.txt"}
    known = {**file, "sha256": hashlib.sha256(BIG).hexdigest()}
    for tool, arguments in (
        ("list_artefacts", of),
        ("read_log", of),
        ("read_artefact", file),
        ("read_artefact", known),
    ):
        assert "There is no run" in await bob.refusal(tool, arguments)
    # The content is his as well only through a run of his own.
    own = await bob.answer(
        "execute_workflow", {"workflow": "name: x\nsteps: [{name: a, run: 'true'}]"}
    )
    said = await bob.refusal("read_artefact", {**known, "run_id": own["run_id"]})
    assert "not in the artefact folder" in said


async def test_the_output_of_a_running_step_is_given_as_far_as_it_is(client: Client) -> None:
    alice = Caller(client, "alice")
    endless = (
        "name: endless\nsteps: [{name: wait, run: 'echo begun; exec sleep 600', timeout: 15m}]"
    )
    run = await alice.answer("start_run", {"workflow": endless})
    watching = asyncio.create_task(alice.call("watch_run", {"run_id": run["run_id"]}))
    await begun(alice)
    assert await log(alice, run["run_id"]) == "== wait (attempt 1) ==\nbegun\n"
    await alice.answer("cancel_run", {"run_id": run["run_id"]})
    await watching
    whole = await log(alice, run["run_id"])
    assert whole.startswith("== wait (attempt 1) ==\nbegun\n== wait failed: cancelled")


async def test_files_and_logs_outlive_a_killed_backend(tmp_path: Path) -> None:
    slow = BUILD + "  - {name: wait, depends: [report], run: 'echo begun; exec sleep 600'}\n"
    async with backend(tmp_path) as client:
        alice = Caller(client, "alice")
        run = await alice.answer("start_run", {"workflow": slow})
        watching = asyncio.create_task(alice.call("watch_run", {"run_id": run["run_id"]}))
        async with asyncio.timeout(20):
            while not any('"begun' in (message or "") for _, message in alice.progress):
                alice.reported.clear()
                await alice.reported.wait()
        (child,) = [
            process
            for process in psutil.Process().children(recursive=True)
            if "workflow_backend" in process.cmdline() and str(tmp_path) in str(process.environ())
        ]
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.gather(watching, return_exceptions=True)
    async with backend(tmp_path) as client:
        alice = Caller(client, "alice")
        assert await read(alice, run["run_id"], "compile", "out/big.txt", 512 * 1024) == BIG
        assert LINES in await log(alice, run["run_id"])
        await alice.answer("cancel_run", {"run_id": run["run_id"]})
