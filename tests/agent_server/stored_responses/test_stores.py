"""The stores of responses: in memory and in databases, by the same rules."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from agent_server.accounts.database import open_engine
from agent_server.accounts.store import Store
from agent_server.accounts.tables import metadata, responses
from agent_server.stored_responses.memory_store import MemoryResponseStore
from agent_server.stored_responses.record import (
    ResponseStore,
    StoredResponse,
    StoreUnavailableError,
)
from agent_server.stored_responses.sql_store import SWEEP_BATCH, SqlResponseStore

NOW = 1_700_000_000.0
RECORD = StoredResponse(
    response_id="resp_1",
    owner="alice",
    created_at=NOW,
    expires_at=NOW + 100,
    status="completed",
    model="m",
    is_background=True,
    input=b'[{"type":"message"}]',
    response=b'{"output":[{"id":"msg_1_0"}]}',
    events=b"event: x\n\n",
)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Store]:
    store = made_store(f"sqlite:///{tmp_path}/responses.db")
    yield store
    await store.stop()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[ResponseStore]:
    if request.param == "memory":
        yield MemoryResponseStore(clock=clock)
        return
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/rules.db" if is_file else request.getfixturevalue("postgres_url")
    database = made_store(url)
    yield SqlResponseStore(database, clock=clock)
    await database.stop()


def made_store(url: str) -> Store:
    """A store with its tables."""
    engine = open_engine(url)
    metadata.create_all(engine)
    engine.dispose()
    return Store(url)


async def test_what_was_put_is_there_as_it_was(store: ResponseStore) -> None:
    await store.put(RECORD)
    assert await store.get("alice", "resp_1") == RECORD
    changed = replace(RECORD, status="cancelled", events=None, provider="openai")
    await store.put(changed)
    assert await store.get("alice", "resp_1") == changed
    assert await store.statuses([("alice", "resp_1"), ("bob", "resp_1")]) == {"resp_1": "cancelled"}


async def test_another_owner_finds_nothing_and_deletes_nothing(store: ResponseStore) -> None:
    await store.put(RECORD)
    await store.put(replace(RECORD, owner="carol", model="n"))
    assert await store.get("bob", "resp_1") is None
    assert await store.get_many("bob", ["resp_1"]) == []
    assert await store.chain("bob", "resp_1", 9) == []
    assert not await store.delete("bob", "resp_1")
    assert await store.delete("alice", "resp_1")
    assert not await store.delete("alice", "resp_1")
    kept = await store.get("carol", "resp_1")
    assert kept is not None
    assert kept.model == "n"


async def test_a_chain_is_followed_from_its_newest_response(store: ResponseStore) -> None:
    for number in range(5):
        previous = f"resp_{number - 1}" if number else None
        record = replace(RECORD, response_id=f"resp_{number}", previous_id=previous)
        await store.put(record)
        await store.put(replace(record, owner="bob", previous_id=None))
    chain = await store.chain("alice", "resp_4", 9)
    assert [record.response_id for record in chain] == [f"resp_{n}" for n in (4, 3, 2, 1, 0)]
    assert len(await store.chain("alice", "resp_4", 3)) == 3
    await store.delete("alice", "resp_2")
    assert [record.response_id for record in await store.chain("alice", "resp_4", 9)] == [
        "resp_4",
        "resp_3",
    ]
    found = await store.get_many("alice", ["resp_1", "resp_2", "resp_3"])
    assert {record.response_id for record in found} == {"resp_1", "resp_3"}


async def test_what_has_expired_is_not_found(store: ResponseStore, clock: Clock) -> None:
    await store.put(RECORD)
    clock.now = RECORD.expires_at
    assert await store.get("alice", "resp_1") is None
    assert not await store.delete("alice", "resp_1")


async def test_memory_keeps_the_newest_of_each_owner_within_its_bounds(clock: Clock) -> None:
    size = RECORD.size
    store = MemoryResponseStore(max_bytes=6 * size, max_bytes_per_owner=4 * size, clock=clock)
    for number in range(10, 20):
        await store.put(replace(RECORD, response_id=f"r{number}_12"))
    await store.put(replace(RECORD, owner="bobby", response_id="resp_1"))
    assert await store.get("bobby", "resp_1") is not None
    kept = [n for n in range(10, 20) if await store.get("alice", f"r{n}_12") is not None]
    assert kept == [16, 17, 18, 19]
    await store.put(replace(RECORD, owner="carol", response_id="resp_1", response=b"x" * 3 * size))
    kept = [n for n in range(10, 20) if await store.get("alice", f"r{n}_12") is not None]
    assert len(kept) < 4


async def test_expired_rows_are_deleted_in_batches(database: Store, clock: Clock) -> None:
    store = SqlResponseStore(database, clock=clock)
    rows = [
        {
            "owner": "alice",
            "response_id": str(number),
            "created_at": NOW,
            "expires_at": NOW + number % 2,
            "status": "completed",
            "model": "m",
            "is_background": False,
            "input": b"",
            "response": b"",
        }
        for number in range(2 * SWEEP_BATCH + 2)
    ]
    await database.call(lambda connection: connection.execute(responses.insert(), rows))
    assert [await store.sweep() for _ in range(3)] == [SWEEP_BATCH, 1, 0]
    left = select(responses.c.response_id)
    assert len(await database.call(lambda c: c.execute(left).all())) == SWEEP_BATCH + 1


async def test_a_row_takes_less_than_what_it_holds(database: Store, clock: Clock) -> None:
    store = SqlResponseStore(database, clock=clock)
    await store.put(replace(RECORD, events=b'event: x\ndata: {"delta":"a"}\n\n' * 1000))
    row = await database.call(lambda connection: connection.execute(select(responses)).one())
    assert len(row.events) < 1000


async def test_a_database_that_is_down_is_told_as_that(tmp_path: Path) -> None:
    database = Store(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(StoreUnavailableError):
        await SqlResponseStore(database).put(RECORD)
    await database.stop()
