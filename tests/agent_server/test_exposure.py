"""What nobody may see or reach: secrets in any place, and routes without a right key."""

import contextlib
import http.server
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from typing_extensions import override

from agent_server.accounts.keys import digest_of
from agent_server.app import create_app
from agent_server.guard import HOOKS_PREFIX, OPEN_PATHS
from agent_server.settings import Settings
from tests.running_server import RunningServer, ask, running_server

# One secret for each place that holds one; none looks like a key that a pattern would know.
PROVIDER = "canary.of.the.provider"
OF_FILE = "canary.of.the.file"
CALLER = "canary.of.the.caller"
DATABASE = "canary.of.the.database"
UNKNOWN = "canary.that.nobody.knows"
SECRETS = (PROVIDER, OF_FILE, CALLER, DATABASE, UNKNOWN)
FILE = """
providers:
  quoting: {{like: custom, base_url: {url}/v1, api_key: "${{OF_FILE}}"}}
breaker: {{failures: 1000, failure_rate: 1}}
"""
HELLO: list[dict[str, str]] = [{"role": "user", "content": "hi"}]
BODIES: dict[str, Any] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"max_tokens": 5, "messages": HELLO},
    "/v1/messages/count_tokens": {"max_tokens": 5, "messages": HELLO},
    "/v1/embeddings": {"input": "hi"},
}
STATUSES = (200, 400, 401, 403, 404, 429, 500, 503)
READ = ("/metrics", "/health", "/health/ready", "/discover", "/v1/models", "/v1/keys", "/nowhere")


class Quoting(http.server.BaseHTTPRequestHandler):
    """Refuses everything with the status that names the model, and quotes what it was sent."""

    protocol_version = "HTTP/1.1"
    seen: list[str] = []  # noqa: RUF012 - of this class alone

    def do_GET(self) -> None:
        self._refuse(500, stream=False)

    def do_POST(self) -> None:
        asked = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        self._refuse(int(asked["model"]), stream=asked.get("stream") is True)

    def _refuse(self, status: int, *, stream: bool) -> None:
        self.seen.append(str(self.headers))
        quoted = " ".join(f"{name}={value}" for name, value in self.headers.items())
        body = orjson.dumps({"error": {"message": f"I was sent {quoted}", "code": "odd"}})
        if stream and status == 200:
            body = b"data: %b\n\n" % body
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-type", "application/json")
        self.send_header("x-request-id", self.headers.get("authorization", "none"))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def quoting() -> Iterator[str]:
    Quoting.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quoting)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_no_secret_is_in_an_answer_the_log_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    entry = f"root=sha256:{digest_of(CALLER)};scopes=chat+admin"
    with quoting() as url, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        database = f"postgresql://me:{DATABASE}@127.0.0.1:{closed.getsockname()[1]}/usage"
        path.write_text(FILE.format(url=url))
        environment = {
            "AGENT_SERVER_GATEWAY_CONFIG": str(path),
            "AGENT_SERVER_DATABASE_URL": database,
            "AGENT_SERVER_API_KEYS": entry,
            "AGENT_SERVER_LOG_LEVEL": "DEBUG",
            "AGENT_SERVER_MAX_RETRIES": "0",
            "OPENAI_API_KEY": PROVIDER,
            "OPENAI_BASE_URL": f"{url}/v1",
            "OF_FILE": OF_FILE,
        }
        options = ("--no-agent", "--provider", "openai")
        with running_server(tmp_path, *options, environment=environment) as server:
            answers = b"".join(_answers(server))
            os.set_blocking(server.process.stdout.fileno(), False)  # type: ignore[union-attr]
            said = server.process.stdout.read() or b""  # type: ignore[union-attr]
    files = (file for file in server.data_dir.rglob("*") if file.is_file())
    places = {
        "answers": answers,
        "standard output": said,
        "log": server.log_path.read_bytes(),
        **{str(file): file.read_bytes() for file in files},
    }
    assert not [(s, place) for s in SECRETS for place in places if s.encode() in places[place]]
    # Both keys of providers were sent, and the caller's was not.
    sent = "".join(Quoting.seen)
    assert PROVIDER in sent
    assert OF_FILE in sent
    assert CALLER not in sent
    assert b"I was sent" in answers


def _answers(server: RunningServer) -> Iterator[bytes]:
    """The heads and bodies of answers on every door, good and bad, and of all that can be read."""
    ways = itertools.product(BODIES, ("openai", "quoting"), STATUSES, (True, False))
    for door, provider, status, stream in ways:
        asked = {**BODIES[door], "model": f"{provider}/{status}", "stream": stream}
        answer = ask(server.url, "POST", door, asked, {"x-api-key": CALLER})
        yield str(answer.headers).encode() + answer.body
    for key, page in itertools.product((CALLER, UNKNOWN), READ):
        answer = ask(server.url, "GET", page, headers={"authorization": f"Bearer {key}"})
        yield str(answer.headers).encode() + answer.body


