"""Real children: their pipes, their environment, their end and that of all their descendants."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_bridge import Bridge
from mcp_bridge.child_process import ChildProcess
from mcp_bridge.plain_text import Redactor
from tests.mcp_bridge.bridges import PACING, child_spec, death, is_alive, running, state

ROOT = Path(__file__).parents[2]


async def pid_of(bridge: Bridge) -> int:
    return int((await bridge.call("pid", {})).text)


async def test_a_child_gets_the_listed_environment_and_nothing_else(tmp_path: Path) -> None:
    spec = child_spec(env={"PATH": os.defpath, "ONLY": "this"}, cwd=str(tmp_path))
    async with running(spec) as bridge:
        seen = json.loads((await bridge.call("environment", {})).text)
    # The interpreter itself may coerce the locale of its process.
    assert set(seen["env"]) - {"LC_CTYPE"} == {"PATH", "ONLY"}
    assert seen["cwd"] == str(tmp_path)


async def test_a_polite_child_leaves_no_grandchild_behind() -> None:
    async with running(child_spec()) as bridge:
        grandchild = int((await bridge.call("spawn", {})).text)
        assert is_alive(grandchild)
    assert not is_alive(grandchild)


async def test_a_crashed_child_leaves_no_grandchild_behind() -> None:
    async with running(child_spec()) as bridge:
        grandchild = int((await bridge.call("spawn", {})).text)
        pid = await pid_of(bridge)
        os.kill(pid, signal.SIGKILL)
        await death(grandchild)
        await state(bridge, "ready", not_pid=pid)


async def test_a_child_that_ignores_the_end_of_its_input_is_terminated() -> None:
    pacing = replace(PACING, stdin_grace_seconds=0.05)
    async with running(child_spec("--ignore-end-of-input", pacing=pacing)) as bridge:
        pid = await pid_of(bridge)
    assert not is_alive(pid)


async def test_a_child_that_ignores_sigterm_is_killed() -> None:
    pacing = replace(PACING, stdin_grace_seconds=0.05, term_grace_seconds=0.05)
    spec = child_spec("--ignore-end-of-input", "--ignore-sigterm", pacing=pacing)
    async with running(spec) as bridge:
        pid = await pid_of(bridge)
        grandchild = int((await bridge.call("spawn", {})).text)
    assert not is_alive(pid)
    assert not is_alive(grandchild)


async def test_a_stopped_child_is_killed() -> None:
    pacing = replace(PACING, stdin_grace_seconds=0.05, term_grace_seconds=0.05)
    async with running(child_spec(pacing=pacing)) as bridge:
        pid = await pid_of(bridge)
        os.kill(pid, signal.SIGSTOP)
    assert not is_alive(pid)


async def test_ending_goes_on_when_its_caller_is_cancelled_twice() -> None:
    pacing = replace(PACING, stdin_grace_seconds=0.2, term_grace_seconds=0.05)
    spec = child_spec("--ignore-end-of-input", "--ignore-sigterm", "--banner", "1", pacing=pacing)
    child = ChildProcess(spec, Redactor([]), lambda: None)
    await child.start()
    assert await child.read_line() == b"Welcome!"
    for _ in range(2):
        ending = asyncio.create_task(child.end())
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
    assert is_alive(child.pid)
    await child.end()
    assert not is_alive(child.pid)


async def test_a_flood_on_stderr_blocks_nobody() -> None:
    async with running(child_spec()) as bridge:
        result = await bridge.call("stderr", {"line": "x" * 99 + "\n", "times": 50_000})
    assert result.text == "done"


async def test_what_a_child_wrote_before_it_exited_is_not_lost() -> None:
    async with running(child_spec()) as bridge:
        result = await bridge.call("answer_and_exit", {"bytes": 200_000})
    assert result.text.endswith("[truncated, 200000 characters in all]")


async def test_what_is_still_to_be_read_when_a_child_exits_is_not_lost_either() -> None:
    async with running(child_spec()) as bridge:
        events: list[object] = []
        arguments = {"messages": ["event"] * 1000, "exit": True}
        result = await bridge.call("progress", arguments, on_progress=events.append)
        assert result.text == "done"
        assert len(events) == 1000


async def test_lines_that_nobody_reads_stop_the_child_and_not_us() -> None:
    child = ChildProcess(child_spec("--banner", "200000"), Redactor([]), lambda: None)
    await child.start()
    for _ in range(200_000):
        assert await child.read_line() == b"Welcome!"
        assert len(child._lines) < 50_000
    await child.end()
    assert await child.read_line() is None


async def test_big_lines_that_nobody_reads_are_not_held_without_bound() -> None:
    spec = child_spec(max_line_bytes=1024 * 1024)
    child = ChildProcess(spec, Redactor([]), lambda: None)
    await child.start()
    arguments = {"bytes": 1_000_000, "id_last": False}
    params = {"name": "big", "arguments": arguments}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    for _ in range(30):
        await child.write(json.dumps(call).encode() + b"\n")
    for _ in range(30):
        assert len(await child.read_line() or b"") > 1_000_000
        assert child._queued_bytes < 4 * 1024 * 1024
    await child.end()


PARENT = """
import asyncio, json, sys
from mcp_bridge.child_process import ChildProcess
from mcp_bridge.plain_text import Redactor
from tests.mcp_bridge.bridges import child_spec

async def main():
    flags = ("--ignore-end-of-input", "--ignore-sigterm", "--banner", "1")
    child = ChildProcess(child_spec(*flags), Redactor([]), lambda: None)
    await child.start()
    await child.read_line()
    if sys.argv[1] == "wait":
        print(child.pid, flush=True)
        await asyncio.Event().wait()
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "spawn"}}
    await child.write(json.dumps(call).encode() + b"\\n")
    answer = json.loads(await child.read_line())
    print(answer["result"]["content"][0]["text"], flush=True)
    sys.exit(0)

asyncio.run(main())
"""


def start_parent(argument: str, **environment: str) -> "tuple[subprocess.Popen[str], int]":
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PARENT, argument],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert parent.stdout is not None
    with parent.stdout:
        return parent, int(parent.stdout.readline())


async def test_children_die_when_the_interpreter_exits_without_stopping_them() -> None:
    # Without a PATH there is no setpriv, so it is not the kernel that ends them.
    parent, grandchild = start_parent("exit", PATH="")
    await asyncio.to_thread(parent.wait)
    await death(grandchild)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="the kernel is told by setpriv")
async def test_a_child_that_ignores_everything_dies_with_its_killed_parent() -> None:
    parent, child = start_parent("wait", PATH=os.defpath)
    parent.kill()
    await asyncio.to_thread(parent.wait)
    await death(child)
