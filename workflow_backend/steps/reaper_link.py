"""The engine's end of the pipe to its reaper.

Guarantee: from `add` on, the group is killed when this process dies in whatever way. One reaper per
engine; if it dies itself, the next call starts another and tells it of every group again. No call
blocks: the pipe does not, and a reaper that does not read is replaced.
"""

import os
import subprocess
import sys
from pathlib import Path

from workflow_backend import reaper

_END_SECONDS = 5.0


class ReaperLink:
    """A reaper process and the groups that it watches."""

    def __init__(self) -> None:
        self._groups: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the reaper, None before `start`."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the reaper."""
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", "-S", str(Path(reaper.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        os.set_blocking(self._descriptor, False)

    def add(self, pgid: int, mark: str) -> None:
        """Watch the group of an attempt that is about to begin."""
        self._groups[mark] = pgid
        self._tell(f"+ {pgid} {mark}\n")

    def remove(self, pgid: int, mark: str) -> None:
        """The attempt ended: forget its group, and kill what carries its mark elsewhere."""
        self._groups.pop(mark, None)
        self._tell(f"- {pgid} {mark}\n")

    def close(self) -> None:
        """End the pipe, so that the reaper kills what is left, and wait for its end."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _descriptor(self) -> int:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the reaper is not running; call start() first")
        return self._process.stdin.fileno()

    def _tell(self, line: str) -> None:
        try:
            os.write(self._descriptor, line.encode("ascii"))
        except (BrokenPipeError, BlockingIOError):
            self._replace()

    def _replace(self) -> None:
        """Start another reaper in place of one that died or hangs. The old one must not kill."""
        if self._process is not None:
            self._process.kill()
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait()
        self.start()
        lines = "".join(f"+ {pgid} {mark}\n" for mark, pgid in self._groups.items())
        os.write(self._descriptor, lines.encode("ascii"))