APPROVER, MEMBER = (f"as-{letter * 40}" for letter in "vm")
KEYS = (
    f"approver=sha256:{digest_of(APPROVER)};scopes=approve",
    f"member=sha256:{digest_of(MEMBER)};scopes=chat",
)
# Whoever has a key is told that this is no route.
NO_ROUTE = ("POST", "/v1/responses/{response_id}")
# The one route for keys that approve; an empty body decides nothing.
DECIDES = ("POST", "/v1/workflows/runs/{run_id}/approvals/{step}")
# The one route for the tokens of runs: to it a key is none.
OF_RUNS = "/v1/workflows/run-owner"
# Routes for administrators, which a key of the scope `chat` must not reach either.
ADMINS = ("/metrics", "/v1/keys", "/v1/keys/{key_id}")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with two keys, neither of them an administrator's."""
    folder = tmp_path_factory.mktemp("exposure")
    environment = {"AGENT_SERVER_API_KEYS": " ".join(KEYS)}
    with running_server(folder, "--no-agent", environment=environment) as server:
        yield server


def routes(folder: Path) -> list[tuple[str, str]]:
    """The method and path of every route of the application, found in its router."""
    given: dict[str, Any] = {"agent": False, "provider": "offline", "data_dir": folder}
    app: Any = create_app(Settings(**given))
    while not isinstance(app, Starlette):
        app = app._app
    found = [route for route in app.routes if isinstance(route, Route)]
    assert len(found) == len(app.routes)
    return [(method, route.path) for route in found for method in sorted(route.methods or ())]


def test_every_route_wants_a_key_of_the_right_scope(keyed: RunningServer, tmp_path: Path) -> None:
    found = routes(tmp_path)
    assert len(found) > 20
    for method, template in found:
        path = template.replace("{response_id}", "resp_1").replace("{run_id}", "r")
        path = path.replace("{model:path}", "a/b").replace("{key_id}", "k")
        body: Any = {} if method == "POST" else None

        def status(key: str | None, *, method: str = method, at: str = path, b: Any = body) -> int:
            headers = {} if key is None else {"x-api-key": key}
            return ask(keyed.url, method, at, b, headers).status

        if template in OPEN_PATHS:
            assert status(None) in {200, 503}, path
            continue
        if template.startswith(HOOKS_PREFIX):
            # Its token is the secret, and here is no backend that could know one.
            assert status(None) == 404, path
            continue
        assert (status(None), status(UNKNOWN), status("")) == (401, 401, 401), (method, path)
        expected = {NO_ROUTE: 404, DECIDES: 400}.get((method, template), 403)
        expected = 401 if template == OF_RUNS else expected
        assert status(APPROVER) == expected, (method, path)
        if template in ADMINS or (method, template) == DECIDES:
            assert status(MEMBER) == 403, (method, path)


@pytest.mark.parametrize(
    "target",
    [
        "//v1/models",
        "/v1//models",
        "/v1/models/",
        "/V1/models",
        "/v1/%6dodels",
        "/v1/models%00",
        "/health/../v1/models",
        "/health/%2e%2e/v1/models",
        "/health%2f..%2fv1%2fmodels",
        "/health;/v1/models",
        "/health?/v1/models=",
        "/v1/models?/health",
        "/v1/models#/health",
        "http://127.0.0.1/v1/models",
        "http://evil.example/v1/models",
        "/%2e%2e/v1/models",
        "/metrics/",
        "*",
    ],
)
def test_no_spelling_of_a_path_passes_by_the_key(keyed: RunningServer, target: str) -> None:
    status, body = _raw(keyed, f"GET {target} HTTP/1.1\r\nhost: localhost\r\n")
    assert b"offline" not in body
    assert b"agent_server_" not in body
    assert status in ({200} if target.startswith("/health?") else {400, 401, 404, 421})


@pytest.mark.parametrize(
    "headers",
    [
        "host: evil.example\r\n",
        "host: localhost, evil.example\r\n",
        "host: localhost\r\nhost: evil.example\r\n",
        "host: localhost@evil.example\r\n",
        "host: 127.0.0.1.evil.example\r\n",
        "host: localhost\r\norigin: http://evil.example\r\n",
        "host: localhost\r\norigin: null\r\n",
        "host: evil.example\r\nx-forwarded-host: localhost\r\n",
        "",
    ],
)
def test_no_spelling_of_a_host_is_taken_for_this_server(keyed: RunningServer, headers: str) -> None:
    status, _ = _raw(keyed, f"GET /v1/models HTTP/1.1\r\nx-api-key: {MEMBER}\r\n{headers}")
    assert status in {400, 403, 421}


@pytest.mark.parametrize(
    "headers",
    [
        "content-length: 2\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "content-length: 2\r\ncontent-length: 40\r\n",
        "content-length: +2\r\n",
        "content-length : 2\r\n",
        "content-length: 2\r\n folded: 1\r\n",
    ],
)
def test_a_request_whose_length_is_in_doubt_is_refused(keyed: RunningServer, headers: str) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-api-key: {MEMBER}\r\n"
    smuggled = f"{{}}GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-api-key: {MEMBER}\r\n"
    status, body = _raw(
        keyed, f"{head}content-type: application/json\r\n{headers}", smuggled.encode()
    )
    assert status == 400
    assert b"offline" not in body


def _raw(server: RunningServer, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """The status of the first answer to these bytes, and all that came back."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode("latin-1") + b"connection: close\r\n\r\n" + body)
        if body:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        while piece := connection.recv(65536):
            said += piece
    return int(said.split(b" ", 2)[1]), said
