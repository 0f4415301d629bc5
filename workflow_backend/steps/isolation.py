"""Isolation: what of the machine a step's process can see and change.

`bwrap` (bubblewrap): all namespaces new, no network unless the step declares it, the root
and /proc read-only, homes, other users' data, sockets under /run and the data folder hidden, no
capabilities, no new privileges; its own work folder and a private /tmp are writable. `none`: the
rights of the server's user, with no new privileges where `setpriv` is installed.

Guarantee of `bwrap`: nothing that a workflow chooses (environment, working folder, arguments) has
an effect before the sandbox is closed. Source: bwrap(1), version 0.8.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from workflow_backend.reaper import MARK_VARIABLE
from workflow_backend.steps.run_folder import AttemptFolder, RunFolder
from workflow_backend.steps.sandbox_view import sandbox_view

IsolationName = Literal["auto", "bwrap", "none"]

_PROBE_SECONDS = 10.0


class IsolationError(Exception):
    """The isolation that was asked for does not work here; the message says why and the mend."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A command of a step, before isolation. `env` is the whole environment of the command."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    folder: RunFolder
    attempt: AttemptFolder
    network: bool


@dataclass(slots=True)
class Launch:
    """A command under isolation, and the descriptors that it needs; `close` them after the end.

    `env` is the environment of the outermost process.
    """

    argv: list[str]
    env: Mapping[str, str]
    cwd: Path
    pass_fds: tuple[int, ...] = ()
    info_descriptor: int | None = None
    _owned: list[int] = field(default_factory=list)
    _inner_pid: int | None = None

    def group(self, pid: int) -> int | None:
        """The process group of the command, whose outermost process is `pid`, as seen from here.

        None while a sandbox is still being built: then there is nothing yet to signal.
        """
        if self.info_descriptor is None:
            return pid
        with contextlib.suppress(BlockingIOError, ValueError, OSError):
            if self._inner_pid is None:
                self._inner_pid = json.loads(os.read(self.info_descriptor, 4_096))["child-pid"]
            group = os.getpgid(self._inner_pid)
            return None if group == pid else group
        return None

    def started(self) -> None:
        """Close what the child alone needs."""
        for descriptor in self.pass_fds:
            self._owned.remove(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Close all that is still open."""
        for descriptor in self._owned:
            os.close(descriptor)
        self._owned.clear()


class Isolation(Protocol):
    """One profile."""

    name: str

    def tmp(self, folder: RunFolder) -> Path:
        """TMPDIR as the step sees it."""
        ...

    def launch(self, request: LaunchRequest) -> Launch:
        """The command under this profile."""
        ...


class NoIsolation:
    """The rights of the server's own user."""

    name = "none"

    def __init__(self) -> None:
        setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
        self._prefix = [setpriv, "--no-new-privs", "--"] if setpriv else []

    def tmp(self, folder: RunFolder) -> Path:
        """A folder of the run: /tmp is everybody's."""
        return folder.tmp

    def launch(self, request: LaunchRequest) -> Launch:
        """The command as it is."""
        return Launch([*self._prefix, *request.argv], request.env, request.cwd)


class BubblewrapIsolation:
    """A sandbox of bubblewrap for each attempt."""

    name = "bwrap"

    def __init__(self, data_dir: Path, hidden_paths: Iterable[Path] = ()) -> None:
        self._bwrap = shutil.which("bwrap") or ""
        self._data_dir = data_dir.resolve()
        self._hidden_paths = tuple(hidden_paths)

    def tmp(self, folder: RunFolder) -> Path:
        """The private /tmp."""
        return Path("/tmp")  # noqa: S108 - inside the sandbox

    def launch(self, request: LaunchRequest) -> Launch:
        """The command in a sandbox of its own.

        The options, and with them the environment, go through a descriptor: on the command line
        every user could read them, and in bwrap's own environment LD_PRELOAD would act outside.
        """
        options = _descriptor(b"\0".join(map(os.fsencode, self._options(request))) + b"\0")
        info, info_writer = os.pipe()
        os.set_blocking(info, False)
        argv = [self._bwrap, "--args", str(options), "--info-fd", str(info_writer), "--"]
        return Launch(
            [*argv, *request.argv],
            {name: request.env[name] for name in (MARK_VARIABLE,) if name in request.env},
            Path("/"),
            (options, info_writer),
            info,
            [options, info, info_writer],
        )

    async def probe(self) -> str | None:
        """Why the sandbox does not work on this machine, or None if it does."""
        if not self._bwrap:
            return "the program `bwrap` is not installed (Debian: apt install bubblewrap)"
        folder = RunFolder(self._data_dir / "runs" / ".probe")
        attempt = folder.begin("probe", 1)
        launch = self.launch(
            LaunchRequest(["/bin/sh", "-c", ":"], {}, folder.work, folder, attempt, False)
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *launch.argv,
                env=launch.env,
                cwd=launch.cwd,
                pass_fds=launch.pass_fds,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            return await _probe_result(process)
        except OSError as error:
            return f"`bwrap` cannot be started: {error.strerror}"
        finally:
            launch.close()
            shutil.rmtree(folder.path, ignore_errors=True)

    def _options(self, request: LaunchRequest) -> list[str]:
        work, attempt = str(request.folder.work), request.attempt
        before, after = sandbox_view(self._data_dir, self._hidden_paths)
        options = [
            *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
            *(("--share-net",) if request.network else ()),
            *before,
            *("--bind", work, work),
            *("--ro-bind", str(attempt.path), str(attempt.path)),
            *("--bind", str(attempt.output), str(attempt.output)),
            *(_name_resolution() if request.network else ()),
            *after,
            *("--chdir", str(request.cwd)),
            "--clearenv",
        ]
        for name, value in request.env.items():
            options += ["--setenv", name, value]
        return options


async def choose_isolation(
    wanted: IsolationName,
    data_dir: Path,
    *,
    require_explicit_none: bool = False,
    hidden_paths: Iterable[Path] = (),
) -> Isolation:
    """The profile to use: `auto` is `bwrap` where it really works, else `none`.

    Raises:
        IsolationError: `bwrap` was asked for and does not work, or `auto` would have to fall back
            to `none` although that must be chosen explicitly.
    """
    if wanted == "none":
        return NoIsolation()
    sandbox = BubblewrapIsolation(data_dir, hidden_paths)
    reason = await sandbox.probe()
    if reason is None:
        return sandbox
    if wanted == "bwrap":
        raise IsolationError(f"the isolation profile `bwrap` does not work here: {reason}")
    if require_explicit_none:
        raise IsolationError(
            f"steps cannot be isolated here: {reason}. With API keys configured they run without"
            " isolation only if the setting for isolation says `none`"
        )
    return NoIsolation()


def _name_resolution() -> list[str]:
    """What makes host names resolve where /etc/resolv.conf points into the hidden /run."""
    target = Path("/etc/resolv.conf").resolve()
    if target.is_file() and not target.is_relative_to("/etc"):
        return ["--ro-bind", str(target), str(target)]
    return []


def _descriptor(data: bytes) -> int:
    """A descriptor from which the data can be read."""
    descriptor = os.memfd_create("bwrap-options")
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


async def _probe_result(process: asyncio.subprocess.Process) -> str | None:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"`bwrap` did not answer within {_PROBE_SECONDS:.0f} s"
    if process.returncode == 0:
        return None
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"`bwrap` ended with exit code {process.returncode}"
