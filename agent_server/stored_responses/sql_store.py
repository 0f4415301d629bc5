"""Responses kept in the store's database, which several servers may share.

What this module promises: a response is there for every server when `put` returns; nothing is
waited for longer than the database's own bounds; expired rows are deleted in batches, so that no
transaction is long; the columns that hold texts are deflated.
"""

import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, delete, insert, literal, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from agent_server.accounts.store import Store
from agent_server.accounts.store_errors import StoreError
from agent_server.accounts.tables import responses
from agent_server.stored_responses.record import StoredResponse, StoreUnavailableError

SWEEP_BATCH = 500
_LEVEL = 1
_T = TypeVar("_T")


class SqlResponseStore:
    """A `ResponseStore` in a database; `clock` gives Unix seconds."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def put(self, record: StoredResponse) -> None:
        """Keep a record, in place of an older one of the same id and owner."""
        key = _is(record.owner, record.response_id)

        def write(connection: Connection) -> None:
            values = _values(record)
            if connection.execute(update(responses).where(key).values(values)).rowcount == 0:
                connection.execute(insert(responses).values(values))

        await self._call(write)

    async def get(self, owner: str, response_id: str) -> StoredResponse | None:
        """The record of an owner's response."""
        found = await self.get_many(owner, [response_id])
        return found[0] if found else None

    async def get_many(self, owner: str, response_ids: Sequence[str]) -> list[StoredResponse]:
        """The records of those responses that are there, in any order."""
        query = select(responses).where(
            responses.c.owner == owner,
            responses.c.response_id.in_(response_ids),
            responses.c.expires_at > self._clock(),
        )
        return await self._call(lambda connection: _records(connection.execute(query).all()))

    async def chain(self, owner: str, response_id: str, most: int) -> list[StoredResponse]:
        """A response and what it continues, the newest first: `most` records at most."""
        query = _chain_query(owner, response_id, most, self._clock())
        return await self._call(lambda connection: _records(connection.execute(query).all()))

    async def delete(self, owner: str, response_id: str) -> bool:
        """Forget a response; False if there is none."""
        is_live = responses.c.expires_at > self._clock()
        statement = delete(responses).where(_is(owner, response_id), is_live)
        return await self._call(lambda connection: connection.execute(statement).rowcount > 0)

    async def statuses(self, owned: Sequence[tuple[str, str]]) -> dict[str, str]:
        """The statuses of responses, given as owner and id, by id."""
        columns = (responses.c.response_id, responses.c.status)
        key = tuple_(responses.c.owner, responses.c.response_id)
        query = select(*columns).where(key.in_(list(owned)))
        return await self._call(
            lambda connection: {row[0]: row[1] for row in connection.execute(query)}
        )

    async def sweep(self) -> int:
        """Delete a batch of what has expired; how many rows that were."""
        key = tuple_(responses.c.owner, responses.c.response_id)
        expired = (
            select(responses.c.owner, responses.c.response_id)
            .where(responses.c.expires_at <= self._clock())
            .limit(SWEEP_BATCH)
        )

        def remove(connection: Connection) -> int:
            keys = [tuple(row) for row in connection.execute(expired)]
            if keys:
                connection.execute(delete(responses).where(key.in_(keys)))
            return len(keys)

        return await self._call(remove)

    async def _call(self, function: Callable[[Connection], _T]) -> _T:
        try:
            return await self._store.call(function)
        except (StoreError, IntegrityError) as exc:
            # Two servers that write the same new row at once are told apart by the next try.
            raise StoreUnavailableError from exc


def _is(owner: str, response_id: str) -> Any:
    return (responses.c.owner == owner) & (responses.c.response_id == response_id)


def _chain_query(owner: str, response_id: str, most: int, now: float) -> Any:
    own = responses.alias("own")
    is_live = (own.c.owner == owner) & (own.c.expires_at > now)
    first = select(own.c.response_id, own.c.previous_id, literal(1).label("depth")).where(
        is_live, own.c.response_id == response_id
    )
    chain = first.cte("chain", recursive=True)
    earlier = select(own.c.response_id, own.c.previous_id, chain.c.depth + 1).where(
        is_live, own.c.response_id == chain.c.previous_id, chain.c.depth < most
    )
    chain = chain.union_all(earlier)
    return (
        select(responses)
        .join(chain, responses.c.response_id == chain.c.response_id)
        .where(responses.c.owner == owner)
        .order_by(chain.c.depth)
    )


def _values(record: StoredResponse) -> dict[str, Any]:
    return {
        "owner": record.owner,
        "response_id": record.response_id,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "status": record.status,
        "model": record.model[:200],
        "provider": record.provider,
        "previous_id": record.previous_id,
        "is_background": record.is_background,
        "input": zlib.compress(record.input, _LEVEL),
        "response": zlib.compress(record.response, _LEVEL),
        "events": None if record.events is None else zlib.compress(record.events, _LEVEL),
    }


def _records(rows: Sequence[Row[Any]]) -> list[StoredResponse]:
    return [_record(row._mapping) for row in rows]


def _record(row: Any) -> StoredResponse:
    values = {column.name: row[column.name] for column in responses.columns}
    for name in ("input", "response", "events"):
        if values[name] is not None:
            values[name] = zlib.decompress(values[name])
    return StoredResponse(**values)
