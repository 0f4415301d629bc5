"""The reaper: a process that ends the steps of an engine that died.

Guarantee: when the pipe on its standard input ends, for whatever reason, every process group it
was told of is killed, and on Linux every process that carries the mark of one of their attempts,
though it made a session of its own. It ends by nothing else: signals meant for the engine's
terminal do not reach it.

Each line it reads is `+ <pgid> <mark>` (an attempt began) or `- <pgid> <mark>` (it ended: what
still carries its mark is killed). It runs as a script with `-I -S`, so this file imports next to
nothing; the engine imports its functions as well. Without `/proc` (macOS) birth marks are None and
processes are found by their group alone.
"""

import os
import signal
import sys
from collections.abc import Collection, Iterator

MARK_VARIABLE = "AGENT_SERVER_ATTEMPT"

_READ_BYTES = 65_536
_MAX_SWEEPS = 20


def serve(descriptor: int) -> None:
    """Read lines until the end of the pipe, then kill what did not end before."""
    groups: dict[str, int] = {}
    rest = b""
    while chunk := os.read(descriptor, _READ_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        ended = []
        for line in lines:
            sign, pgid, mark = line.decode("ascii").split(" ")
            if sign == "+":
                groups[mark] = int(pgid)
            else:
                groups.pop(mark, None)
                ended.append(mark)
        kill_marked(ended)
    for group in groups.values():
        kill_group(group)
    kill_marked(groups)


def kill_group(pgid: int, signal_number: int = signal.SIGKILL) -> bool:
    """Send a signal to every process of the group; False if there is none (any more)."""
    try:
        os.killpg(pgid, signal_number)
    except (ProcessLookupError, PermissionError):
        # PermissionError: only zombies are left (macOS), or the id is somebody else's by now.
        return False
    return True


def kill_marked(marks: Collection[str]) -> int:
    """Kill every process whose environment holds one of the marks; how many were found.

    Finds those that left their process group. Sweeps until a sweep finds nothing, because a
    process may fork while it is looked for.
    """
    entries = {f"{MARK_VARIABLE}={mark}".encode() for mark in marks}
    killed = 0
    for _ in range(_MAX_SWEEPS if entries else 0):
        found = list(_carrying(entries))
        if not found:
            break
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
            killed += 1
    return killed


def birth_of(pid: int) -> str | None:
    """What tells this process from a later one with the same id: boot and start time."""
    boot = _read("/proc/sys/kernel/random/boot_id")
    stat = _read(f"/proc/{pid}/stat")
    if not boot or not stat:
        return None
    # proc_pid_stat(5): the name in brackets may hold anything; field 22 is the start time.
    return f"{boot.decode().strip()}:{stat.rpartition(b')')[2].split()[19].decode()}"


def _carrying(entries: Collection[bytes]) -> Iterator[int]:
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib triples the start time
    except OSError:
        return
    for name in names:
        if name.isdigit() and any(
            entry in entries for entry in _read(f"/proc/{name}/environ").split(b"\0")
        ):
            yield int(name)


def _read(path: str) -> bytes:
    """The file, or nothing if it cannot be read (the process ended, or is another user's)."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib triples the start time
            return file.read()
    except OSError:
        return b""


def main() -> None:
    """Serve the pipe on standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    serve(sys.stdin.fileno())


if __name__ == "__main__":
    main()
