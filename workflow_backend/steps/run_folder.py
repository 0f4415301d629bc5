"""The folders of one run: `work` and `tmp` belong to its steps, `attempts` to the engine alone.

Guarantee under `bwrap`: a step cannot write where the engine later writes or reads by name, but for
the one output file of its own attempt, which is opened without following links.
"""

import os
import re
import shutil
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class StepSetupError(Exception):
    """The step cannot be started as it is written; the message says why."""


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """The files of one attempt: its script and its `$OUTPUT`."""

    path: Path

    @property
    def output(self) -> Path:
        """The file behind `$OUTPUT`."""
        return self.path / "output"

    def write_script(self, name: str, text: str) -> Path:
        """Write the step's script, readable by the owner alone."""
        script = self.path / name
        script.write_text(text, encoding="utf-8")
        script.chmod(0o600)
        return script

    def read_output(self, max_bytes: int) -> bytes:
        """What the step wrote to `$OUTPUT`.

        Raises:
            StepSetupError: It is no plain file any more, or over the limit.
        """
        try:
            descriptor = os.open(self.output, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StepSetupError(f"$OUTPUT cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StepSetupError("$OUTPUT is not a plain file any more; only append to it")
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise StepSetupError(
                f"$OUTPUT is over {max_bytes} bytes; write large results to a file and its name"
                " to $OUTPUT"
            )
        return data

    def remove(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def work(self) -> Path:
        """Where its steps run, and their HOME."""
        return self.path / "work"

    @property
    def tmp(self) -> Path:
        """TMPDIR of its steps, where isolation does not give them a private /tmp."""
        return self.path / "tmp"

    def begin(self, step: str, attempt: int) -> AttemptFolder:
        """Fresh files for an attempt; what an interrupted one left is removed."""
        attempts = self.path / "attempts"
        for parent in (self.path.parent, self.path, self.work, self.tmp, attempts):
            parent.mkdir(mode=0o700, exist_ok=True)
        folder = attempts / f"{_file_name(step)}-{attempt}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        files = AttemptFolder(folder)
        files.output.touch(mode=0o600)
        return files

    def working_dir(self, name: str | None) -> Path:
        """The folder that a step runs in.

        A relative name is meant from `work` and must stay inside it; an absolute one is taken as it
        is, and isolation decides what the step sees there.

        Raises:
            StepSetupError: It leaves `work`, or there is no such folder.
        """
        if not name:
            return self.work
        path = Path(os.path.normpath(self.work / name))
        if not Path(name).is_absolute() and not path.is_relative_to(self.work):
            raise StepSetupError(
                f"working_dir {name!r} leaves the folder of the run; use a folder inside it, or an"
                " absolute path"
            )
        if not path.is_dir():
            raise StepSetupError(
                f"working_dir {name!r} does not exist; make it in an earlier step that this one"
                " depends on"
            )
        return path


def run_folder(data_dir: Path, run_id: str) -> RunFolder:
    """The folder of the run with this id, which need not exist yet."""
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"the run id {run_id!r} is not made of letters, digits, `_`, `.` and `-`")
    return RunFolder(data_dir / "runs" / run_id)


def _file_name(step: str) -> str:
    if _PLAIN_NAME.fullmatch(step):
        return step
    return sha256(step.encode("utf-8", "surrogateescape")).hexdigest()[:32]
