"""The socket that a server listens on, bound before anything else is started."""

import errno
import socket

BACKLOG = 2048


class StartError(Exception):
    """The server cannot start; the message says why and how to mend it."""


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket; port 0 takes a free one.

    Raises:
        StartError: the address is unknown, not ours, or in use.
    """
    host = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise StartError(f"cannot listen on {host}: {exc.strerror}") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} on {host} is in use; stop what listens there, "
                "or choose another with --port (0 takes a free one)"
            ) from exc
        raise StartError(f"cannot listen on {host} port {port}: {exc.strerror}") from exc
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL by which this machine reaches a bound socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
