"""Usage and spend in the store: functions of a connection, each the statements of one call."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, String, bindparam, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from agent_server.accounts.meters import DAY_SECONDS, Period, day_of, month_of
from agent_server.accounts.tables import api_keys, spend, usage
from agent_server.accounts.usage import UsageRow

DELETE_ROWS = 2000
LONGEST = {
    column.name: column.type.length or 0
    for column in usage.columns
    if isinstance(column.type, String)
}
_DAY_NANOSECONDS = DAY_SECONDS * 1_000_000_000
SUMS = ("requests", "prompt_tokens", "completion_tokens", "cost_nano_usd")


def write_rows(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Write a batch and add it to what its keys have spent; a batch that is there stays as it is.

    The batch is one transaction, so its first row tells whether the whole was written before.
    """
    if connection.execute(select(usage.c.id).where(usage.c.id == rows[0].row_id)).first():
        return
    # The driver takes what the statement becomes: SQLAlchemy's own way costs as much a row again.
    statement = insert(usage).compile(dialect=connection.dialect)
    named = [_columns(row) for row in rows]
    order = statement.positiontup
    # A driver without names for values takes them in the statement's order.
    given: Any = named if order is None else list(map(itemgetter(*order), named))
    connection.exec_driver_sql(str(statement), given)
    for values in _spent_by(rows):
        connection.execute(_add_spend(connection), values)


def read_spend(connection: Connection, key_id: str, day: Period, month: Period) -> tuple[int, int]:
    """Nano-dollars that a key spent in a day and a month."""
    query = select(spend.c.period, spend.c.cost_nano_usd).where(
        spend.c.period.in_([day.name, month.name]), spend.c.key_id == key_id
    )
    found = {row.period: row.cost_nano_usd for row in connection.execute(query)}
    return found.get(day.name, 0), found.get(month.name, 0)


def delete_usage(connection: Connection, before: float) -> int:
    """Delete some of the rows that came before a moment in Unix seconds; gives how many."""
    # By their number, which is their time: no row is loaded, and no index but the key's is read.
    old = select(usage.c.id).where(usage.c.id < int(before * 1e9)).order_by(usage.c.id)
    return _deleted(connection, delete(usage).where(usage.c.id.in_(old.limit(DELETE_ROWS))))


def delete_spend(connection: Connection, before: float) -> int:
    """Delete the days and months that ended before a moment in Unix seconds; gives how many."""
    # "2026-11" sorts before every day of its month, so a month goes with its first day.
    return _deleted(connection, delete(spend).where(spend.c.period < month_of(before).name))


def delete_revoked(connection: Connection, before: float) -> int:
    """Delete the keys that were revoked before a moment in Unix seconds; gives how many."""
    return _deleted(connection, delete(api_keys).where(api_keys.c.revoked_at < before))


def _deleted(connection: Connection, statement: Any) -> int:
    count: int = connection.execute(statement).rowcount
    return count


def _columns(row: UsageRow) -> dict[str, object]:
    texts = {
        "key_id": row.key_id,
        "door": row.door,
        "provider": row.provider,
        "model": row.model,
        "outcome": row.outcome,
        "request_id": row.request_id,
    }
    return {
        **{name: text[: LONGEST[name]].replace("\0", "") for name, text in texts.items()},
        "id": row.row_id,
        "status": row.status,
        "prompt_tokens": row.usage.prompt_tokens,
        "completion_tokens": row.usage.completion_tokens,
        "cached_tokens": row.usage.cached_tokens,
        "cache_creation_tokens": row.usage.cache_creation_tokens,
        "reasoning_tokens": row.usage.reasoning_tokens,
        "cost_nano_usd": row.cost_nano_usd,
        "duration_ms": row.duration_ms,
        "first_token_ms": row.first_token_ms,
        "attempts": min(row.attempts, 32_767),
    }


def _spent_by(rows: Sequence[UsageRow]) -> list[dict[str, object]]:
    days: dict[tuple[int, str], list[int]] = {}
    for row in rows:
        day = row.row_id // _DAY_NANOSECONDS, row.key_id
        found = days.get(day)
        if found is None:
            found = days[day] = [0] * len(SUMS)
        used = row.usage
        found[0] += 1
        found[1] += used.prompt_tokens
        found[2] += used.completion_tokens
        found[3] += row.cost_nano_usd or 0
    sums: dict[tuple[str, str], list[int]] = {}
    for (day_number, key_id), of_day in days.items():
        moment = float(day_number * DAY_SECONDS)
        for period in (day_of(moment), month_of(moment)):
            before = sums.get((period.name, key_id), [0] * len(SUMS))
            sums[period.name, key_id] = [a + b for a, b in zip(before, of_day, strict=True)]
    # In one order always, so that two servers that write the same keys never lock each other out.
    return [
        {"period": period, "key_id": key_id, **dict(zip(SUMS, sums[period, key_id], strict=True))}
        for period, key_id in sorted(sums)
    ]


def _add_spend(connection: Connection) -> Any:
    statement: Any = _INSERTS[connection.dialect.name](spend).values(
        {column.name: bindparam(column.name) for column in spend.columns}
    )
    added = {name: spend.c[name] + statement.excluded[name] for name in SUMS}
    return statement.on_conflict_do_update(index_elements=["period", "key_id"], set_=added)


_INSERTS: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
