import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.request import Request, urlopen

import pytest
from typing_extensions import override

from agent_server.doctor import (
    LOCAL_CHECKS,
    Finding,
    check_access,
    check_data_dir,
    check_files,
    check_isolation,
    check_port,
    check_provider,
    check_python,
    check_variables,
)
from agent_server.doctor_probes import check_provider_answers, check_server
from agent_server.settings import Settings, load_settings, variable_of
from tests.agent_server.command_line import run_command
from tests.running_server import RunningServer, running_server

NOWHERE = "http://127.0.0.1:9"


class Provider(BaseHTTPRequestHandler):
    """Lists models as OpenAI does, for the right key."""

    keys: ClassVar[list[str]] = ["Bearer right"]

    def do_GET(self) -> None:
        is_known = self.headers.get("Authorization") in self.keys
        self.send_response(200 if is_known else 401)
        self.end_headers()
        self.wfile.write(b'{"object":"list","data":[{"id":"one"},{"id":"two"}]}')

    @override
    def log_message(self, *_: object) -> None:
        """Say nothing."""


class BufferingProxy(BaseHTTPRequestHandler):
    """Passes an answer on once it has all of it, as a proxy with buffering does."""

    upstream: ClassVar[str] = ""

    def do_GET(self) -> None:
        self._pass(None)

    def do_POST(self) -> None:
        self._pass(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass(self, body: bytes | None) -> None:
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(self.upstream + self.path, body, headers), timeout=20) as answer:  # noqa: S310
            content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    @override
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    yield from serving(Provider)


