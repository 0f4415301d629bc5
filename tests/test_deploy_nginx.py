"""The file for nginx, in a real nginx before the real server.

Only ports, names of files and the server's address are replaced. nginx's own defaults around the
file are hostile: they would compress events, and do not heed the server's wish for no buffering.
"""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.conftest import ALICE, KEY_ENTRIES
from tests.deploy_files import ROOT
from tests.running_server import Answer, RunningServer, running_server

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
SITE = ROOT / "deploy" / "nginx" / "agent-server.conf"
NAME = "agent.example.com"
BOUND_SECONDS = 20.0
CHAT = "/v1/chat/completions"
LIMIT = 10 * 1024 * 1024
CERTIFICATE = (
    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
    "-nodes", "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
)  # fmt: skip
AROUND = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
{user}
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_types text/event-stream application/json;
    gzip_min_length 1;
    proxy_ignore_headers X-Accel-Buffering;
    include {folder}/agent-server.conf;
}}
"""

pytestmark = pytest.mark.skipif(
    NGINX is None and not os.environ.get("CI"),
    reason="nginx is not installed (Debian: nginx-light)",
)


@dataclass(frozen=True)
class Front:
    """A running nginx: its ports on loopback, and its certificate."""

    https_port: int
    http_port: int
    certificate: Path

    @contextmanager
    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        host: str = NAME,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """The head of an answer over TLS; its body can be read as it comes."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        connection = http.client.HTTPSConnection(host, self.https_port, timeout=BOUND_SECONDS)
        plain = socket.create_connection(("127.0.0.1", self.https_port), BOUND_SECONDS)
        connection.sock = context.wrap_socket(plain, server_hostname=NAME)
        data = body if isinstance(body, bytes) else orjson.dumps(body) if body else None
        given = {"Content-Type": "application/json", "Accept-Encoding": "gzip", **(headers or {})}
        with closing(connection):
            connection.request(method, path, data, given)
            with connection.getresponse() as response:
                yield response

    def answer(self, *request: Any, **options: Any) -> Answer:
        """A whole answer."""
        with self.ask(*request, **options) as response:
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())


@contextmanager
def running_nginx(folder: Path, server: RunningServer) -> Iterator[Front]:
    """nginx with the file before the server; its sockets are ours, so that nothing waits for it."""
    assert NGINX, "nginx is missing, and CI never skips these tests (Debian: nginx-light)"
    files = ("-keyout", f"{folder}/{NAME}.key", "-out", f"{folder}/{NAME}.crt")
    subprocess.run([*CERTIFICATE, *files], check=True, capture_output=True, timeout=BOUND_SECONDS)
    with (
        socket.create_server(("127.0.0.1", 0)) as https,
        socket.create_server(("127.0.0.1", 0)) as plain,
    ):
        front = Front(https.getsockname()[1], plain.getsockname()[1], folder / f"{NAME}.crt")
        (folder / SITE.name).write_text(site_for(folder, front, server))
        # Workers give up root by default, and could not enter the folder of the test.
        user = "user root root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=user))
        log = folder / "error.log"
        process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(log)],
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "NGINX": f"{https.fileno()};{plain.fileno()};"},
            pass_fds=(https.fileno(), plain.fileno()),
        )
    try:
        yield front
    finally:
        process.terminate()
        try:
            process.wait(BOUND_SECONDS)
        finally:
            process.kill()
    assert "[emerg]" not in log.read_text()


