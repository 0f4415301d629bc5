import asyncio
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import event

from agent_server.accounts.accounts import Accounts
from agent_server.accounts.configured import accounts_of, reconfigure
from agent_server.accounts.estimate import ASSUMED_ANSWER_TOKENS
from agent_server.accounts.keys import NANO_PER_USD, ApiKey, api_key_from_fields, digest_of
from agent_server.accounts.ledger import Ledger
from agent_server.accounts.limits import Admission
from agent_server.accounts.meters import day_of, month_of
from agent_server.accounts.prices import Price, Prices, Rates
from agent_server.accounts.store import Store
from agent_server.accounts.store_errors import AccountsConfigError
from agent_server.accounts.usage import UsageRow
from agent_server.settings import Settings
from streaming.errors import PermissionDeniedError, RateLimitError
from streaming.events import Usage
from tests.databases import RedisServer, make_schema
from tests.serving import serving

MINI = [("openai", "gpt-4o-mini")]
ROOT = Path(__file__).parents[3]


def key(name: str = "alice", **fields: object) -> ApiKey:
    return api_key_from_fields({"name": name, "sha256": digest_of(name), **fields})


def accounts_with(url: str, *keys: ApiKey) -> Accounts:
    make_schema(url)
    return Accounts(keys=keys, ledger=Ledger(Store(url)))


def row(accounts: Accounts, door: str, usage: Usage, key_id: str = "alice") -> UsageRow:
    cost = accounts.cost("openai", "gpt-4o-mini", usage)
    words = (door, "openai", "gpt-4o-mini", "ok", 200)
    return UsageRow(key_id, *words, usage, cost, 900, 120, 1, "req_1")


async def admit(accounts: Accounts, holder: ApiKey, model: str = "fast", **given: Any) -> Admission:
    given = {"targets": MINI, "body": b"x" * 299, "max_output_tokens": 100} | given
    return await accounts.admit(holder, model=model, **given)


async def test_a_key_may_name_its_models_alone() -> None:
    holder = key(models=["gpt-*", "fast"])
    accounts = Accounts()
    (await admit(accounts, holder)).settle()
    with pytest.raises(PermissionDeniedError, match=r"'slow'.*gpt-\*, fast") as raised:
        await admit(accounts, holder, "slow")
    assert raised.value.code == "model_not_allowed"
    assert not (await accounts.admit(None, model="x", targets=MINI, body=b"")).is_open


async def test_of_fifty_calls_one_takes_what_is_left_of_the_budget() -> None:
    accounts = Accounts()
    # 100 tokens of prompt and 100 of answer at 0.15 and 0.60 USD a million.
    holder = key(budget_per_day="0.000075")
    found = await asyncio.gather(
        *(admit(accounts, holder) for _ in range(50)), return_exceptions=True
    )
    assert sum(isinstance(one, Admission) for one in found) == 1
    assert sum(isinstance(one, RateLimitError) for one in found) == 49


async def test_the_dearest_of_the_targets_is_reserved_for() -> None:
    rates = [Rates(1_000, 1_000, 1_000, 1_000), Rates(3_000, 3_000, 3_000, 3_000)]
    prices = Prices({f"p/{number}": Price(one) for number, one in enumerate(rates)})
    accounts = Accounts(prices=prices)
    holder = key(budget_per_day="0.000000999")
    ask = partial(admit, accounts, holder)
    (await ask(targets=[("p", "0"), ("p", "1")], max_output_tokens=200)).settle()
    with pytest.raises(RateLimitError):
        await ask(targets=[("p", "1"), ("p", "0")], max_output_tokens=300)


async def test_an_answer_without_a_bound_reserves_an_assumed_length() -> None:
    accounts = Accounts()
    holder = key(tokens_per_minute=100 + ASSUMED_ANSWER_TOKENS + 50)
    first = await admit(accounts, holder, max_output_tokens=None)
    assert dict(first.headers())[b"x-ratelimit-remaining-tokens"] == b"50"
    with pytest.raises(RateLimitError):
        await admit(accounts, holder, max_output_tokens=None)


