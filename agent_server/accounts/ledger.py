"""The accounts in the store: its keys, what they spent, and the usage of every call.

What this module promises: where it says None or False, the store could not be reached, and the
reason is in the log; no message of a database reaches a caller.
"""

import time
from collections.abc import Sequence
from functools import partial

from sqlalchemy.exc import IntegrityError

from agent_server.accounts import key_store, usage_store
from agent_server.accounts.keys import ApiKey
from agent_server.accounts.meters import Period
from agent_server.accounts.store import Store
from agent_server.accounts.store_errors import StoreError
from agent_server.accounts.stored_keys import StoredKey
from agent_server.accounts.usage import UsageRow
from streaming.errors import ConflictError, OverloadedError

DAY_SECONDS = 86_400
# A key cannot be spent on once it is revoked, and budgets are of a month at most.
SPEND_DAYS = 400


class Ledger:
    """What accounts read and write in one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def read_keys(self, digests: Sequence[str]) -> dict[str, ApiKey] | None:
        """The living keys of these digests, by digest."""
        try:
            return await self.store.call(partial(key_store.read_keys, digests=digests))
        except StoreError:
            return None

    async def read_owner_keys(self, owner: str) -> list[ApiKey] | None:
        """The living keys of an owner."""
        try:
            return await self.store.call(partial(key_store.read_owner_keys, owner=owner))
        except StoreError:
            return None

    async def has_keys(self) -> bool | None:
        """Whether a key was ever made."""
        try:
            return await self.store.call(key_store.has_keys)
        except StoreError:
            return None

    async def write_usage(self, rows: Sequence[UsageRow]) -> bool:
        """Write a batch of rows, and add them to what their keys spent."""
        try:
            await self.store.call(partial(usage_store.write_rows, rows=rows))
        except (StoreError, IntegrityError):
            return False
        return True

    async def read_spend(self, key_id: str, day: Period, month: Period) -> tuple[int, int] | None:
        """Nano-dollars that a key spent in a day and in a month."""
        read = partial(usage_store.read_spend, key_id=key_id, day=day, month=month)
        try:
            return await self.store.call(read)
        except StoreError:
            return None

    async def clean(self, *, keep_days: int) -> None:
        """Delete what is older than is kept, in small steps, so that others get their turn.

        Usage and revoked keys are kept `keep_days`, sums of what was spent `SPEND_DAYS`.
        """
        before = time.time() - keep_days * DAY_SECONDS
        spent_before = time.time() - max(keep_days, SPEND_DAYS) * DAY_SECONDS
        steps = (
            partial(usage_store.delete_usage, before=before),
            partial(usage_store.delete_revoked, before=before),
            partial(usage_store.delete_spend, before=spent_before),
        )
        for step in steps:
            try:
                while await self.store.call(step) >= usage_store.DELETE_ROWS:
                    pass
            except StoreError:
                return

    async def create_key(self, key: ApiKey) -> StoredKey:
        """Store a new key.

        Raises:
            ConflictError: a living key has the name.
            OverloadedError: the store cannot be reached.
        """
        now = time.time()
        try:
            await self.store.call(partial(key_store.insert_key, key=key, now=now))
        except IntegrityError as exc:
            raise ConflictError(
                f"A key with the name '{key.name}' exists; revoke it first, or take another name.",
                param="name",
            ) from exc
        except StoreError as exc:
            raise OverloadedError(_UNREACHED, retry_after_seconds=5) from exc
        return StoredKey(key, now, None)

    async def list_keys(self, *, limit: int, after: str) -> list[StoredKey]:
        """The keys in the order of their ids, revoked ones too.

        Raises:
            OverloadedError: the store cannot be reached.
        """
        try:
            return await self.store.call(partial(key_store.list_keys, limit=limit, after=after))
        except StoreError as exc:
            raise OverloadedError(_UNREACHED, retry_after_seconds=5) from exc

    async def revoke_key(self, key_id: str) -> StoredKey | None:
        """End a key, by id or name; gives it as it is then, None if there is none.

        Raises:
            OverloadedError: the store cannot be reached.
        """
        revoke = partial(key_store.revoke_key, key_id=key_id, now=time.time())
        try:
            return await self.store.call(revoke)
        except StoreError as exc:
            raise OverloadedError(_UNREACHED, retry_after_seconds=5) from exc


_UNREACHED = "The store of keys cannot be reached now. Come again in a few seconds."
