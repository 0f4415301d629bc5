"""The artefact store: files that steps left to be kept, by the sha256 of their content.

`sha256/ab/<hex>` holds each content once; `runs/<run id>/<hex>` is the same file again (a hard
link) for each run that kept it. Reading goes by the run, so a run reads only what it kept, and a
content goes with its last run. Where the file system has no hard links, each run has its own copy.

Guarantees: a file of the store is whole, has its name's hash, and is on the disk, or it is not
there; one file and all files of a run are bounded; several processes may use one folder at once; a
file is removed only when no run has it any more, also beside a `put` of the same content.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1024 * 1024
LINK_TRIES = 10
# A spool that was just made may not be locked yet.
SPOOL_GRACE_SECONDS = 60.0

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NO_LINK = frozenset({errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.ENOSYS})


class ArtefactError(Exception):
    """A file cannot be kept; the message says why."""


class ArtefactMissingError(Exception):
    """The run has no such content in this store (any more)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A content that the store has."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class ArtefactLimits:
    """The most bytes of one artefact, and of all of one run."""

    artefact_bytes: int = 256 * 1024**2
    run_bytes: int = 1024**3


class Spool:
    """A content on its way into the store: `write` it, then `keep` or `discard` it."""

    def __init__(self, store: "ArtefactStore", file: BinaryIO, path: Path) -> None:
        self._store = store
        self._file = file
        self._path = path
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append to the content.

        Raises:
            ArtefactError: The disk is full, or another fault of it.
        """
        with _explained():
            self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def keep(self, run_id: str) -> Stored:
        """Put the content into the store as one of this run's; waits for the disk.

        Raises:
            ArtefactError: The disk is full, or the run has as many bytes as it may have.
        """
        stored = Stored(self._hash.hexdigest(), self.size)
        try:
            with _explained():
                self._file.flush()
                os.fsync(self._file.fileno())
                self._store.add(run_id, stored, self._path)
        finally:
            self.discard()
        return stored

    def discard(self) -> None:
        """Forget the content; nothing happens after `keep`."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


