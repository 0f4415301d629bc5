"""The data folder and its lock: one server at a time, and where the others find it.

`server.lock` is held with flock(2) for as long as its server lives, so that a crash frees it. Its
content is one JSON object: `pid`, and `url` once the server has one.
"""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson

LOCK_NAME = "server.lock"
LOCK_TRIES = 5
LOCK_PAUSE_SECONDS = 0.02


class DataDirError(Exception):
    """The data folder cannot be used; the message says why and how to mend it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The server that holds a data folder; `url` is empty while it starts."""

    pid: int
    url: str


class DataDirLock:
    """The exclusive hold on a data folder; a context manager that gives it back.

    No child inherits it: the descriptor is closed on exec.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, data_dir: Path) -> Self:
        """Make the folder (mode 0700) if it is not there, and hold it.

        Raises:
            DataDirError: it cannot be written, or another server holds it.
        """
        path = data_dir / LOCK_NAME
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise DataDirError(
                f"cannot write the data folder {data_dir}: {exc.strerror}; "
                "choose another with --data-dir or AGENT_SERVER_DATA_DIR"
            ) from exc
        if not _lock(descriptor):
            owner = _read_owner(path)
            os.close(descriptor)
            raise DataDirError(
                f"the data folder {data_dir} is in use by {_describe(owner)}; "
                "stop that server, or choose another folder with --data-dir"
            )
        lock = cls(descriptor)
        lock.announce("")
        return lock

    def announce(self, url: str) -> None:
        """Write where this server answers."""
        content = orjson.dumps({"pid": os.getpid(), "url": url})
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def release(self) -> None:
        """Empty the file and let go of the folder."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def owner_of(data_dir: Path) -> Owner | None:
    """The server that holds a folder now, or None."""
    path = data_dir / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read_owner(path) or Owner(0, "")
    finally:
        os.close(descriptor)
    return None


def _lock(descriptor: int) -> bool:
    """Try for a moment: whoever asks `owner_of` holds the lock for an instant."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


def _read_owner(path: Path) -> Owner | None:
    try:
        content = orjson.loads(path.read_bytes())
        return Owner(int(content["pid"]), str(content["url"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _describe(owner: Owner | None) -> str:
    if owner is None:
        return "another server"
    return f"the server with pid {owner.pid}" + (f" at {owner.url}" if owner.url else "")
