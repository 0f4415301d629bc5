"""New connections: the name resolved, its addresses raced, TLS checked.

What it promises: who is cancelled here leaves no socket behind; a dead address of a host costs
`NEXT_ADDRESS_SECONDS`, not the time for the connection; certificates and host names are verified.

Source: RFC 8305 (Happy Eyeballs), sections 4 and 5. The loop of the server has no such race of its
own.
"""

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from providers.http.connection import Connection, Owner
from providers.http.errors import RefusedError, ResolutionError, TlsError
from providers.http.request_head import Origin

NEXT_ADDRESS_SECONDS = 0.25
# So that many connections begun at once ask the resolver once.
ADDRESSES_SECONDS = 10.0
MAX_KNOWN_HOSTS = 256
# Firewalls forget a connection that waits minutes for a long answer in silence.
KEEPALIVE_SECONDS = 60


class Address(NamedTuple):
    """One address of a host: its family and what a socket of that family connects to."""

    family: int
    where: tuple[Any, ...]


@dataclass(slots=True)
class _Host:
    """What the resolver said about a host, until when it holds, and who may ask it."""

    addresses: list[Address] = field(default_factory=list)
    until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Dialer:
    """Makes the connections of one pool."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, int], _Host] = {}
        self._context: ssl.SSLContext | None = None

    async def dial(self, origin: Origin, owner: Owner) -> Connection:
        """A new connection; who waits bounds the time.

        Raises:
            ResolutionError: the name has no address.
            RefusedError: no address took the connection.
            TlsError: the certificate is not trusted, or what answers is not TLS.
        """
        loop = asyncio.get_running_loop()
        addresses = await self._resolve(origin.host, origin.port)
        try:
            opened = await open_socket(addresses)
        except OSError as exc:
            raise RefusedError from exc
        is_secure = origin.scheme == "https"
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(origin, owner),
                sock=opened,
                ssl=self._tls_context() if is_secure else None,
                server_hostname=origin.host if is_secure else None,
            )
        except ssl.SSLError as exc:
            raise TlsError from exc
        except OSError as exc:
            raise RefusedError from exc
        return connection

    async def _resolve(self, host: str, port: int) -> list[Address]:
        try:
            if found := _literal(host, port):
                return [found]
        except OSError as exc:
            raise ResolutionError from exc
        if len(self._hosts) >= MAX_KNOWN_HOSTS:
            self._hosts.clear()
        known = self._hosts.setdefault((host, port), _Host())
        loop = asyncio.get_running_loop()
        async with known.lock:
            if loop.time() >= known.until:
                try:
                    rows = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                except (OSError, UnicodeError) as exc:
                    raise ResolutionError from exc
                known.addresses = _interleave([Address(row[0], row[4]) for row in rows])
                known.until = loop.time() + ADDRESSES_SECONDS
            return known.addresses

    def _tls_context(self) -> ssl.SSLContext:
        # At the first use: reading the trusted certificates takes time and memory.
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context


def _literal(host: str, port: int) -> Address | None:
    """The address that a host is already; raises OSError for an unknown zone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return Address(socket.AF_INET, (host, port))
    name, _, zone = host.partition("%")
    index = socket.if_nametoindex(zone) if zone else 0
    return Address(socket.AF_INET6, (name, port, 0, index))


def _interleave(addresses: list[Address]) -> list[Address]:
    """The families in turn, the resolver's first one first, its order kept in each."""
    first = [address for address in addresses if address.family == addresses[0].family]
    other = [address for address in addresses if address.family != addresses[0].family]
    shared = min(len(first), len(other))
    pairs = [address for pair in zip(first, other, strict=False) for address in pair]
    return pairs + first[shared:] + other[shared:]


async def open_socket(addresses: list[Address]) -> socket.socket:
    """A connected socket to the first address that answers; raises OSError of the last."""
    if len(addresses) == 1:
        return await _connect(addresses[0])
    waiting = list(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    error: BaseException = OSError("no address")
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_connect(waiting.pop(0))))
            timeout = NEXT_ADDRESS_SECONDS if waiting else None
            done, _ = await asyncio.wait(
                running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                running.discard(task)
                failure = task.exception()
                if failure is None:
                    # Others that are done as well stay among the running, and are closed there.
                    running |= done - {task}
                    return task.result()
                error = failure
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_result)
    raise error


async def _connect(address: Address) -> socket.socket:
    opened = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        await asyncio.get_running_loop().sock_connect(opened, address.where)
    except BaseException:
        opened.close()
        raise
    return opened


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
