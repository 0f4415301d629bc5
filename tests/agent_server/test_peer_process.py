"""Who is at the other end of a connection: a process below this one, another, or nobody known."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent_server import peer_process
from agent_server.peer_process import origin_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells")

# It holds its connection until its standard input ends.
IMPORTS = "import os, socket, sys\n"
CONNECT = """
host, port = sys.argv[1], int(sys.argv[2])
asking = socket.create_connection((host, port))
"""
WAIT = "sys.stdin.read()\n"
# A process of its own: below whoever looks after orphans.
ORPHAN = "if os.fork():\n    os._exit(0)\nos.setsid()\n"


@contextlib.contextmanager
def asked_by(
    code: str, host: str = "127.0.0.1", *, mark: str = ""
) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """Our end of the connection that a child of this process makes."""
    environment = {"AGENT_SERVER_ATTEMPT": mark} if mark else {}
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with socket.create_server(
        (host if host == "::1" else "127.0.0.1", 0), family=family
    ) as listening:
        listening.settimeout(10)
        port = str(listening.getsockname()[1])
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", IMPORTS + code, host, port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        try:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                yield connection, child
        finally:
            child.communicate(timeout=10)


def origin(connection: socket.socket) -> str:
    return origin_of(connection.getpeername()[:2], connection.getsockname()[:2])


@pytest.mark.parametrize("host", ["127.0.0.1", "::ffff:127.0.0.1", "::1"])
def test_what_this_process_has_started_is_its_own(host: str) -> None:
    with asked_by(CONNECT + WAIT, host) as (connection, _):
        assert origin(connection) == "own"


def test_a_process_that_this_one_has_not_started_is_another() -> None:
    with asked_by(ORPHAN + CONNECT + WAIT) as (connection, child):
        child.wait(10)
        assert origin(connection) == "other"


def test_a_process_of_a_step_is_known_by_its_mark_wherever_it_was_started() -> None:
    with asked_by(ORPHAN + CONNECT + WAIT, mark="run/step#1") as (connection, child):
        child.wait(10)
        assert origin(connection) == "own"


def test_a_connection_of_this_process_itself_is_its_own() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()),
    ):
        connection, _ = listening.accept()
        with connection:
            assert origin(connection) == "own"


# What becomes of the connection before the child says so, or ends.
HIDING = {
    "it has ended": "",
    "it has closed it": "asking.close()\nprint(flush=True)\n" + WAIT,
    "the descriptor is under way": (
        "one, other = socket.socketpair()\n"
        "socket.send_fds(one, [b'x'], [asking.fileno()])\n"
        "asking.close()\n"
        "print(flush=True)\n" + WAIT
    ),
    "a thread has a table of its own": (
        "import ctypes, threading\n"
        "def hide():\n"
        "    ctypes.CDLL(None).unshare(0x400)\n"
        "    hidden.set()\n"
        "    sys.stdin.read()\n"
        "hidden = threading.Event()\n"
        "threading.Thread(target=hide).start()\n"
        "hidden.wait()\n"
        "asking.close()\n"
        "print(flush=True)\n"
    ),
}


@pytest.mark.parametrize("code", HIDING.values(), ids=HIDING.keys())
def test_where_nobody_is_seen_to_hold_the_connection_it_is_not_known_who_asks(code: str) -> None:
    with asked_by(CONNECT + code, mark="run/step#1") as (connection, child):
        assert child.stdout is not None
        child.stdout.readline()
        assert origin(connection) == "unknown"


@pytest.mark.parametrize("code", HIDING.values(), ids=HIDING.keys())
def test_while_no_step_runs_who_hides_is_another_unless_it_has_left(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_process, "_attempts", lambda: iter(()))
    with asked_by(CONNECT + code) as (connection, child):
        assert child.stdout is not None
        child.stdout.readline()
        has_left = code in (HIDING["it has ended"], HIDING["it has closed it"])
        assert origin(connection) == ("unknown" if has_left else "other")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_a_process_of_another_user_is_another() -> None:
    code = "os.setuid(65534)\nasking = socket.socket()\n"
    code += "asking.connect((sys.argv[1], int(sys.argv[2])))\n"
    with asked_by(code + WAIT) as (connection, _):
        assert origin(connection) == "other"
