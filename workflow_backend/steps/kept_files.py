"""What outlives an attempt: the files that its step names, and its whole output if that is long.

Guarantee: what is kept is in the store, whole, before the attempt has its result. A file that the
step wants kept and that cannot be fails the attempt; a log that cannot be is only told of. Who
cancels meanwhile waits for one file at most.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from workflow_backend.artefacts import ArtefactError, ArtefactStore
from workflow_backend.engines.base import Artefact, AttemptSpec
from workflow_backend.events import WHOLE_OUTPUT_CHARACTERS
from workflow_backend.masking import Masker
from workflow_backend.steps.artefact_files import Collected, collect
from workflow_backend.steps.attempt import AttemptContext, AttemptEnd, cancelled
from workflow_backend.steps.limits import StepLimits
from workflow_backend.steps.run_folder import run_folder
from workflow_backend.steps.step_log import StepLog

_WITH_FILES = frozenset({"run", "python"})


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """Keeps the files of the attempts of one engine."""

    data_dir: Path
    store: ArtefactStore

    def log(self, limits: StepLimits) -> StepLog:
        """A log for an attempt that begins; it holds what no event carries whole."""
        whole = min(limits.stdout_characters, WHOLE_OUTPUT_CHARACTERS)
        return StepLog(self.store, whole, limits.log_bytes)

    async def keep(
        self, context: AttemptContext, end: AttemptEnd
    ) -> tuple[AttemptEnd, tuple[Artefact, ...]]:
        """The end of the attempt with its files kept, and what they are."""
        spec = context.spec
        is_told = not spec.is_hidden and (context.log.has_begun or _patterns(spec, end))
        if not is_told:
            # Of what no event tells nobody could ask.
            return end, ()
        stop = threading.Event()
        keeping = asyncio.create_task(
            asyncio.to_thread(self._keep, spec, end, context.log, stop.is_set)
        )
        try:
            collected = await asyncio.shield(keeping)
        except asyncio.CancelledError as reason:
            stop.set()
            collected = await keeping
            end = replace(end, status="cancelled", error=cancelled(reason))
        for warning in collected.warnings:
            await context.watch.output(f"warning: {context.masker.mask(warning)}\n")
        return _judged(end, collected, context.masker), _masked(collected, context.masker)

    def _keep(
        self, spec: AttemptSpec, end: AttemptEnd, log: StepLog, is_stopped: Callable[[], bool]
    ) -> Collected:
        """The thread's part."""
        collected = Collected()
        patterns = _patterns(spec, end)
        if patterns:
            work = run_folder(self.data_dir, spec.run_id).work
            collected = collect(self.store, spec.run_id, work, patterns, is_stopped)
        try:
            if stored := log.keep(spec.run_id):
                name = f"{spec.key}.log"
                collected.artefacts.append(Artefact(name, stored.sha256, stored.size, is_log=True))
        except ArtefactError as error:
            collected.warn(f"the whole output was not kept: {error}")
        return collected


def _patterns(spec: AttemptSpec, end: AttemptEnd) -> list[str]:
    if spec.step.kind not in _WITH_FILES or end.status == "cancelled":
        return []
    return spec.step.artefacts


def _judged(end: AttemptEnd, collected: Collected, masker: Masker) -> AttemptEnd:
    """The end, failed if something could not be kept."""
    if collected.error is None or end.status == "cancelled":
        return end
    error = masker.mask(collected.error)
    if end.status == "success":
        return replace(end, status="failed", error=error)
    return replace(end, error=f"{end.error}; {error}")


def _masked(collected: Collected, masker: Masker) -> tuple[Artefact, ...]:
    """The artefacts; a name may hold what a step may not show."""
    return tuple(
        replace(artefact, name=masker.mask(artefact.name)) for artefact in collected.artefacts
    )
