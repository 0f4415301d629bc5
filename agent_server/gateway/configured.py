"""The providers that the settings configure, as a pool."""

from functools import partial

from agent_server.gateway.providers import ProviderPool
from agent_server.settings import Settings
from providers.registry import (
    ProviderConfig,
    create_provider,
    provider_names,
    provider_row,
)
from providers.upstream import RetryPolicy, Timeouts, Upstream

# What needs no key is there whenever it is named; Ollama only where somebody said that it runs.
ALWAYS = frozenset({"offline"})


def configured_providers(settings: Settings, default: str, upstream: Upstream) -> ProviderPool:
    """The pool of providers that have what they need; `default` is made at once.

    Raises:
        ProviderConfigError: the default provider cannot be made from its settings.
    """
    configs = {name: _config(settings, name, default) for name in provider_names()}
    factories = {
        name: partial(create_provider, name, config, upstream)
        for name, config in configs.items()
        if name == default or _is_configured(settings, name, config)
    }
    mends = {name: _mend(name) for name in configs}
    pool = ProviderPool(factories, default=default, mends=mends)
    pool.get(default)
    return pool


def _config(settings: Settings, name: str, default: str) -> ProviderConfig:
    is_default = name == default
    secret = getattr(settings, f"{name}_api_key", None)
    if is_default and settings.provider_api_key:
        secret = settings.provider_api_key
    own_url = (
        settings.ollama_host if name == "ollama" else getattr(settings, f"{name}_base_url", None)
    )
    return ProviderConfig(
        api_key=secret.get_secret_value() if secret else None,
        base_url=(settings.base_url if is_default else None) or own_url,
        default_model=settings.model if is_default else None,
        timeouts=Timeouts(
            connect_seconds=settings.connect_timeout_seconds,
            first_byte_seconds=settings.first_byte_timeout_seconds,
            idle_seconds=settings.idle_timeout_seconds,
            total_seconds=settings.total_timeout_seconds,
        ),
        retry=RetryPolicy(limit=settings.max_retries),
    )


def _is_configured(settings: Settings, name: str, config: ProviderConfig) -> bool:
    if name == "ollama":
        return settings.ollama_host is not None
    return name in ALWAYS or config.api_key is not None


def _mend(name: str) -> str:
    variables = provider_row(name).key_variables
    return f"set {variables[0]}" if variables else f"start it with --provider {name}"
