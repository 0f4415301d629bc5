"""The stdio transport: a child's lines as the two message streams that `mcp.client.Client` drives.

What this module promises: a line over the cap fails the one call that it answers and nothing else;
lines that are no JSON-RPC are skipped, the first three are logged without their text, and the
twentieth ends the session; when the client leaves, the child and its group are gone.
"""

import logging
import re
from types import TracebackType
from typing import Final, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import ErrorData, JSONRPCError, JSONRPCMessage, jsonrpc_message_adapter

from mcp_bridge.child_process import ChildProcess
from mcp_bridge.lines import OversizeLine

RESULT_TOO_LARGE: Final = -32099

_LOGGER: Final = logging.getLogger(__name__)
_LOGGED_GARBAGE: Final = 3
_MAX_GARBAGE: Final = 20
_BLANK: Final = re.compile(rb"\s*")


class StdioTransport:
    """Enters as the pair of streams; leaving ends the child and its group."""

    def __init__(self, name: str, child: ChildProcess, max_line_bytes: int) -> None:
        self._child = child
        self.incoming = IncomingMessages(name, child)
        self.outgoing = OutgoingMessages(child, max_line_bytes)

    async def __aenter__(self) -> tuple["IncomingMessages", "OutgoingMessages"]:
        return self.incoming, self.outgoing

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._child.end()


class _Stream:
    """What both directions share: entering gives the stream, leaving closes it."""

    is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse any further message."""
        self.is_closed = True


class IncomingMessages(_Stream):
    """The messages of a child, in order; ends when the child has died."""

    def __init__(self, name: str, child: ChildProcess) -> None:
        self._name = name
        self._child = child
        self._garbage = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        while not self.is_closed and self._garbage < _MAX_GARBAGE:
            line = await self._child.read_line()
            if line is None:
                break
            message = self._too_large(line) if isinstance(line, OversizeLine) else self._read(line)
            if message is not None:
                return SessionMessage(message)
        raise StopAsyncIteration

    async def receive(self) -> SessionMessage | Exception:
        """The next message.

        Raises:
            anyio.EndOfStream: there are no more.
        """
        try:
            return await anext(self)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    def _read(self, line: bytes) -> JSONRPCMessage | None:
        try:
            return jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            # Not logged with its text: it may be anything, a secret as well.
            if not _BLANK.fullmatch(line):
                self._count_garbage(f"{len(line)} bytes that are no JSON-RPC message")
            return None

    def _too_large(self, line: OversizeLine) -> JSONRPCMessage | None:
        request_id = line.response_id()
        if request_id is None:
            self._count_garbage(f"a line of {line.size} bytes that answers no call")
            return None
        text = f"the answer is {line.size} bytes long"
        error = ErrorData(code=RESULT_TOO_LARGE, message=text, data=line.size)
        return JSONRPCError(jsonrpc="2.0", id=request_id, error=error)

    def _count_garbage(self, what: str) -> None:
        self._garbage += 1
        if self._garbage <= _LOGGED_GARBAGE:
            _LOGGER.warning("MCP server %s wrote %s to its stdout", self._name, what)
        if self._garbage == _MAX_GARBAGE:
            _LOGGER.error("MCP server %s: too much garbage, its session ends", self._name)
            self._child.give_up("it wrote too much to its stdout that is no JSON-RPC")


class OutgoingMessages(_Stream):
    """Takes messages for a child, each as one line."""

    def __init__(self, child: ChildProcess, max_line_bytes: int) -> None:
        self._child = child
        self._max_line_bytes = max_line_bytes

    async def send(self, item: SessionMessage, /) -> None:
        """Write one message, once the child has room for it.

        Raises:
            anyio.BrokenResourceError: the child is dead.
            MessageTooLargeError: the message is longer than a line may be.
        """
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
        if len(line) > self._max_line_bytes:
            raise MessageTooLargeError(len(line), self._max_line_bytes)
        if self.is_closed:
            raise anyio.ClosedResourceError
        try:
            await self._child.write(line)
        except BrokenPipeError:
            raise anyio.BrokenResourceError from None


class MessageTooLargeError(Exception):
    """A message of `size` bytes was not sent, for at most `limit` fit into a line."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"{size} bytes, at most {limit} fit into a line")
        self.size = size
        self.limit = limit
