"""Groups of processes, and how commands are guarded."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from mcp_bridge.process_group import ProcessGroup, guarded_command


async def test_an_empty_group_is_swept_at_once() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-V", start_new_session=True)
    group = ProcessGroup(process.pid)
    await process.wait()
    assert await group.sweep(0, 0)
    group.send(9)


def test_a_group_that_only_a_zombie_is_left_of_counts_as_empty() -> None:
    # Its parent never asks for it, as in a container without an init.
    pid = os.posix_spawn(sys.executable, [sys.executable, "-V"], {}, setpgroup=0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert asyncio.run(ProcessGroup(pid).sweep(0, 0))
    finally:
        os.waitpid(pid, 0)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_privileges_are_not_gained_unless_allowed() -> None:
    assert "--no-new-privs" in guarded_command(["x"], allow_new_privileges=False)
    assert "--no-new-privs" not in guarded_command(["x"], allow_new_privileges=True)


def test_without_setpriv_the_command_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert guarded_command(["x", "y"], allow_new_privileges=True) == ["x", "y"]
    (tmp_path / "busybox").touch(mode=0o755)
    (tmp_path / "setpriv").symlink_to("busybox")
    assert guarded_command(["x", "y"], allow_new_privileges=True) == ["x", "y"]
