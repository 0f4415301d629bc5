"""Makes every provider there is: the rows, and those of third parties.

A third party adds a provider of its own by an entry point of the group `agent_server.providers`:
its name is the provider's, its object a `ProviderFactory`.
"""

import difflib
import pkgutil
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any, Protocol

from providers import base_urls
from providers.base import Provider
from providers.openai import quirks
from providers.openai.adapter import OpenAIProvider
from providers.rows import COMPATIBLE_WIRES, OPENAI_HOST, OPENAI_ROW, ROWS, ProviderRow
from providers.upstream import RetryPolicy, Timeouts, Upstream

ENTRY_POINT_GROUP = "agent_server.providers"


class ProviderConfigError(ValueError):
    """A provider cannot be made from what was configured; the message says how to mend it."""


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """What was configured for one provider; None takes the row's own.

    `name` is what it is called in errors and answers, where that is not its row's name.
    """

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    default_model: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    name: str | None = None


class ProviderFactory(Protocol):
    """Makes a provider that is no row of OpenAI's format; a class is one by its constructor.

    `default_model` and `base_url` are None where neither the configuration nor a row has one. The
    `upstream` is shared: it is used, and closed by who made it.
    """

    def __call__(
        self,
        *,
        name: str,
        default_model: str | None,
        base_url: str | None,
        api_key: str | None,
        upstream: Upstream,
        timeouts: Timeouts,
        retry: RetryPolicy,
    ) -> Provider:
        """The provider; raises `ProviderConfigError` where the configuration will not do."""
        ...


def provider_names() -> tuple[str, ...]:
    """The names of all providers, those of entry points last."""
    return tuple(dict.fromkeys((*ROWS, *_plugins())))


def provider_row(name: str, base_url: str | None = None) -> ProviderRow:
    """The row of a provider; a plugin's has nothing but its name and its factory.

    `openai` at somebody else's `base_url` is a service that imitates OpenAI: it needs no key, and
    is spoken to as such.

    Raises:
        ProviderConfigError: there is no such provider.
    """
    row = ROWS.get(name)
    if row is None:
        factory = _plugins().get(name)
        if factory is None:
            raise ProviderConfigError(_unknown(name))
        return ProviderRow(name, factory=factory)
    if row is OPENAI_ROW and base_url and not _is_openai_host(base_urls.host_of(base_url)):
        return replace(
            row,
            needs_key=False,
            quirks=quirks.COMPATIBLE,
            wires=COMPATIBLE_WIRES,
            keeps_responses=False,
        )
    return row


def create_provider(name: str, config: ProviderConfig, upstream: Upstream) -> Provider:
    """The provider of a row's name, made from what was configured for it.

    Raises:
        ProviderConfigError: no such provider, no key, or a base URL that is none.
    """
    row = provider_row(name, config.base_url)
    called = config.name or name
    base_url = _base_url(row, config)
    default_model = config.default_model or row.default_model
    if row.needs_key and not config.api_key:
        raise ProviderConfigError(f"{name} needs a key; set {' or '.join(row.key_variables)}")
    if row.factory is not None:
        make = _load(row.factory, name)
        if row.needs_nothing:
            plain: Provider = make()
            return plain
        factory: ProviderFactory = make
        return factory(
            name=called,
            default_model=default_model,
            base_url=base_url,
            api_key=config.api_key,
            upstream=upstream,
            timeouts=config.timeouts,
            retry=config.retry,
        )
    if base_url is None:
        ways = " or ".join((*(f"set {v}" for v in row.base_url_variables), "give --base-url"))
        raise ProviderConfigError(f"{name} needs a base URL; {ways}")
    if default_model is None:
        raise ProviderConfigError(f"{name} has no default model; give --model")
    return OpenAIProvider(
        name=called,
        base_url=base_url,
        default_model=default_model,
        upstream=upstream,
        api_key=config.api_key,
        key_header=row.key_header,
        quirks=row.quirks,
        relays=row.wires,
        keeps_responses=row.keeps_responses,
        paths=row.paths,
        timeouts=config.timeouts,
        retry=config.retry,
    )


def _base_url(row: ProviderRow, config: ProviderConfig) -> str | None:
    if not config.base_url:
        return row.base_url
    try:
        return row.read_base_url(config.base_url)
    except base_urls.BaseUrlError as exc:
        setting = " or ".join(("--base-url", *row.base_url_variables))
        raise ProviderConfigError(f"the base URL of {row.name} ({setting}): {exc}") from exc


def _load(factory: str, name: str) -> Any:
    try:
        return pkgutil.resolve_name(factory)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ProviderConfigError(f"{name} cannot be loaded: {exc}") from exc


def _plugins() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def _is_openai_host(host: str) -> bool:
    return host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}")


def _unknown(name: str) -> str:
    known = provider_names()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown provider {name!r}; {hint}known are {', '.join(known)}"
