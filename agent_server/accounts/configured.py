"""The accounts that the settings describe; a database library is loaded only for a store."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from agent_server.accounts.accounts import Accounts
from agent_server.accounts.cache import AnswerCache, MemoryCache
from agent_server.accounts.keys import ApiKey, distinct_keys
from agent_server.accounts.limits import SharedPool
from agent_server.accounts.prices import Price, Prices
from agent_server.accounts.store_errors import AccountsConfigError
from agent_server.accounts.store_url import store_url
from agent_server.settings import Settings, child_environment, variable_of

if TYPE_CHECKING:
    from agent_server.accounts.ledger import Ledger


def accounts_of(
    settings: Settings,
    *,
    keys: tuple[ApiKey, ...] = (),
    prices: Mapping[str, Price] | None = None,
) -> Accounts:
    """The accounts of a server, not yet started.

    `keys` and `prices` are those of the gateway's file, besides those of the settings.

    Raises:
        AccountsConfigError: two keys share a name or a digest, or the address of the store or of
            Redis cannot be used.
    """
    return Accounts(
        keys=_all_keys(settings, keys),
        prices=Prices(prices, unknown=settings.unknown_price),
        ledger=ledger_of(settings),
        pool=_pool_of(settings),
        keep_days=settings.usage_retention_days,
    )


def reconfigure(
    accounts: Accounts,
    settings: Settings,
    *,
    keys: tuple[ApiKey, ...],
    prices: Mapping[str, Price],
) -> None:
    """Take the keys and prices of a changed file; what is running is settled as it began.

    Raises:
        AccountsConfigError: two keys share a name or a digest; then nothing has changed.
    """
    all_keys = _all_keys(settings, keys)
    accounts.prices = Prices(prices, unknown=settings.unknown_price)
    accounts.book.configure(all_keys)


def cache_of(settings: Settings) -> AnswerCache | None:
    """The response cache, None where it is off.

    Raises:
        AccountsConfigError: it is to be in Redis, and Redis' address is missing or cannot be used.
    """
    if settings.cache == "off":
        return None
    if settings.cache == "memory":
        return MemoryCache(
            max_bytes=settings.cache_max_bytes, ttl_seconds=settings.cache_ttl_seconds
        )
    if settings.redis_url is None:
        raise AccountsConfigError(
            f"{variable_of('cache')} is redis, and {variable_of('redis_url')} is not set"
        )
    with _redis_errors():
        from agent_server.accounts.redis_cache import RedisCache  # noqa: PLC0415

        return RedisCache(
            settings.redis_url.get_secret_value(), ttl_seconds=settings.cache_ttl_seconds
        )


def ledger_of(settings: Settings, *, make: bool = False) -> "Ledger | None":
    """The accounts in the store, None where the settings name none and none is there.

    With `make` it is then the file of the data folder, which is made.

    Raises:
        AccountsConfigError: the store's address cannot be used.
    """
    given = settings.database_url.get_secret_value() if settings.database_url else None
    url = store_url(given or ("sqlite" if make else None), settings.data_dir)
    if url is None:
        return None
    from agent_server.accounts.ledger import Ledger  # noqa: PLC0415
    from agent_server.accounts.store import Store  # noqa: PLC0415

    try:
        return Ledger(Store(url, environment=child_environment()))
    except AccountsConfigError as exc:
        raise AccountsConfigError(f"{variable_of('database_url')}: {exc}") from None


def _all_keys(settings: Settings, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    try:
        return distinct_keys((*settings.api_keys, *keys))
    except ValueError as exc:
        raise AccountsConfigError(f"keys of the settings and of the file: {exc}") from None


def _pool_of(settings: Settings) -> SharedPool | None:
    if settings.redis_url is None:
        return None
    with _redis_errors():
        from agent_server.accounts.redis_limits import RedisPool  # noqa: PLC0415

        return RedisPool(settings.redis_url.get_secret_value())


@contextlib.contextmanager
def _redis_errors() -> Iterator[None]:
    """Say what is wrong with Redis' setting, without its address."""
    name = variable_of("redis_url")
    try:
        yield
    except ImportError:
        raise AccountsConfigError(
            f"{name} needs the extra [redis]: pip install 'agent-server[redis]'"
        ) from None
    except ValueError:
        raise AccountsConfigError(
            f"{name} takes redis://host:port/0, rediss:// or unix://path"
        ) from None
