"""The runs that go on at Kubiya: one task each, which follows the stream and records what it tells.

Guarantees: a start is sent once, after it is on the disk that it will be; a run whose stream is
lost, or whose process died, ends as failed and is not started again; runs at a time are bounded.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

import orjson

from workflow_backend import events
from workflow_backend.definition.durations import format_duration, parse_duration
from workflow_backend.definition.expressions import ExpressionError
from workflow_backend.definition.lint import LOCAL_RUNNER
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.journal import changes
from workflow_backend.engines.journal.definitions import Definitions
from workflow_backend.engines.journal.feed import LiveFeeds
from workflow_backend.engines.journal.rows import (
    RunRow,
    decode_result,
    encode_result,
    now,
    seconds_between,
)
from workflow_backend.engines.journal.store import JournalStore
from workflow_backend.engines.kubiya.client import KubiyaClient, StreamLostError
from workflow_backend.engines.kubiya.errors import KubiyaError
from workflow_backend.engines.kubiya.messages import MessageDecoder, MessageTooLargeError
from workflow_backend.engines.kubiya.progress import Recorded, RemoteRun, RunEnd
from workflow_backend.engines.kubiya.vendor_workflow import UnsupportedWorkflowError, translate
from workflow_backend.masking import Masker
from workflow_backend.rendering import Renderer
from workflow_backend.step_state import states_to_json

MAY_GO_ON = "it may go on there, and it was not started again; look at it in Kubiya"
LOST = f"the connection to Kubiya was lost: {{why}}; {MAY_GO_ON}"

_logger = logging.getLogger(__name__)


class RemoteRuns:
    """Starts and follows runs; `feeds` get their events."""

    def __init__(
        self,
        store: JournalStore,
        definitions: Definitions,
        feeds: LiveFeeds,
        client: KubiyaClient,
        default_runner: Callable[[], Awaitable[str]],
        masker: Masker,
        max_runs: int,
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._feeds = feeds
        self._client = client
        self._default_runner = default_runner
        self._masker = masker
        self._places = asyncio.Semaphore(max_runs)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._reasons: dict[int, str] = {}
        self._is_closing = False

    @property
    def count(self) -> int:
        """How many runs go on or wait."""
        return len(self._tasks)

    def submit(self, row: RunRow) -> None:
        """Follow a run: one that is new, or that a process which died had not sent yet."""
        self._feeds.open(row.id, row.last_seq)
        task = asyncio.create_task(self._run(row))
        self._tasks[row.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(row.id, None))

    async def end_lost(self, row: RunRow) -> None:
        """End a run that was under way when its process died."""
        self._feeds.open(row.id, row.last_seq)
        workflow = await self._definitions.get(row.definition)
        remote = await self._resumed(row, workflow)
        remote.end = RunEnd("failed", LOST.format(why="this server's process died"))
        if row.cancel_reason is not None:
            remote.end = RunEnd("cancelled", _cancelled(row.cancel_reason))
        await self._end(row, workflow, remote, row.started_at or now())

    def cancel(self, run: int, reason: str) -> "asyncio.Task[None] | None":
        """End a run as cancelled; the task that does so."""
        task = self._tasks.get(run)
        if task is not None and run not in self._reasons:
            self._reasons[run] = reason
            task.cancel()
        return task

    async def close(self) -> None:
        """Leave every stream; runs that were sent end as lost, the others stay queued."""
        self._is_closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, row: RunRow) -> None:
        try:
            await self._run_in_turn(row)
        except asyncio.CancelledError:
            if row.id not in self._reasons:
                raise
            # Cancelled while it waited for its turn: nothing was sent.
            workflow = await self._definitions.get(row.definition)
            remote = RemoteRun(row.run_id, workflow, self._masker)
            remote.end = RunEnd("cancelled", f"cancelled: {self._reasons[row.id]}")
            await self._end(row, workflow, remote, now())
        except Exception:
            _logger.exception("run %s of Kubiya could not be recorded", row.run_id)
            self._feeds.close(row.id, RuntimeError("the run cannot be recorded any more"))
        finally:
            self._reasons.pop(row.id, None)

    async def _run_in_turn(self, row: RunRow) -> None:
        async with self._places:
            workflow = await self._definitions.get(row.definition)
            remote = RemoteRun(row.run_id, workflow, self._masker)
            started = events.workflow_started(workflow.name, len(workflow.steps))
            event = events.stamped(started, row.run_id, at := time.time())
            await (await self._store.begin(row.id, event, "run:started", at))
            following = asyncio.create_task(self._follow(row, workflow, remote))
            try:
                await asyncio.shield(following)
            except asyncio.CancelledError:
                following.cancel()
                await _until_done(following)
                remote.end = remote.end or self._left(row.id)
            await self._end(row, workflow, remote, str(event["time"]))

    def _left(self, run: int) -> RunEnd:
        """How a run ends whose stream this server left by itself."""
        reason = self._reasons.get(run)
        if reason is not None:
            return RunEnd("cancelled", _cancelled(reason))
        return RunEnd("failed", LOST.format(why="this server was stopped"))

    async def _follow(self, row: RunRow, workflow: Workflow, remote: RemoteRun) -> None:
        """Send the start, and take the stream in until it tells an end."""
        seconds = None if workflow.timeout is None else parse_duration(workflow.timeout)
        try:
            async with asyncio.timeout(seconds):
                await self._take_stream(row, workflow, remote)
        except TimeoutError:
            error = f"the run's timeout of {workflow.timeout} passed; {MAY_GO_ON}"
            remote.end = RunEnd("timed_out", error)
        except (StreamLostError, MessageTooLargeError) as error:
            remote.stream_ended(LOST.format(why=self._masker.mask(str(error))))
        except (KubiyaError, UnsupportedWorkflowError) as error:
            remote.end = RunEnd("failed", self._masker.mask(str(error)))

    async def _take_stream(self, row: RunRow, workflow: Workflow, remote: RemoteRun) -> None:
        body = translate(workflow).body(orjson.loads(row.inputs))
        runner = workflow.runner
        if runner == LOCAL_RUNNER:
            runner = await self._default_runner()
        decoder = MessageDecoder()
        async with self._client.run(runner, body) as chunks:
            async for chunk in chunks:
                for message in decoder.feed(chunk):
                    await self._record(row, remote.take(message, time.time()))
                    if remote.end is not None:
                        return
        for message in decoder.finish():
            await self._record(row, remote.take(message, time.time()))
        remote.stream_ended(LOST.format(why="the stream ended before the run did"))

    async def _record(self, row: RunRow, recorded: list[Recorded]) -> None:
        for each in recorded:
            event = events.stamped(each.event, row.run_id, time.time())
            if each.result is None:
                await self._store.append(row.id, event)
            else:
                value = encode_result(each.result)
                await self._store.append_result(row.id, each.key, value, event, None)

    async def _end(
        self, row: RunRow, workflow: Workflow, remote: RemoteRun, started_at: str
    ) -> None:
        """Settle what is open, and record the end; neither is given up half-way."""
        finishing = asyncio.create_task(self._finish(row, workflow, remote, started_at))
        await _until_done(finishing)
        finishing.result()

    async def _finish(
        self, row: RunRow, workflow: Workflow, remote: RemoteRun, started_at: str
    ) -> None:
        await self._record(row, remote.settle(time.time()))
        end = remote.end or RunEnd("failed", LOST.format(why="it was given up"))
        outputs, end = _outputs(row, workflow, remote, end)
        complete = events.workflow_complete(workflow.name, end.status, end.error, outputs)
        event = events.stamped(complete, row.run_id, time.time())
        if outputs:
            event["outputs"] = events.bounded_outputs(outputs)
        event["duration"] = format_duration(seconds_between(started_at, str(event["time"])))
        states = orjson.dumps(states_to_json(remote.states))
        what = changes.RunEnd(orjson.dumps(outputs), states, closes=True)
        await (await self._store.finish(row.id, event, "run:complete", what))

    async def _resumed(self, row: RunRow, workflow: Workflow) -> RemoteRun:
        """What was known of the run when its process died, from its events."""
        remote = RemoteRun(row.run_id, workflow, self._masker)
        records = await self._store.records(row.id)
        for event in await self._store.step_events(row.id):
            value = records.get(f"{event.get('step')}#{event.get('attempt')}")
            remote.restore(event, None if value is None else decode_result(value))
        return remote


async def _until_done(task: asyncio.Task[None]) -> None:
    """Wait for the end of a task, also if this one is cancelled meanwhile."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])


def _outputs(
    row: RunRow, workflow: Workflow, remote: RemoteRun, end: RunEnd
) -> tuple[dict[str, object], RunEnd]:
    """The outputs of the run, computed here from what its steps printed."""
    outputs: dict[str, object] = {}
    renderer = Renderer(workflow, orjson.loads(row.inputs), row.run_id)
    for name, template in workflow.outputs.items():
        try:
            outputs[name] = renderer.output(template, remote.states)
        except ExpressionError as error:
            if end.status == "success":
                end = RunEnd("failed", f"outputs.{name}: {error}")
    return outputs, end


def _cancelled(reason: str) -> str:
    return f"cancelled: {reason}; Kubiya's API has no cancel, so {MAY_GO_ON}"
