"""The gateway that the settings configure: its providers, its names, its ways to fail over."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from agent_server.gateway.budgets import Budgets
from agent_server.gateway.config_file import (
    GatewayFile,
    ProviderEntry,
    Surroundings,
    load_gateway_file,
)
from agent_server.gateway.failover import Failover
from agent_server.gateway.gateway import Gateway
from agent_server.gateway.names import ModelNames
from agent_server.gateway.providers import ProviderPool
from agent_server.gateway.routes import Route
from agent_server.provider_choice import base_url_of, choose_provider, key_of
from agent_server.settings import Settings, named_environment
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


class GatewayMaker:
    """Makes the gateway of the settings and of the file that they name, at start and again.

    The default provider and the health of routes stay over all that it makes.

    Raises:
        ProviderChoiceError: the default provider is unknown, or lacks what it needs.
    """

    def __init__(self, settings: Settings, upstream: Upstream) -> None:
        self._settings = settings
        self._upstream = upstream
        self._default = choose_provider(settings).provider
        self._failover = Failover()

    def read(self) -> GatewayFile:
        """What the file says, an empty one where the settings name none; blocks.

        Raises:
            ConfigFileError: it cannot be used.
        """
        path = self._settings.gateway_config
        if path is None:
            return GatewayFile()
        names = provider_names()
        around = Surroundings(
            environment=named_environment(),
            usable=tuple(_usable_configs(self._settings, self._default)),
            mends={name: _mend(name) for name in names},
            rows=names,
            budgets=settings_budgets(self._settings),
            retry=RetryPolicy(limit=self._settings.max_retries),
        )
        return load_gateway_file(path, around)

    def make(self, file: GatewayFile) -> Gateway:
        """The gateway; from now on the health of its routes is kept, that of others is not.

        Raises:
            ProviderConfigError: the default provider, or one of the file's, cannot be made.
        """
        settings = self._settings
        providers = configured_providers(settings, self._default, self._upstream, file.providers)
        names = ModelNames(
            providers,
            default_model=settings.model,
            agent=settings.agent,
            plans=file.plans,
            patterns={
                entry.name: Route(entry.name, "", budgets=entry.budgets, origin=entry.origin)
                for entry in file.providers.values()
            },
            budgets=settings_budgets(settings),
            retry=RetryPolicy(limit=settings.max_retries),
        )
        routes = [route for plan in file.plans.values() for route in plan.all_routes()]
        self._failover.book.configure(routes, file.breaker)
        return Gateway(providers, names, self._failover)


def settings_budgets(settings: Settings) -> Budgets:
    """The bounds of every call for which nothing else is configured."""
    return Budgets(
        connect_seconds=settings.connect_timeout_seconds,
        first_byte_seconds=settings.first_byte_timeout_seconds,
        idle_seconds=settings.idle_timeout_seconds,
        total_seconds=settings.total_timeout_seconds,
    )


def configured_providers(
    settings: Settings,
    default: str,
    upstream: Upstream,
    entries: Mapping[str, ProviderEntry] | None = None,
) -> ProviderPool:
    """The pool of providers that have what they need; `entries` are those of the gateway's file.

    Raises:
        ProviderConfigError: the default provider, or one of the file's, cannot be made.
    """
    configs = _usable_configs(settings, default)
    factories = {name: _factory(name, config, upstream) for name, config in configs.items()}
    for name, entry in (entries or {}).items():
        factories[name] = _factory(entry.like, _entry_config(entry), upstream)
    mends = {name: _mend(name) for name in provider_names()}
    pool = ProviderPool(factories, default=default, mends=mends, budgets=settings_budgets(settings))
    # What cannot be made is said now, and not to the first caller.
    for name in (default, *(entries or ())):
        pool.get(name)
    return pool


def _factory(
    name: str, config: ProviderConfig, upstream: Upstream
) -> Callable[[Budgets], Provider]:
    def make(budgets: Budgets) -> Provider:
        return create_provider(name, replace(config, timeouts=budgets.timeouts()), upstream)

    return make


def _entry_config(entry: ProviderEntry) -> ProviderConfig:
    row = provider_row(entry.like, entry.base_url)
    return ProviderConfig(
        name=entry.name,
        api_key=entry.api_key,
        base_url=entry.base_url,
        # Nobody asks a provider of the file for its default model but by its name.
        default_model=entry.default_model or row.default_model or entry.name,
        retry=RetryPolicy(limit=0),
    )


def _usable_configs(settings: Settings, default: str) -> dict[str, ProviderConfig]:
    configs = {name: _config(settings, name, default) for name in provider_names()}
    return {
        name: config
        for name, config in configs.items()
        if name == default or _is_configured(name, config)
    }


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
