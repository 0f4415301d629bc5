"""The gateway that the settings configure: its providers, its names, its ways to fail over."""

from collections.abc import Callable
from dataclasses import replace

from agent_server.gateway.budgets import Budgets
from agent_server.gateway.failover import Failover
from agent_server.gateway.gateway import Gateway
from agent_server.gateway.names import ModelNames
from agent_server.gateway.providers import ProviderPool
from agent_server.provider_choice import base_url_of, choose_provider, key_of
from agent_server.settings import Settings
from providers.base import Provider
from providers.registry import (
    ProviderConfig,
    create_provider,
    provider_names,
    provider_row,
)
from providers.upstream import RetryPolicy, Upstream

# What needs nothing is there whenever it is named; other keyless ones need an address to be given.
ALWAYS = frozenset({"offline"})


def configured_gateway(settings: Settings, upstream: Upstream) -> Gateway:
    """The gateway of these settings.

    Raises:
        ProviderChoiceError: the default provider is unknown, or lacks what it needs.
        ProviderConfigError: the default provider cannot be made from its settings.
    """
    budgets = settings_budgets(settings)
    providers = configured_providers(settings, choose_provider(settings).provider, upstream)
    names = ModelNames(
        providers,
        default_model=settings.model,
        agent=settings.agent,
        budgets=budgets,
        retry=RetryPolicy(limit=settings.max_retries),
    )
    return Gateway(providers, names, Failover())


def settings_budgets(settings: Settings) -> Budgets:
    """The bounds of every call for which nothing else is configured."""
    return Budgets(
        connect_seconds=settings.connect_timeout_seconds,
        first_byte_seconds=settings.first_byte_timeout_seconds,
        idle_seconds=settings.idle_timeout_seconds,
        total_seconds=settings.total_timeout_seconds,
    )


def configured_providers(settings: Settings, default: str, upstream: Upstream) -> ProviderPool:
    """The pool of providers that have what they need; `default` is made at once.

    Raises:
        ProviderConfigError: the default provider cannot be made from its settings.
    """
    configs = {name: _config(settings, name, default) for name in provider_names()}
    factories = {
        name: _factory(name, config, upstream)
        for name, config in configs.items()
        if name == default or _is_configured(name, config)
    }
    mends = {name: _mend(name) for name in configs}
    pool = ProviderPool(factories, default=default, mends=mends, budgets=settings_budgets(settings))
    pool.get(default)
    return pool


def _factory(
    name: str, config: ProviderConfig, upstream: Upstream
) -> Callable[[Budgets], Provider]:
    def make(budgets: Budgets) -> Provider:
        return create_provider(name, replace(config, timeouts=budgets.timeouts()), upstream)

    return make


def _config(settings: Settings, name: str, default: str) -> ProviderConfig:
    return ProviderConfig(
        api_key=key_of(settings, name),
        base_url=base_url_of(settings, name),
        default_model=settings.model if name == default else None,
        # Repeats are the failover's, which knows the other routes.
        retry=RetryPolicy(limit=0),
    )


def _is_configured(name: str, config: ProviderConfig) -> bool:
    row = provider_row(name, config.base_url)
    if row.needs_key:
        return config.api_key is not None and bool(config.base_url or row.base_url)
    return name in ALWAYS or config.base_url is not None


def _mend(name: str) -> str:
    row = provider_row(name)
    needed = [row.key_variables[0]] if row.needs_key else []
    if row.base_url_variables and not (row.needs_key and row.base_url):
        needed.append(row.base_url_variables[0])
    return f"set {' and '.join(needed)}" if needed else f"start it with --provider {name}"
