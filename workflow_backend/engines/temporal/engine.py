"""The engine on Temporal: runs are workflows of a cluster, steps are activities of its workers.

Guarantees: a run that `start` answered goes on whatever becomes of this process; `close` ends the
attempts that run here, and other workers, or the next start, make them again; a cluster that is
away fails calls with `EngineUnavailableError` within a bounded time, and is used again once it is
there. Temporal carries no output while it is written: runs have no `step_output` here.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta

import orjson
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode
from typing_extensions import override

from workflow_backend.artefacts import ArtefactStore
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import (
    EngineBusyError,
    EngineUnavailableError,
    Executor,
    Page,
    Run,
    RunEndedError,
    RunEvent,
    RunFilter,
    RunNotFoundError,
    RunOptions,
    Signalled,
)
from workflow_backend.engines.end_states import decode_states
from workflow_backend.engines.opened import OpenedEngine
from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.dev_server import DevServer, keep_runs
from workflow_backend.engines.temporal.feed import RunFeed
from workflow_backend.engines.temporal.host import WorkerHost
from workflow_backend.engines.temporal.keeper import has_visited
from workflow_backend.engines.temporal.link import Link
from workflow_backend.engines.temporal.listing import Listing
from workflow_backend.engines.temporal.options import Cluster, TemporalSettings
from workflow_backend.engines.temporal.runners import Runners
from workflow_backend.engines.temporal.runs import run_of
from workflow_backend.engines.temporal.schedules import TemporalSchedules
from workflow_backend.engines.temporal.starts import Starts
from workflow_backend.schedules.base import PrepareRun, Schedules
from workflow_backend.step_state import StepState, states_from_json

_BRIEF = timedelta(seconds=2)
_GONE = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION})


class TemporalEngine(OpenedEngine):
    """The engine on one cluster, with a worker of its own: `open` or `async with`, `close`."""

    def __init__(
        self,
        settings: TemporalSettings,
        executor: Executor,
        artefacts: ArtefactStore | None = None,
    ) -> None:
        self._settings = settings
        self._executor = executor
        self._artefacts = artefacts
        self._dev_server: DevServer | None = None
        self._link: Link | None = None
        self._host: WorkerHost | None = None

    @override
    async def open(self) -> None:
        """Start the dev server if it is ours, the executor and the worker.

        A cluster that is away is no fault here: the worker goes on trying.

        Raises:
            EngineUnavailableError: The dev server does not start.
            IsolationError: The executor cannot isolate steps as it was told to.
        """
        settings = self._settings
        try:
            cluster = settings.cluster or await self._start_dev_server()
            await self._executor.open()
            self._link = Link(cluster, settings.artefacts_dir, settings.call_timeout_seconds)
            self._host = WorkerHost(
                self._link,
                settings,
                self._executor,
                artefacts=self._artefacts,
                prepare=None if self._dev_server is None else self._keep_runs,
            )
            self._host.start()
            await self._host.ready(settings.call_timeout_seconds)
        except BaseException:
            await self.close()
            raise

    @override
    async def close(self) -> None:
        """End the attempts that run here, the worker, the executor and the dev server."""
        host, self._host = self._host, None
        if host is not None:
            await host.stop()
        await self._executor.close()
        if self._dev_server is not None:
            await self._dev_server.stop()
        self._link = None

    @property
    @override
    def name(self) -> str:
        return "temporal"

    @override
    async def start(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions | None = None,
    ) -> Run:
        link = self._open_link()
        starts = Starts(link, self._settings, RunFeed(link))
        await starts.start(run_id, workflow, inputs, owner, options or RunOptions())
        return await self.get(run_id, owner)

    @override
    async def cancel(self, run_id: str, owner: str, reason: str) -> Run:
        """Cancel a run and wait, for a bounded time, until it has ended."""
        link = self._open_link()
        feed = RunFeed(link)
        description = await feed.describe(run_id, owner)
        if description.status is WorkflowExecutionStatus.RUNNING:
            handle = await feed.handle(run_id)
            signal = handle.signal(wire.CANCEL, reason, rpc_timeout=link.call_timeout)
            try:
                await link.call(signal)
            except RPCError as error:
                if error.status not in _GONE:
                    raise
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.cancel_wait_seconds):
                    async for _ in feed.events(run_id, owner, 0):
                        continue
        return await self.get(run_id, owner)

    @override
    async def signal(
        self, run_id: str, owner: str, key: str, payload: Mapping[str, object]
    ) -> Signalled:
        link = self._open_link()
        feed = RunFeed(link)
        await feed.describe(run_id, owner)
        handle = await feed.handle(run_id)
        update = handle.execute_update(
            wire.DELIVER, args=[key, dict(payload)], rpc_timeout=link.call_timeout
        )
        answer: wire.Json = {"is_late": True}
        try:
            answer = await link.call(update)
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise EngineUnavailableError(
                "no worker of the server took the signal in time; try again in a moment"
            ) from error
        except RPCError as error:
            if error.status not in _GONE:
                raise
        if answer.get("is_late"):
            return await self._recorded(feed, run_id, owner, key)
        return Signalled(answer["payload"], answer["is_first"])

    @override
    async def get(self, run_id: str, owner: str) -> Run:
        history, events = await RunFeed(self._open_link()).read(run_id, owner)
        return run_of(history, events)

    @override
    async def workflow(self, run_id: str, owner: str) -> Workflow:
        arguments = await RunFeed(self._open_link()).arguments(run_id, owner)
        return wire.workflow_from_json(arguments.workflow)

    @override
    async def states(self, run_id: str, owner: str) -> Mapping[str, StepState]:
        """What the steps came to; a run that was ended in Temporal does not know it."""
        link = self._open_link()
        history, _ = await RunFeed(link).read(run_id, owner, with_results=True)
        outcome = history.outcome
        if outcome is None and history.has_ended and not history.was_cut_off:
            # Its last messages are still being delivered.
            handle = await RunFeed(link).handle(run_id)
            outcome = await link.call(handle.query(wire.RESULT, rpc_timeout=link.call_timeout))
        if outcome is None or history.arguments is None:
            return {}
        kept = states_from_json(history.arguments.kept)

        def outputs_at(place: str) -> Mapping[str, object]:
            if place.startswith(wire.KEPT):
                return kept[place.removeprefix(wire.KEPT)].outputs
            return history.results[place].outputs

        async def states_of(inner: str) -> Mapping[str, StepState]:
            return await self.states(inner, owner)

        return await decode_states(orjson.dumps(outcome["states"]), outputs_at, states_of)

    @override
    async def list(self, run_filter: RunFilter, cursor: str | None = None) -> Page:
        """Runs of the owner, newest first, without their inputs, outputs and steps.

        Raises:
            InvalidCursorError: The cursor is none of this engine's.
        """
        link = self._open_link()
        listing = Listing(await link.client(), link.call_timeout)
        return await link.call(listing.page(run_filter, cursor))

    @override
    async def events(
        self, run_id: str, owner: str, after_seq: int = 0
    ) -> AsyncGenerator[RunEvent, None]:
        """The events after `after_seq`, in order, without gaps, until the run has ended.

        Raises:
            EngineUnavailableError: The cluster is away for longer than a moment.
        """
        feed = RunFeed(self._open_link())
        async with contextlib.aclosing(feed.events(run_id, owner, after_seq)) as events:
            async for event in events:
                yield event

    async def has(self, run_id: str) -> bool:
        """Whether a run has this id; while the cluster is away, whether it left files here."""
        try:
            handle = await RunFeed(self._open_link()).handle(run_id)
            await self._open_link().call(handle.describe(rpc_timeout=_BRIEF))
        except (EngineUnavailableError, EngineBusyError):
            return has_visited(self._settings.data_dir, run_id)
        except (RunNotFoundError, RPCError):
            return False
        return True

    def schedules(self, prepare: PrepareRun) -> Schedules:
        """The schedules that the cluster keeps; this machine begins their runs by `prepare`."""
        link = self._open_link()
        if self._host is not None:
            self._host.begins.prepare = prepare
        return TemporalSchedules(link, self._settings)

    async def runners(self, asked: str | None = None) -> tuple[str, ...]:
        """The runners that there are; `asked` is among them if somebody polls it."""
        link = self._open_link()
        runners = Runners(await link.client(), self._settings, link.call_timeout)
        return await link.call(runners.names(asked))

    async def _recorded(self, feed: RunFeed, run_id: str, owner: str, key: str) -> Signalled:
        """What an ended run had been given under the key."""
        history, _ = await feed.read(run_id, owner)
        if key not in history.signals:
            raise RunEndedError(f"run {run_id!r} has ended, or does not wait for `{key}` any more")
        return Signalled(history.signals[key], is_first=False)

    async def _start_dev_server(self) -> Cluster:
        self._dev_server = DevServer(self._settings.data_dir, self._settings.dev_server_options)
        await self._dev_server.start()
        return self._dev_server.cluster

    async def _keep_runs(self, client: Client) -> None:
        """Let our own dev server keep closed runs for as long as the settings say."""
        await keep_runs(client, self._settings.retention_days, self._open_link().call_timeout)

    def _open_link(self) -> Link:
        if self._link is None:
            raise EngineUnavailableError("the engine is closed")
        return self._link
