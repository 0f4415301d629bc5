"""The stores of responses: in memory and in a database, by the same rules."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, Engine, create_engine, select

from agent_server.stored_responses.memory_store import MemoryResponseStore
from agent_server.stored_responses.record import ResponseStore, StoredResponse
from agent_server.stored_responses.sql_store import SWEEP_BATCH, SqlResponseStore
from agent_server.stored_responses.table import metadata, responses

T = TypeVar("T")
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
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/responses.db")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def caller(engine: Engine) -> Callable[..., asyncio.Future[T]]:
    async def call(function: Callable[[Connection], T]) -> T:
        def transact() -> T:
            with engine.begin() as connection:
                return function(connection)

        return await asyncio.to_thread(transact)

    return call  # type: ignore[return-value] # a coroutine is what is awaited here


@pytest.fixture(params=["memory", "sql"])
def store(request: pytest.FixtureRequest, clock: Clock, engine: Engine) -> ResponseStore:
    if request.param == "memory":
        return MemoryResponseStore(clock=clock)
    return SqlResponseStore(caller(engine), clock=clock)


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


async def test_expired_rows_are_deleted_in_batches(engine: Engine, clock: Clock) -> None:
    store = SqlResponseStore(caller(engine), clock=clock)
    with engine.begin() as connection:
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
        connection.execute(responses.insert(), rows)
    assert [await store.sweep() for _ in range(3)] == [SWEEP_BATCH, 1, 0]
    with engine.begin() as connection:
        assert len(connection.execute(select(responses.c.response_id)).all()) == SWEEP_BATCH + 1


async def test_a_row_takes_less_than_what_it_holds(engine: Engine, clock: Clock) -> None:
    store = SqlResponseStore(caller(engine), clock=clock)
    await store.put(replace(RECORD, events=b'event: x\ndata: {"delta":"a"}\n\n' * 1000))
    with engine.begin() as connection:
        row = connection.execute(select(responses)).one()
    assert len(row.events) < 1000
