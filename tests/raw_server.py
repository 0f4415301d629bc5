"""A server on loopback that sends the very bytes a test gives it, over TCP or TLS."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

PATIENCE_SECONDS = 10.0

Serve = Callable[["RawConnection"], Awaitable[None]]


class RawConnection:
    """The server's side of one connection; `number` counts them from 1."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The head and body of the next request; b"" once the client has gone."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        _, _, length = head.lower().partition(b"content-length: ")
        return head + await self.reader.readexactly(int(length.split(b"\r\n")[0] or 0))

    async def send(self, *pieces: bytes) -> None:
        """Write each piece by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed the connection, whatever it still sends."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class RawServer:
    """Serves every connection by one function; what that raises is raised at the end."""

    def __init__(self, serve: Serve) -> None:
        self.url = ""
        self.port = 0
        self.connections = 0
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, and close it."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(RawConnection(self.connections, reader, writer))
        except ConnectionError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        """End what still runs."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def raw_server(
    serve: Serve, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """A server on a free port that gives each connection to `serve`."""
    raw = RawServer(serve)
    server = await asyncio.start_server(raw.accept, host, 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    raw.url = f"{'https' if tls else 'http'}://{host}:{raw.port}"
    try:
        yield raw
    finally:
        server.close()
        await raw.stop()
        await server.wait_closed()


def answering(*answers: bytes) -> Serve:
    """Gives one answer to each request of all connections, the last again and again."""
    given = 0

    async def serve(connection: RawConnection) -> None:
        nonlocal given
        while await connection.request():
            answer = answers[min(given, len(answers) - 1)]
            given += 1
            await connection.send(answer)

    return serve


def certificate_for(names: str, folder: Path) -> Path:
    """A file with a new key and its self-signed certificate for `names` ("DNS:a,IP:b")."""
    path = folder / "certificate.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=loopback", "-addext", f"subjectAltName={names}",
        "-keyout", str(folder / "key.pem"), "-out", str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    path.write_text(path.read_text() + (folder / "key.pem").read_text())
    return path


def server_tls(certificate: Path) -> ssl.SSLContext:
    """The server's side of TLS with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
