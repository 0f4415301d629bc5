"""Which finished runs the journal forgets, and when.

Guarantee: a run's files go before it does, so that a crash in between leaves none behind.
"""

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from workflow_backend.artefacts import ArtefactStore
from workflow_backend.engines.journal import changes
from workflow_backend.engines.journal.store import JournalStore
from workflow_backend.steps.run_folder import run_folder

INTERVAL_SECONDS = 3_600.0
FINISHED_RUNS = 500
BATCH_RUNS = 100


@dataclass(frozen=True, slots=True)
class Retention:
    """How many finished runs are kept, and how long, with their events, outputs and folders."""

    runs: int = 10_000
    days: float = 30.0


class RetentionKeeper:
    """Forgets old runs every hour, and after every few hundred finished runs."""

    def __init__(
        self,
        retention: Retention,
        store: JournalStore,
        data_dir: Path,
        artefacts: ArtefactStore | None = None,
    ) -> None:
        self._retention = retention
        self._store = store
        self._data_dir = data_dir
        self._artefacts = artefacts
        self._finished = 0
        self._is_due = asyncio.Event()

    def run_finished(self) -> None:
        """Count a finished run."""
        self._finished += 1
        if self._finished >= FINISHED_RUNS:
            self._is_due.set()

    async def run(self) -> None:
        """Forget runs, now and whenever it is due, until cancelled."""
        while True:
            await self.forget()
            self._finished = 0
            self._is_due.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await self._is_due.wait()

    async def forget(self) -> int:
        """Forget the runs that are too old or too many; how many those were."""
        oldest = datetime.now(UTC) - timedelta(days=self._retention.days)
        before = oldest.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        forgotten = 0
        while True:
            change = changes.find_expired(before, self._retention.runs, BATCH_RUNS)
            expired = await (await self._store.put(change))
            for _, run_id in expired:
                await asyncio.to_thread(self._remove_files, run_id)
            await (await self._store.put(changes.delete_runs(expired)))
            forgotten += len(expired)
            if len(expired) < BATCH_RUNS:
                break
        if self._artefacts is not None:
            await asyncio.to_thread(self._artefacts.sweep)
        return forgotten

    def _remove_files(self, run_id: str) -> None:
        shutil.rmtree(run_folder(self._data_dir, run_id).path, ignore_errors=True)
        if self._artefacts is not None:
            self._artefacts.forget(run_id)
