"""One owner task per server: it alone opens and closes the session, restarts it and watches it.

What this module promises: a server that dies, hangs or does not start is replaced, with growing
pauses; no call is ever repeated; a call that finds its server starting waits, with a bound; when
`stop` returns, the server's process group is gone. Only opening and closing belong to one task
(the SDK's cancel scopes demand it); calls are made in the tasks of their callers.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from mcp_bridge.catalogue import listing_digest, log_changes
from mcp_bridge.child_process import ChildProcess, happens
from mcp_bridge.exception_groups import innermost
from mcp_bridge.listing import ListedTool
from mcp_bridge.plain_text import Redactor, clean_text, shorten
from mcp_bridge.results import ToolResult
from mcp_bridge.server_spec import Mode, ServerSpec
from streaming.errors import BridgeError, BridgeTimeoutError, BridgeUnavailableError
from streaming.events import JsonObject, JsonValue

if TYPE_CHECKING:
    from mcp_bridge.connection import Connection

State = Literal["new", "starting", "ready", "backoff", "failed", "stopping", "stopped"]

_LOGGER: Final = logging.getLogger(__name__)
_MAX_ERROR: Final = 600
# Errors that the next start will not mend by itself.
_LASTING: Final = frozenset({"command_not_found", "tools_not_pinned"})


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The state of one server for people and probes; `last_error` holds no secrets.

    `ready_since` is in Unix seconds, None if the server is not ready. `restarts` counts every start
    after the first.
    """

    name: str
    state: State
    is_required: bool
    pid: int | None
    restarts: int
    last_error: str | None
    tools: int
    in_flight: int
    ready_since: float | None
    protocol_version: str | None


