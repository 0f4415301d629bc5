"""One child process with its pipes, as lines in and lines out; it knows nothing of MCP.

What this module promises: a started child ends when `end` returns, and its whole process group with
it; its death is known at once, not at the next write; its stderr is always read, so that it can
never block on it; no line is held that is longer than allowed; nothing waits without a bound.
"""

import asyncio
import logging
import shutil
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from typing_extensions import override

from mcp_bridge.lines import LineAssembler, OversizeLine
from mcp_bridge.plain_text import Redactor
from mcp_bridge.process_group import ProcessGroup, guarded_command
from mcp_bridge.server_spec import ServerSpec
from mcp_bridge.stderr_tail import StderrTail
from streaming.errors import BridgeUnavailableError

_LOGGER: Final = logging.getLogger(__name__)
_MAX_QUEUED_LINES: Final = 1024
_FAIR_SHARE_LINES: Final = 16
# A grandchild may hold the pipe open for ever; what the child itself wrote is there by then.
_LAST_OUTPUT_SECONDS: Final = 0.2
_DRAIN_SECONDS: Final = 1.0
_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class ChildProcess(asyncio.SubprocessProtocol):
    """A child that speaks in lines over stdin and stdout.

    `on_death` is called once, synchronously, as soon as the child has exited or closed its stdout:
    before anybody who waits for a line learns that there are no more.
    """

    def __init__(self, spec: ServerSpec, redact: Redactor, on_death: Callable[[], None]) -> None:
        self._spec = spec
        self._on_death = on_death
        level = logging.INFO if spec.is_own else logging.DEBUG
        self.stderr = StderrTail(spec.name, redact, level)
        self._assembler = LineAssembler(spec.max_line_bytes)
        self._lines: deque[bytes | OversizeLine] = deque()
        self._has_news = asyncio.Event()
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._exited = asyncio.Event()
        self._drained = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._fault = ""
        self._was_asked_to_end = False
        self._is_dead = False
        self._is_at_end = False
        self._is_paused = False
        self._queued_bytes = 0
        self._taken = 0
        self.bytes_received = 0

    async def start(self) -> None:
        """Start the child.

        Raises:
            BridgeUnavailableError: the command or the working directory does not exist, or the
                system refuses to start it.
        """
        spec = self._spec
        command = _guarded(spec)
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *command,
                env=dict(spec.env),
                cwd=spec.cwd,
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "an argument holds a NUL byte"
            raise BridgeUnavailableError(f"its command could not be started: {reason}") from exc

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group."""
        return self._group.pid

    @property
    def last_words(self) -> list[str]:
        """What is known of why the child ended, for people; masked."""
        words = [self._fault] if self._fault else []
        code = self._transport.get_returncode()
        if code is not None and not self._was_asked_to_end:
            words.append(f"exit code {code}" if code >= 0 else f"killed by signal {-code}")
        if self.stderr.last_line:
            words.append(f"last words: {self.stderr.last_line}")
        return words

    @property
    def is_dead(self) -> bool:
        """Whether the child can answer nothing any more."""
        return self._is_dead

    async def read_line(self) -> bytes | OversizeLine | None:
        """The next line of stdout, or None after the last one."""
        self._taken += 1
        if self._taken % _FAIR_SHARE_LINES == 0:
            # A flood of lines must leave the loop to others.
            await asyncio.sleep(0)
        while not self._lines:
            if self._is_at_end:
                self._drained.set()
                return None
            self._has_news.clear()
            await self._has_news.wait()
        line = self._lines.popleft()
        self._queued_bytes -= _held_bytes(line)
        if not self._is_queue_full(share=2):
            self._resume_reading()
        return line

    async def drain(self) -> None:
        """Wait, for a second at most, until the reader has had the last line of a dead child."""
        await happens(self._drained, _DRAIN_SECONDS)

    async def write(self, data: bytes) -> None:
        """Write to stdin once there is room for it.

        Raises:
            BrokenPipeError: the child is dead, or its stdin is closed.
        """
        while not self._can_write.is_set() and not self._is_dead:
            await self._can_write.wait()
        if self._is_dead or self._stdin.is_closing():
            raise BrokenPipeError
        self._stdin.write(data)

    async def end(self) -> None:
        """End the child and everything in its group; a second call waits for the first.

        Close stdin, wait (not if it was given up), SIGTERM the group, wait, SIGKILL it. Cancelling
        the caller does not stop the ending.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        # Its own task: a shielded scope of the caller would not survive a second cancel.
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        pacing = self._spec.pacing
        self._was_asked_to_end = not self._is_dead
        self._resume_reading()
        self._stdin.close()
        if self._fault or not await happens(self._exited, pacing.stdin_grace_seconds):
            self._was_asked_to_end = True
            self._group.send(signal.SIGTERM)
            if not await happens(self._exited, pacing.term_grace_seconds):
                self._group.send(signal.SIGKILL)
                await happens(self._exited, pacing.kill_wait_seconds)
        if not await self._group.sweep(pacing.sweep_grace_seconds, pacing.kill_wait_seconds):
            _LOGGER.error("MCP server %s: process group %d survives", self._spec.name, self.pid)
        self._at_end()
        self._transport.close()

    def give_up(self, fault: str) -> None:
        """Take the child for dead, because it hangs or makes no sense; it is ended impolitely."""
        self._fault = fault
        self._drained.set()
        self._die()
        self._at_end()

    def kill_now(self) -> None:
        """SIGKILL the whole group, without waiting for anything."""
        self._group.send(signal.SIGKILL)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop: the child runs."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._group = ProcessGroup(self._transport.get_pid())
        self._stdin = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
        self._stdout = cast("asyncio.ReadTransport", self._transport.get_pipe_transport(1))

    @override
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Called by the loop: the child wrote something."""
        if fd != 1:
            self.stderr.feed(data)
            return
        self.bytes_received += len(data)
        if self._is_at_end or self._ending is not None:
            return
        lines = self._assembler.feed(data)
        self._lines.extend(lines)
        self._queued_bytes += sum(map(_held_bytes, lines))
        if self._is_queue_full() and not self._is_paused:
            self._is_paused = True
            self._stdout.pause_reading()
        self._has_news.set()

    @override
    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Called by the loop: the child closed a pipe."""
        if fd == 1:
            self._die()
            self._at_end()
        elif fd == 2:
            self.stderr.end()
        else:
            # Nobody reads what we write; whoever waits for room must learn it.
            self._can_write.set()

    @override
    def process_exited(self) -> None:
        """Called by the loop: the child exited; its last output may still be in the pipe."""
        self._exited.set()
        self._die()
        asyncio.get_running_loop().call_later(_LAST_OUTPUT_SECONDS, self._at_end_if_idle)

    @override
    def pause_writing(self) -> None:
        """Called by the loop: the child does not read fast enough."""
        self._can_write.clear()

    @override
    def resume_writing(self) -> None:
        """Called by the loop: the child has caught up."""
        self._can_write.set()

    def _die(self) -> None:
        if not self._is_dead:
            self._is_dead = True
            self._can_write.set()
            self._on_death()

    def _at_end(self) -> None:
        self._is_at_end = True
        self._has_news.set()

    def _at_end_if_idle(self) -> None:
        if self._is_paused and not self._is_at_end:
            asyncio.get_running_loop().call_later(_LAST_OUTPUT_SECONDS, self._at_end_if_idle)
        else:
            self._at_end()

    def _is_queue_full(self, share: int = 1) -> bool:
        too_many = len(self._lines) * share > _MAX_QUEUED_LINES
        return too_many or self._queued_bytes * share > 2 * self._spec.max_line_bytes

    def _resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._stdout.resume_reading()


def _held_bytes(line: bytes | OversizeLine) -> int:
    return len(line) if isinstance(line, bytes) else len(line.head) + len(line.tail)


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set, at the latest after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _guarded(spec: ServerSpec) -> list[str]:
    program = shutil.which(spec.command[0], path=spec.env.get("PATH", _DEFAULT_PATH))
    if program is None:
        raise BridgeUnavailableError(
            f"the command {Path(spec.command[0]).name!r} does not exist or is not executable: "
            "install it, or give its absolute path",
            code="command_not_found",
        )
    if spec.cwd is not None and not Path(spec.cwd).is_dir():
        raise BridgeUnavailableError(
            "its working directory does not exist: create it, or correct cwd",
            code="command_not_found",
        )
    may_gain = spec.is_own or spec.allow_new_privileges
    return guarded_command((program, *spec.command[1:]), allow_new_privileges=may_gain)
