"""The files that a step's `artefacts` name: found below the run's folder, put into the store.

The folder is the step's, and other steps of the run may write in it meanwhile. Guarantees: no link
is followed, in any part of a path; only plain files are read; nothing outside the folder is; how
many files, bytes, folders and entries are looked at is bounded.

Patterns are as in a shell: `*`, `?` and `[...]` within one part of a path, `**` for any number of
folders; a name that begins with a dot is matched by a part that begins with one alone. A pattern
that meets a folder means all that is in it.
"""

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from workflow_backend.artefacts import ArtefactError, ArtefactStore
from workflow_backend.engines.base import Artefact

MAX_FILES = 200
MAX_ENTRIES = 100_000
MAX_FOLDERS_DEEP = 64
MAX_NAME_BYTES = 500
MAX_WARNINGS = 20

_ANY_DEPTH = "**"
_WILD = re.compile(r"[*?\[]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(slots=True)
class Collected:
    """What was kept, and what there is to say about the rest."""

    artefacts: list[Artefact] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None

    def warn(self, text: str) -> None:
        """Say something, unless much was said already."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(text)


def collect(
    store: ArtefactStore,
    run_id: str,
    work: Path,
    patterns: Sequence[str],
    is_stopped: Callable[[], bool] = lambda: False,
) -> Collected:
    """Keep every file that the patterns match; waits for the disk.

    `error` says what was wanted and could not be kept; what came before it is kept all the same.
    """
    collected = Collected()
    walk = _Walk(collected, is_stopped)
    try:
        for pattern in patterns:
            for name, descriptor in walk.files(work, pattern):
                with os.fdopen(descriptor, "rb") as file:
                    _keep(collected, name, store, run_id, file, is_stopped)
            if not walk.has_matched:
                collected.warn(f"nothing matches {pattern!r}")
    except ArtefactError as error:
        collected.error = f"artefacts: {error}"
    return collected


def _keep(
    collected: Collected,
    name: str,
    store: ArtefactStore,
    run_id: str,
    file: BinaryIO,
    is_stopped: Callable[[], bool],
) -> None:
    if any(name == artefact.name for artefact in collected.artefacts):
        return
    if len(collected.artefacts) == MAX_FILES:
        raise ArtefactError(f"they are over {MAX_FILES} files; keep an archive of them")
    try:
        stored = store.put(run_id, file, is_stopped)
    except ArtefactError as error:
        raise ArtefactError(f"{name!r} was not kept: {error}") from error
    collected.artefacts.append(Artefact(name, stored.sha256, stored.size))


class _Walk:
    """Looks for files; every descriptor that it gives is open for reading, and the taker's."""

    def __init__(self, collected: Collected, is_stopped: Callable[[], bool]) -> None:
        self._collected = collected
        self._is_stopped = is_stopped
        self._entries_left = MAX_ENTRIES
        self.has_matched = False

    def files(self, work: Path, pattern: str) -> Iterator[tuple[str, int]]:
        """The files below `work` that the pattern matches, by their names there."""
        self.has_matched = False
        parts = _parts(pattern)
        with _folder(work) as root:
            if root is not None:
                yield from self._below(root, "", parts, MAX_FOLDERS_DEEP)

    def _below(
        self, folder: int, at: str, parts: Sequence[str], depth: int
    ) -> Iterator[tuple[str, int]]:
        part, rest = parts[0], parts[1:]
        if part == _ANY_DEPTH and rest:
            yield from self._below(folder, at, rest, depth)
        inner = parts if part == _ANY_DEPTH else rest or [_ANY_DEPTH]
        for name, is_folder in self._matching(folder, part):
            if is_folder:
                yield from self._enter(folder, at, name, inner, depth)
            elif not rest:
                self.has_matched = True
                if (descriptor := self._open(folder, at + name, name)) is not None:
                    yield at + name, descriptor

    def _enter(
        self, folder: int, at: str, name: str, parts: Sequence[str], depth: int
    ) -> Iterator[tuple[str, int]]:
        if depth == 0:
            raise ArtefactError(f"there are folders more than {MAX_FOLDERS_DEEP} deep")
        with _folder(name, folder) as inner:
            if inner is not None:
                yield from self._below(inner, f"{at}{name}/", parts, depth - 1)

    def _matching(self, folder: int, part: str) -> Iterator[tuple[str, bool]]:
        if _WILD.search(part):
            matches = re.compile(fnmatch.translate(part)).match
            for name, is_folder in self._entries(folder):
                if matches(name) and (part.startswith(".") or not name.startswith(".")):
                    yield name, is_folder
            return
        try:
            mode = os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode
        except OSError:
            return
        yield part, stat.S_ISDIR(mode)

    def _entries(self, folder: int) -> list[tuple[str, bool]]:
        """The entries of a folder by name, and whether each is a folder itself."""
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self._entries_left -= 1
                if self._entries_left < 0:
                    raise ArtefactError(
                        f"there are over {MAX_ENTRIES} files and folders to look through; name a"
                        " smaller folder"
                    )
                found.append((entry.name, entry.is_dir(follow_symlinks=False)))
        if self._is_stopped():
            raise ArtefactError("it was stopped")
        return sorted(found)

    def _open(self, folder: int, path: str, name: str) -> int | None:
        """The file if it is a plain one that can be read; otherwise a warning."""
        if _CONTROLS.search(path) or len(path.encode("utf-8", "replace")) > MAX_NAME_BYTES:
            self._collected.warn(f"{path[:200]!r} is not kept: rename it")
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            # Looked at before and after: opening a device may have an effect.
            if stat.S_ISREG(mode):
                descriptor = os.open(name, flags, dir_fd=folder)
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return descriptor
                os.close(descriptor)
            reason = "it is no plain file"
        except OSError as error:
            reason = error.strerror or type(error).__name__
        self._collected.warn(f"{path!r} is not kept: {reason}")
        return None


def _parts(pattern: str) -> list[str]:
    """The parts of a pattern's path.

    Raises:
        ArtefactError: It leads out of the folder.
    """
    parts = [part for part in pattern.split("/") if part not in {"", "."}]
    if pattern.startswith("/") or ".." in parts or "\0" in pattern or not parts:
        raise ArtefactError(f"{pattern!r} is no path below the run's folder")
    # What means the same would be looked through again and again: `**/**/x`, `**/*`.
    shorter: list[str] = []
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if shorter[-1:] != [_ANY_DEPTH] or (part != _ANY_DEPTH and not (part == "*" and is_last)):
            shorter.append(part)
    return shorter


@contextmanager
def _folder(name: str | Path, inside: int | None = None) -> Iterator[int | None]:
    """A folder that is none of the links that might stand there, or None."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=inside)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
