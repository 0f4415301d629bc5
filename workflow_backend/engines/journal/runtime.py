"""The journal's `Runtime`: what the interpreter asks for, recorded by key before it is answered.

Guarantees: an attempt whose result is recorded is not made again; an attempt that a crash
interrupted is made again under the same number (or is lost, if its step says so); no result is
recorded for an attempt that the engine's own end interrupted; a wait that is over stays over.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import orjson
from typing_extensions import override

from workflow_backend import events
from workflow_backend.definition.durations import format_duration
from workflow_backend.engines.base import (
    AttemptResult,
    AttemptSpec,
    AttemptWatch,
    ChildResult,
    ChildSpec,
    Executor,
    RunEvent,
    Runtime,
)
from workflow_backend.engines.end_states import EndStates
from workflow_backend.engines.journal import changes
from workflow_backend.engines.journal.changes import Appended, RunEnd
from workflow_backend.engines.journal.replay import Replay
from workflow_backend.engines.journal.rest import Rest
from workflow_backend.engines.journal.rows import (
    RunRow,
    decode_result,
    encode_result,
    now,
    seconds_between,
)
from workflow_backend.engines.journal.store import JournalStore
from workflow_backend.engines.journal.turns import Turns
from workflow_backend.retries import will_retry
from workflow_backend.step_state import StepState, states_from_json

# Where the outputs of a step that was taken over stand: in the run's own row.
KEPT = "kept:"

# That the run was to be cancelled, and why.
STOP = "run:stop"

# How the keys of the run's own bounds begin, and all that are no step's.
BOUNDS = "run:"
OF_NO_STEP = (BOUNDS, "notify[")

RunChild = Callable[[RunRow, ChildSpec, asyncio.Event | None], Awaitable[ChildResult]]


class JournalRuntime(Runtime):
    """The runtime of one run: `load` first."""

    def __init__(
        self,
        row: RunRow,
        store: JournalStore,
        executor: Executor,
        attempts: asyncio.Semaphore,
        run_child: RunChild,
        is_closing: Callable[[], bool],
        on_rest: Callable[[bool], None],
    ) -> None:
        self.rest = Rest(on_rest)
        self._row = row
        self._run_child = run_child
        self._signals: dict[str, asyncio.Future[bytes]] = {}
        self._queued: set[str] = set()
        self._end_states = EndStates()
        self.replay = Replay(row.run_id, is_closing)
        self._is_cancel_told = False
        self._has_ended = False
        self.ended = asyncio.Event()
        # Whether messages about the end may have to be sent after it.
        self.goes_on_after_end = False
        self._records: Mapping[str, bytes] = {}
        self._store = store
        self._executor = executor
        self._attempts = attempts
        self._is_closing = is_closing
        self._started_at = row.started_at or now()
        self._cancelled: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def load(self) -> Mapping[str, StepState]:
        """Read what was recorded of the run: by earlier interpretations, or before the first.

        Gives the steps whose results the run takes over.
        """
        self._records, answers = await self._store.records_and_answers(self._row.id)
        self.replay.turns = Turns(answers)
        kept = states_from_json(orjson.loads(await self._store.kept(self._row.id)))
        if self._row.cancel_reason is not None:
            self.request_cancel(self._row.cancel_reason)
        for name, state in kept.items():
            self._end_states.note(state.outputs, f"{KEPT}{name}")
        return kept

    def request_cancel(self, reason: str) -> None:
        """Let the interpreter know that the run is to be cancelled."""
        if not self._cancelled.done():
            self._cancelled.set_result(reason)

    def deliver(self, signal: str, value: bytes) -> None:
        """Let who waits for the signal know that it is recorded."""
        given = self._signal(signal)
        if not given.done():
            given.set_result(value)

    @override
    async def cancel_requested(self) -> str:
        recorded = self._records.get(STOP)
        if recorded is not None:
            await self.replay.turn_of_stop(STOP)
            self._is_cancel_told = True
            return str(orjson.loads(recorded))
        reason = await asyncio.shield(self._cancelled)
        await self.replay.turns.over.wait()
        await self.replay.quiet()
        await (await self._store.answer(self._row.id, STOP, orjson.dumps(reason)))
        self.replay.stopped()
        self._is_cancel_told = True
        return reason

    @override
    async def attempt(self, spec: AttemptSpec) -> AttemptResult:
        with self.rest.works():
            result = await self._attempt(spec)
        self._end_states.note(result.outputs, spec.key)
        return result

    async def _attempt(self, spec: AttemptSpec) -> AttemptResult:
        self.replay.called()
        recorded = self._records.get(spec.key)
        if recorded is not None:
            await self.replay.turn(spec.key)
            return decode_result(recorded)
        await self.replay.begin(None if spec.is_hidden else self._is_stopping)
        if self._attempts.locked():
            await self._say_queued(spec)
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
        self.replay.called()
        over = f"{key}:over"
        is_bound = key.startswith(BOUNDS)
        if self.replay.turns.knows(over):
            await (self.replay.turn_of_stop(over) if is_bound else self.replay.turn(over))
            return
        is_of_step = not key.startswith(OF_NO_STEP)
        await self.replay.begin(self._is_stopping if is_of_step else None)
        left = await self._seconds_left(key, seconds)
        if is_bound:
            # Nothing waits for the bound of the whole run.
            await asyncio.sleep(left)
        else:
            with self.rest.waits():
                await asyncio.sleep(left)
        await self.replay.surely(await self._store.answer(self._row.id, over, b"true"))
        if is_bound:
            self.replay.stopped()

    @override
    async def wait_signal(
        self, signal: str, key: str, seconds: float | None
    ) -> Mapping[str, object] | None:
        self.replay.called()
        record = record_of_signal(signal)
        key = record if key == signal else key
        for told in (f"{key}:late", f"{key}:got"):
            if self.replay.turns.knows(told):
                await self.replay.turn(told)
                return None if told.endswith(":late") else orjson.loads(self._records[record])
        await self.replay.begin(self._is_stopping)
        value = self._records.get(record)
        if value is None:
            with self.rest.waits():
                value = await self._signal_in_time(signal, key, seconds)
        if value is None:
            return None
        await self.replay.surely(await self._store.answer(self._row.id, f"{key}:got", b"true"))
        payload: Mapping[str, object] = orjson.loads(value)
        return payload

    @override
    async def child(self, key: str, spec: ChildSpec) -> ChildResult:
        self.replay.called()
        is_recorded = self.replay.turns.knows(key)
        may_begin = None if is_recorded else self.replay.turns.over
        with self.rest.works(), self.rest.waits():
            result = await self._run_child(self._row, spec, may_begin)
        if is_recorded:
            await self.replay.turn(key)
        else:
            await self.replay.surely(await self._store.answer(self._row.id, key, b"true"))
        self._end_states.note(result.states, spec.run_id)
        return result

    @override
    async def emit(self, key: str, event: RunEvent) -> float:
        self.replay.called()
        at = time.time()
        recorded = self._records.get(key)
        if recorded is not None:
            # Version 1 recorded no times.
            return float(orjson.loads(recorded) or at)
        match event["type"]:
            case "workflow_started":
                await self._store.begin(self._row.id, self._complete(event, at), key, at)
            case "step_queued":
                await self._emit_queued(key, event, at)
            case _:
                await self._store.append(self._row.id, self._complete(event, at), key, at)
        return at

    @override
    async def complete(self, event: RunEvent, states: Mapping[str, StepState]) -> None:
        if self._has_ended or "run:complete" in self._records:
            return
        self._has_ended = True
        complete = self._complete(event)
        outputs = event.get("outputs")
        outputs = outputs if isinstance(outputs, Mapping) else {}
        if outputs:
            complete["outputs"] = events.bounded_outputs(outputs)
        seconds = seconds_between(self._started_at, str(complete["time"]))
        complete["duration"] = format_duration(seconds)
        end = RunEnd(
            orjson.dumps(dict(outputs)),
            self._end_states.encode(states),
            closes=not self.goes_on_after_end,
        )
        await (await self._store.finish(self._row.id, complete, "run:complete", end))
        self.ended.set()

    async def fail(self, error: str) -> None:
        """End the run as failed, for a reason outside the workflow."""
        await self.complete(events.workflow_complete(self._row.workflow, "failed", error, {}), {})

    async def emit_output(self, event: RunEvent) -> None:
        """Append a `step_output`; the answer comes when it is durable, which slows floods down."""
        await (await self._store.append(self._row.id, self._complete(event)))

    def note_group(self, mark: str, pgid: int, birth: str | None) -> None:
        """Note a process group, so that a later engine can end it."""
        self._store.put_now(changes.add_group(mark, pgid, birth))

    async def _emit_queued(self, key: str, event: RunEvent, at: float) -> None:
        # If it began before a crash, then it waited for nothing, or has said so.
        has_begun = f"{key.removesuffix(':queued')}#1" in self._records
        if not has_begun and key not in self._queued:
            self._queued.add(key)
            await self._store.append(self._row.id, self._complete(event, at), key, at)

    def _signal(self, signal: str) -> asyncio.Future[bytes]:
        return self._signals.setdefault(signal, asyncio.get_running_loop().create_future())

    def _is_stopping(self) -> bool:
        """Whether a cancel was asked for, and is about to be told."""
        return self._cancelled.done() and not self._is_cancel_told

    async def _signal_in_time(self, signal: str, key: str, seconds: float | None) -> bytes | None:
        """The signal, or None: then it is recorded that the time was over before it came."""
        if seconds is None:
            return await asyncio.shield(self._signal(signal))
        left = await self._seconds_left(f"{key}:deadline", seconds)
        try:
            async with asyncio.timeout(left):
                return await asyncio.shield(self._signal(signal))
        except TimeoutError:
            late = await self._store.answer_late(self._row.id, record_of_signal(signal), key)
            await self.replay.surely(late)
            return late.result()

    async def _seconds_left(self, key: str, seconds: float) -> float:
        """How much is left of a time whose end is recorded under `key`."""
        recorded = self._records.get(key)
        ends_at = time.time() + seconds if recorded is None else float(orjson.loads(recorded))
        if recorded is None:
            await self._store.put(changes.record(self._row.id, key, orjson.dumps(ends_at)))
        # A clock that was set back must not make the wait longer than it was meant to be.
        return min(max(ends_at - time.time(), 0), seconds)

    def _is_lost(self, spec: AttemptSpec) -> bool:
        policy = spec.step.retry
        began = f"{spec.key}:running" in self._records
        return began and policy is not None and not policy.on_worker_lost

    async def _say_queued(self, spec: AttemptSpec) -> None:
        """Say that the attempt waits for the engine, unless the step has said so already."""
        if not spec.is_hidden:
            await self.emit(f"{spec.place}:queued", events.step_queued(spec.name))

    async def _announce(self, spec: AttemptSpec) -> None:
        """Say that the attempt begins; where that must not happen twice, durably so."""
        if spec.is_hidden:
            return
        event = self._complete(events.step_running(spec))
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
        done = await self._put_result(spec, result, mark)
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            if self._is_closing():
                raise
            await done
        return result

    async def _put_result(
        self, spec: AttemptSpec, result: AttemptResult, mark: str | None
    ) -> asyncio.Future[Appended] | asyncio.Future[None]:
        value = encode_result(result)
        if spec.is_hidden:
            return await self._store.record_result(self._row.id, spec.key, value, mark)
        event = self._complete(events.step_ended(spec, result))
        return await self._store.append_result(self._row.id, spec.key, value, event, mark)

    def _complete(self, event: RunEvent, at: float | None = None) -> dict[str, object]:
        return events.stamped(event, self._row.run_id, time.time() if at is None else at)


class _Watch(AttemptWatch):
    """What one attempt tells the journal."""

    def __init__(self, runtime: JournalRuntime, spec: AttemptSpec) -> None:
        self._runtime = runtime
        self._spec = spec
        self.mark: str | None = None

    @override
    async def output(self, text: str) -> None:
        if not self._spec.is_hidden:
            spec = self._spec
            event = events.step_output(spec.name, spec.attempt, text, iteration=spec.iteration)
            await self._runtime.emit_output(event)

    @override
    def process_started(self, pgid: int, birth: str | None, mark: str) -> None:
        self.mark = mark
        self._runtime.note_group(mark, pgid, birth)


def record_of_signal(signal: str) -> str:
    """The key under which a signal is recorded: one that no step's name can begin."""
    return f"!{signal}"


def _lost() -> AttemptResult:
    return AttemptResult(
        status="worker_lost",
        outputs={"stdout": ""},
        error="worker_lost: the engine died while this attempt ran, and `on_worker_lost` is false",
    )
