"""Which provider is the default one, and why: what `auto` means."""

import difflib
import http.client
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from agent_server.settings import Settings, variable_of

KEYED_PROVIDERS = ("anthropic", "openai", "together", "groq")
KEYLESS_PROVIDERS = ("ollama", "offline", "litellm")
OLLAMA_PROBE_SECONDS = 0.5
OLLAMA_DEFAULT = "http://127.0.0.1:11434"


class ProviderChoiceError(Exception):
    """No such provider, or its key is missing; the message says how to mend it."""


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """The default provider and the reason, in words for a person."""

    provider: str
    reason: str


def choose_provider(settings: Settings, plugins: Iterable[str] = ()) -> ProviderChoice:
    """The provider that the settings name, or what `auto` finds: a key, Ollama, or `offline`.

    `plugins` names further providers, from the entry points. Only `auto` may ask the network,
    and only Ollama's address, for half a second.

    Raises:
        ProviderChoiceError: the name is unknown, or the provider has no key.
    """
    name = settings.provider.lower()
    if name == "auto":
        return _automatic(settings)
    known = [*KEYED_PROVIDERS, *KEYLESS_PROVIDERS, *plugins]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ProviderChoiceError(
            f"unknown provider {settings.provider!r}; {hint}"
            f"known are auto, {', '.join(known)} (another service that speaks OpenAI's format: "
            "--provider openai --base-url URL)"
        )
    if name in KEYED_PROVIDERS and not has_key(settings, name) and not settings.base_url:
        raise ProviderChoiceError(
            f"no key for {name}: set {variable_of(f'{name}_api_key')}, or give --api-key-file"
        )
    return ProviderChoice(name, "as chosen")


def has_key(settings: Settings, provider: str) -> bool:
    """Whether a key for the provider is configured."""
    if settings.provider == provider and settings.provider_api_key:
        return True
    return bool(_key(settings, provider))


def ollama_url(settings: Settings) -> str:
    """Ollama's address as a URL; `OLLAMA_HOST` may be a host, host:port or URL."""
    host = settings.ollama_host or OLLAMA_DEFAULT
    parts = urlsplit(host if "://" in host else f"http://{host}")
    name = "127.0.0.1" if parts.hostname in {None, "0.0.0.0"} else parts.hostname  # noqa: S104
    name = f"[{name}]" if name and ":" in name else name
    port = parts.port or (443 if parts.scheme == "https" else 11434)
    return f"{parts.scheme}://{name}:{port}"


def ollama_version(settings: Settings, timeout_seconds: float = OLLAMA_PROBE_SECONDS) -> str | None:
    """What Ollama answers to `GET /api/version`, or None if it does not."""
    parts = urlsplit(ollama_url(settings))
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=timeout_seconds)
    try:
        connection.request("GET", "/api/version")
        answer = connection.getresponse()
        text = answer.read(1000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return text if answer.status == http.client.OK else None


def _automatic(settings: Settings) -> ProviderChoice:
    for name in KEYED_PROVIDERS:
        if _key(settings, name):
            return ProviderChoice(name, f"{variable_of(f'{name}_api_key')} is set")
    if settings.provider_api_key or settings.base_url:
        raise ProviderChoiceError("an --api-key or --base-url needs its --provider named")
    if ollama_version(settings):
        return ProviderChoice(
            "ollama", f"no key is set, and Ollama answers at {ollama_url(settings)}"
        )
    return ProviderChoice(
        "offline",
        f"no key is set, and Ollama does not answer at {ollama_url(settings)}; "
        "offline is rule-based and no LLM",
    )


def _key(settings: Settings, provider: str) -> str | None:
    value = getattr(settings, f"{provider}_api_key")
    return value.get_secret_value() if isinstance(value, SecretStr) else None
