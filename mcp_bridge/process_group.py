"""Process groups of children: none outlives this process if it can be helped.

Every group that is registered here is killed when the interpreter exits, however it came to that;
only SIGKILL of this process itself is beyond it (for that the kernel's parent-death signal is set
on the child, see `guarded_command`).
"""

import asyncio
import atexit
import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_POLL_SECONDS: Final = 0.02
_groups: Final[dict[int, int]] = {}


class ProcessGroup:
    """The group that a child leads, until nothing of it is left alive."""

    def __init__(self, leader_pid: int) -> None:
        self.pid = leader_pid
        _groups[leader_pid] = os.getpid()

    def send(self, number: signal.Signals) -> None:
        """Signal every process of the group; an empty group is no error."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def sweep(self, grace_seconds: float, kill_wait_seconds: float) -> bool:
        """End what the leader left behind: SIGTERM, then SIGKILL. Whether nothing is left."""
        for number, seconds in (
            (signal.SIGTERM, grace_seconds),
            (signal.SIGKILL, kill_wait_seconds),
        ):
            if not self.is_alive():
                break
            self.send(number)
            await self._wait_until_empty(seconds)
        is_empty = not self.is_alive()
        if is_empty:
            _groups.pop(self.pid, None)
        return is_empty

    async def _wait_until_empty(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # The kernel tells nobody when the last process of a group is gone.
                while self.is_alive():  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)

    def is_alive(self) -> bool:
        """Whether the group has a process that is no zombie."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return _has_living_member(self.pid)


def guarded_command(command: Sequence[str], *, allow_new_privileges: bool) -> list[str]:
    """The command, killed by the kernel when its parent dies, where `setpriv` can see to that.

    The parent is the thread that starts it. Without `allow_new_privileges` set-user-ID programs
    below it gain nothing.
    """
    setpriv = shutil.which("setpriv")
    # Busybox has a setpriv of its own, which does not know the option.
    if setpriv is None or Path(setpriv).resolve().name == "busybox":
        return list(command)
    privileges = [] if allow_new_privileges else ["--no-new-privs"]
    return [setpriv, "--pdeathsig", "KILL", *privileges, "--", *command]


def _has_living_member(group: int) -> bool:
    """Whether a process that is no zombie belongs to the group; yes where /proc cannot say.

    A container without an init never buries orphans, so a zombie must not count as alive.
    """
    if not Path("/proc/self/stat").exists():
        return True
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # After the name, which is in parentheses and may hold anything: state, ppid, pgrp.
            state, _, pgrp = stat.read_bytes().rpartition(b")")[2].split(maxsplit=3)[:3]
            if int(pgrp) == group and state not in b"ZX":
                return True
    return False


def _kill_all() -> None:
    for group, owner in _groups.items():
        # A fork of this process does not own its children.
        if owner == os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)


atexit.register(_kill_all)
