"""One workflow run, followed from its start to its last event.

What this module promises, whatever becomes of the backend or the reader meanwhile:

- every recorded event is handed on once and in order, by `seq`; none is made up;
- at most `max_waiting` events wait for a slow reader: the rest is read again from the store;
- a backend that dies is waited for up to `resume_seconds`, then the run is followed where it was;
- an inline run whose caller goes away is cancelled, a detached one goes on, and so does one that
  has asked somebody for something: `has_asked` tells.

The run is started and watched by two calls, both of which may be repeated: the run id makes
`start_run` idempotent, and `watch_run` begins after any `seq`.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from agent_server.log_config import get_logger
from mcp_bridge.bridge import Bridge
from mcp_bridge.results import ToolResult
from streaming.errors import (
    BridgeError,
    BridgeProtocolError,
    BridgeTimeoutError,
    BridgeUnavailableError,
)
from streaming.events import JsonObject, JsonValue, WorkflowEvent

MAX_WAITING = 1024
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_CANCEL_SECONDS = 30.0
_GOING_ON = ("queued", "running")

log = get_logger()

T = TypeVar("T")
Emit = Callable[[WorkflowEvent], Awaitable[None]]


class WorkflowRun:
    """A run, started or only followed; `after_seq` is the last event that the reader has.

    `trace` are the headers of the trace context in which its calls are made, `meta` is what the
    backend is told with each of them.
    """

    def __init__(
        self,
        bridge: Bridge,
        server: str,
        run_id: str,
        owner: str,
        *,
        resume_seconds: float,
        trace: Mapping[str, str] | None = None,
        meta: Mapping[str, JsonValue] | None = None,
        after_seq: int = 0,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.run_id = run_id
        self._bridge = bridge
        self._server = server
        self._owner = owner
        self._resume_seconds = resume_seconds
        self._trace = trace
        self._meta = meta
        self._max_waiting = max_waiting
        self._waiting: deque[JsonObject] = deque()
        self._wake = asyncio.Event()
        self._seq = after_seq
        self._watching: asyncio.Task[ToolResult] | None = None
        self.has_asked = False

    async def start(self, arguments: JsonObject) -> ToolResult:
        """Start the run; an answer that is an error means that there is none.

        Raises:
            BridgeError: the backend did not answer; the run may have begun all the same.
        """
        return await self._persist(lambda: self._call("start_run", arguments))

    async def follow(self, emit: Emit, *, until_rest: bool = False) -> ToolResult:
        """Hand on every event of the run, in order, and return its result once it has ended.

        With `until_rest` also once nothing of it goes on before somebody decides something.

        Raises:
            BridgeError: the backend stayed away for longer than `resume_seconds`.
        """
        while True:
            seq = self._seq
            result = await self._persist(lambda: self._watch(emit, until_rest=until_rest))
            if result is not None and (result.is_error or self._is_done(result, until_rest)):
                return result
            if self._seq == seq:
                await asyncio.sleep(_FIRST_PAUSE_SECONDS)

    def _is_done(self, result: ToolResult, until_rest: bool) -> bool:
        """Whether the run is over and its last event was handed on; a watch may end before."""
        state = result.structured or {}
        last_seq = state.get("last_seq")
        is_over = state.get("status") not in _GOING_ON
        is_resting = until_rest and state.get("is_waiting") is True
        return (is_over or is_resting) and (not isinstance(last_seq, int) or self._seq >= last_seq)

    async def cancel(self) -> None:
        """Cancel the run, waiting for a backend that is away, for 30 s at the most."""
        with contextlib.suppress(TimeoutError, BridgeError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self._persist(lambda: self._call("cancel_run", {}))

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat an attempt while the backend is away; events in between renew the time."""
        seq, deadline = self._seq, time.monotonic() + self._resume_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await attempt()
            except BridgeUnavailableError:
                if self._seq != seq:
                    seq, deadline = self._seq, time.monotonic() + self._resume_seconds
                    pause = _FIRST_PAUSE_SECONDS
                if time.monotonic() + pause > deadline:
                    raise
                log.warning("Workflow backend away", run_id=self.run_id, seq=self._seq)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)

    async def _call(
        self,
        tool: str,
        arguments: JsonObject,
        on_progress: Callable[[JsonObject], None] | None = None,
    ) -> ToolResult:
        return await self._bridge.call_server(
            self._server,
            tool,
            {**arguments, "run_id": self.run_id},
            owner=self._owner,
            meta=self._meta,
            trace=self._trace,
            on_progress=on_progress,
        )

    async def _watch(self, emit: Emit, *, until_rest: bool) -> ToolResult | None:
        """One watch, until the run ends; None if it must be taken up again."""
        began_after = self._seq
        arguments: JsonObject = {"after_seq": self._seq}
        if until_rest:
            arguments["until_rest"] = True
        watching = asyncio.create_task(self._call("watch_run", arguments, self._accept))
        self._watching = watching
        watching.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await emit(WorkflowEvent(self._waiting.popleft()))
                if watching.done() and not self._waiting:
                    break
        finally:
            self._watching = None
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        if watching.cancelled() and self._seq == began_after:
            raise BridgeProtocolError(f"Run {self.run_id}: no event follows number {self._seq}.")
        return _outcome(watching)

    def _accept(self, event: JsonObject) -> None:
        """Take an event from the wire; never waits, so it can but leave what does not fit."""
        seq = event.get("seq")
        if not isinstance(seq, int) or seq <= self._seq:
            return
        if seq > self._seq + 1 or len(self._waiting) >= self._max_waiting:
            if self._watching is not None:
                self._watching.cancel()
            return
        self._seq = seq
        self.has_asked = self.has_asked or _asks(event)
        self._waiting.append(event)
        self._wake.set()


def _asks(event: JsonObject) -> bool:
    """Whether the run waits for somebody outside of it from this event on."""
    if event.get("type") == "wait_started":
        return event.get("kind") != "timer"
    return event.get("type") == "approval_requested"


def _outcome(watching: asyncio.Task[ToolResult]) -> ToolResult | None:
    if watching.cancelled():
        return None
    try:
        return watching.result()
    except BridgeTimeoutError:
        # A silent step is no failure: the run has its own bounds.
        return None
