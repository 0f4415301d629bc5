"""All MCP servers as one set of tools: list them, call them, know how they are."""

import asyncio
import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mcp_bridge.catalogue import Catalogue, Tool, is_offered, name_prefix
from mcp_bridge.results import ToolResult
from mcp_bridge.server_spec import ServerSpec, ServerSpecError
from mcp_bridge.supervisor import ServerStatus, Supervisor
from streaming.errors import BridgeError
from streaming.events import JsonObject, JsonValue

OWNER_META_KEY: Final = "ai.kubiya/owner"
EVENTS_META_KEY: Final = "ai.kubiya/events"
# How many agents stand above a call: 0 where a person began it all, and then left out.
DEPTH_META_KEY: Final = "ai.kubiya/depth"
# Told of each call: the server, `ok`, `error` (the tool's own) or an error's code, and the seconds.
OnCalled = Callable[[str, str, float], None]


class Bridge:
    """The MCP client of the server: every server under a supervisor, every tool under one name.

    Construct, start and stop it in one event loop; calls may come from any task of that loop.
    `on_called` is told how each call has ended.

    Raises:
        ServerSpecError: two servers have one name, or names that differ only in what tool names
            cannot hold.
    """

    def __init__(self, specs: Sequence[ServerSpec], *, on_called: OnCalled | None = None) -> None:
        by_prefix: dict[str, ServerSpec] = {}
        for spec in specs:
            other = by_prefix.setdefault(name_prefix(spec.name), spec)
            if other is not spec:
                raise ServerSpecError(
                    f"MCP servers {other.name!r} and {spec.name!r} have one prefix: rename one"
                )
        self._servers = {spec.name: Supervisor(spec, self._rebuild) for spec in specs}
        self._catalogue = Catalogue([])
        self._on_called = on_called

    async def start(self) -> None:
        """Start every server; none is waited for."""
        for server in self._servers.values():
            server.start()

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Refuse new calls, let running ones finish within the grace, end every server.

        Nothing of them is left alive. Takes at most the grace and the waits of `Pacing`.
        """
        await asyncio.gather(*(server.stop(grace_seconds) for server in self._servers.values()))

    async def wait_ready(self, timeout_seconds: float) -> bool:
        """Whether all required servers are ready, at the latest after the timeout."""
        required = [server for server in self._servers.values() if server.spec.is_required]
        await asyncio.gather(*(server.wait_ready(timeout_seconds) for server in required))
        return self.is_ready

    @property
    def is_ready(self) -> bool:
        """Whether all required servers are ready now."""
        return all(server.is_ready for server in self._servers.values() if server.spec.is_required)

    def tools(self) -> tuple[Tool, ...]:
        """The tools that a model may be told about; those of a failed server are missing."""
        return self._catalogue.tools

    def status(self) -> tuple[ServerStatus, ...]:
        """How each server is, in the order in which they were given."""
        return tuple(server.status for server in self._servers.values())

    async def call(
        self,
        name: str,
        arguments: JsonObject,
        *,
        owner: str | None = None,
        meta: Mapping[str, JsonValue] | None = None,
        trace: Mapping[str, str] | None = None,
        on_progress: Callable[[JsonObject], None] | None = None,
        timeout_seconds: float | None = None,
    ) -> ToolResult:
        """Call a tool by its exposed name. Cancelling the awaiting task cancels the tool.

        `owner` and `meta` reach our own backend alone; `trace`, the headers of a trace context of
        W3C, every server, in `_meta` as MCP has it. `on_progress` is called synchronously, in
        order and never after the return, with one JSON object per progress notification: an event
        of our backend as it was sent, anything else as `{"type": "progress", "message": text}`.
        A call is never repeated.

        Raises:
            BridgeError: code `unknown_tool`; nothing was called.
            BridgeUnavailableError: the server is not ready (`is_retryable`), or died meanwhile.
            BridgeTimeoutError: no result within `timeout_seconds` (None: the server's own limit).
            BridgeProtocolError: the answer is not MCP or too large, or the arguments are.
        """
        tool = self._catalogue.find(name)
        if tool is None:
            raise _unknown_tool(name, [tool.name for tool in self._catalogue.tools])
        return await self.call_server(
            tool.server,
            tool.server_tool,
            arguments,
            owner=owner,
            meta=meta,
            trace=trace,
            on_progress=on_progress,
            timeout_seconds=timeout_seconds,
        )

    async def call_server(
        self,
        server: str,
        tool: str,
        arguments: JsonObject,
        *,
        owner: str | None = None,
        meta: Mapping[str, JsonValue] | None = None,
        trace: Mapping[str, str] | None = None,
        on_progress: Callable[[JsonObject], None] | None = None,
        timeout_seconds: float | None = None,
    ) -> ToolResult:
        """Call a tool by its server and the server's name for it, hidden ones too; see `call`."""
        supervisor = self._servers.get(server)
        if supervisor is None or not is_offered(supervisor.spec, tool):
            raise _unknown_tool(f"{server}: {tool}", [])
        sent: dict[str, JsonValue] = {**trace} if trace else {}
        if supervisor.spec.is_own:
            sent.update(meta or {})
            if owner is not None:
                sent[OWNER_META_KEY] = owner
            if on_progress is not None:
                sent[EVENTS_META_KEY] = 1
        began, outcome = time.monotonic(), "cancelled"
        try:
            result = await supervisor.call(
                tool,
                arguments,
                meta=sent,
                on_progress=on_progress,
                timeout_seconds=timeout_seconds,
            )
            outcome = "error" if result.is_error else "ok"
        except BridgeError as exc:
            outcome = exc.code or "error"
            raise
        finally:
            if self._on_called is not None:
                self._on_called(server, outcome, time.monotonic() - began)
        return result

    def _rebuild(self) -> None:
        self._catalogue = Catalogue(
            [(server.spec, server.tools) for server in self._servers.values()]
        )


def _unknown_tool(name: str, known: Sequence[str]) -> BridgeError:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return BridgeError(f"there is no tool {name!r}{hint}", code="unknown_tool", param="name")
