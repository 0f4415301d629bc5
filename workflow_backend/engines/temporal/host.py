"""The worker of this process: it polls a task queue and runs what it is given.

Guarantees: it goes on until `stop`, over outages of the cluster; `stop` gives what runs the grace
time, then ends it, so that other workers take it over.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from workflow_backend.artefacts import ArtefactStore
from workflow_backend.definition.cel import check
from workflow_backend.engines.base import EngineUnavailableError, Executor
from workflow_backend.engines.temporal.attempts import BEAT_SECONDS, Attempts
from workflow_backend.engines.temporal.begins import Begins
from workflow_backend.engines.temporal.claims import claim_store
from workflow_backend.engines.temporal.firings import FiringWorkflow
from workflow_backend.engines.temporal.groups import GroupWorkflow
from workflow_backend.engines.temporal.keeper import Keeper
from workflow_backend.engines.temporal.link import Link
from workflow_backend.engines.temporal.options import TemporalSettings
from workflow_backend.engines.temporal.probes import Probe
from workflow_backend.engines.temporal.sandbox import Sandbox
from workflow_backend.engines.temporal.search_attributes import register
from workflow_backend.engines.temporal.threads import RoomyThreads
from workflow_backend.engines.temporal.wire import AGENTS
from workflow_backend.engines.temporal.workflows import RunWorkflow
from workflow_backend.interpreter import INTERPRETER_VERSION
from workflow_backend.version import VERSION

Prepare = Callable[[Client], Awaitable[None]]

# Workflow tasks at a time: they only use the processor, so more of them are not faster.
WORKFLOW_TASKS = 8
CACHED_RUNS = 200
AGENT_STEPS = 1_000
LONGEST_PAUSE_SECONDS = 5.0

_logger = logging.getLogger(__name__)


class WorkerHost:
    """The worker of one task queue: `start`, `ready`, `stop`."""

    def __init__(
        self,
        link: Link,
        settings: TemporalSettings,
        executor: Executor,
        *,
        artefacts: ArtefactStore | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self._link = link
        self._settings = settings
        self._prepare = prepare
        self._keeper = Keeper(
            link,
            settings.data_dir,
            claims=claim_store(settings.artefacts_dir, link.cluster.namespace),
            artefacts=artefacts,
            days=settings.retention_days,
        )
        self._attempts = Attempts(executor, self._keeper.visit)
        self.begins = Begins(link, settings)
        self._activities: list[Callable[..., Any]] = [
            *self._attempts.activities,
            Probe(link).probe,
            self.begins.begin,
        ]
        self._threads = RoomyThreads(2 * WORKFLOW_TASKS, "workflow")
        self._sandbox = Sandbox()
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.fault: EngineUnavailableError | None = None

    def start(self) -> None:
        """Begin to connect and to poll."""
        # The parser loads its library at the first use, which workflow code may not do.
        check("true")
        self._task = asyncio.create_task(self._run(), name="temporal worker")

    async def ready(self, seconds: float) -> bool:
        """Whether it polls within the time; if not, `fault` says why."""
        try:
            async with asyncio.timeout(seconds):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Let what runs end within the grace time; what does not is left to other workers."""
        self._stopping.set()
        if self._task is not None:
            await self._task
            self._task = None
        self._threads.shutdown(wait=False)

    async def _run(self) -> None:
        pause = 0.1
        while not self._stopping.is_set():
            try:
                client = await self._link.client()
                with self._link.explained():
                    await register(client, self._link.call_timeout)
                    if self._prepare is not None:
                        await self._prepare(client)
                await self._poll(client)
                pause = 0.1
            except EngineUnavailableError as error:
                self._note(error)
            except Exception:
                _logger.exception("the Temporal worker failed and starts again")
            finally:
                self._ready.clear()
                await asyncio.wrap_future(self._threads.submit(self._sandbox.evict_all))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            await self._pause(pause)

    async def _poll(self, client: Client) -> None:
        async with self._worker(client), self._agents(client):
            self.fault = None
            self._ready.set()
            _logger.info("polls the task queue %s", self._settings.task_queue)
            keeping = asyncio.create_task(self._keeper.run())
            try:
                await self._stopping.wait()
            finally:
                keeping.cancel()

    def _worker(self, client: Client) -> Worker:
        settings = self._settings
        return Worker(
            client,
            task_queue=settings.task_queue,
            workflows=[RunWorkflow, GroupWorkflow, FiringWorkflow],
            activities=self._activities,
            build_id=f"{VERSION}-{INTERPRETER_VERSION}",
            workflow_runner=self._sandbox,
            workflow_task_executor=self._threads,
            max_concurrent_workflow_tasks=WORKFLOW_TASKS,
            max_cached_workflows=CACHED_RUNS,
            max_concurrent_activities=settings.max_attempts,
            max_heartbeat_throttle_interval=timedelta(seconds=BEAT_SECONDS),
            default_heartbeat_throttle_interval=timedelta(seconds=BEAT_SECONDS),
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=settings.sticky_seconds),
            graceful_shutdown_timeout=timedelta(seconds=settings.shutdown_grace_seconds),
        )

    def _agents(self, client: Client) -> Worker:
        """Makes agent steps, which wait for others: many at a time, beside all other steps."""
        settings = self._settings
        return Worker(
            client,
            task_queue=settings.task_queue + AGENTS,
            activities=self._attempts.activities,
            max_concurrent_activities=AGENT_STEPS,
            max_heartbeat_throttle_interval=timedelta(seconds=BEAT_SECONDS),
            default_heartbeat_throttle_interval=timedelta(seconds=BEAT_SECONDS),
            graceful_shutdown_timeout=timedelta(seconds=settings.shutdown_grace_seconds),
        )

    def _note(self, error: EngineUnavailableError) -> None:
        if str(error) != str(self.fault):
            _logger.error("%s", error)
        self.fault = error

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
