"""The file system of a sandbox, as options of bwrap: what of the machine's a step sees.

Source: bwrap(1), version 0.8.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

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
    """The options that make the file system, before and after the run's own folders."""
    hidden = [*map(Path, (*_HIDDEN_FOLDERS, *_HIDDEN_FILES)), *hidden_paths]
    folders: list[Path] = []
    files: list[Path] = []
    # These are hidden as a whole.
    wholly = (Path("/tmp"), data_dir)  # noqa: S108
    for path in sorted({path.resolve() for path in hidden}):
        if any(path.is_relative_to(folder) for folder in (*folders, *wholly)):
            continue
        if path.is_dir():
            folders.append(path)
        elif path.exists():
            files.append(path)
    # Of /proc root could write the kernel's settings, without any capability: core_pattern names
    # a program that runs outside.
    before = ["--ro-bind", "/", "/", "--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    before += [*_private_tmpfs("/dev/shm"), "--remount-ro", "/dev"]  # noqa: S108
    for folder in folders:
        before += ["--tmpfs", str(folder)]
    before += _private_tmpfs("/tmp")  # noqa: S108
    if not any(data_dir.is_relative_to(folder) for folder in folders):
        folders.append(data_dir)
        before += ["--tmpfs", str(data_dir)]
    # The interpreter of `python` steps may live in a home or, in tests, below /tmp.
    covered = [*folders, Path("/tmp")]  # noqa: S108
    for prefix in sorted({Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}):
        if any(prefix.is_relative_to(folder) for folder in covered):
            before += ["--ro-bind", str(prefix), str(prefix)]
    for file in files:
        before += ["--ro-bind", "/dev/null", str(file)]
    after = [option for folder in folders for option in ("--remount-ro", str(folder))]
    return before, after


def _private_tmpfs(folder: str) -> list[str]:
    return ["--size", _PRIVATE_TMP_BYTES, "--perms", "1777", "--tmpfs", folder]
