"""The settings of Temporal: on their way to the backend, and what excludes what."""

from pathlib import Path

import pytest

from agent_server.setting_names import SettingsError
from agent_server.settings import Settings, load_settings, variable_of
from workflow_backend.settings import load_settings as load_backend_settings

KEY = "key-of-the-cluster"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)


def test_the_cluster_reaches_the_backend_and_its_key_no_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = {
        "AGENT_SERVER_ENGINE": "temporal",
        "AGENT_SERVER_RUNNERS": "gpu,build",
        "AGENT_SERVER_TEMPORAL_TASK_QUEUE": "front",
        "TEMPORAL_HOST": "temporal.example.com:7233",
        "TEMPORAL_NAMESPACE": "prod.a1b2c",
        "TEMPORAL_API_KEY": KEY,
        "TEMPORAL_TLS": "true",
        "TEMPORAL_TLS_CA": "/ca.pem",
        "TEMPORAL_TLS_CERT": "/cert.pem",
        "TEMPORAL_TLS_KEY": "/key.pem",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(data_dir=tmp_path)
    environment = settings.backend_environment()
    assert {name: environment[name] for name in variables} == {**variables, "TEMPORAL_TLS": "True"}
    assert environment["AGENT_SERVER_HIDDEN_PATHS"] == "/key.pem"
    assert KEY in settings.secret_values()
    assert KEY not in repr(settings)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = load_backend_settings()
    assert (told.engine, told.temporal_host) == ("temporal", "temporal.example.com:7233")
    assert (told.temporal_namespace, told.temporal_task_queue) == ("prod.a1b2c", "front")
    assert told.runners == ("gpu", "build")
    assert told.temporal_api_key is not None
    assert told.temporal_api_key.get_secret_value() == KEY
    assert KEY not in repr(told)


@pytest.mark.parametrize(
    "content", ["[temporal]\ndev_server = true\n", "temporal_dev_server = true\n"]
)
def test_the_file_may_have_a_table_of_temporal(tmp_path: Path, content: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'engine = "temporal"\n{content}')
    settings = load_settings(config_file=file)
    assert settings.temporal_dev_server
    assert settings.backend_environment()["AGENT_SERVER_TEMPORAL_DEV_SERVER"] == "True"


def test_a_wrong_name_in_the_table_is_told(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[temporal]\ndev_serve = true\n")
    with pytest.raises(SettingsError, match="no such setting: temporal_dev_serve"):
        load_settings(config_file=file)


def test_a_cluster_and_a_dev_server_exclude_each_other() -> None:
    with pytest.raises(SettingsError, match="TEMPORAL_DEV_SERVER: a dev server"):
        load_settings(temporal_host="127.0.0.1:7233", temporal_dev_server=True)