class ArtefactStore:
    """The store in one folder, for its owner alone. Its calls wait for the disk."""

    def __init__(self, folder: Path, limits: ArtefactLimits | None = None) -> None:
        self.folder = folder
        self.limits = limits or ArtefactLimits()
        self._contents = folder / "sha256"
        self._runs = folder / "runs"
        self._spools = folder / "tmp"
        # So that two files of a run, put at once, do not both see the last free bytes.
        self._adding = threading.Lock()

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            OSError: They cannot be made.
        """
        for folder in (self.folder, self._contents, self._runs, self._spools):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def spool(self) -> Spool:
        """A content that is written piece by piece.

        Raises:
            ArtefactError: The folder cannot be written.
        """
        with _explained():
            self.prepare()
            descriptor, name = tempfile.mkstemp(dir=self._spools)
            # It is held for as long as its writer lives: see `sweep`.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return Spool(self, os.fdopen(descriptor, "wb"), Path(name))

    def put(
        self, run_id: str, source: BinaryIO, is_stopped: Callable[[], bool] = lambda: False
    ) -> Stored:
        """Keep the rest of an open file.

        Raises:
            ArtefactError: It is too long, the disk is full, or `is_stopped` said so meanwhile.
        """
        spool = self.spool()
        try:
            with _explained():
                while data := source.read(CHUNK_BYTES):
                    if is_stopped():
                        raise ArtefactError("it was stopped")
                    if spool.size + len(data) > self.limits.artefact_bytes:
                        raise ArtefactError(
                            f"it is over {self.limits.artefact_bytes} bytes"
                            " (AGENT_SERVER_ARTEFACT_BYTES)"
                        )
                    spool.write(data)
            return spool.keep(run_id)
        finally:
            spool.discard()

    def add(self, run_id: str, stored: Stored, path: Path) -> None:
        """Make a whole file one of the run's contents; the file itself may go.

        Raises:
            ArtefactError: The run has as many bytes as it may have.
        """
        folder = self._run(run_id)
        target = folder / stored.sha256
        with self._adding:
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
                _sync(self._runs)
            if target.exists():
                return
            self._check_room(folder, stored.size)
            if not self._link(stored, path, target):
                path.rename(target)
        _sync(folder)

    def read(self, run_id: str, sha256: str, offset: int = 0, max_bytes: int = -1) -> bytes:
        """A part of a content of the run.

        Raises:
            ArtefactMissingError: The run has no such content here.
        """
        with self._open(run_id, sha256) as file:
            file.seek(offset)
            return file.read(max_bytes)

    def size(self, run_id: str, sha256: str) -> int:
        """The size of a content of the run.

        Raises:
            ArtefactMissingError: The run has no such content here.
        """
        with self._open(run_id, sha256) as file:
            return os.fstat(file.fileno()).st_size

    def forget(self, run_id: str) -> None:
        """Remove what the run kept; contents that no other run has go with it."""
        folder = self._run(run_id)
        with contextlib.suppress(FileNotFoundError):
            digests = [content.name for content in folder.iterdir()]
            shutil.rmtree(folder, ignore_errors=True)
            for digest in digests:
                _remove_unlinked(self._content(digest))

    def run_ids(self) -> list[str]:
        """The runs that have kept something."""
        try:
            return [run.name for run in self._runs.iterdir() if _RUN_ID.fullmatch(run.name)]
        except FileNotFoundError:
            return []

    def sweep(self) -> int:
        """Remove what killed processes left: contents of no run and unfinished ones; how many."""
        removed = 0
        if not self.folder.exists():
            return 0
        for content in self._contents.glob("??/*"):
            removed += _remove_unlinked(content)
        for spool in self._spools.glob("*"):
            removed += _remove_unlocked(spool)
        return removed

    def _link(self, stored: Stored, path: Path, target: Path) -> bool:
        """Link the content into the store and to the run; False where links cannot be made."""
        content = self._content(stored.sha256)
        content.parent.mkdir(mode=0o700, exist_ok=True)
        for _ in range(LINK_TRIES):
            try:
                with contextlib.suppress(FileExistsError):
                    os.link(path, content)
                if content.stat().st_size == stored.size:
                    os.link(content, target)
                    return True
                # Not whole: the machine went down before it was on the disk.
                content.unlink()
            except FileNotFoundError:
                # The content went with its last run just now.
                continue
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                return False
        return False

    def _check_room(self, folder: Path, size: int) -> None:
        taken = sum(entry.stat().st_size for entry in os.scandir(folder))
        if taken + size > self.limits.run_bytes:
            raise ArtefactError(
                f"the run has kept {taken} bytes, and {size} more are over its"
                f" {self.limits.run_bytes} (AGENT_SERVER_RUN_ARTEFACT_BYTES)"
            )

    def _open(self, run_id: str, sha256: str) -> BinaryIO:
        if not _SHA256.fullmatch(sha256):
            raise ArtefactMissingError(f"{sha256[:80]!r} is no sha256")
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.fdopen(os.open(self._run(run_id) / sha256, flags), "rb")
        except OSError as error:
            raise ArtefactMissingError(
                f"the content {sha256} of run {run_id} is not in {self.folder}"
            ) from error

    def _run(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise ArtefactMissingError(f"{run_id[:200]!r} is no run id")
        return self._runs / run_id

    def _content(self, sha256: str) -> Path:
        return self._contents / sha256[:2] / sha256


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtefactError(error.strerror or type(error).__name__) from error


def _remove_unlinked(content: Path) -> bool:
    """Remove a content that no run has. One that gets a run just now keeps it by that link."""
    try:
        if content.stat().st_nlink > 1:
            return False
        content.unlink()
    except FileNotFoundError:
        return False
    return True


def _remove_unlocked(spool: Path) -> bool:
    """Remove a spool whose writer does not live any more."""
    try:
        with spool.open("rb") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime < SPOOL_GRACE_SECONDS:
                return False
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            spool.unlink()
    except OSError:
        return False
    return True


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
