from pathlib import Path

import pytest
from pydantic import ValidationError

from agent_server.mcp_servers import mcp_servers
from agent_server.setting_names import SettingsError
from agent_server.settings import (
    Settings,
    child_environment,
    load_settings,
    unknown_variables,
    variable_of,
)
from agent_server.settings_reference import SECTIONS, configuration_markdown

DIGEST = "ab" * 32
PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def test_the_defaults_stay_on_loopback_and_on_this_machine(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.provider) == ("127.0.0.1", 8000, "auto")
    assert settings.is_loopback
    assert settings.engine == "journal"
    assert settings.api_keys == ()
    assert settings.data_dir == tmp_path / ".local" / "share" / "agent-server"


def test_the_data_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert load_settings().data_dir == tmp_path / "xdg" / "agent-server"


def test_an_option_goes_before_the_environment_and_that_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('port = 1\nmodel = "file"\nopenai_api_key = "file"\nlog_level = "error"\n')
    monkeypatch.setenv("AGENT_SERVER_CONFIG_FILE", str(file))
    monkeypatch.setenv("AGENT_SERVER_PORT", "2")
    monkeypatch.setenv("OPENAI_API_KEY", "environment")
    settings = load_settings(port=3)
    assert settings.port == 3
    assert settings.model == "file"
    assert settings.provider_keys["OPENAI_API_KEY"].get_secret_value() == "environment"
    assert settings.log_level == "ERROR"
    assert load_settings().port == 2


def test_every_provider_has_its_key_and_its_address_from_its_own_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('gemini_api_key = "file"\nhf_token = "file"\nollama_host = "file:1"\n')
    monkeypatch.setenv("GEMINI_API_KEY", "environment")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://a.openai.azure.com")
    monkeypatch.setenv("XAI_API_KEY", "")
    settings = load_settings(config_file=file, mistral_api_key="option")
    keys = {name: key.get_secret_value() for name, key in settings.provider_keys.items()}
    assert keys == {
        "GEMINI_API_KEY": "environment",
        "HF_TOKEN": "file",
        "MISTRAL_API_KEY": "option",
    }
    assert settings.provider_urls == {
        "AZURE_OPENAI_ENDPOINT": "https://a.openai.azure.com",
        "OLLAMA_HOST": "file:1",
    }
    assert set(settings.secret_values()) == {"environment", "file", "option"}


def test_a_wrong_value_of_a_provider_is_told_by_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("xai_api_key = 7\n")
    with pytest.raises(SettingsError, match=r"^XAI_API_KEY: input should be a valid string$"):
        load_settings(config_file=file)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBIYA_API_KEY", "")
    monkeypatch.setenv("AGENT_SERVER_PORT", "")
    settings = load_settings()
    assert settings.kubiya_api_key is None
    assert settings.port == 8000


def test_lists_are_words_between_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SERVER_ALLOWED_HOSTS", "a.example, b.example c.example")
    assert load_settings().allowed_hosts == ("a.example", "b.example", "c.example")


def test_keys_of_callers_are_read_from_variable_and_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = f"alice=sha256:{DIGEST};scopes=chat"
    file = tmp_path / "settings.toml"
    file.write_text(f'api_keys = ["{entry}"]\n')
    from_file = load_settings(config_file=file).api_keys
    monkeypatch.setenv("AGENT_SERVER_API_KEYS", entry)
    assert load_settings().api_keys == from_file
    assert [key.name for key in from_file] == ["alice"]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]


def test_a_secret_never_stands_in_the_text_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk_very_secret")
    monkeypatch.setenv("AGENT_SERVER_API_KEYS", f"a=sha256:{DIGEST}")
    settings = load_settings(provider_api_key="sk-other-secret")
    assert "very_secret" not in repr(settings) + str(settings)
    assert "other-secret" not in repr(settings)
    assert DIGEST not in repr(settings)
    assert set(settings.secret_values()) == {"gsk_very_secret", "sk-other-secret"}


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("AGENT_SERVER_PORT", "70000", "less than or equal to 65535"),
        ("AGENT_SERVER_PORT", "http", "valid integer"),
        ("AGENT_SERVER_KEEP_ALIVE_SECONDS", "0", "greater than 0"),
        ("AGENT_SERVER_ENGINE", "cobalt", "'journal'"),
        ("AGENT_SERVER_ENGINE", "temporal", "needs TEMPORAL_HOST"),
        ("TEMPORAL_HOST", "https://x", "pattern"),
        ("TEMPORAL_NAMESPACE", "a b", "pattern"),
        ("TEMPORAL_TLS_KEY", "/k.pem", "belong together"),
        ("AGENT_SERVER_BASE_URL", "ftp://x", "pattern"),
        ("LOG_LEVEL", "loud", "'DEBUG'"),
        ("AGENT_SERVER_API_KEYS", "sk-raw-key-of-somebody", "agent-server hash-key"),
        ("AGENT_SERVER_CONFIG_FILE", "/nonexistent.toml", "cannot read"),
    ],
)
def test_a_wrong_value_is_told_by_its_variable_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert str(raised.value).startswith(f"{variable}: ")
    assert reason in str(raised.value)
    assert "sk-raw" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("port = ", "Invalid value"), ("prot = 1", "no such setting: prot"), ("\xff", "cannot read")],
)
def test_a_file_that_will_not_do_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError, match=reason):
        load_settings(config_file=file)


