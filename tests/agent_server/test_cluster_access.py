"""Where callers have keys, a cluster that asks nobody who they are is refused, or warned of."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from agent_server.accounts.keys import digest_of
from agent_server.app import create_app
from agent_server.cluster_access import cluster_refusal, cluster_warning
from agent_server.doctor_temporal import check_cluster
from agent_server.listener import StartError
from agent_server.settings import Settings, load_settings
from tests.agent_server.command_line import run_command
from tests.running_server import ask, running_server

SECONDS = 20.0
ENTRY = f"ada=sha256:{digest_of('as-' + 'a' * 40)};scopes=chat+run"
KEYS = f"keys:\n  - {{name: ada, sha256: {digest_of('as-' + 'a' * 40)}, scopes: [chat, run]}}\n"


def settings(folder: Path, **options: Any) -> Settings:
    return load_settings(data_dir=folder, provider="offline", **options)


@pytest.mark.parametrize("where", ["settings", "gateway file", "store"])
def test_the_dev_server_does_not_start_where_there_are_or_may_be_keys(
    tmp_path: Path, where: str
) -> None:
    (tmp_path / "gateway.yaml").write_text(KEYS)
    keyed = {
        "settings": {"api_keys": ENTRY},
        "gateway file": {"gateway_config": tmp_path / "gateway.yaml"},
        "store": {"database_url": f"sqlite:///{tmp_path}/store.db"},
    }[where]
    chosen = settings(tmp_path, temporal_dev_server=True, **keyed)
    with pytest.raises(StartError, match=r"AGENT_SERVER_TEMPORAL_DEV_SERVER: .* every owner"):
        create_app(chosen)
    assert [finding.state for finding in check_cluster(chosen)] == ["broken"]
    create_app(chosen.model_copy(update={"agent": False}))


def test_the_command_says_in_one_line_why_it_does_not_start(tmp_path: Path) -> None:
    variables = {"AGENT_SERVER_API_KEYS": ENTRY, "AGENT_SERVER_TEMPORAL_DEV_SERVER": "true"}
    options = ("--provider", "offline", "--port", "0", "--data-dir", str(tmp_path / "data"))
    said = run_command(tmp_path, "serve", *options, variables=variables)
    assert said.returncode == 2
    [line] = said.stderr.splitlines()
    assert "TEMPORAL_HOST" in line
    assert not (tmp_path / "data" / "temporal.db").exists()


def test_without_keys_the_dev_server_may_run(tmp_path: Path) -> None:
    chosen = settings(tmp_path, temporal_dev_server=True)
    assert cluster_refusal(chosen, is_keyed=False) is None
    assert list(check_cluster(chosen)) == []


def test_keys_that_come_with_a_changed_file_are_refused_while_the_dev_server_runs(
    tmp_path: Path,
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("models: {}\n")
    variables = {
        "AGENT_SERVER_TEMPORAL_DEV_SERVER": "true",
        "AGENT_SERVER_GATEWAY_CONFIG": str(file),
    }
    with running_server(tmp_path, environment=variables) as server:
        file.write_text(KEYS)
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + SECONDS
        while "Gateway file refused" not in server.log:
            assert time.monotonic() < deadline
            assert ask(server.url, "GET", "/v1/models").status == 200
        assert "TEMPORAL_DEV_SERVER" in server.log


@pytest.mark.parametrize(
    ("options", "is_open"),
    [
        ({}, True),
        ({"temporal_tls": True}, True),
        ({"temporal_api_key": "key"}, False),
        ({"temporal_tls_cert": "/cert.pem", "temporal_tls_key": "/key.pem"}, False),
    ],
)
def test_a_cluster_that_asks_for_nothing_is_warned_of(
    tmp_path: Path, options: dict[str, Any], is_open: bool
) -> None:
    chosen = settings(tmp_path, temporal_host="127.0.0.1:7233", api_keys=ENTRY, **options)
    warning = cluster_warning(chosen, is_keyed=False)
    assert (warning is not None) is is_open
    assert [finding.state for finding in check_cluster(chosen)] == ["note"] * is_open
    keyless = chosen.model_copy(update={"api_keys": ()})
    assert cluster_warning(keyless, is_keyed=False) is None
    assert (cluster_warning(keyless, is_keyed=True) is not None) is is_open


def test_the_log_of_a_server_with_keys_tells_of_an_open_cluster(tmp_path: Path) -> None:
    variables = {"AGENT_SERVER_API_KEYS": ENTRY, "TEMPORAL_HOST": "127.0.0.1:9"}
    with running_server(tmp_path, environment=variables) as server:
        assert "rules the runs of every owner" in server.log