class Supervisor:
    """Keeps one server running and makes its calls."""

    def __init__(self, spec: ServerSpec, on_change: Callable[[], None]) -> None:
        self.spec = spec
        self._on_change = on_change
        self._redact = Redactor(spec.secrets)
        self._state: State = "new"
        self._state_changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._slots = asyncio.Semaphore(spec.max_in_flight)
        self._waiting = 0
        self._in_flight = 0
        self._starts = 0
        self._owner: asyncio.Task[None] | None = None
        self._child: ChildProcess | None = None
        self._connection: Connection | None = None
        self._tools: tuple[ListedTool, ...] = ()
        self._ready_since: float | None = None
        self._last_error: str | None = None
        self._has_timed_out = False
        self._must_end = False

    @property
    def is_ready(self) -> bool:
        """Whether a call would be sent at once."""
        return self._state == "ready"

    @property
    def tools(self) -> tuple[ListedTool, ...]:
        """The last known tools, also while the server restarts; none once it counts as failed."""
        return () if self._state in {"failed", "stopped"} else self._tools

    @property
    def status(self) -> ServerStatus:
        """The state of the server now."""
        connection, child = self._connection, self._child
        return ServerStatus(
            name=self.spec.name,
            state=self._state,
            is_required=self.spec.is_required,
            pid=child.pid if child is not None and not child.is_dead else None,
            restarts=max(0, self._starts - 1),
            last_error=self._last_error,
            tools=len(self.tools),
            in_flight=self._in_flight,
            ready_since=self._ready_since,
            protocol_version=connection.protocol_version if connection is not None else None,
        )

    def start(self) -> None:
        """Start the owner task; the server becomes ready later."""
        if self._owner is None:
            self._set_state("starting")
            self._owner = asyncio.create_task(self._own(), name=f"mcp server {self.spec.name}")

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let running ones finish within the grace, end the server.

        Ending the child takes at most the waits of its `Pacing` besides.
        """
        if self._owner is None:
            self._set_state("stopped")
            return
        self._set_state("stopping")
        await happens(self._idle, grace_seconds)
        pacing = self.spec.pacing
        self._must_end = True
        self._owner.cancel()
        await asyncio.wait(
            {self._owner},
            timeout=pacing.stdin_grace_seconds
            + pacing.term_grace_seconds
            + pacing.sweep_grace_seconds
            + 3 * pacing.kill_wait_seconds,
        )
        if not self._owner.done() and self._child is not None:
            self._child.kill_now()
        self._set_state("stopped")

    async def wait_ready(self, timeout_seconds: float) -> bool:
        """Whether the server is ready, at the latest after the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self.is_ready and self._state != "stopped":
                    await self._state_changed.wait()
        except TimeoutError:
            return False
        return self.is_ready

    async def call(
        self,
        tool: str,
        arguments: JsonObject,
        *,
        meta: Mapping[str, JsonValue],
        on_progress: Callable[[JsonObject], None] | None,
        timeout_seconds: float | None,
    ) -> ToolResult:
        """The result of one call, made in the caller's task.

        Raises:
            BridgeUnavailableError: the server is not ready, has too much to do, or died;
                `is_retryable` says whether the call was certainly not sent.
            BridgeTimeoutError: no result in time; the tool was told to stop.
            BridgeProtocolError: see `Connection.call`.
        """
        limit = self.spec.call_timeout_seconds if timeout_seconds is None else timeout_seconds
        if self._waiting >= self.spec.max_waiting:
            raise self._unavailable("has too many calls waiting; try again later", "bridge_busy")
        try:
            async with asyncio.timeout(limit), self._slot():
                connection = await self._ready_connection()
                return await connection.call(tool, arguments, meta, on_progress)
        except TimeoutError as exc:
            raise BridgeTimeoutError(
                f"tool {tool} of MCP server {self.spec.name} gave no result within {limit:g} s"
            ) from exc

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the places for calls under way."""
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            self._slots.release()
            if self._in_flight == 0:
                self._idle.set()

    async def _ready_connection(self) -> "Connection":
        try:
            async with asyncio.timeout(self.spec.ready_wait_seconds):
                while self._connection is None or not self.is_ready:
                    if self._state in {"failed", "stopping", "stopped", "new"}:
                        raise self._unavailable(f"is {self._state}{self._because()}")
                    await self._state_changed.wait()
        except TimeoutError as exc:
            raise self._unavailable(
                f"is not ready after {self.spec.ready_wait_seconds:g} s{self._because()}"
            ) from exc
        return self._connection

    def _unavailable(self, what: str, code: str | None = None) -> BridgeUnavailableError:
        return BridgeUnavailableError(
            f"MCP server {self.spec.name} {what}", code=code, is_retryable=True
        )

    def _because(self) -> str:
        return f" ({self._last_error})" if self._last_error else ""

    async def _own(self) -> None:
        """Live after life of the server, until cancelled."""
        failures = 0
        # Not by the cancellation alone: it is lost if it comes while the SDK's own cancel scopes
        # unwind, for they take it for theirs.
        while not self._must_end:
            began = time.monotonic()
            is_lasting = False
            try:
                await self._live()
            except Exception as exc:
                cause = innermost(exc)
                self._last_error = self._describe(cause)
                is_lasting = isinstance(cause, BridgeError) and cause.code in _LASTING
            if time.monotonic() - began >= self.spec.pacing.healthy_after_seconds:
                failures = 0
            failures += 1
            if not self._must_end:
                _LOGGER.warning("MCP server %s: %s", self.spec.name, self._last_error)
                await self._pause(failures, is_lasting=is_lasting)

    async def _pause(self, failures: int, *, is_lasting: bool) -> None:
        pacing = self.spec.pacing
        if is_lasting or failures > pacing.fast_failures:
            self._set_state("failed")
            await asyncio.sleep(pacing.failed_retry_seconds)
            return
        self._set_state("backoff")
        seconds = min(
            pacing.backoff_max_seconds, pacing.backoff_first_seconds * 2 ** (failures - 1)
        )
        # Many servers that died of one cause should not all come back in the same instant.
        await asyncio.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311 - no secret

    async def _live(self) -> None:
        """One life of the server: start, open, watch, close."""
        self._starts += 1
        self._set_state("starting")
        mode = self._next_mode()
        child = ChildProcess(self.spec, self._redact, self._on_death) if self.spec.command else None
        try:
            async with asyncio.timeout(self.spec.connect_timeout_seconds) as deadline:
                if child is not None:
                    self._child = None
                    await child.start()
                    self._child = child
                # In a thread: the first import of the SDK would stop the loop for most of a second.
                open_connection = await asyncio.to_thread(_import_connection)
                async with open_connection(self.spec, child, mode, self._wake.set) as opened:
                    tools = await opened.list_tools()
                    deadline.reschedule(None)
                    self._publish(tools)
                    self._connection = opened
                    await self._watch(opened)
        except TimeoutError as exc:
            self._has_timed_out = True
            raise BridgeTimeoutError(
                f"gave no answer to the handshake within {self.spec.connect_timeout_seconds:g} s"
            ) from exc
        finally:
            self._connection = None
            self._ready_since = None
            if child is not None and self._child is child:
                await child.end()

    def _next_mode(self) -> Mode:
        """A server that did not answer the probe is in no defined state: then without one."""
        is_legacy = self.spec.mode == "auto" and self._has_timed_out and self.spec.command
        self._has_timed_out = False
        return "legacy" if is_legacy else self.spec.mode

    async def _watch(self, connection: "Connection") -> None:
        """Wait until the server is to be replaced, and say why.

        Raises:
            BridgeError: always.
        """
        self._ready_since = time.time()
        self._set_state("ready")
        try:
            while not connection.is_closed and not self._must_end:
                self._wake.clear()
                await happens(self._wake, self.spec.heartbeat_seconds)
                if not connection.is_closed:
                    await self._beat(connection)
            if self._child is not None:
                # Its last answers may be on their way still.
                await self._child.drain()
            raise BridgeUnavailableError("ended by itself")
        finally:
            # Before the slow close, else calls would still be sent into the dying session.
            self._connection = None
            if self._state == "ready":
                self._set_state("starting")

    async def _beat(self, connection: "Connection") -> None:
        """Ask for the tools: proof of life and news at once, for newer servers announce no news."""
        received = connection.bytes_received
        seconds = self.spec.heartbeat_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                tools = await connection.list_tools()
        except TimeoutError as exc:
            if connection.bytes_received != received:
                return
            if self._child is not None:
                self._child.give_up("it hung")
            raise BridgeTimeoutError(f"answered nothing for {seconds:g} s") from exc
        except BridgeUnavailableError:
            raise
        except BridgeError as exc:
            if self.spec.url is not None:
                raise
            _LOGGER.warning("%s", exc)
        else:
            self._publish(tools)

    def _publish(self, tools: tuple[ListedTool, ...]) -> None:
        pin = self.spec.tools_sha256
        digest = listing_digest(tools)
        if pin is not None and digest != pin:
            raise BridgeUnavailableError(
                f"lists other tools than the pinned ones: check them, then pin {digest}",
                code="tools_not_pinned",
            )
        if tools != self._tools:
            if self._tools:
                log_changes(self.spec.name, self._tools, tools)
            self._tools = tools
            self._on_change()

    def _on_death(self) -> None:
        """Called by the child, in the same instant in which its death is known."""
        self._connection = None
        if self._state == "ready":
            self._set_state("starting")
        self._wake.set()

    def _set_state(self, state: State) -> None:
        if self._state in {"stopping", "stopped"} and state not in {"stopping", "stopped"}:
            return
        was = self._state
        self._state = state
        if "failed" in {was, state} or state == "stopped":
            self._on_change()
        self._state_changed.set()
        self._state_changed = asyncio.Event()

    def _describe(self, exc: BaseException) -> str:
        parts = [str(exc) if isinstance(exc, BridgeError) else f"{type(exc).__name__}: {exc}"]
        child = self._child
        if child is not None:
            parts += child.last_words
        return shorten(self._redact(clean_text("; ".join(parts))), _MAX_ERROR)


def _import_connection() -> Callable[..., "AbstractAsyncContextManager[Connection]"]:
    from mcp_bridge.connection import open_connection  # noqa: PLC0415 - imports the MCP SDK

    return open_connection
