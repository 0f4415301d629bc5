"""The stdio transport of the server: lines of JSON-RPC on the event loop, without threads.

Guarantees: when the input ends, `on_end` is called before anything of the session is cancelled, so
that a tool can tell the end of the server from the cancel of its call; nothing but messages is ever
written to the standard output, whatever this process or a library prints; a line over
`MAX_LINE_BYTES` ends the session.

The SDK's own transport reads in a worker thread that blocks the end of the process until another
line comes, and gives no sign between the end of the input and the cancelling of the handlers.
"""

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

MAX_LINE_BYTES = 16 * 1024 * 1024

_READ_BYTES = 64 * 1024
_LOGGER = logging.getLogger(__name__)


class StdioError(Exception):
    """The standard input or output is of a kind that cannot carry the protocol."""


def check_stdio() -> None:
    """See that the protocol can be carried. Call it before anything opens a file.

    A descriptor that is closed at the start would be given to the next file that is opened.

    Raises:
        StdioError: The standard input or output is closed, or neither pipe, socket nor terminal.
    """
    for descriptor, name in ((0, "input"), (1, "output")):
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError as error:
            raise StdioError(f"the standard {name} is closed; an MCP client opens it") from error
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)):
            raise StdioError(
                f"the standard {name} is neither pipe, socket nor terminal; let an MCP client start"
                " this program"
            )


@asynccontextmanager
async def open_stdio(
    on_end: Callable[[], None],
) -> AsyncIterator[tuple["MessageReader", "MessageWriter"]]:
    """The two message streams over this process's standard input and output, once checked."""
    loop = asyncio.get_running_loop()
    source, sink = _take_over(0, os.devnull), _take_over(1, None)
    reader = asyncio.StreamReader(limit=_READ_BYTES)
    flow = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    incoming, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(source, "rb", 0)
    )
    outgoing, _ = await loop.connect_write_pipe(lambda: flow, os.fdopen(sink, "wb", 0))
    writer = asyncio.StreamWriter(outgoing, flow, None, loop)
    try:
        yield MessageReader(reader, on_end), MessageWriter(writer)
    finally:
        incoming.close()
        writer.close()


class _Stream:
    """What both directions share: entering gives the stream."""

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
        """Nothing: `open_stdio` closes."""


class MessageReader(_Stream):
    """The client's messages; a line that is none comes as the exception that says so."""

    def __init__(self, reader: asyncio.StreamReader, on_end: Callable[[], None]) -> None:
        self._reader = reader
        self._on_end = on_end
        self._lines: list[bytes] = []
        self._rest = bytearray()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        line = await self._line()
        if line is None:
            self._on_end()
            raise StopAsyncIteration
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError as error:
            return error

    async def receive(self) -> SessionMessage | Exception:
        """The next message.

        Raises:
            anyio.EndOfStream: There are no more.
        """
        try:
            return await anext(self)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    async def _line(self) -> bytes | None:
        """The next line that is not blank, or None at the end."""
        while True:
            while self._lines:
                line = self._lines.pop()
                if line.strip():
                    return line
            data = await self._reader.read(_READ_BYTES)
            if not data:
                return None
            self._take(data)
            if len(self._rest) > MAX_LINE_BYTES:
                _LOGGER.error("A line of over %d bytes came in: ending", MAX_LINE_BYTES)
                return None

    def _take(self, data: bytes) -> None:
        """Cut the data into lines; each byte is looked at once."""
        if b"\n" not in data:
            self._rest += data
            return
        lines = data.split(b"\n")
        lines[0] = bytes(self._rest) + lines[0]
        self._rest = bytearray(lines.pop())
        self._lines = lines[::-1]


class MessageWriter(_Stream):
    """Our messages, one line each; waits while the client reads slower than we write."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, item: SessionMessage, /) -> None:
        """Write one message.

        Raises:
            anyio.BrokenResourceError: The client has gone.
        """
        text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        try:
            self._writer.write(text.encode() + b"\n")
            await self._writer.drain()
        except ConnectionError as error:
            raise anyio.BrokenResourceError from error


def _take_over(descriptor: int, instead: str | None) -> int:
    """A private duplicate of the descriptor, which from now on leads elsewhere.

    `instead` is a path to read from; None means the standard error.
    """
    private = os.dup(descriptor)
    other = os.open(instead, os.O_RDONLY) if instead else os.dup(2)
    os.dup2(other, descriptor)
    os.close(other)
    return private
