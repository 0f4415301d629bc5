"""The backend's process: how it starts, refuses to start, and ends."""

import asyncio
import json
import sys
from pathlib import Path

import psutil
import pytest

from tests.workflow_backend.attempts import has_died
from tests.workflow_backend.backends import ROOT, Caller, backend, begun


async def test_when_the_server_ends_its_runs_go_on_at_the_next_start(tmp_path: Path) -> None:
    marker = tmp_path / "data" / "runs" / "survivor" / "work" / "go"
    text = json.dumps(
        {
            "name": "survivor",
            "steps": [
                {"name": "first", "run": "echo once >> first.txt"},
                {
                    "name": "second",
                    "depends": ["first"],
                    "run": "echo begun; while [ ! -e go ]; do sleep 0.05; done; cat first.txt",
                },
            ],
        }
    )
    async with backend(tmp_path / "data") as client:
        caller = Caller(client)
        calling = asyncio.create_task(
            caller.call("execute_workflow", {"workflow": text}, run_id="survivor")
        )
        await begun(caller)
    await asyncio.gather(calling, return_exceptions=True)
    marker.touch()
    async with backend(tmp_path / "data") as client:
        caller = Caller(client)
        run = await caller.answer("watch_run", {"run_id": "survivor"})
    assert run["status"] == "success"
    assert run["steps"][1]["output"] == "begun\nonce\n"
    events = [json.loads(message or "") for _, message in caller.progress]
    assert [event["seq"] for event in events] == list(range(1, run["last_seq"] + 1))


async def test_a_second_backend_on_the_same_folder_refuses_and_says_why(tmp_path: Path) -> None:
    async with backend(tmp_path / "data"):
        process, error = await _start_alone(tmp_path / "data")
    assert process.returncode == 2
    assert "in use by process" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AGENT_SERVER_MAX_RUNS", "many"),
        ("AGENT_SERVER_ISOLATION", "jail"),
        ("AGENT_SERVER_SECRETS_FILE", "/nowhere/secrets.yaml"),
        ("AGENT_SERVER_POLICY_FILE", "/nowhere/policy.yaml"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_one_line_and_exit_code_2(
    tmp_path: Path, variable: str, value: str
) -> None:
    process, error = await _start_alone(tmp_path / "data", {variable: value})
    assert process.returncode == 2
    assert len(error.strip().splitlines()) == 1
    assert value in error or variable in error


@pytest.mark.parametrize("stdin", ["/dev/null", str(ROOT / "pyproject.toml"), None])
async def test_an_input_that_carries_no_protocol_is_refused_at_once(
    tmp_path: Path, stdin: str | None
) -> None:
    redirect = "<&-" if stdin is None else f"<{stdin}"
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        f'exec "$0" -m workflow_backend {redirect}',
        sys.executable,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "AGENT_SERVER_DATA_DIR": str(tmp_path / "data")},
        cwd=ROOT,
    )
    _, error = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert error.decode().startswith("workflow backend: the standard input is ")
    assert len(error.splitlines()) == 1


async def test_sigterm_ends_the_backend_while_its_input_stays_open(tmp_path: Path) -> None:
    process = await _spawn(tmp_path / "data", {})
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_ping())
    await process.stdin.drain()
    assert await asyncio.wait_for(process.stdout.readline(), 20)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.skipif(not psutil.LINUX, reason="/proc and PR_SET_DUMPABLE are Linux's")
async def test_a_backend_whose_disk_is_full_ends_and_loses_nothing(tmp_path: Path) -> None:
    text = json.dumps({"name": "x", "steps": [{"name": "a", "run": "seq 20000"}]})
    async with backend(tmp_path / "data") as client:
        before = await Caller(client).answer("execute_workflow", {"workflow": text})
        [process] = [
            child
            for child in psutil.Process().children()
            if "workflow_backend" in child.cmdline() and child.is_running()
        ]
        # No file may grow any more; the system tells so as it tells of a full disk.
        process.rlimit(psutil.RLIMIT_FSIZE, (4_096, 4_096))
        calling = asyncio.create_task(
            Caller(client).call("execute_workflow", {"workflow": text}, run_id="unlucky")
        )
        assert await asyncio.to_thread(has_died, process.pid)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    async with backend(tmp_path / "data") as client:
        caller = Caller(client)
        assert (await caller.answer("get_run", {"run_id": before["run_id"]}))["steps"] == (
            before["steps"]
        )
        after = await caller.answer("execute_workflow", {"workflow": text}, run_id="unlucky")
    assert after["status"] == "success"


async def test_the_process_can_be_neither_dumped_nor_read_by_its_user(tmp_path: Path) -> None:
    process = await _spawn(tmp_path / "data", {})
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_ping())
    await process.stdin.drain()
    assert await asyncio.wait_for(process.stdout.readline(), 20)
    limits = await asyncio.to_thread(Path(f"/proc/{process.pid}/limits").read_text)
    assert "Max core file size        0 " in limits
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0
    script = (
        "import ctypes, os; from workflow_backend.process_guard import guard_process;"
        " guard_process(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), oct(os.umask(0)))"
    )
    guarded = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    output, _ = await asyncio.wait_for(guarded.communicate(), 20)
    # prctl(2): 3 is PR_GET_DUMPABLE.
    assert output.decode().split() == ["0", "0o77"]


def _ping() -> bytes:
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    return json.dumps(request).encode() + b"\n"


async def _spawn(data_dir: Path, environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workflow_backend",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "AGENT_SERVER_DATA_DIR": str(data_dir), **environment},
        cwd=ROOT,
    )


async def _start_alone(
    data_dir: Path, environment: dict[str, str] | None = None
) -> tuple[asyncio.subprocess.Process, str]:
    process = await _spawn(data_dir, environment or {})
    _, error = await asyncio.wait_for(process.communicate(), 20)
    return process, error.decode()
