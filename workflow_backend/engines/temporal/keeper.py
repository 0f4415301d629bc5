"""What a machine keeps of runs beside the cluster: folders, artefacts and large payloads.

Guarantee: what belongs to a run that the cluster still knows is kept; the rest goes once it is old.
The cluster itself forgets closed runs by the retention of its namespace.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from pathlib import Path

from temporalio.service import RPCError, RPCStatusCode

from workflow_backend.artefacts import ArtefactStore
from workflow_backend.engines.base import EngineBusyError, EngineUnavailableError
from workflow_backend.engines.temporal.link import Link
from workflow_backend.steps.run_folder import RUN_ID, run_folder

# A file for each run of which this machine has made attempts.
VISITED = "temporal-runs"
INTERVAL_SECONDS = 3_600.0

_DAY_SECONDS = 86_400.0
_logger = logging.getLogger(__name__)


class Keeper:
    """The traces of runs on this machine: `visit` notes one, `run` removes old ones."""

    def __init__(
        self,
        link: Link,
        data_dir: Path,
        *,
        claims: ArtefactStore,
        artefacts: ArtefactStore | None,
        days: float,
    ) -> None:
        self._link = link
        self._data_dir = data_dir
        self._visited = data_dir / VISITED
        self._claims = claims
        self._stores = [claims] if artefacts is None else [claims, artefacts]
        self._seconds = days * _DAY_SECONDS

    def visit(self, run_id: str) -> None:
        """Note that this machine makes an attempt of the run."""
        if RUN_ID.fullmatch(run_id):
            self._visited.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._visited / run_id).touch(mode=0o600)

    async def run(self) -> None:
        """Remove what is old, now and every hour, until cancelled."""
        while True:
            with contextlib.suppress(EngineUnavailableError, EngineBusyError):
                await self.forget()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def forget(self) -> int:
        """Remove the traces of old runs that the cluster knows no more; how many those were."""
        forgotten = 0
        for run_id in await asyncio.to_thread(self._old):
            if await self._is_known(run_id):
                continue
            await asyncio.to_thread(self._remove, run_id)
            forgotten += 1
        for store in self._stores:
            await asyncio.to_thread(store.sweep)
        if forgotten:
            _logger.info("removed what was left of %d old runs", forgotten)
        return forgotten

    async def _is_known(self, run_id: str) -> bool:
        client = await self._link.client()
        handle = client.get_workflow_handle(run_id)
        try:
            await self._link.call(handle.describe(rpc_timeout=self._link.call_timeout))
        except RPCError as error:
            return error.status is not RPCStatusCode.NOT_FOUND
        return True

    def _old(self) -> list[str]:
        """The runs that left traces here, none of them new."""
        before = time.time() - self._seconds
        newest: dict[str, float] = {}
        # Claims hold nothing but what belongs to runs of this cluster; artefacts may be of others.
        for folder in (self._visited, self._claims.folder / "runs"):
            with contextlib.suppress(FileNotFoundError):
                for trace in folder.iterdir():
                    at = trace.stat().st_mtime
                    newest[trace.name] = max(at, newest.get(trace.name, 0.0))
        return [run_id for run_id, at in newest.items() if at < before and RUN_ID.fullmatch(run_id)]

    def _remove(self, run_id: str) -> None:
        if (self._visited / run_id).exists():
            shutil.rmtree(run_folder(self._data_dir, run_id).path, ignore_errors=True)
        for store in self._stores:
            store.forget(run_id)
        (self._visited / run_id).unlink(missing_ok=True)


def has_visited(data_dir: Path, run_id: str) -> bool:
    """Whether this machine has made attempts of the run."""
    return bool(RUN_ID.fullmatch(run_id)) and (data_dir / VISITED / run_id).exists()
