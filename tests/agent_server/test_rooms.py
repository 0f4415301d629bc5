"""Webhooks need no key, so they have a small room of their own, which is quickly left."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_server import rooms
from tests.running_server import RunningServer, ask, running_server
from tests.serving import serving

HOOK = f"/v1/workflows/hooks/{'A' * 60}"
BOUND_SECONDS = 15
# Of all others.
PLACES = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    environment = {
        "AGENT_SERVER_ISOLATION": "none",
        "AGENT_SERVER_MAX_CONCURRENT_REQUESTS": str(PLACES),
    }
    with running_server(tmp_path_factory.mktemp("rooms"), environment=environment) as running:
        yield running


def begin(server: RunningServer, path: str, length: int | None = 1000) -> socket.socket:
    """A connection on which the head of a POST has been sent, and nothing of its body."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=BOUND_SECONDS)
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"{size}\r\n\r\n".encode()
    )
    return connection


def status_on(connection: socket.socket) -> int:
    """The status that a connection is answered."""
    return int(connection.recv(4096).split()[1])


def hook_status(server: RunningServer) -> int:
    return ask(server.url, "POST", HOOK, {}).status


def until(server: RunningServer, status: int) -> None:
    """Post to an unknown webhook until it is answered so."""
    deadline = time.monotonic() + BOUND_SECONDS
    while hook_status(server) != status:
        assert time.monotonic() < deadline


def test_webhooks_that_send_no_body_hold_no_place_of_others(server: RunningServer) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(rooms.MAX_HOOKS):
            held.enter_context(begin(server, HOOK))
        until(server, 503)
        refused = ask(server.url, "POST", HOOK, {})
        assert refused.headers["retry-after"] == "1"
        assert "webhooks" in refused.error["message"]
        # More than there are places of others have come, and every place is free.
        assert rooms.MAX_HOOKS > PLACES
        assert ask(server.url, "GET", "/v1/models").status == 200
    # Their clients have gone.
    until(server, 404)


def test_a_full_server_still_takes_webhooks(server: RunningServer) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(PLACES):
            held.enter_context(begin(server, "/v1/chat/completions"))
        deadline = time.monotonic() + BOUND_SECONDS
        while ask(server.url, "GET", "/v1/models").status != 503:
            assert time.monotonic() < deadline
        assert hook_status(server) == 404


@pytest.mark.parametrize(
    ("token", "length", "status"),
    [
        ("x", 1000, 404),
        ("A" * 1025, 1000, 404),
        ("A" * 60 + ".", 1000, 404),
        ("A" * 60 + "/" + "A" * 60, 1000, 404),
        ("A" * 60, rooms.MAX_HOOK_BYTES + 1, 413),
    ],
    ids=["short", "long", "foreign", "path", "large"],
)
def test_what_the_head_of_a_webhook_says_is_answered_before_its_body_comes(
    server: RunningServer, token: str, length: int, status: int
) -> None:
    with begin(server, f"/v1/workflows/hooks/{token}", length) as connection:
        assert status_on(connection) == status


def test_a_webhook_without_a_length_is_read_to_its_limit_and_no_further(
    server: RunningServer,
) -> None:
    with begin(server, HOOK, None) as connection:
        piece = b"x" * (rooms.MAX_HOOK_BYTES // 4)
        for _ in range(4):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"1\r\nx\r\n")
        assert status_on(connection) == 413


async def test_a_webhook_that_comes_too_slowly_is_a_408_and_leaves_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "HOOK_SECONDS", 0.2)
    monkeypatch.setattr(rooms, "MAX_HOOKS", 1)
    async with serving(tmp_path, agent=True, isolation="none") as url:
        host, port = url.removeprefix("http://").split(":")
        for _ in range(2):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                f"POST {HOOK} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
                "content-length: 1000\r\n\r\n{".encode()
            )
            async with asyncio.timeout(BOUND_SECONDS):
                answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.split()[1] == b"408"
            assert b"request_timeout" in await reader.read(4096)
            writer.close()
