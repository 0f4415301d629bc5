"""`run` and `python` steps: a script of the step, run as a process of its own."""

import asyncio
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workflow_backend.definition.expressions import resolve_secrets
from workflow_backend.reaper import birth_of
from workflow_backend.steps.attempt import AttemptContext, AttemptEnd, cancelled
from workflow_backend.steps.capture import Capture
from workflow_backend.steps.isolation import Isolation, LaunchRequest
from workflow_backend.steps.json_output import JsonOutputError, parse_json_output
from workflow_backend.steps.output_file import OutputFileError, parse_output_file
from workflow_backend.steps.process import StepProcess, new_mark
from workflow_backend.steps.reaper_link import ReaperLink
from workflow_backend.steps.run_folder import AttemptFolder, RunFolder, StepSetupError, run_folder

MAX_VARIABLE_BYTES = 100_000
ERROR_LINE_CHARACTERS = 300

_SHELLS = {
    "sh": ("sh", "-e"),
    "bash": ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail"),
}


@dataclass(frozen=True, slots=True)
class _Ended:
    """How the process ended."""

    how: Literal["exited", "timed_out", "cancelled"]
    exit_code: int | None = None
    error: str | None = None


class CommandRunner:
    """Runs the processes of one engine's steps."""

    def __init__(
        self, data_dir: Path, base_env: Mapping[str, str], isolation: Isolation, reaper: ReaperLink
    ) -> None:
        self._data_dir = data_dir
        self._base_env = base_env
        self._isolation = isolation
        self._reaper = reaper

    async def run(self, context: AttemptContext) -> AttemptEnd:
        """One attempt at a `run` or `python` step. A cancelled task gets its end as well.

        Raises:
            StepSetupError: The process cannot be started as the step is written.
        """
        spec = context.spec
        folder = run_folder(self._data_dir, spec.run_id)
        files = folder.begin(spec.place, spec.attempt)
        capture = Capture(
            context.masker,
            context.watch.output,
            context.limits.stdout_characters,
            context.limits.live_bytes,
            context.log.add,
        )
        try:
            ended = await self._run_process(context, folder, files, capture)
            return _end(context, ended, files, capture)
        finally:
            files.remove()

    async def _run_process(
        self, context: AttemptContext, folder: RunFolder, files: AttemptFolder, capture: Capture
    ) -> _Ended:
        step, limits = context.spec.step, context.limits
        variable, mark = new_mark()
        request = LaunchRequest(
            argv=_argv(context, files),
            env={**self._environment(context, folder, files), variable: mark},
            cwd=folder.working_dir(step.working_dir),
            folder=folder,
            attempt=files,
            network=step.network,
        )
        process = StepProcess(self._isolation.launch(request), mark, self._reaper)
        try:
            pid = await process.start(limits, capture.feed)
            context.watch.process_started(pid, birth_of(pid), mark)
            process.begin()
            async with asyncio.timeout(context.timeout_seconds):
                return _Ended("exited", await process.wait())
        except TimeoutError:
            await process.stop(limits.term_grace_seconds)
            return _Ended("timed_out")
        except asyncio.CancelledError as reason:
            await process.stop(limits.term_grace_seconds)
            return _Ended("cancelled", error=cancelled(reason))
        finally:
            await process.close()
            await capture.finish()

    def _environment(
        self, context: AttemptContext, folder: RunFolder, files: AttemptFolder
    ) -> dict[str, str]:
        """The whole environment of the step: little, and known."""
        spec = context.spec
        own = {name: resolve_secrets(value, context.secrets) for name, value in spec.env.items()}
        for name, value in own.items():
            _check_variable(name, value)
        return {
            **self._base_env,
            "HOME": str(folder.work),
            "TMPDIR": str(self._isolation.tmp(folder)),
            **own,
            "RUN_ID": spec.run_id,
            "STEP": spec.name,
            "ATTEMPT": str(spec.attempt),
            "IDEMPOTENCY_KEY": f"{spec.run_id}:{spec.place}",
            "OUTPUT": str(files.output),
            **_trace_variables(spec.trace),
        }


def _trace_variables(trace: Mapping[str, str]) -> dict[str, str]:
    """The trace context, as programs look for it.

    Source: OpenTelemetry, "Environment Variables as Context Propagation Carriers", 2026-11.
    """
    return {name.upper(): value for name, value in trace.items()}


def _argv(context: AttemptContext, files: AttemptFolder) -> list[str]:
    step = context.spec.step
    if step.python is not None:
        return [sys.executable, "-I", "-u", str(files.write_script("script.py", step.python))]
    return [*_SHELLS[step.shell], str(files.write_script("script.sh", step.run or ""))]


def _check_variable(name: str, value: str) -> None:
    if not name or "=" in name or "\0" in name:
        raise StepSetupError(f"env: {name!r} is no name of a variable")
    if "\0" in value:
        raise StepSetupError(f"env: the value of {name} holds a NUL character")
    if len(value.encode("utf-8", "surrogateescape")) > MAX_VARIABLE_BYTES:
        raise StepSetupError(
            f"env: the value of {name} is over {MAX_VARIABLE_BYTES} bytes, which no process can be"
            " given; let the earlier step write a file and pass its name"
        )


def _end(
    context: AttemptContext, ended: _Ended, files: AttemptFolder, capture: Capture
) -> AttemptEnd:
    """The end of the attempt: its outputs read, its exit code judged."""
    text = capture.kept.text()
    outputs: dict[str, object] = {"stdout": text}
    if ended.how == "timed_out":
        error = f"{context.timed_out}; the step and its children were ended"
        return AttemptEnd("timed_out", outputs, error=error)
    if ended.how == "cancelled":
        return AttemptEnd("cancelled", outputs, error=ended.error)
    try:
        data = files.read_output(context.limits.output_file_bytes)
        # Masked before it is read: a secret may stand where a key should, and an error cuts it.
        outputs.update(parse_output_file(context.masker.mask(data.decode("utf-8", "replace"))))
        if context.spec.step.parse == "json" and not ended.exit_code:
            outputs["json"] = parse_json_output(text, is_truncated=capture.kept.is_truncated)
    except (StepSetupError, OutputFileError, JsonOutputError) as error:
        message = context.masker.mask(str(error))
        return AttemptEnd("failed", outputs, ended.exit_code, message)
    if ended.exit_code:
        return AttemptEnd("failed", outputs, ended.exit_code, _exit_error(ended.exit_code, text))
    return AttemptEnd("success", outputs, ended.exit_code)


def _exit_error(exit_code: int, text: str) -> str:
    """Why the step failed: the code or signal, and the last line that it wrote."""
    # A shell, and bwrap, answer 128 + n for a command that died of signal n.
    number = -exit_code if exit_code < 0 else exit_code - 128
    reason = f"exit code {exit_code}"
    if number in {int(known) for known in signal.Signals}:
        reason += f" (ended by {signal.Signals(number).name})"
    lines = text.rstrip().rsplit("\n", 1)
    last = lines[-1].strip()[-ERROR_LINE_CHARACTERS:]
    return f"{reason}: {last}" if last else reason
