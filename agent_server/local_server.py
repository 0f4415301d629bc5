"""A server of the command's own: a child on a free port, gone when the command ends.

What this module promises: the child gets an allow-listed environment without any provider's key,
it ends with its command even if that is killed, and every wait has a bound.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from agent_server.data_dir import owner_of
from agent_server.server_client import ServerCallError, ServerClient

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
GRACE_SECONDS = 2
LOG_TAIL_LINES = 15


class LocalServerError(Exception):
    """The child did not become ready; the message holds the end of its log."""


@contextmanager
def local_server(data_dir: Path, environment: Mapping[str, str], log_path: Path) -> Iterator[str]:
    """Run a server with provider `offline` on `data_dir`, and give its URL once it is ready.

    Raises:
        LocalServerError: it ended, or was not ready in time.
    """
    command = [
        *(sys.executable, "-m", "agent_server", "serve", "--until-stdin-closes"),
        *("--provider", "offline", "--host", "127.0.0.1", "--port", "0"),
        *("--data-dir", str(data_dir)),
    ]
    # A session of its own, so that Ctrl-C reaches the command first, which then stops the child.
    with log_path.open("wb") as log:
        child = subprocess.Popen(  # noqa: S603 - our own module, by its absolute interpreter
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**environment, "AGENT_SERVER_SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS)},
            start_new_session=True,
        )
    try:
        yield _ready_url(child, data_dir, log_path)
    finally:
        _stop(child)


def _ready_url(child: subprocess.Popen[bytes], data_dir: Path, log_path: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise LocalServerError(f"the server ended as it began:\n{_tail(log_path)}")
        owner = owner_of(data_dir)
        if owner and owner.pid == child.pid and owner.url and _is_ready(owner.url):
            return owner.url
        time.sleep(POLL_SECONDS)
    raise LocalServerError(
        f"the server was not ready within {READY_SECONDS:.0f} s:\n{_tail(log_path)}"
    )


def _is_ready(url: str) -> bool:
    try:
        ServerClient(url).call("GET", "/health/ready", timeout_seconds=5)
    except ServerCallError:
        return False
    return True


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.stdin:
        child.stdin.close()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _tail(log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])