def site_for(folder: Path, front: Front, server: RunningServer) -> str:
    """The file with the addresses of this test."""
    text = SITE.read_text()
    for old, new, count in (
        ("listen 80;", f"listen 127.0.0.1:{front.http_port};", 1),
        ("listen 443 ssl", f"listen 127.0.0.1:{front.https_port} ssl", 1),
        ("/etc/nginx/tls/", f"{folder}/", 2),
        ("http://127.0.0.1:8000", server.url, 1),
    ):
        assert text.count(old) == count, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that knows its public name and ALICE's key, and is seldom silent."""
    environment = {
        "AGENT_SERVER_API_KEYS": KEY_ENTRIES,
        "AGENT_SERVER_ISOLATION": "none",
        "AGENT_SERVER_KEEP_ALIVE_SECONDS": "0.1",
    }
    folder = tmp_path_factory.mktemp("server")
    with running_server(folder, "--allowed-host", NAME, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def front(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with running_nginx(tmp_path_factory.mktemp("nginx"), server) as running:
        yield running


ALICES = {"Authorization": f"Bearer {ALICE}"}


def gated(folder: Path, *steps: str) -> dict[str, Any]:
    """A request to run steps one after the other, each of which waits for a file of its name."""
    lines = ["Run this workflow:", "", "```yaml", "name: gated", "steps:"]
    for number, step in enumerate(steps):
        lines += [
            f"  - name: {step}",
            '    run: while [ ! -e "$GATE" ]; do sleep 0.02; done',
            f"    env: {{GATE: {folder / step}}}",
            "    timeout: 25s",
            *([f"    depends: [{steps[number - 1]}]"] if number else []),
        ]
    content = "\n".join([*lines, "```"])
    return {
        "model": "kubiya-workflow-agent",
        "messages": [{"role": "user", "content": content}],
        "stream": True,
    }


def read_until(lines: Iterator[bytes], *wanted: str) -> list[bytes]:
    """The lines up to the one that holds all the words."""
    seen = []
    for line in lines:
        seen.append(line)
        if all(word.encode() in line for word in wanted):
            return seen
    raise AssertionError(f"the stream ended without {wanted}: {seen}")


@contextmanager
def lines_by_http_1(front: Front, body: dict[str, Any]) -> Iterator[Iterator[bytes]]:
    with front.ask("POST", CHAT, body, headers=ALICES) as response:
        assert response.status == 200
        assert response.getheader("content-type", "").startswith("text/event-stream")
        assert response.getheader("content-encoding") is None
        yield iter(response.readline, b"")


@contextmanager
def lines_by_http_2(front: Front, body: dict[str, Any]) -> Iterator[Iterator[bytes]]:
    curl = shutil.which("curl")
    if curl is None and not os.environ.get("CI"):
        pytest.skip("curl, which speaks HTTP/2, is not installed")
    url = f"https://{NAME}:{front.https_port}"
    options = ["--http2", "-sSN", "--cacert", str(front.certificate), "--data", "@-"]
    options += ["--resolve", f"{NAME}:{front.https_port}:127.0.0.1", "--noproxy", "*"]
    options += ["-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {ALICE}"]
    options += ["--max-time", str(BOUND_SECONDS), "-w", "%{http_version}"]
    process = subprocess.Popen(
        ["curl", *options, url + CHAT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(orjson.dumps(body))
        process.stdin.close()
        lines = iter(process.stdout.readline, b"")
        yield lines
        assert list(lines)[-1] == b"2"
        assert process.wait(BOUND_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("opened", [lines_by_http_1, lines_by_http_2])
def test_each_event_comes_through_before_the_next_one_can_happen(
    front: Front, tmp_path: Path, opened: Any
) -> None:
    steps = ("one", "two", "three")
    with opened(front, gated(tmp_path, *steps)) as lines:
        for step in steps:
            read_until(lines, '"step_running"', f'"step":"{step}"')
            (tmp_path / step).touch()
            read_until(lines, '"step_complete"', f'"step":"{step}"')
        read_until(lines, '"workflow_complete"', '"status":"success"')
        read_until(lines, "data: [DONE]")


def test_a_silent_stream_is_kept_alive_and_goes_on(front: Front, tmp_path: Path) -> None:
    with lines_by_http_1(front, gated(tmp_path, "quiet")) as lines:
        read_until(lines, '"step_running"')
        for _ in range(10):
            silence = read_until(lines, ": ping")
            assert not [line for line in silence if line.startswith(b"data:")]
        (tmp_path / "quiet").touch()
        read_until(lines, '"workflow_complete"', '"status":"success"')


def test_a_client_that_goes_away_cancels_its_run(front: Front, tmp_path: Path) -> None:
    with front.ask("POST", CHAT, gated(tmp_path, "endless"), headers=ALICES) as response:
        event = read_until(iter(response.readline, b""), '"step_running"')[-1]
        run_id = orjson.loads(event.removeprefix(b"data: "))["workflow_event"]["run_id"]
    feed = front.answer("GET", f"/v1/workflows/runs/{run_id}/events", headers=ALICES)
    assert b'"status":"cancelled"' in feed.body


def test_a_key_is_needed_and_works_through_it(front: Front) -> None:
    assert front.answer("GET", "/v1/models").error["code"] == "missing_api_key"
    assert front.answer("GET", "/v1/models", headers={"x-api-key": ALICE}).status == 200


def test_without_keys_nothing_is_run_for_who_comes_through_it(tmp_path: Path) -> None:
    body = gated(tmp_path, "never") | {"stream": False}
    (tmp_path / "never").touch()
    environment = {"AGENT_SERVER_ISOLATION": "none"}
    options = ("--allowed-host", NAME)
    with (
        running_server(tmp_path / "server", *options, environment=environment) as server,
        running_nginx(tmp_path, server) as front,
    ):
        answer = front.answer("POST", CHAT, body)
        runs = front.answer("GET", "/v1/workflows/runs")
        # The same name from loopback too: it is the proxy's headers that make it foreign.
        by_loopback = front.answer("POST", CHAT, body, host="localhost")
    assert runs.json["data"] == []
    for said in (answer, by_loopback):
        assert said.status == 200
        assert "workflow_events" not in said.json
        content = said.json["choices"][0]["message"]["content"]
        assert "AGENT_SERVER_API_KEYS" in content
        assert "'x-forwarded-for'" in content


def test_a_name_that_is_not_listed_is_misdirected(front: Front) -> None:
    answer = front.answer("GET", "/v1/models", host="other.example.com", headers=ALICES)
    assert answer.status == 421
    assert "--allowed-host" in answer.error["message"]
    assert "other.example.com" in answer.error["message"]


def test_what_the_server_takes_passes_and_a_byte_more_does_not(front: Front) -> None:
    filled = b'{"messages": "' + b"a" * (LIMIT - 16) + b'"}'
    assert len(filled) == LIMIT
    passed = front.answer("POST", CHAT, filled, headers=ALICES)
    assert (passed.status, passed.error["param"]) == (400, "messages")
    assert front.answer("POST", CHAT, filled + b" ", headers=ALICES).status == 413


def test_plain_http_is_sent_to_https_with_its_method(front: Front) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", front.http_port, timeout=BOUND_SECONDS)
    connection.request("POST", CHAT, b"{}", {"Host": NAME})
    with connection.getresponse() as response:
        assert response.status == 308
        assert response.getheader("location") == f"https://{NAME}{CHAT}"
    connection.close()
