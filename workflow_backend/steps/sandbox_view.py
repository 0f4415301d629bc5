"""The file system of a sandbox, as options of bwrap: what of the machine's a step sees.

The usual folders of secrets are empty. What the settings name is hidden by its name: the folder
around it is made anew and holds all but that. A mount upon a file itself would go when the file is
replaced or deleted, and a step that still runs would see the next one; so would it one that was not
there at its start, such as SQLite's log beside a database.

Guarantee: what the settings name is seen by no step, though it be made, replaced, renamed or taken
away while the step runs. Source: bwrap(1), version 0.8.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

# What lies beside a hidden path is shown one by one; of a folder with more nothing is shown.
MAX_NEIGHBOURS: Final = 200
_ROOT: Final = Path("/")
_PRIVATE_TMP_BYTES = str(1024**3)
_HIDDEN_FOLDERS = (
    "/home", "/root", "/mnt", "/media", "/srv", "/run", "/var/run", "/var/tmp", "/boot",  # noqa: S108
    "/etc/ssh", "/etc/ssl/private", "/etc/kubernetes", "/var/lib/docker", "/var/lib/containerd",
    "/var/lib/kubelet", "/var/spool/cron", "/lost+found",
)  # fmt: skip
_HIDDEN_FILES = (
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers",
    "/etc/krb5.keytab",
)  # fmt: skip


def sandbox_view(data_dir: Path, hidden_paths: Iterable[Path]) -> tuple[list[str], list[str]]:
    """The options that make it now, before and after those for the run's own folders."""
    named = {place for path in hidden_paths for place in _places(path)}
    folders, remade = _hidden(data_dir, named)
    # Of /proc root could write the kernel's settings, without any capability: core_pattern names
    # a program that runs outside.
    before = [*remade.get(_ROOT, ("--ro-bind", "/", "/"))]
    before += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    before += [*_private_tmpfs("/dev/shm"), "--remount-ro", "/dev"]  # noqa: S108
    for parent in sorted(remade.keys() - {_ROOT}):
        before += ["--tmpfs", str(parent), *remade[parent]]
    for folder in folders:
        before += ["--tmpfs", str(folder)]
    before += _private_tmpfs("/tmp")  # noqa: S108
    if not _is_within(data_dir, folders):
        folders.append(data_dir)
        before += ["--tmpfs", str(data_dir)]
    # The interpreter of `python` steps may live in a home or, in tests, below /tmp.
    covered = [*folders, *named, Path("/tmp")]  # noqa: S108
    for prefix in sorted({Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}):
        if _is_within(prefix, covered):
            before += ["--ro-bind", str(prefix), str(prefix)]
    for file in map(Path, _HIDDEN_FILES):
        if file.exists() and not _is_within(file, folders):
            before += ["--ro-bind", "/dev/null", str(file)]
    after = [option for folder in (*remade, *folders) for option in ("--remount-ro", str(folder))]
    return before, after


def _hidden(data_dir: Path, named: set[Path]) -> tuple[list[Path], dict[Path, list[str]]]:
    """The folders that are hidden as a whole, and what is shown of those around named paths."""
    # These are hidden anyway.
    wholly = (Path("/tmp"), Path("/dev"), Path("/proc"), data_dir)  # noqa: S108
    folders: list[Path] = []
    for folder in sorted(path.resolve() for path in map(Path, _HIDDEN_FOLDERS) if path.is_dir()):
        if not _is_within(folder, (*folders, *wholly)):
            folders.append(folder)
    remade: dict[Path, list[str]] = {}
    for parent in sorted({path.parent for path in named}):
        if _is_within(parent, (*folders, *wholly, *named)):
            continue
        shown = _neighbours(parent, named)
        if shown is None:
            folders.append(parent)
        else:
            remade[parent] = shown
    return folders, remade


def _places(path: Path) -> Iterator[Path]:
    """Where a path is hidden: as it is named, which may be a link, and where that leads to."""
    absolute = path.absolute()
    for place in (absolute.parent.resolve() / absolute.name, absolute.resolve()):
        # Of what is not there yet the first part that is missing.
        missing = (up for up in (place, *place.parents) if _is_folder(up.parent))
        yield next(missing, place)


def _neighbours(parent: Path, hidden: set[Path]) -> list[str] | None:
    """What shows the rest of a folder; None if that is too much, or cannot be known."""
    options: list[str] = []
    try:
        shown = [path for path in parent.iterdir() if path not in hidden]
        for path in shown:
            if path.is_symlink():
                options += ["--symlink", str(path.readlink()), str(path)]
            else:
                # What is gone by then is no failure.
                options += ["--ro-bind-try", str(path), str(path)]
    except OSError:
        return None
    return options if len(shown) <= MAX_NEIGHBOURS else None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not path.is_symlink()
    except OSError:
        return False


def _is_within(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _private_tmpfs(folder: str) -> list[str]:
    return ["--size", _PRIVATE_TMP_BYTES, "--perms", "1777", "--tmpfs", folder]