def test_a_misspelt_variable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SERVER_PROT", "1")
    assert unknown_variables() == ["AGENT_SERVER_PROT"]


def test_the_backend_gets_no_key_and_nothing_that_is_not_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OPENAI_API_KEY", "KUBIYA_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "very-secret")
    settings = load_settings(data_dir=tmp_path, http_allow=["10.0.0.0/8", "a"], secrets_file="/s")
    environment = settings.backend_environment()
    assert "very-secret" not in environment.values()
    assert environment["AGENT_SERVER_DATA_DIR"] == str(tmp_path)
    assert environment["AGENT_SERVER_HTTP_ALLOW"] == "10.0.0.0/8,a"
    assert environment["AGENT_SERVER_HIDDEN_PATHS"] == "/s"
    assert environment["AGENT_SERVER_REQUIRE_ISOLATION"] == "false"


def test_the_policy_reaches_the_backend_and_no_step(tmp_path: Path) -> None:
    environment = load_settings(data_dir=tmp_path, policy_file="/p.yaml").backend_environment()
    assert environment["AGENT_SERVER_POLICY_FILE"] == "/p.yaml"
    assert environment["AGENT_SERVER_HIDDEN_PATHS"] == "/p.yaml"


@pytest.mark.parametrize("url", ["sqlite:///{}", "sqlite+pysqlite:///{}", "sqlite:///{}?timeout=9"])
def test_no_step_sees_a_store_that_is_a_file_outside_of_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{tmp_path}/keys.db{end}" for end in ("", "-wal", "-shm", "-journal")]
    for given in (f"{tmp_path}/keys.db", "keys.db"):
        settings = load_settings(data_dir=tmp_path / "data", database_url=url.format(given))
        assert settings.backend_environment()["AGENT_SERVER_HIDDEN_PATHS"].split(":") == names


@pytest.mark.parametrize("url", [None, "sqlite", "postgresql://user:word@host/name", "no-url"])
def test_a_store_elsewhere_or_in_the_data_folder_is_no_path_to_hide(
    tmp_path: Path, url: str | None
) -> None:
    environment = load_settings(data_dir=tmp_path, database_url=url).backend_environment()
    assert environment["AGENT_SERVER_HIDDEN_PATHS"] == ""


def test_secrets_of_workflows_reach_the_backend_and_no_other_child(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secrets = {"AGENT_SERVER_SECRET_API_TOKEN": "value-of-token", "SECRET_KEY": "key-of-the-store"}
    for name, value in {**secrets, "AGENT_SERVER_SECRET_EMPTY": ""}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(data_dir=tmp_path)
    environment = settings.backend_environment()
    assert {name: environment.get(name) for name in secrets} == secrets
    assert "AGENT_SERVER_SECRET_EMPTY" not in environment
    assert not set(secrets.values()) & set(child_environment().values())
    assert set(settings.secret_values()) == set(secrets.values())
    assert "key-of-the-store" not in repr(settings)
    assert unknown_variables() == []


def test_the_key_of_the_store_under_the_name_of_a_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENT_SERVER_SECRET_KEY", "key-of-the-store")
    with pytest.raises(SettingsError, match="the store of secrets is SECRET_KEY") as raised:
        load_settings()
    assert "key-of-the-store" not in str(raised.value)


def test_a_server_with_keys_requires_isolation() -> None:
    settings = load_settings(api_keys=[f"a=sha256:{DIGEST}"])
    assert settings.backend_environment()["AGENT_SERVER_REQUIRE_ISOLATION"] == "true"


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),  # noqa: S104 - read, not bound
        ("::", False),
        ("192.168.1.2", False),
        ("example.com", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, is_loopback: bool) -> None:
    assert load_settings(host=host).is_loopback is is_loopback


def test_the_page_of_settings_is_up_to_date() -> None:
    assert PAGE.read_text() == configuration_markdown(), (
        "run `python -m agent_server.settings_reference > docs/configuration.md`"
    )


def test_every_setting_is_described_and_in_a_section() -> None:
    assert next(iter(Settings.model_fields)) in SECTIONS
    assert [name for name in SECTIONS if name not in Settings.model_fields] == []
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_keys_of_a_file_or_a_store_demand_isolation_as_those_of_the_settings_do(
    tmp_path: Path,
) -> None:
    backend, *_ = mcp_servers(load_settings(), is_keyed=True, hidden=[tmp_path / "key"])
    assert backend.env["AGENT_SERVER_REQUIRE_ISOLATION"] == "true"
    assert backend.env["AGENT_SERVER_HIDDEN_PATHS"] == str(tmp_path / "key")
