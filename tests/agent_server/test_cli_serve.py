import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import psutil
import pytest

from agent_server.accounts.keys import digest_of
from agent_server.data_dir import owner_of
from agent_server.server_client import ServerClient
from tests.agent_server.command_line import KUBIYA, clean_environment, run_command
from tests.running_server import running_server

BOUND_SECONDS = 20.0
SLOW = """\
Run this workflow:

```yaml
name: slow
steps:
  - name: wait
    run: sleep %s
    timeout: 60s
```
"""


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port of loopback in use for as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def refused(home: Path, *options: str, variables: dict[str, str] | None = None) -> str:
    """The one line with which `serve` refuses to start."""
    said = run_command(home, "serve", *options, variables=variables)
    assert said.returncode == 2
    assert "Traceback" not in said.stdout + said.stderr
    lines = said.stderr.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_server_answers_and_says_where_in_its_lock(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        assert ServerClient(server.url).call("GET", "/health")["status"] == "healthy"
        owner = owner_of(server.data_dir)
        assert owner is not None
        assert (owner.pid, owner.url) == (server.process.pid, server.url)
    assert owner_of(server.data_dir) is None
    assert server.process.returncode == 0


def test_a_second_server_on_a_data_folder_says_who_has_it(tmp_path: Path) -> None:
    with running_server(tmp_path / "first") as server:
        options = ("--provider", "offline", "--port", "0", "--data-dir", str(server.data_dir))
        line = refused(tmp_path, *options)
        assert str(server.process.pid) in line
        assert server.url in line
        assert ServerClient(server.url).call("GET", "/health")["status"] == "healthy"


def test_a_killed_server_leaves_its_folder_free_and_no_child(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert children
        server.process.kill()
        server.process.wait(BOUND_SECONDS)
        _, alive = psutil.wait_procs(children, BOUND_SECONDS)
        assert alive == []
        assert owner_of(server.data_dir) is None


def test_sigterm_lets_a_stream_finish_and_ends_every_child(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        stream = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=BOUND_SECONDS)
        body = _chat(SLOW % "1")
        stream.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = stream.getresponse()
        while b"step_running" not in response.readline():
            assert not response.isclosed()
        server.process.send_signal(signal.SIGTERM)
        rest = response.read()
        assert b'"status":"success"' in rest
        assert rest.endswith(b"data: [DONE]\n\n")
        assert server.process.wait(BOUND_SECONDS) == 0
        stream.close()
        assert psutil.wait_procs(children, BOUND_SECONDS)[1] == []


def test_a_stream_longer_than_the_grace_time_is_cut(tmp_path: Path) -> None:
    environment = {"AGENT_SERVER_SHUTDOWN_GRACE_SECONDS": "1"}
    with running_server(tmp_path, environment=environment) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        stream = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=BOUND_SECONDS)
        body = _chat(SLOW % "50")
        stream.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = stream.getresponse()
        while b"step_running" not in response.readline():
            assert not response.isclosed()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(BOUND_SECONDS) == 0
        stream.close()
        assert psutil.wait_procs(children, BOUND_SECONDS)[1] == []


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_DUMPABLE is Linux's")
def test_the_server_process_is_not_dumpable(tmp_path: Path) -> None:
    # PR_GET_DUMPABLE is 3, see prctl(2). Root may read everything, so the kernel is asked inside.
    script = (
        "import ctypes\nfrom agent_server import process\n"
        "from agent_server.settings import load_settings\n"
        "def create_app(*_):\n"
        "    print('dumpable', ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
        "    raise SystemExit\n"
        "process.create_app = create_app\n"
        f"process.serve(load_settings(port=0, data_dir={str(tmp_path)!r}), print)"
    )
    said = run_command(tmp_path, program=("-c", script))
    assert said.stdout == "dumpable 0\n"


def test_it_stops_when_whoever_started_it_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent_server", "serve", "--until-stdin-closes"]
    options = ["--provider", "offline", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(
        [*command, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(tmp_path, {"PYTHONUNBUFFERED": "1"}),
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        while b"answers at" not in server.stdout.readline():
            assert server.poll() is None
        server.stdin.close()
        assert server.wait(BOUND_SECONDS) == 0


def test_auto_says_what_it_took_and_why(tmp_path: Path) -> None:
    with running_server(
        tmp_path, "--provider", "auto", environment={"GROQ_API_KEY": "x"}
    ) as server:
        discovered = ServerClient(server.url).call("GET", "/discover")
    assert discovered["provider"] == "groq"


def test_a_port_in_use_is_one_line(tmp_path: Path, busy_port: int) -> None:
    line = refused(tmp_path, "--provider", "offline", "--port", str(busy_port))
    assert f"port {busy_port} on 127.0.0.1 is in use" in line


def test_a_missing_key_names_its_variable(tmp_path: Path) -> None:
    line = refused(tmp_path, "--provider", "anthropic")
    assert "ANTHROPIC_API_KEY" in line


def test_an_unknown_provider_is_told_with_what_was_meant(tmp_path: Path) -> None:
    assert "did you mean groq?" in refused(tmp_path, "--provider", "grok")


def test_an_unreadable_file_of_settings_is_one_line(tmp_path: Path) -> None:
    assert "cannot read" in refused(tmp_path, "--config", str(tmp_path / "none.toml"))


def test_a_wrong_setting_names_its_variable(tmp_path: Path) -> None:
    line = refused(tmp_path, variables={"AGENT_SERVER_MAX_TURNS": "many"})
    assert line.startswith("Error: AGENT_SERVER_MAX_TURNS: ")


def test_a_file_of_mcp_servers_that_will_not_do_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"servers": {}}')
    variables = {"AGENT_SERVER_MCP_CONFIG": str(file)}
    line = refused(tmp_path, "--provider", "offline", "--port", "0", variables=variables)
    assert "AGENT_SERVER_MCP_CONFIG" in line


def test_a_data_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = ("--provider", "offline", "--port", "0", "--data-dir", str(tmp_path / "file" / "x"))
    assert "cannot write the data folder" in refused(tmp_path, *options)


def test_an_address_that_is_not_ours_is_one_line(tmp_path: Path) -> None:
    options = ("--provider", "offline", "--port", "0", "--host", "192.0.2.1")
    assert "cannot listen on 192.0.2.1" in refused(tmp_path, *options)


def test_a_key_on_the_command_line_works_and_warns(tmp_path: Path, busy_port: int) -> None:
    options = ("--provider", "openai", "--api-key", "sk-on-the-line", "--port", str(busy_port))
    said = run_command(tmp_path, "serve", *options)
    assert "warning: --api-key shows in the process list" in said.stderr
    assert "is in use" in said.stderr
    assert "sk-on-the-line" not in said.stdout + said.stderr


def test_a_key_from_a_file_works_without_a_warning(tmp_path: Path, busy_port: int) -> None:
    file = tmp_path / "key"
    file.write_text("sk-in-a-file\n")
    options = ("--provider", "openai", "--api-key-file", str(file), "--port", str(busy_port))
    assert "is in use" in refused(tmp_path, *options)
    file.write_text("two words")
    assert "must hold one key" in refused(tmp_path, *options)


def test_kubiya_listens_on_all_interfaces_and_says_so(tmp_path: Path, busy_port: int) -> None:
    options = ("mcp", "agent", "--provider", "offline", "--port", str(busy_port))
    said = run_command(tmp_path, *options, program=KUBIYA)
    assert "Listens on 0.0.0.0: other machines can call without a key" in said.stdout
    assert "planned but not run until AGENT_SERVER_API_KEYS" in said.stdout
    entry = f"a=sha256:{digest_of('key')}"
    said = run_command(
        tmp_path, *options, program=KUBIYA, variables={"AGENT_SERVER_API_KEYS": entry}
    )
    assert "with one of the configured keys" in said.stdout
    named = run_command(tmp_path, *options, "--host", "127.0.0.1", program=KUBIYA)
    assert "this machine alone" in named.stdout


def test_a_misspelt_variable_is_told(tmp_path: Path, busy_port: int) -> None:
    said = run_command(
        tmp_path,
        *("serve", "--provider", "offline", "--port", str(busy_port)),
        variables={"AGENT_SERVER_PROT": "1"},
    )
    assert "AGENT_SERVER_PROT is no setting" in said.stderr


def _chat(text: str) -> bytes:
    return orjson.dumps({"stream": True, "messages": [{"role": "user", "content": text}]})
