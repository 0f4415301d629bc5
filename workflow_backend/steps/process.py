"""One process of a step, from its start to the end of the last process of its group.

Guarantees: it runs in a session of its own; the reaper knows its group before its first command
runs; after `close` nothing of its group is alive, whether it ended by itself, was stopped or was
cancelled; `stop` asks with TERM, waits a bounded time, then kills.
"""

import asyncio
import secrets
import signal
from collections.abc import Callable
from typing import cast

from typing_extensions import override

from workflow_backend.reaper import MARK_VARIABLE, kill_group
from workflow_backend.steps.isolation import Launch
from workflow_backend.steps.limits import StepLimits, launcher
from workflow_backend.steps.reaper_link import ReaperLink
from workflow_backend.steps.run_folder import StepSetupError

_DRAIN_SECONDS = 2.0
_KILL_SECONDS = 10.0
_SETUP_SECONDS = 0.5
_POLL_SECONDS = 0.01


def new_mark() -> tuple[str, str]:
    """The variable that marks every process of one attempt, and its value."""
    return MARK_VARIABLE, secrets.token_hex(16)


class StepProcess(asyncio.SubprocessProtocol):
    """A started process: `begin`, then `wait`, then always `close`."""

    def __init__(self, launch: Launch, mark: str, reaper: ReaperLink) -> None:
        self._launch = launch
        self._mark = mark
        self._reaper = reaper
        self._on_data: Callable[[bytes], None] = lambda _: None
        self._exited = asyncio.Event()
        self._drained = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None
        self._begun_at = 0.0

    async def start(self, limits: StepLimits, on_data: Callable[[bytes], None]) -> int:
        """Start the process behind its gate; its process id, which is its group's too.

        Raises:
            StepSetupError: The system cannot start it.
        """
        self._on_data = on_data
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *launcher(limits, self._launch.argv),
                env=dict(self._launch.env),
                cwd=self._launch.cwd,
                pass_fds=self._launch.pass_fds,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise StepSetupError(f"the step's process cannot be started: {error}") from error
        self._transport = transport
        self._launch.started()
        self._reaper.add(self.pid, self._mark)
        return self.pid

    def begin(self) -> None:
        """Open the gate: the limits are put on and the command runs."""
        gate = cast("asyncio.WriteTransport", self._open_transport.get_pipe_transport(0))
        self._begun_at = _now()
        gate.write(b"go\n")
        gate.close()

    async def wait(self) -> int:
        """The exit code, negative for a signal, once the process has ended."""
        await self._exited.wait()
        return self._open_transport.get_returncode() or 0

    async def stop(self, grace_seconds: float) -> None:
        """Ask every process to end; kill what is left after the grace time."""
        if self._transport is None:
            return
        # A sandbox that is still being built takes no signal, and as its command begins one may be
        # lost; so a young process gets TERM as soon as there is a group, and once more.
        setup_seconds = min(max(self._begun_at + _SETUP_SECONDS - _now(), 0), grace_seconds)
        if await self._ends_young(_now() + setup_seconds):
            return
        kill_group(self._launch.group(self.pid) or self.pid, signal.SIGTERM)
        if await self._ended_within(grace_seconds - setup_seconds):
            return
        self._kill()

    async def close(self) -> None:
        """Kill what is left of the group, take the rest of its output in, give all back."""
        try:
            if self._transport is None:
                return
            self._kill()
            self._reaper.remove(self.pid, self._mark)
            # What left the group may hold the pipe until the reaper has found it by its mark.
            await _bounded(self._exited, _KILL_SECONDS)
            await _bounded(self._drained, _DRAIN_SECONDS)
        finally:
            if self._transport:
                self._transport.close()
            self._launch.close()

    @property
    def pid(self) -> int:
        """The process id of the leader."""
        return self._open_transport.get_pid() or 0

    @property
    def _open_transport(self) -> asyncio.SubprocessTransport:
        if self._transport is None:
            raise RuntimeError("the process was not started")
        return self._transport

    async def _ends_young(self, deadline: float) -> bool:
        is_asked = False
        while not is_asked and _now() < deadline:
            if group := self._launch.group(self.pid):
                is_asked = kill_group(group, signal.SIGTERM)
            if await self._ended_within(deadline - _now() if is_asked else _POLL_SECONDS):
                return True
        return False

    async def _ended_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._exited.wait()
                await self._drained.wait()
        except TimeoutError:
            return False
        return True

    def _kill(self) -> None:
        kill_group(self.pid)

    @override
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Output came."""
        self._on_data(data)

    @override
    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Every process that held the output has closed it."""
        if fd == 1:
            self._drained.set()

    @override
    def process_exited(self) -> None:
        """The leader ended."""
        self._exited.set()


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _bounded(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
