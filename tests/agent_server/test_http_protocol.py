"""What a client may send, and how slowly, before any part of the application sees it."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from agent_server.http_protocol import MAX_HEAD_BYTES
from tests.running_server import Answer, RunningServer, ask, running_server

POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 90\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without the agent that gives a client half a second to send its request."""
    environment = {"AGENT_SERVER_RECEIVE_TIMEOUT_SECONDS": "0.5", "LOG_LEVEL": "INFO"}
    folder = tmp_path_factory.mktemp("protocol")
    with running_server(folder, "--no-agent", environment=environment) as running:
        yield running


def connect(server: RunningServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def answer_to(server: RunningServer, *pieces: bytes) -> Answer | None:
    """What the server answers to the bytes before it closes; None if it only closes."""
    with connect(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        while data := connection.recv(65_536):
            received += data
    if not received:
        return None
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers, body)


def refusal(answer: Answer | None) -> tuple[int, str]:
    """Status and code of an answer that has the shape of all errors."""
    assert answer is not None
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["connection"] == "close"
    assert answer.error["type"] == "invalid_request_error"
    return answer.status, answer.error["code"]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 91\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["no HTTP", "space before colon", "two framings", "two lengths", "raw bytes in the path"],
)
def test_what_cannot_be_read_is_400_in_the_shape_of_all_errors(
    server: RunningServer, data: bytes
) -> None:
    assert refusal(answer_to(server, data)) == (400, "invalid_http")


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"X-Many: x\r\n" * (MAX_HEAD_BYTES // 7) + b"\r\n",
    ],
    ids=["one long", "many short"],
)
def test_a_head_over_the_limit_is_431(server: RunningServer, head: bytes) -> None:
    answer = answer_to(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + head)
    assert refusal(answer) == (431, "headers_too_large")


def test_a_head_that_never_ends_is_not_taken_in(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Endless: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 * 1024**2:
                sent += connection.send(b"x" * 65_536)
        # Besides the limit, what the sockets on both sides hold.
        assert sent < 32 * 1024**2


def test_a_head_near_the_limit_is_served(server: RunningServer) -> None:
    headers = {f"x-{number}": "v" * 6_000 for number in range(10)}
    assert ask(server.url, "GET", "/health", headers=headers).status == 200


@pytest.mark.parametrize(
    "pieces", [[b"GET /health HT"], [POST + b"\r\n", b'{"model"']], ids=["head", "body"]
)
def test_a_request_that_does_not_come_in_time_is_408(
    server: RunningServer, pieces: list[bytes]
) -> None:
    assert refusal(answer_to(server, *pieces)) == (408, "request_timeout")


def test_a_connection_that_asks_for_nothing_is_closed(server: RunningServer) -> None:
    assert answer_to(server) is None


def test_a_connection_is_kept_for_the_next_request(server: RunningServer) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    answer = answer_to(server, request + b"\r\n", request + b"Connection: close\r\n\r\n")
    assert answer is not None
    assert answer.body.count(b"HTTP/1.1 200 OK") == 1
    assert answer.body.endswith(b"}")


def test_a_client_that_leaves_within_its_body_is_no_failure(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(POST + b"X-Request-Id: leaver\r\n\r\n{")
    ask(server.url, "GET", "/health")
    while "request_id=leaver" not in server.log:
        ask(server.url, "GET", "/health")
    [line] = [line for line in server.log.splitlines() if "dropped" in line and "leaver" in line]
    assert "status=0" in line
    assert "Traceback" not in server.log
