import asyncio
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, select, text
from sqlalchemy.exc import IntegrityError

from agent_server.accounts import key_store, migrate, usage_store
from agent_server.accounts.database import open_engine
from agent_server.accounts.keys import ApiKey, api_key_from_fields
from agent_server.accounts.meters import day_of, month_of
from agent_server.accounts.migrations import HEAD
from agent_server.accounts.store import Store
from agent_server.accounts.store_errors import AccountsConfigError, MigrationError, StoreError
from agent_server.accounts.store_url import store_url
from agent_server.accounts.stored_keys import new_key_id
from agent_server.accounts.tables import metadata, spend, usage
from agent_server.accounts.usage import UsageRow
from streaming.events import Usage
from tests.databases import make_schema

NOVEMBER = 1_795_305_600.0  # 2026-11-22 00:00 UTC
MIGRATE = [sys.executable, "-m", "agent_server.accounts.migrate"]


def transact(url: str, function: Any) -> Any:
    """What a function of a connection gives on a store."""
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            return function(connection)
    finally:
        engine.dispose()


def is_due(url: str) -> bool:
    engine = open_engine(url)
    try:
        return migrate.is_due(engine)
    finally:
        engine.dispose()


def key(name: str, **fields: object) -> ApiKey:
    digest = f"{hash(name) & (2**64 - 1):064x}"
    return api_key_from_fields({"name": name, "sha256": digest, **fields}, key_id=new_key_id())


def row(number: int = 0, *, at: float = NOVEMBER, key_id: str = "key_a", **fields: Any) -> UsageRow:
    values: dict[str, Any] = {
        "door": "chat",
        "provider": "openai",
        "model": "gpt-6",
        "outcome": "ok",
        "status": 200,
        "usage": Usage(100, 20, 120, 10, 5, 3),
        "cost_nano_usd": 1_234,
        "duration_ms": 900,
        "first_token_ms": 120,
        "attempts": 1,
        "request_id": f"req_{number:032x}",
    }
    return UsageRow(key_id=key_id, row_id=int(at * 1e9) + number, **(values | fields))