@pytest.fixture(scope="module")
def agent_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_HOST", NOWHERE)


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_what_is_in_order_needs_no_mend(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data", port=0)
    found = [finding for check in LOCAL_CHECKS for finding in check(settings)]
    assert [finding for finding in found if finding.state == "broken"] == []
    assert only(check_python(settings)).state == "ok"
    assert not (tmp_path / "data").exists()


def test_a_misspelt_variable_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SERVER_PROT", "1")
    assert "AGENT_SERVER_PROT" in only(check_variables(load_settings())).detail


def test_a_missing_key_is_broken() -> None:
    finding = only(check_provider(load_settings(provider="groq")))
    assert (finding.state, finding.mend != "") == ("broken", True)
    assert "GROQ_API_KEY" in finding.detail


def test_a_key_of_kubiya_is_said_to_move_nothing() -> None:
    *_, finding = check_provider(load_settings(kubiya_api_key="key"))
    assert "run on this machine" in finding.detail


def test_an_open_server_without_keys_is_noted_with_the_setting() -> None:
    finding = only(check_access(load_settings(host="192.0.2.1")))
    assert finding.state == "note"
    assert "AGENT_SERVER_API_KEYS" in finding.mend


def test_a_port_in_use_is_broken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = only(check_port(load_settings(port=port, data_dir=tmp_path)))
    assert finding.state == "broken"
    assert "--port" in finding.mend


def test_the_port_and_folder_of_our_own_server_are_not_broken(agent_server: RunningServer) -> None:
    port = int(agent_server.url.rsplit(":", 1)[1])
    settings = load_settings(port=port, data_dir=agent_server.data_dir)
    assert only(check_port(settings)).state == "ok"
    finding = only(check_data_dir(settings))
    assert finding.state == "note"
    assert agent_server.url in finding.detail


def test_a_folder_that_cannot_be_written_is_broken() -> None:
    finding = only(check_data_dir(load_settings(data_dir="/proc/agent-server")))
    assert finding.state == "broken"
    assert "--data-dir" in finding.mend


def test_isolation_without_bubblewrap_is_broken_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(check_isolation(load_settings())).state == "note"
    finding = only(check_isolation(load_settings(isolation="bwrap")))
    assert finding.state == "broken"
    assert "apt-get install bubblewrap" in finding.mend


def test_a_bubblewrap_that_fails_is_told_with_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "bwrap"
    script.write_text("#!/bin/sh\necho No permissions to create new namespace >&2\nexit 1\n")
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    finding = only(check_isolation(load_settings(isolation="bwrap")))
    assert finding.state == "broken"
    assert "No permissions" in finding.detail
    assert "namespaces" in finding.mend


def test_files_that_the_settings_name_are_read(tmp_path: Path) -> None:
    servers, secrets = tmp_path / "mcp.json", tmp_path / "secrets.yaml"
    servers.write_text("{]")
    secrets.write_text("A: b")
    secrets.chmod(0o644)
    found = list(check_files(load_settings(mcp_config=servers, secrets_file=secrets)))
    assert [finding.state for finding in found] == ["broken", "broken"]
    assert found[1].mend == f"chmod 600 {secrets}"
    servers.write_text('{"mcpServers": {"files": {"command": "files"}}}')
    secrets.chmod(0o600)
    found = list(check_files(load_settings(mcp_config=servers, secrets_file=secrets)))
    assert [finding.state for finding in found] == ["ok", "ok"]
    assert "files" in found[0].detail


def test_a_provider_that_answers_is_in_order(provider: str) -> None:
    settings = load_settings(
        provider="openai", base_url=f"{provider}/v1", provider_api_key="right", model="two"
    )
    assert only(check_provider_answers(settings)).state == "ok"


def test_a_refused_key_an_absent_model_and_no_answer_are_told_apart(provider: str) -> None:
    given = {"provider": "openai", "base_url": f"{provider}/v1"}
    refused = only(check_provider_answers(load_settings(provider_api_key="wrong", **given)))
    absent = load_settings(provider_api_key="right", model="three", **given)
    silent = load_settings(provider="ollama")
    assert (refused.state, "OPENAI_API_KEY" in refused.mend) == ("broken", True)
    assert only(check_provider_answers(absent)).state == "note"
    finding = only(check_provider_answers(silent))
    assert (finding.state, "ollama serve" in finding.mend) == ("broken", True)


def test_a_server_that_streams_is_told_from_one_behind_a_buffering_proxy(
    agent_server: RunningServer,
) -> None:
    *_, direct = check_server(agent_server.url, None)
    assert (direct.title, direct.state) == ("Streaming", "ok")
    BufferingProxy.upstream = agent_server.url
    for url in serving(BufferingProxy):
        *_, behind = check_server(url, None)
    assert (behind.title, behind.state) == ("Streaming", "broken")
    assert "proxy_buffering off" in behind.mend


def test_a_url_where_nothing_answers_is_broken() -> None:
    assert only(check_server(NOWHERE, None)).state == "broken"


def test_doctor_ends_with_0_where_all_is_well_and_1_where_something_is_broken(
    tmp_path: Path,
) -> None:
    fine = run_command(tmp_path, "doctor", "--port", "0", "--provider", "offline")
    assert fine.returncode == 0, fine.stdout
    assert "starts and lists" in fine.stdout
    assert fine.stdout.endswith("Nothing is broken.\n")
    broken = run_command(
        tmp_path, "doctor", "--port", "0", variables={"AGENT_SERVER_MAX_TURNS": "many"}
    )
    assert broken.returncode == 1
    assert "AGENT_SERVER_MAX_TURNS" in broken.stdout
    assert "mend: " in broken.stdout


@pytest.mark.parametrize(
    ("text", "state", "said"),
    [
        ("models:\n  m:\n    routes: [{provider: offline, model: x}]\n", "ok", "m ("),
        ("models: {m: {}}\n", "broken", "line 1: models.m.routes: needs from 1 to 32 routes"),
        ("providers: {p: {like: openai}}\n", "broken", "needs a key"),
    ],
)
def test_the_gateways_file_is_read_as_the_server_does(
    text: str, state: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    settings = load_settings(provider="offline", gateway_config=path)
    finding = list(check_files(settings))[-1]
    assert (finding.title, finding.state) == ("Gateway file", state)
    assert said in finding.detail
