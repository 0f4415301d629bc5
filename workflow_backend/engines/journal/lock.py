"""The lock of a data folder: one engine process at a time.

Guarantee: it is held exactly as long as the process lives, because the system takes it back
(`flock(2)`); the file's content only tells others who holds it.
"""

import fcntl
import json
import os
from pathlib import Path

LOCK_NAME = "journal.lock"


class JournalLockedError(Exception):
    """Another process has the journal open; `pid` and `url` are its own, where it told them."""

    def __init__(self, path: Path, pid: int | None, url: str) -> None:
        self.pid = pid
        self.url = url
        where = f" at {url}" if url else ""
        super().__init__(
            f"the journal in {path.parent} is in use by process {pid or 'unknown'}{where}; use that"
            " server, stop it, or give this one another data folder"
        )


class JournalLock:
    """The lock of one folder: `acquire`, then `release`."""

    def __init__(self, data_dir: Path, name: str = LOCK_NAME) -> None:
        self._path = data_dir / name
        self._descriptor: int | None = None

    def acquire(self, url: str) -> None:
        """Take the lock and write down this process and the URL of its server.

        Raises:
            JournalLockedError: Another process has it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid, owner_url = _read_owner(descriptor)
            os.close(descriptor)
            raise JournalLockedError(self._path, pid, owner_url) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "url": url}).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _read_owner(descriptor: int) -> tuple[int | None, str]:
    try:
        owner = json.loads(os.pread(descriptor, 4_096, 0))
        return int(owner["pid"]), str(owner["url"])
    except (ValueError, KeyError, TypeError):
        return None, ""
