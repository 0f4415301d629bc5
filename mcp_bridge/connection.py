"""One live session with a server through the SDK's client; no foreign error leaves this module.

Importing this module imports the MCP SDK (about 0.7 s of CPU), so it is imported when the first
server starts.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Final, Self, cast

from mcp.client import Client, IncomingMessage
from mcp.client._transport import ReadStream, TransportStreams
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    PARSE_ERROR,
    Implementation,
    JSONRPCResponse,
    RequestParamsMeta,
    ToolListChangedNotification,
)
from pydantic import ValidationError

from mcp_bridge.child_process import ChildProcess
from mcp_bridge.exception_groups import innermost
from mcp_bridge.http_transport import http_transport
from mcp_bridge.listing import MAX_TOOLS, ListedTool, repair_listing
from mcp_bridge.results import ToolResult, error_result, progress_event, read_result
from mcp_bridge.server_spec import Mode, ServerSpec
from mcp_bridge.transport import RESULT_TOO_LARGE, MessageTooLargeError, StdioTransport
from streaming.errors import BridgeError, BridgeProtocolError, BridgeUnavailableError
from streaming.events import JsonObject, JsonValue

OnProgress = Callable[[JsonObject], None]

MAX_FOREIGN_EVENTS: Final = 1000
_MAX_PAGES: Final = 100
_CLIENT: Final = Implementation(name="agent-server", version="1")
# These log what servers sent, with tracebacks and excerpts; what matters is logged here instead.
_QUIET: Final = {
    "client": logging.CRITICAL,
    "mcp.client": logging.CRITICAL,
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
}


class Connection:
    """A session that is open; calls may be made from any task, at the same time."""

    def __init__(
        self,
        spec: ServerSpec,
        client: Client,
        child: ChildProcess | None,
        on_doubt: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._client = client
        self._child = child
        self._on_doubt = on_doubt
        self._is_over = False

    @property
    def is_closed(self) -> bool:
        """Whether the session is over or the server's process gone; a URL's end shows in calls."""
        return self._is_over or (self._child is not None and self._child.is_dead)

    def close(self) -> None:
        """Know, before anything is torn down, that from now on failures are of our own making."""
        self._is_over = True

    @property
    def bytes_received(self) -> int:
        """How much the server has sent; 0 for a URL."""
        return self._child.bytes_received if self._child is not None else 0

    @property
    def protocol_version(self) -> str:
        """The version of MCP that both sides speak."""
        return self._client.protocol_version

    async def list_tools(self) -> tuple[ListedTool, ...]:
        """All tools of the server, asked for anew, at most 256.

        Raises:
            BridgeUnavailableError: the server is gone.
            BridgeProtocolError: its answer is not MCP, or is over the size cap.
            BridgeError: it answered an error.
        """
        tools: list[ListedTool] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            try:
                page = await self._client.list_tools(cursor=cursor)
            except MCPError as exc:
                raise self._error(exc) or BridgeError(
                    f"MCP server {self._spec.name} answered tools/list with error {exc.code}"
                ) from exc
            except (ValidationError, RuntimeError) as exc:
                raise self._invalid_answer() from exc
            tools += [
                ListedTool(
                    tool.name,
                    tool.description or "",
                    tool.input_schema,
                    tool.annotations.model_dump(by_alias=True, exclude_none=True)
                    if tool.annotations
                    else {},
                )
                for tool in page.tools
            ]
            cursor = page.next_cursor
            if cursor is None or len(tools) >= MAX_TOOLS:
                break
        return tuple(tools[:MAX_TOOLS])

    async def call(
        self,
        tool: str,
        arguments: JsonObject,
        meta: Mapping[str, JsonValue],
        on_progress: OnProgress | None,
    ) -> ToolResult:
        """The result of one call; cancelling the caller's task cancels the tool.

        Raises:
            BridgeUnavailableError: the server died; the call may have run.
            BridgeProtocolError: the call has run, but its answer is not MCP or is over the size
                cap; or the arguments are.
        """
        try:
            result = await self._client.call_tool(
                tool,
                arguments,
                progress_callback=self._progress_callback(on_progress),
                meta=cast("RequestParamsMeta", dict(meta)) if meta else None,
            )
        except MCPError as exc:
            error = self._error(exc)
            if self._child is None:
                # A server that forgot the session tells so in the answer to whatever comes next.
                self._on_doubt()
            if error is not None:
                raise error from exc
            return error_result(exc.message)
        except MessageTooLargeError as exc:
            raise BridgeProtocolError(
                f"the arguments of tool {tool} are too large: {exc}; raise max_line_bytes, or pass "
                "a reference instead",
                code="arguments_too_large",
            ) from exc
        except (ValidationError, RuntimeError) as exc:
            raise self._invalid_answer() from exc
        return read_result(result)

    def _progress_callback(self, on_progress: OnProgress | None) -> ProgressFnT | None:
        if on_progress is None:
            return None

        left = MAX_FOREIGN_EVENTS

        # It must never await: the SDK starts one task per notification, and only tasks that end at
        # their first step end in order and before the result.
        async def report(progress: float, total: float | None, message: str | None) -> None:
            nonlocal left
            left -= not self._spec.is_own
            if left >= 0:
                on_progress(progress_event(progress, total, message, self._spec.is_own))

        return report

    def _error(self, exc: MCPError) -> BridgeError | None:
        """Our error for one of the transport, None for one that the server itself answered."""
        name = self._spec.name
        if exc.code == CONNECTION_CLOSED and (self.is_closed or self._child is None):
            return BridgeUnavailableError(
                f"MCP server {name} died during the call, which may have run: do not repeat it "
                "blindly"
            )
        if exc.code == RESULT_TOO_LARGE:
            return BridgeProtocolError(
                f"MCP server {name}: {exc.message}, at most {self._spec.max_line_bytes} are "
                "allowed; the call has run. Raise max_line_bytes, or ask for less at once",
                code="result_too_large",
            )
        if exc.code == PARSE_ERROR and self._child is None:
            return self._invalid_answer()
        return None

    def _invalid_answer(self) -> BridgeProtocolError:
        return BridgeProtocolError(
            f"MCP server {self._spec.name} answered something that is not valid MCP, or that is "
            f"over {self._spec.max_line_bytes} bytes; the call itself may have run"
        )


@asynccontextmanager
async def open_connection(
    spec: ServerSpec,
    child: ChildProcess | None,
    mode: Mode,
    on_doubt: Callable[[], None],
) -> AsyncIterator[Connection]:
    """A session with the server; `child` is its started process, None for a server by URL.

    `on_doubt` is called when the tools should be listed again: they changed, or the server may be
    gone.

    Enter and leave in the same task. Leaving ends the child and its process group.

    Raises:
        BridgeError: the server refused the handshake, died before its end, or does not speak MCP.
    """
    for logger, level in _QUIET.items():
        if logging.getLogger(logger).level == logging.NOTSET:
            logging.getLogger(logger).setLevel(level)

    async def on_message(message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            on_doubt()

    transport: AbstractAsyncContextManager[TransportStreams] = (
        http_transport(spec, spec.url or "")
        if child is None
        else StdioTransport(spec.name, child, spec.max_line_bytes)
    )
    client = Client(
        _repaired(spec.name, transport),
        mode=mode,
        client_info=_CLIENT,
        message_handler=on_message,
        cache=None,
    )
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(client)
        except (MCPError, ValidationError, RuntimeError, ExceptionGroup) as exc:
            raise _handshake_error(innermost(exc)) from exc
        connection = Connection(spec, client, child, on_doubt)
        try:
            yield connection
        finally:
            connection.close()


def _handshake_error(exc: BaseException) -> BridgeError:
    if isinstance(exc, MCPError):
        return BridgeUnavailableError(f"the handshake failed: {exc.message}")
    if isinstance(exc, ValidationError | RuntimeError):
        # Not with the words of the error, which quote what the server sent.
        return BridgeProtocolError("its answer to the handshake is not valid MCP")
    return BridgeUnavailableError(f"the handshake failed: {type(exc).__name__}: {exc}")


@asynccontextmanager
async def _repaired(
    server: str, transport: AbstractAsyncContextManager[TransportStreams]
) -> AsyncIterator[TransportStreams]:
    async with transport as (incoming, outgoing):
        yield _RepairedMessages(server, incoming), outgoing


class _RepairedMessages:
    """The messages of a server, listings of tools repaired before the SDK validates them."""

    def __init__(self, server: str, incoming: ReadStream[SessionMessage | Exception]) -> None:
        self._server = server
        self._incoming = incoming

    @property
    def last_context(self) -> object:
        """The context variables of the sender, where the stream beneath knows them."""
        return getattr(self._incoming, "last_context", None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        return self._repair(await anext(self._incoming))

    async def receive(self) -> SessionMessage | Exception:
        """The next message."""
        return self._repair(await self._incoming.receive())

    async def aclose(self) -> None:
        """Close the stream beneath."""
        await self._incoming.aclose()

    async def __aenter__(self) -> Self:
        await self._incoming.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._incoming.__aexit__(exc_type, exc, traceback)

    def _repair(self, item: SessionMessage | Exception) -> SessionMessage | Exception:
        if isinstance(item, SessionMessage) and isinstance(item.message, JSONRPCResponse):
            message = item.message
            if isinstance(message.result.get("tools"), list):
                message.result = repair_listing(self._server, message.result)
        return item
