"""Keys in the store: functions of a connection, each the statements of one call."""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, insert, select, update

from agent_server.accounts.keys import ApiKey, Scope
from agent_server.accounts.stored_keys import StoredKey
from agent_server.accounts.tables import api_keys

LISTED = 1000


def insert_key(connection: Connection, key: ApiKey, now: float) -> None:
    """Store a new key.

    Raises:
        IntegrityError: a living key has the name, or a key the digest.
    """
    connection.execute(
        insert(api_keys).values(
            id=key.key_id,
            sha256=key.sha256,
            name=key.name,
            owner=key.owner,
            scopes=" ".join(sorted(key.scopes)),
            models=None if key.models is None else " ".join(key.models),
            requests_per_minute=key.requests_per_minute,
            tokens_per_minute=key.tokens_per_minute,
            parallel=key.parallel,
            budget_per_day=key.budget_per_day,
            budget_per_month=key.budget_per_month,
            expires_at=key.expires_at,
            created_at=now,
        )
    )


def read_keys(connection: Connection, digests: Sequence[str]) -> dict[str, ApiKey]:
    """The living keys of these digests, by digest."""
    query = select(api_keys).where(api_keys.c.sha256.in_(digests), api_keys.c.revoked_at.is_(None))
    return {row.sha256: _key(row) for row in connection.execute(query)}


def read_owner_keys(connection: Connection, owner: str) -> list[ApiKey]:
    """The living keys of an owner, in the order of their ids."""
    is_owned = (api_keys.c.owner == owner) & api_keys.c.revoked_at.is_(None)
    query = select(api_keys).where(is_owned).order_by(api_keys.c.id).limit(LISTED)
    return [_key(row) for row in connection.execute(query)]


def has_keys(connection: Connection) -> bool:
    """Whether a key was ever made, be it revoked by now."""
    return connection.execute(select(api_keys.c.id).limit(1)).first() is not None


def list_keys(connection: Connection, *, limit: int = LISTED, after: str = "") -> list[StoredKey]:
    """The keys in the order of their ids, from the one after `after` on; revoked ones too."""
    query = select(api_keys).where(api_keys.c.id > after).order_by(api_keys.c.id).limit(limit)
    return [_stored(row) for row in connection.execute(query)]


def find_key(connection: Connection, key_id: str) -> StoredKey | None:
    """The key of an id, or else the living one of a name."""
    by_id = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
    is_named = (api_keys.c.name == key_id) & api_keys.c.revoked_at.is_(None)
    found = by_id or connection.execute(select(api_keys).where(is_named)).first()
    return _stored(found) if found else None


def revoke_key(connection: Connection, key_id: str, now: float) -> StoredKey | None:
    """End a key, by id or name; gives it as it is then. One that is revoked stays as it was."""
    found = find_key(connection, key_id)
    if found is None or found.revoked_at is not None:
        return found
    connection.execute(
        update(api_keys).where(api_keys.c.id == found.key.key_id).values(revoked_at=now)
    )
    return StoredKey(found.key, found.created_at, now)


def _stored(row: Row[Any]) -> StoredKey:
    return StoredKey(_key(row), row.created_at, row.revoked_at)


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        name=row.name,
        sha256=row.sha256,
        scopes=frozenset(cast("list[Scope]", row.scopes.split())),
        owner=row.owner,
        key_id=row.id,
        models=None if row.models is None else tuple(row.models.split()),
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        parallel=row.parallel,
        budget_per_day=row.budget_per_day,
        budget_per_month=row.budget_per_month,
        expires_at=row.expires_at,
    )