async def test_a_model_without_a_price_is_closed_to_budgets_and_open_to_others() -> None:
    unknown: Any = {"targets": [*MINI, ("openai", "gpt-none")]}
    with pytest.raises(PermissionDeniedError, match="openai/gpt-none"):
        await admit(Accounts(), key(budget_per_day=1), **unknown)
    await admit(Accounts(), key(), **unknown)
    await admit(Accounts(prices=Prices(unknown="charge")), key(budget_per_day=1), **unknown)


async def test_the_same_tokens_cost_the_same_on_every_door(database_url: str) -> None:
    accounts = accounts_with(database_url)
    await accounts.start()
    usage = Usage(1_234, 567, 1_801, 200, 0, 100)
    now = 0.0
    doors = ("chat", "responses", "messages", "embeddings")
    for door in doors:
        admission = await admit(accounts, key(door))
        one = row(accounts, door, usage, key_id=door)
        accounts.finish(admission, one)
        now = one.time
    assert accounts.usage
    await accounts.usage.stop()
    assert accounts.ledger
    spent = [await accounts.ledger.read_spend(door, day_of(now), month_of(now)) for door in doors]
    # (1034 x 0.15 + 200 x 0.075 + 567 x 0.60) USD a million
    assert spent == [(510_300, 510_300)] * 4
    await accounts.aclose()


async def test_what_was_spent_before_a_restart_still_counts(database_url: str) -> None:
    holder = key(budget_per_day="0.001", budget_per_month=1)
    usage = Usage(1_000, 1_200, 2_200)
    for expected in (True, False):
        accounts = accounts_with(database_url, holder)
        await accounts.start()
        found = await asyncio.gather(
            admit(accounts, holder, max_output_tokens=1000), return_exceptions=True
        )
        assert isinstance(found[0], Admission) is expected, found
        if isinstance(found[0], Admission):
            accounts.finish(found[0], row(accounts, "chat", usage))
        await accounts.aclose()


async def test_what_is_not_written_yet_counts_as_spent(database_url: str) -> None:
    accounts = accounts_with(database_url)
    one = row(accounts, "chat", Usage(1_000, 0, 1_000))
    accounts.record(one)
    spent = await accounts._read_spend("alice", day_of(one.time), month_of(one.time))
    assert spent == (150_000, 150_000)
    await accounts.aclose()


async def test_a_warm_call_reads_and_writes_nothing(database_url: str) -> None:
    accounts = accounts_with(database_url)
    await accounts.start()
    made, raw_key = await accounts.create_key(
        {"name": "bob", "requests_per_minute": 10_000, "budget_per_month": 5}
    )
    digest = digest_of(raw_key)
    stored = await accounts.find_key(digest)
    assert stored == made.key
    (await admit(accounts, stored)).settle()
    assert accounts.ledger
    statements: list[str] = []
    engine = accounts.ledger.store._engine
    event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    for _ in range(100):
        found = await accounts.find_key(digest)
        assert found is not None
        (await admit(accounts, found)).settle(tokens=10, cost=10)
    assert statements == []
    await accounts.aclose()


