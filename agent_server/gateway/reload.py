"""The watcher of the gateway's file: what it says now, and what is wrong with what it says.

What this module promises: a changed file is in force within two seconds, or at once after `poke`.
It is read off the loop, and taken whole or not at all: while the new one is bad the old one stays,
and the reason is logged once and told by `status`. A file that is still being written is left alone
until it rests. Reloading leaves nothing behind but the file that is in force.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from agent_server.gateway.config_file import GatewayFile
from agent_server.gateway.config_nodes import ConfigFileError
from agent_server.log_config import get_logger

POLL_SECONDS: Final = 0.5
MOST_TOLD: Final = 5

# Of each file: modification time, size and inode; None where it is not there.
Marks: TypeAlias = tuple[tuple[int, int, int] | None, ...]

log = get_logger()


class Watcher:
    """Follows one file. `load` reads it and `apply` puts it in force; both say what is wrong.

    `load` blocks and runs in a thread, `apply` runs on the loop; both raise `ConfigFileError` or
    `ValueError` for a file that cannot be used. `file` is the one that is in force already; where
    it was read from nowhere, nothing is followed.
    """

    def __init__(
        self,
        file: GatewayFile,
        *,
        load: Callable[[], GatewayFile],
        apply: Callable[[GatewayFile], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.reloads = 0
        self._files = file.files
        self._load = load
        self._apply = apply
        self._poll_seconds = poll_seconds
        self._poked = asyncio.Event()
        self._error: str | None = None
        self._in_force = self._seen = _marks(self._files)

    def status(self) -> dict[str, object] | None:
        """For `/health`: `{"status": "current"}`, or `stale` with what is wrong in the new file.

        None where there is no file.
        """
        if not self._files:
            return None
        if self._error is None:
            return {"status": "current", "reloads": self.reloads}
        return {"status": "stale", "reloads": self.reloads, "error": self._error}

    def poke(self) -> None:
        """Read the file now, whether it looks changed or not."""
        self._poked.set()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow the file meanwhile, and read it at once on SIGHUP."""
        if not self._files:
            yield
            return
        with _poked_by_hangup(self):
            task = asyncio.create_task(self._run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            is_poked = await self._pause()
            try:
                await self.look(is_poked=is_poked)
            except Exception:
                # The watcher must outlive whatever is wrong in what it calls.
                log.exception("Gateway file not reloaded")

    async def look(self, *, is_poked: bool = False) -> None:
        """Read the file, if it has changed and come to rest since the last look, or is asked to."""
        before, self._seen = self._seen, _marks(self._files)
        has_changed = self._seen != self._in_force and self._seen == before
        if has_changed or is_poked:
            await self._reload(self._seen)

    async def _reload(self, marks: Marks) -> None:
        # Whatever comes of it, these bytes are not read twice.
        self._in_force = marks
        try:
            file = await asyncio.to_thread(self._load)
            self._apply(file)
        except (ConfigFileError, ValueError) as exc:
            self._complain(exc)
            return
        # What changed while it was read differs from the marks of before, and is read again.
        known = dict(zip(self._files, marks, strict=True))
        self._files = file.files
        self._seen = self._in_force = tuple(
            known[path] if path in known else _mark(path) for path in self._files
        )
        self.reloads += 1
        self._error = None
        log.info("Gateway file reloaded", path=str(self._files[0]), models=len(file.plans))

    def _complain(self, error: Exception) -> None:
        told = str(error).splitlines()
        more = f" (and {len(told) - MOST_TOLD} more)" if len(told) > MOST_TOLD else ""
        text = f"{self._files[0].name}, {'; '.join(told[:MOST_TOLD])}{more}"
        if text != self._error:
            log.error("Gateway file refused, the one before stays in force", error=text)
        self._error = text

    async def _pause(self) -> bool:
        """Wait for the next look; True if somebody asked for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._poked.wait()
        is_poked = self._poked.is_set()
        self._poked.clear()
        return is_poked


@contextlib.contextmanager
def _poked_by_hangup(watcher: Watcher) -> Iterator[None]:
    """SIGHUP reads the file again, but for a server in a terminal, which it ends as ever."""
    loop = asyncio.get_running_loop()
    if sys.stdin is not None and sys.stdin.isatty():
        yield
        return
    try:
        loop.add_signal_handler(signal.SIGHUP, watcher.poke)
    except (RuntimeError, ValueError, NotImplementedError):
        # Not the main thread, or not a system with signals: the file is still looked at.
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _marks(files: tuple[Path, ...]) -> Marks:
    return tuple(_mark(file) for file in files)


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