def test_a_first_start_makes_the_tables_that_the_code_reads(database_url: str) -> None:
    make_schema(database_url)

    def differences(connection: Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    assert transact(database_url, differences) == []


def test_the_newest_step_is_the_one_that_the_code_expects() -> None:
    folder = Path(migrate.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


def test_two_servers_may_migrate_at_once(database_url: str) -> None:
    children = [
        subprocess.Popen(MIGRATE, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for child in children:
        assert child.stdin
        child.stdin.write(database_url)
        child.stdin.close()
    for child in children:
        with child:
            assert child.wait(20) == 0, child.stderr and child.stderr.read()
    assert not is_due(database_url)


@pytest.mark.parametrize("statement", [1, 5, 8])
def test_a_migration_that_is_killed_changes_nothing_and_runs_again(
    database_url: str, statement: int
) -> None:
    # The child kills itself right before the given statement that changes the schema.
    code = f"""
import os, signal, sys
from sqlalchemy import Engine, event
from agent_server.accounts import migrate
seen = 0
@event.listens_for(Engine, "before_cursor_execute")
def count(connection, cursor, statement, *rest):
    global seen
    seen += statement.lstrip().startswith(("CREATE", "INSERT"))
    if seen == {statement}:
        os.kill(os.getpid(), signal.SIGKILL)
sys.exit(migrate.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=database_url, text=True, check=False, timeout=20
    )
    assert done.returncode == -signal.SIGKILL
    assert transact(database_url, lambda connection: inspect(connection).get_table_names()) == []
    make_schema(database_url)
    assert not is_due(database_url)


def test_a_schema_that_is_newer_is_left_as_it_is(database_url: str) -> None:
    make_schema(database_url)
    transact(database_url, lambda c: c.execute(text("UPDATE alembic_version SET version_num='9'")))
    make_schema(database_url)
    assert not is_due(database_url)
    transact(database_url, partial(key_store.insert_key, key=key("a"), now=1.0))


def test_a_second_migration_keeps_what_is_there(database_url: str) -> None:
    make_schema(database_url)
    transact(database_url, partial(key_store.insert_key, key=key("a"), now=1.0))
    make_schema(database_url)
    assert transact(database_url, key_store.has_keys)


def test_a_key_comes_back_as_it_was_stored(database_url: str) -> None:
    make_schema(database_url)
    whole = key(
        "alice",
        scopes="chat+admin",
        owner="team",
        models=["gpt-*", "a/b+c"],
        requests_per_minute=60,
        tokens_per_minute=10**11,
        parallel=4,
        budget_per_day="0.000000001",
        budget_per_month=10**9,
        expires_at="2027-01-01T00:00:00.25Z",
    )
    bare = key("bob")
    for stored in (whole, bare):
        transact(database_url, partial(key_store.insert_key, key=stored, now=NOVEMBER))
    digests = [whole.sha256, bare.sha256, "0" * 64]
    found = transact(database_url, partial(key_store.read_keys, digests=digests))
    assert found == {whole.sha256: whole, bare.sha256: bare}
    listed = transact(database_url, key_store.list_keys)
    assert sorted(one.key.name for one in listed) == ["alice", "bob"]
    assert {one.created_at for one in listed} == {NOVEMBER}


def test_a_revoked_key_is_found_no_more_and_its_name_is_free(database_url: str) -> None:
    make_schema(database_url)
    first = key("alice")
    insert = partial(transact, database_url)
    insert(partial(key_store.insert_key, key=first, now=1.0))
    with pytest.raises(IntegrityError):
        insert(partial(key_store.insert_key, key=key("alice"), now=2.0))
    revoke = partial(key_store.revoke_key, key_id="alice", now=3.0)
    assert transact(database_url, revoke).revoked_at == 3.0
    assert transact(database_url, revoke) is None
    by_id = partial(key_store.revoke_key, key_id=first.key_id, now=4.0)
    assert transact(database_url, by_id).revoked_at == 3.0
    assert transact(database_url, partial(key_store.read_keys, digests=[first.sha256])) == {}
    assert transact(database_url, key_store.has_keys)


def test_the_keys_of_an_owner_are_the_living_ones(database_url: str) -> None:
    make_schema(database_url)
    keys = [key("alice", owner="team"), key("bob", owner="team"), key("team", owner="other")]
    for one in keys:
        transact(database_url, partial(key_store.insert_key, key=one, now=NOVEMBER))
    read = partial(key_store.read_owner_keys, owner="team")
    assert {one.name for one in transact(database_url, read)} == {"alice", "bob"}
    transact(database_url, partial(key_store.revoke_key, key_id="bob", now=NOVEMBER))
    assert transact(database_url, read) == [keys[0]]
    assert transact(database_url, partial(key_store.read_owner_keys, owner="nobody")) == []


def test_usage_is_written_once_and_summed_by_day_and_month(database_url: str) -> None:
    make_schema(database_url)
    rows = [
        row(1),
        row(2, at=NOVEMBER + 86_400, cost_nano_usd=None),
        row(3, at=NOVEMBER + 86_401, cost_nano_usd=10**15, model="m" * 500, request_id="r" * 500),
        row(4, key_id="key_b"),
    ]
    for _ in range(2):  # as after an answer of the database that was lost
        transact(database_url, partial(usage_store.write_rows, rows=rows))
    transact(database_url, partial(usage_store.write_rows, rows=[row(5)]))
    read = partial(usage_store.read_spend, key_id="key_a")
    days = [(day_of(at), month_of(at)) for at in (NOVEMBER, NOVEMBER + 86_400, NOVEMBER - 86_400)]
    found = [transact(database_url, partial(read, day=day, month=month)) for day, month in days]
    month = 2 * 1_234 + 10**15
    assert found == [(2 * 1_234, month), (10**15, month), (0, month)]
    whole = transact(
        database_url,
        lambda c: c.execute(select(spend).where(spend.c.period == "2026-11")).mappings().all(),
    )
    assert {one["key_id"]: one["requests"] for one in whole} == {"key_a": 4, "key_b": 1}
    first = transact(database_url, lambda c: c.execute(select(usage)).mappings().first())
    assert (first["prompt_tokens"], first["cached_tokens"], first["reasoning_tokens"]) == (
        100,
        10,
        3,
    )


def test_what_is_older_than_is_kept_is_deleted_in_steps(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_store, "DELETE_ROWS", 4)
    make_schema(database_url)
    rows = [row(number, at=NOVEMBER + number) for number in range(10)]
    transact(database_url, partial(usage_store.write_rows, rows=rows))
    delete = partial(usage_store.delete_usage, before=NOVEMBER + 6)
    assert [transact(database_url, delete) for _ in range(3)] == [4, 2, 0]
    assert transact(database_url, lambda c: c.execute(select(usage.c.id)).all()) == [
        (one.row_id,) for one in rows[6:]
    ]
    spent = partial(usage_store.delete_spend, before=NOVEMBER)
    assert transact(database_url, spent) == 0
    assert transact(database_url, partial(usage_store.delete_spend, before=NOVEMBER + 2e6)) == 2


def plan_of(connection: Connection, statement: Any) -> str:
    """How the database would run a statement on many rows."""
    is_sqlite = connection.dialect.name == "sqlite"
    compiled = str(
        statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    )
    if not is_sqlite:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
    return "\n".join(str(line) for line in connection.exec_driver_sql(f"{explain} {compiled}"))


def test_every_statement_on_a_table_that_grows_uses_an_index(database_url: str) -> None:
    make_schema(database_url)
    statements: list[str] = []
    plans: list[str] = []

    def explain(connection: Connection) -> None:
        @event.listens_for(connection, "before_execute")
        def note(conn: Connection, statement: Any, *_: object) -> None:
            if not getattr(statement, "is_insert", False) and not isinstance(statement, str):
                statements.append(str(statement))
                pending.append(statement)

        pending: list[Any] = []
        usage_store.read_spend(connection, "key_a", day_of(NOVEMBER), month_of(NOVEMBER))
        usage_store.delete_usage(connection, NOVEMBER)
        usage_store.delete_spend(connection, NOVEMBER)
        usage_store.delete_revoked(connection, NOVEMBER)
        key_store.read_keys(connection, ["a", "b"])
        key_store.list_keys(connection, after="key_a")
        event.remove(connection, "before_execute", note)
        plans.extend(plan_of(connection, statement) for statement in pending)

    transact(database_url, explain)
    assert len(plans) == 6
    for statement, plan in zip(statements, plans, strict=True):
        assert "Seq Scan" not in plan, (statement, plan)
        assert "SCAN usage" not in plan.replace("SCAN usage USING", ""), (statement, plan)
        assert "SCAN spend" not in plan, (statement, plan)
        assert "SCAN api_keys" not in plan, (statement, plan)


def test_a_row_of_usage_takes_at_most_400_bytes(database_url: str) -> None:
    make_schema(database_url)
    wide = {"model": "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", "key_id": new_key_id()}
    rows = [row(number, at=NOVEMBER + number, **wide) for number in range(5000)]

    def size(connection: Connection) -> int:
        if connection.dialect.name == "postgresql":
            query = "SELECT pg_total_relation_size('usage')"
        else:
            query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        found = connection.exec_driver_sql(query).scalar()
        assert isinstance(found, int)
        return found

    before = transact(database_url, size)
    for first in range(0, len(rows), 500):
        batch = rows[first : first + 500]
        transact(database_url, partial(usage_store.write_rows, rows=batch))
    assert (transact(database_url, size) - before) / len(rows) <= 400


@pytest.fixture
def store(database_url: str) -> Store:
    return Store(database_url, environment=dict(os.environ))


async def test_a_store_opens_itself_and_holds_one_connection(store: Store) -> None:
    assert await store.try_start()
    opened = []
    event.listen(store._engine, "connect", lambda *_: opened.append(1))
    calls = [store.call(lambda connection: connection.execute(text("SELECT 1")).scalar())] * 1
    calls += [store.call(key_store.has_keys) for _ in range(50)]
    assert len(await asyncio.gather(*calls)) == 51
    assert len(opened) <= 1
    assert store._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await store.stop()


async def test_too_many_waiting_calls_are_refused_and_a_slow_one_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_server.accounts.store.MAX_WAITING", 2)
    go_on = threading.Event()
    slow = asyncio.create_task(store.call(lambda _: go_on.wait(20)))
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="in time"):
        await store.call(key_store.has_keys, timeout_seconds=0.05)
    with pytest.raises(StoreError, match="wait for the store"):
        await asyncio.gather(store.call(key_store.has_keys), store.call(key_store.has_keys))
    go_on.set()
    assert await slow
    await store.stop()


async def test_a_store_that_is_down_says_so_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = Store(f"sqlite:///{folder}/server.db", environment=dict(os.environ))
    assert await store.try_start()
    other = open_engine(f"sqlite:///{folder}/server.db")
    with other.begin():  # holds the write lock
        store._engine.dispose()
        with pytest.raises(StoreError):
            await store.call(key_store.has_keys, timeout_seconds=0.2)
    other.dispose()
    assert not store.is_up
    assert await store.call(key_store.has_keys, timeout_seconds=15) is False
    assert store.is_up
    await store.stop()


async def test_a_database_that_is_not_there_is_no_failed_start() -> None:
    store = Store("postgresql://nobody:secret-word@127.0.0.1:1/none", environment={})
    assert not await store.try_start()
    await store.stop()


async def test_a_step_that_fails_is_an_error_with_its_reason(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/server.db"
    transact(url, lambda connection: connection.execute(text("CREATE TABLE usage (x INTEGER)")))
    store = Store(url, environment=dict(os.environ))
    with pytest.raises(MigrationError, match="usage already exists"):
        await store.try_start()
    await store.stop()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x:secret-word@y/z",
        "secret-word",
        "sqlite://",
        "",
        # Another spelling of a path, which nobody would hide from steps.
        "sqlite:///file:/secret-word/server.db?uri=true",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(AccountsConfigError, match="postgresql://") as raised:
        open_engine(url)
    assert "secret-word" not in str(raised.value)


def test_the_store_is_a_file_of_the_data_folder_where_nothing_else_is_said(tmp_path: Path) -> None:
    assert store_url(None, tmp_path) is None
    file = f"sqlite:///{tmp_path}/server.db"
    assert store_url("sqlite", tmp_path) == file
    (tmp_path / "server.db").touch()
    assert store_url(None, tmp_path) == file
    assert store_url("postgresql://host/name", tmp_path) == "postgresql://host/name"


def test_a_file_of_sqlite_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "server.db"
    open_engine(f"sqlite:///{path}").dispose()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
