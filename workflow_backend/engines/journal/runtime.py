"""The journal's `Runtime`: what the interpreter asks for, recorded by key before it is answered.

Guarantees: an attempt whose result is recorded is not made again; an attempt that a crash
interrupted is made again under the same number (or is lost, if its step says so); no result is
recorded for an attempt that the engine's own end interrupted.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import orjson
from typing_extensions import override

from workflow_backend import events
from workflow_backend.definition.durations import format_duration
from workflow_backend.definition.expressions import to_text
from workflow_backend.engines.base import (
    AttemptResult,
    AttemptSpec,
    AttemptWatch,
    Executor,
    RunEvent,
    Runtime,
)
from workflow_backend.engines.journal import changes
from workflow_backend.engines.journal.rows import (
    RunRow,
    decode_result,
    encode_result,
    now,
    seconds_between,
)
from workflow_backend.engines.journal.store import JournalStore
from workflow_backend.retries import will_retry

T = TypeVar("T")

EVENT_OUTPUTS_BYTES = 16 * 1024


class JournalRuntime(Runtime):
    """The runtime of one run: `load` first."""

    def __init__(
        self,
        row: RunRow,
        store: JournalStore,
        executor: Executor,
        attempts: asyncio.Semaphore,
        is_closing: Callable[[], bool],
    ) -> None:
        self._row = row
        self._records: Mapping[str, bytes] = {}
        self._store = store
        self._executor = executor
        self._attempts = attempts
        self._is_closing = is_closing
        self._started_at = row.started_at or now()
        self._cancelled: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if row.cancel_reason is not None:
            self.request_cancel(row.cancel_reason)

    async def load(self) -> None:
        """Read what earlier interpretations of the run recorded."""
        if self._row.last_seq:
            self._records = await self._store.records(self._row.id)

    def request_cancel(self, reason: str) -> None:
        """Let the interpreter know that the run is to be cancelled."""
        if not self._cancelled.done():
            self._cancelled.set_result(reason)

    @override
    async def cancel_requested(self) -> str:
        return await asyncio.shield(self._cancelled)

    @override
    async def attempt(self, spec: AttemptSpec) -> AttemptResult:
        recorded = self._records.get(spec.key)
        if recorded is not None:
            return decode_result(recorded)
        if self._attempts.locked():
            queued = events.step_queued(spec.step.name)
            await self.emit(f"{spec.step.name}:queued", queued)
        async with self._attempts:
            if self._is_lost(spec):
                return await self._record(spec, _lost(), None)
            await self._announce(spec)
            watch = _Watch(self, spec)
            result = await self._executor.run_attempt(spec, watch)
            if self._is_closing() and result.status == "cancelled":
                raise asyncio.CancelledError
            return await self._record(spec, result, watch.mark)

    @override
    async def sleep(self, key: str, seconds: float) -> None:
        recorded = self._records.get(key)
        ends_at = time.time() + seconds if recorded is None else float(orjson.loads(recorded))
        if recorded is None:
            await self._store.put(changes.record(self._row.id, key, orjson.dumps(ends_at)))
        # A clock that was set back must not make the wait longer than it was meant to be.
        await asyncio.sleep(min(max(ends_at - time.time(), 0), seconds))

    @override
    async def emit(self, key: str, event: RunEvent) -> None:
        if key in self._records:
            return
        match event["type"]:
            case "workflow_started":
                await self._store.begin(self._row.id, self._complete(event), key)
            case "workflow_complete":
                await self._finish(key, event)
            case "step_queued" if f"{event['step']}#1" in self._records:
                # It began before the crash; then it waited for nothing, or has said so.
                return
            case _:
                await self._store.append(self._row.id, self._complete(event), key)

    async def fail(self, error: str) -> None:
        """End the run as failed, for a reason outside the workflow."""
        event = events.workflow_complete(self._row.workflow, "failed", error, {})
        await self.emit("run:complete", event)

    async def emit_output(self, event: RunEvent) -> None:
        """Append a `step_output`; the answer comes when it is durable, which slows floods down."""
        await (await self._store.append(self._row.id, self._complete(event)))

    def note_group(self, mark: str, pgid: int, birth: str | None) -> None:
        """Note a process group, so that a later engine can end it."""
        self._store.put_now(changes.add_group(mark, pgid, birth))

    def _is_lost(self, spec: AttemptSpec) -> bool:
        policy = spec.step.retry
        began = f"{spec.key}:running" in self._records
        return began and policy is not None and not policy.on_worker_lost

    async def _announce(self, spec: AttemptSpec) -> None:
        """Say that the attempt begins; where that must not happen twice, durably so."""
        event = self._complete(events.step_running(spec.step, spec.attempt))
        policy = spec.step.retry
        if policy is None or policy.on_worker_lost:
            await self._store.append(self._row.id, event)
        else:
            await (await self._store.append(self._row.id, event, f"{spec.key}:running"))

    async def _record(
        self, spec: AttemptSpec, result: AttemptResult, mark: str | None
    ) -> AttemptResult:
        """Record the result with its event; once that began it is not given up."""
        result = replace(result, will_retry=will_retry(spec, result))
        event = self._complete(events.step_ended(spec.step.name, spec.attempt, result))
        value = encode_result(result)
        done = await self._store.append_result(self._row.id, spec.key, value, event, mark)
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            if self._is_closing():
                raise
            await done
        return result

    async def _finish(self, key: str, event: RunEvent) -> None:
        complete = self._complete(event)
        seconds = seconds_between(self._started_at, str(complete["time"]))
        outputs = orjson.dumps(event.get("outputs", {}))
        if len(outputs) > EVENT_OUTPUTS_BYTES:
            complete["outputs"] = {
                name: events.clip(
                    to_text(value),
                    events.EVENT_HEAD_CHARACTERS,
                    events.EVENT_TAIL_CHARACTERS,
                )
                for name, value in orjson.loads(outputs).items()
            }
        complete["duration"] = format_duration(seconds)
        await (await self._store.finish(self._row.id, complete, key, outputs))

    def _complete(self, event: RunEvent) -> dict[str, object]:
        return {"run_id": self._row.run_id, "time": now(), **event}


class _Watch(AttemptWatch):
    """What one attempt tells the journal."""

    def __init__(self, runtime: JournalRuntime, spec: AttemptSpec) -> None:
        self._runtime = runtime
        self._spec = spec
        self.mark: str | None = None

    @override
    async def output(self, text: str) -> None:
        event = events.step_output(self._spec.step.name, self._spec.attempt, text)
        await self._runtime.emit_output(event)

    @override
    def process_started(self, pgid: int, birth: str | None, mark: str) -> None:
        self.mark = mark
        self._runtime.note_group(mark, pgid, birth)


def _lost() -> AttemptResult:
    return AttemptResult(
        status="worker_lost",
        outputs={"stdout": ""},
        error="worker_lost: the engine died while this attempt ran, and `on_worker_lost` is false",
    )
