"""Which provider is the default one, and why: what `auto` means."""

import http.client
from dataclasses import dataclass
from urllib.parse import urlsplit

from agent_server.settings import Settings
from providers import base_urls
from providers.registry import ProviderConfigError, provider_row
from providers.rows import ROWS, ProviderRow

# What `auto` looks for, in this order, before Ollama and `offline`.
KEYED_PROVIDERS = ("anthropic", "openai", "together", "groq")
OLLAMA_PROBE_SECONDS = 0.5


class ProviderChoiceError(Exception):
    """The default provider is unknown or lacks what it needs; the message says how to mend it."""


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """The default provider and the reason, in words for a person."""

    provider: str
    reason: str


def choose_provider(settings: Settings) -> ProviderChoice:
    """The provider that the settings name, or what `auto` finds: a key, Ollama, or `offline`.

    Only `auto` may ask the network, and only Ollama's address, for half a second.

    Raises:
        ProviderChoiceError: the name is unknown, the provider has no key, or Ollama's address is
            none.
    """
    name = settings.provider.lower()
    if name == "auto":
        return _automatic(settings)
    try:
        row = provider_row(name, base_url_of(settings, name))
    except ProviderConfigError as exc:
        raise ProviderChoiceError(str(exc)) from exc
    if row.needs_key and not key_of(settings, name):
        raise ProviderChoiceError(
            f"no key for {name}: set {' or '.join(row.key_variables)}, or give --api-key-file"
        )
    return ProviderChoice(name, "as chosen")


def key_of(settings: Settings, provider: str) -> str | None:
    """The key that is configured for a provider."""
    if settings.provider.lower() == provider and settings.provider_api_key:
        return settings.provider_api_key.get_secret_value()
    variable = _key_variable(settings, provider)
    return settings.provider_keys[variable].get_secret_value() if variable else None


def base_url_of(settings: Settings, provider: str) -> str | None:
    """Where a provider answers, as it was configured; None takes the registry's."""
    if settings.provider.lower() == provider and settings.base_url:
        return settings.base_url
    row = ROWS.get(provider)
    variables = row.base_url_variables if row else ()
    return next(filter(None, map(settings.provider_urls.get, variables)), None)


def call_url(row: ProviderRow, configured: str | None) -> str | None:
    """The base URL that is called for a provider; raises `BaseUrlError`."""
    return row.read_base_url(configured) if configured else row.base_url


def ollama_url(settings: Settings) -> str:
    """Ollama's address, without the `/v1` of its OpenAI format."""
    try:
        url = call_url(provider_row("ollama"), base_url_of(settings, "ollama"))
    except base_urls.BaseUrlError as exc:
        raise ProviderChoiceError(f"OLLAMA_HOST: {exc}") from exc
    return (url or "").removesuffix("/v1")


def ollama_answers(settings: Settings, timeout_seconds: float = OLLAMA_PROBE_SECONDS) -> bool:
    """Whether Ollama answers `GET /api/version`."""
    parts = urlsplit(ollama_url(settings))
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=timeout_seconds)
    try:
        connection.request("GET", f"{parts.path}/api/version")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _key_variable(settings: Settings, provider: str) -> str | None:
    """The first variable that holds a key of a provider."""
    row = ROWS.get(provider)
    variables = row.key_variables if row else ()
    return next((name for name in variables if name in settings.provider_keys), None)


def _automatic(settings: Settings) -> ProviderChoice:
    if settings.provider_api_key or settings.base_url:
        raise ProviderChoiceError("an --api-key or --base-url needs its --provider named")
    for name in KEYED_PROVIDERS:
        if variable := _key_variable(settings, name):
            return ProviderChoice(name, f"{variable} is set")
    if ollama_answers(settings):
        where = f"no key is set, and Ollama answers at {ollama_url(settings)}"
        return ProviderChoice("ollama", where)
    return ProviderChoice(
        "offline",
        f"no key is set, and Ollama does not answer at {ollama_url(settings)}; "
        "offline is rule-based and no LLM",
    )
