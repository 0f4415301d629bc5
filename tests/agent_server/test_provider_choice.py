from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typing_extensions import override

from agent_server.provider_choice import (
    ProviderChoiceError,
    choose_provider,
    key_of,
    ollama_url,
)
from agent_server.settings import Settings, load_settings, variable_of

NOWHERE = "127.0.0.1:9"


class Ollama(BaseHTTPRequestHandler):
    """Answers `GET /api/version` as Ollama does."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/version" else 404)
        self.end_headers()
        self.wfile.write(b'{"version":"0.12.0"}')

    @override
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def ollama() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Ollama) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("keys", "provider"),
    [
        (("groq", "together", "openai", "anthropic"), "anthropic"),
        (("groq", "together", "openai"), "openai"),
        (("groq", "together"), "together"),
        (("groq",), "groq"),
    ],
)
def test_auto_takes_the_first_provider_with_a_key(keys: tuple[str, ...], provider: str) -> None:
    given = {f"{name}_api_key": "key" for name in keys}
    choice = choose_provider(load_settings(ollama_host=NOWHERE, **given))
    assert choice.provider == provider
    assert choice.reason == f"{provider.upper()}_API_KEY is set"


def test_auto_without_a_key_takes_ollama_if_it_answers(ollama: str) -> None:
    choice = choose_provider(load_settings(ollama_host=ollama))
    assert choice.provider == "ollama"
    assert ollama in choice.reason


def test_auto_without_anything_takes_offline_and_says_so() -> None:
    choice = choose_provider(load_settings(ollama_host=NOWHERE, kubiya_api_key="key"))
    assert choice.provider == "offline"
    assert "no LLM" in choice.reason


@pytest.mark.parametrize("given", [{"provider_api_key": "k"}, {"base_url": "http://127.0.0.1:9"}])
def test_auto_does_not_guess_whose_key_or_address_it_is(given: dict[str, str]) -> None:
    with pytest.raises(ProviderChoiceError, match="needs its --provider"):
        choose_provider(load_settings(**given))


@pytest.mark.parametrize("provider", ["anthropic", "openai", "together", "groq"])
def test_a_named_provider_needs_its_key(provider: str) -> None:
    with pytest.raises(ProviderChoiceError, match=f"{provider.upper()}_API_KEY"):
        choose_provider(load_settings(provider=provider))
    settings = load_settings(provider=provider, provider_api_key="key")
    assert choose_provider(settings).provider == provider
    assert key_of(settings, provider) == "key"


def test_the_key_of_the_chosen_provider_is_nobody_elses() -> None:
    settings = load_settings(provider="groq", provider_api_key="key")
    assert key_of(settings, "openai") is None


def test_a_service_that_imitates_openai_needs_no_key() -> None:
    settings = load_settings(provider="openai", base_url="http://127.0.0.1:9/v1")
    assert choose_provider(settings).provider == "openai"


def test_an_unknown_provider_is_told_with_what_was_meant() -> None:
    with pytest.raises(ProviderChoiceError, match="did you mean anthropic"):
        choose_provider(load_settings(provider="antropic"))


def test_an_address_of_ollama_that_is_none_is_told() -> None:
    with pytest.raises(ProviderChoiceError, match="OLLAMA_HOST"):
        ollama_url(load_settings(ollama_host="http://user:secret@host"))
