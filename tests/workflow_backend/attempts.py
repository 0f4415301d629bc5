"""Attempts and processes for the tests of steps and engines."""

import asyncio
import contextlib
import os
import select
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from workflow_backend.definition.model import Step
from workflow_backend.engines.base import AttemptResult, AttemptSpec
from workflow_backend.steps import StepExecutor, StepLimits, StepSettings

LIMITS = StepLimits(term_grace_seconds=0.5)


def bwrap_fault() -> str | None:
    """Why bubblewrap does not work here, asked of it directly."""
    if shutil.which("bwrap") is None:
        return "bwrap is not installed"
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    return None if ran.returncode == 0 else ran.stderr.strip()


_FAULT = bwrap_fault()
needs_bwrap = pytest.mark.skipif(_FAULT is not None, reason=f"bubblewrap: {_FAULT}")
PROFILES = ["none", pytest.param("bwrap", marks=needs_bwrap)]


class Watch:
    """What an attempt told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.groups: list[tuple[int, str | None, str]] = []
        self._changed = asyncio.Event()

    async def output(self, text: str) -> None:
        self.texts.append(text)
        self._changed.set()

    def process_started(self, pgid: int, birth: str | None, mark: str) -> None:
        self.groups.append((pgid, birth, mark))

    async def line(self, start: str) -> str:
        """The rest of the line that begins so, once it was written."""
        async with asyncio.timeout(20):
            while True:
                self._changed.clear()
                for line in "".join(self.texts).splitlines(keepends=True):
                    if line.startswith(start) and line.endswith("\n"):
                        return line[len(start) :].strip()
                await self._changed.wait()


def attempt(
    *,
    number: int = 1,
    run_id: str = "run-1",
    env: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    timeout: float | None = None,
    **step: Any,
) -> AttemptSpec:
    """One attempt at a step of these fields."""
    return AttemptSpec(
        run_id=run_id,
        step=Step(**{"name": "step", **step}),
        attempt=number,
        env=env or {},
        secrets=secrets,
        timeout_seconds=timeout,
    )


@contextlib.asynccontextmanager
async def opened(
    data_dir: Path, isolation: str = "none", **settings: Any
) -> AsyncIterator[StepExecutor]:
    """An executor that is open."""
    fields: dict[str, Any] = {"limits": LIMITS, "isolation": isolation, **settings}
    executor = StepExecutor(StepSettings(data_dir, **fields))
    await executor.open()
    try:
        yield executor
    finally:
        await executor.close()


async def run(
    executor: StepExecutor, spec: AttemptSpec, watch: Watch | None = None
) -> AttemptResult:
    """The result of one attempt."""
    return await executor.run_attempt(spec, watch or Watch())


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def has_died(pid: int, seconds: float = 15) -> bool:
    """Whether the process has ended, or does within the time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def pids_with(word: str) -> list[int]:
    """The processes, on whatever side of a sandbox, whose command line holds the word."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if word in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