async def test_calls_of_known_keys_go_on_while_the_store_is_gone(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_server.accounts.key_book.FRESH_SECONDS", 0.05)
    accounts = accounts_with(postgres_url)
    await accounts.start()
    _, raw_key = await accounts.create_key({"name": "bob", "requests_per_minute": 100})
    digest = digest_of(raw_key)
    await accounts.find_key(digest)
    assert accounts.ledger
    store = accounts.ledger.store
    # Nobody can connect any more, and the connection that was open is gone.
    real, store._engine = store._engine, Store("postgresql://127.0.0.1:1/gone")._engine
    await accounts.book.refresh()
    for _ in range(20):
        found = await accounts.find_key(digest)
        assert found is not None
        accounts.finish(await admit(accounts, found), row(accounts, "chat", Usage(1, 1, 2)))
    assert not store.is_up
    store._engine = real
    assert accounts.usage
    await accounts.usage.stop()
    assert (accounts.usage.lost, accounts.usage.waiting) == (0, 0)
    await accounts.aclose()


def settings(data_dir: Path, **given: Any) -> Settings:
    return Settings(data_dir=data_dir, **given)


def test_settings_without_a_store_load_no_database_library(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from agent_server.accounts.configured import accounts_of\n"
        "from agent_server.settings import Settings\n"
        "accounts = accounts_of(Settings(data_dir=Path(sys.argv[1])))\n"
        "assert accounts.ledger is None and accounts.limits_scope() == 'process'\n"
        "print({'sqlalchemy', 'alembic', 'redis', 'psycopg'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "set()\n"


def test_a_store_loads_no_alembic_once_its_schema_is_made(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from agent_server.accounts.configured import accounts_of\n"
        "from agent_server.settings import Settings\n"
        "async def main():\n"
        "    given = Settings(data_dir=Path(sys.argv[1]), database_url='sqlite')\n"
        "    accounts = accounts_of(given)\n"
        "    await accounts.start()\n"
        "    assert not accounts.is_keyed\n"
        "    await accounts.aclose()\n"
        "asyncio.run(main())\n"
        "print({'alembic', 'mako', 'redis', 'psycopg'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.endswith("set()\n")
    assert (tmp_path / "server.db").stat().st_size


async def test_keys_of_the_file_join_those_of_the_settings(tmp_path: Path) -> None:
    given = settings(tmp_path, api_keys=f"alice=sha256:{digest_of('alice')}")
    accounts = accounts_of(given, keys=(key("bob"),))
    assert accounts.book.peek(digest_of("bob"))
    assert accounts.book.peek(digest_of("alice"))
    with pytest.raises(AccountsConfigError, match="same name"):
        accounts_of(given, keys=(key("alice"),))
    with pytest.raises(AccountsConfigError, match="same name"):
        reconfigure(accounts, given, keys=(key("alice"),), prices={})
    reconfigure(accounts, given, keys=(key("carol"),), prices={"x/y": Price(Rates(1, 1, 1, 1))})
    assert accounts.book.peek(digest_of("bob")) is None
    assert accounts.book.peek(digest_of("carol"))
    assert accounts.prices.price_of("x", "y")


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"database_url": "mysql://me:secret-word@host/x"}, "AGENT_SERVER_DATABASE_URL"),
        ({"redis_url": "http://me:secret-word@host"}, "AGENT_SERVER_REDIS_URL"),
    ],
)
def test_a_wrong_address_is_named_by_its_variable_and_not_shown(
    tmp_path: Path, given: dict[str, str], variable: str
) -> None:
    with pytest.raises(AccountsConfigError, match=variable) as raised:
        accounts_of(settings(tmp_path, **given))
    assert "secret-word" not in str(raised.value)


async def test_limits_are_shared_where_redis_is_set(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    accounts = accounts_of(settings(tmp_path, redis_url=redis_server.url))
    assert accounts.limits_scope() == "process"
    await accounts.start()
    assert accounts.limits_scope() == "shared"
    holder = key(requests_per_minute=2, budget_per_day=NANO_PER_USD)
    (await admit(accounts, holder)).settle()
    await accounts.aclose()


async def test_health_says_whether_limits_are_shared(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async def limits_of(**given: object) -> object:
        async with (
            serving(tmp_path, **given) as url,
            aiohttp.ClientSession() as client,
            client.get(f"{url}/health") as answer,
        ):
            body: dict[str, object] = await answer.json()
            return body["limits"]

    assert await limits_of() == "process"
    assert await limits_of(redis_url=redis_server.url) == "shared"
