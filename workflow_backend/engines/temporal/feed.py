"""One run as its history tells it: its state, and its events as they happen.

Guarantees: the events of a run have the same numbers for every reader; a reader that was cut off
by an outage of the cluster goes on where it was, as long as the outage is short.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from temporalio.client import WorkflowExecutionDescription
from temporalio.service import RPCError, RPCStatusCode

from workflow_backend.engines.base import EngineUnavailableError, RunEvent, RunNotFoundError
from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.history import Fact, RunHistory
from workflow_backend.engines.temporal.history_reader import Handle, HistoryReader
from workflow_backend.engines.temporal.link import Link
from workflow_backend.engines.temporal.search_attributes import OWNER, attribute_text
from workflow_backend.steps.run_folder import RUN_ID

# How long the cluster may be away before a reader is told.
OUTAGE_SECONDS = 30.0
_PAUSE_SECONDS = 0.5


class RunFeed:
    """The runs of a cluster, one at a time, for their owners alone."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def handle(self, run_id: str) -> Handle:
        """The execution of this id, whoever has it.

        Raises:
            RunNotFoundError: No run can have this id.
        """
        if not RUN_ID.fullmatch(run_id):
            raise _not_found(run_id)
        client = await self._link.client()
        return client.get_workflow_handle(run_id)

    async def describe(self, run_id: str, owner: str) -> WorkflowExecutionDescription:
        """What the cluster says of the run.

        Raises:
            RunNotFoundError: The owner has no such run.
        """
        handle = await self.handle(run_id)
        try:
            description = await self._link.call(
                handle.describe(rpc_timeout=self._link.call_timeout)
            )
        except RPCError as error:
            raise _explained(error, run_id) from error
        found = description.typed_search_attributes.get(OWNER)
        if description.workflow_type != wire.RUN or found != attribute_text(owner):
            raise _not_found(run_id)
        return description

    async def arguments(self, run_id: str, owner: str) -> wire.RunArguments:
        """What the run was started with.

        Raises:
            RunNotFoundError: The owner has no such run.
        """
        async with contextlib.aclosing(self._facts(run_id, follow=False)) as facts:
            async for fact in facts:
                history = RunHistory()
                history.take(fact)
                return _owned(history, run_id, owner)
        raise _not_found(run_id)

    async def read(
        self, run_id: str, owner: str, *, with_results: bool = False
    ) -> tuple[RunHistory, list[RunEvent]]:
        """The run as it is now, with its events.

        Raises:
            RunNotFoundError: The owner has no such run.
        """
        history = RunHistory(with_results)
        events: list[RunEvent] = []
        async with contextlib.aclosing(self._facts(run_id, follow=False)) as facts:
            async for fact in facts:
                event = history.take(fact)
                _owned(history, run_id, owner)
                if event is not None:
                    events.append(event)
        return history, events

    async def events(
        self, run_id: str, owner: str, after_seq: int
    ) -> AsyncGenerator[RunEvent, None]:
        """The events after `after_seq`, until the run has ended.

        Raises:
            RunNotFoundError: The owner has no such run.
            EngineUnavailableError: The cluster is away for longer than a moment.
        """
        seq, away_since = after_seq, None
        while True:
            history = RunHistory()
            try:
                async with contextlib.aclosing(self._facts(run_id, follow=True)) as facts:
                    async for fact in facts:
                        away_since = None
                        event = history.take(fact)
                        _owned(history, run_id, owner)
                        if event is not None and history.last_seq > seq:
                            seq = history.last_seq
                            yield event
                        if history.has_ended:
                            return
            except EngineUnavailableError:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > OUTAGE_SECONDS:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _facts(self, run_id: str, *, follow: bool) -> AsyncGenerator[Fact, None]:
        handle = await self.handle(run_id)
        client = await self._link.client()
        reader = HistoryReader(client.data_converter)
        facts = reader.facts(handle, follow=follow, limit=self._link.call_timeout)
        try:
            with self._link.explained():
                async for fact in facts:
                    yield fact
        except RPCError as error:
            raise _explained(error, run_id) from error
        finally:
            await facts.aclose()


def _owned(history: RunHistory, run_id: str, owner: str) -> wire.RunArguments:
    if history.arguments is None or history.arguments.owner != owner:
        raise _not_found(run_id)
    return history.arguments


def _explained(error: RPCError, run_id: str) -> Exception:
    if error.status in {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}:
        return _not_found(run_id)
    return error


def _not_found(run_id: str) -> RunNotFoundError:
    return RunNotFoundError(f"there is no run {run_id!r}")
