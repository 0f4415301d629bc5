"""Which process is at the other end of a connection from this machine, as far as Linux tells.

A server without keys takes everyone on its machine for its user, and a step with the network is on
its machine too. What tells them apart is whom the socket belongs to: `/proc/net/tcp` names user and
inode of the other end, `/proc/PID/fd` the processes that hold it, and their parents whether one of
them is below this server, or is an attempt at a step of any.

What this module promises: a process of a sandbox of ours is never taken for another, whatever it
does to its environment, its parents, its descriptors or the connection; where it cannot be told who
asks, the origin is "unknown". Without `/proc` (macOS) nothing can be told, and no step is in a
sandbox either: there everyone is "other".

Source: proc_pid_fd(5), proc_pid_stat(5), tcp(7); Linux, include/net/tcp_states.h.
"""

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

# "own": this server, what it has started, or a step of one; "other": the user, or another program.
Origin: TypeAlias = Literal["own", "other", "unknown"]
Address: TypeAlias = tuple[str, int]

# Where the protocol gives an application the peer of its connection.
PEER_EXTENSION: Final = "agent_server.peer"
# On every attempt at a step; see `workflow_backend/reaper.py`.
MARK: Final = b"AGENT_SERVER_ATTEMPT="

NO_INODE: Final = "0"
_ESTABLISHED, _CLOSE_WAIT = 1, 8


class LoopbackPeer:
    """The other end of one connection; what was found of it holds as long as that."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_other = False

    async def origin(self) -> Origin:
        """Who asks; looked up in a thread until it is known to be another."""
        if self._is_other:
            return "other"
        peer = self._transport.get_extra_info("peername")
        own = self._transport.get_extra_info("sockname")
        found = await asyncio.to_thread(origin_of, peer[:2], own[:2])
        # Of a connection that has been reset, the two addresses may be those of a new one by now.
        if found == "other" and not _is_open(self._transport.get_extra_info("socket")):
            return "unknown"
        self._is_other = found == "other"
        return found


def origin_of(peer: Address, own: Address) -> Origin:
    """Whose the socket is that is bound to `peer` and connected to `own`."""
    if sys.platform != "linux":
        return "other"
    found = _seen(peer, own)
    if found is not None:
        return found
    # A program may be hidden from us, as that of an ssh tunnel is, and a step may hide. Who holds
    # the connection after this look for steps has held it since before.
    return "unknown" if any(_attempts()) else _seen(peer, own) or "other"


def _seen(peer: Address, own: Address) -> Origin | None:
    """The origin, as far as processes show what they hold; None if none shows this socket."""
    found = _socket_of(peer, own)
    if found is None:
        return "unknown"
    user, inode = found
    if inode == NO_INODE:
        # Whoever asked has closed it, and then it counts as root's.
        return "unknown"
    # A sandbox has one user, the server's.
    if user != os.geteuid():
        return "other"
    holders = list(_holders(f"socket:[{inode}]"))
    if not holders:
        return None
    inherited = _marks(os.getpid())
    return "own" if any(_is_own(process, inherited) for process in holders) else "other"


def _socket_of(peer: Address, own: Address) -> tuple[int, str] | None:
    """User and inode of the socket, None if there is none (any more)."""
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        wanted = [_as_hex(address, family) for address in (peer, own)]
        for line in _read(f"/proc/net/{table}").splitlines()[1:]:
            fields = line.split()
            if fields[1:3] == wanted:
                return int(fields[7]), fields[9].decode()
    return None


def _as_hex(address: Address, family: socket.AddressFamily) -> bytes:
    """The address as the tables write it: 32 bits a word, as the machine orders them; the port."""
    host, port = address
    if family == socket.AF_INET6 and ":" not in host:
        host = f"::ffff:{host}"
    try:
        packed = socket.inet_pton(family, host)
    except OSError:
        return b""
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return b"%b:%04X" % (b"".join(b"%08X" % word for word in words), port)


def _holders(target: str) -> Iterator[int]:
    """The processes that hold the socket, of those that may be looked at."""
    for process in _processes():
        if target in _links(f"/proc/{process}/fd"):
            yield process


def _links(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    yield os.readlink(entry.path)  # noqa: PTH115 - as above
    except OSError:
        # It has ended, or is somebody else's.
        return


def _is_own(process: int, inherited: set[bytes]) -> bool:
    """Whether the process is this one or below it, or below an attempt at a step.

    `inherited` are the marks of this one, which may run in a step itself.
    """
    while process > 0:
        if process == os.getpid() or not _marks(process) <= inherited:
            return True
        above = _parent(process)
        if above is None:
            # It has ended meanwhile: nobody who waits for an answer.
            return True
        process = above
    return False


def _attempts() -> Iterator[int]:
    """The processes that attempts at steps begin with.

    They carry the mark; where bubblewrap is set-uid, they show no environment.
    """
    inherited = _marks(os.getpid())
    for process in _processes():
        if not _environment(process):
            if _parent(process) not in (None, os.getpid()) and _is_own(process, inherited):
                yield process
        elif not _marks(process) <= inherited:
            yield process


def _marks(process: int) -> set[bytes]:
    return {entry for entry in _environment(process).split(b"\0") if entry.startswith(MARK)}


def _environment(process: int) -> bytes:
    return _read(f"/proc/{process}/environ")


def _parent(process: int) -> int | None:
    # The name in brackets may hold anything; state and parent follow.
    stat = _read(f"/proc/{process}/stat").rpartition(b")")[2].split()
    return int(stat[1]) if stat else None


def _processes() -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib triples the time
        if name.isdigit():
            yield int(name)


def _is_open(connection: socket.socket) -> bool:
    try:
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:
        return False
    return state[0] in (_ESTABLISHED, _CLOSE_WAIT)


def _read(path: str) -> bytes:
    """The file, or nothing if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
