"""Responses kept in the memory of this process, for as long as it runs.

What this module promises: at most `max_bytes` in all and `max_bytes_per_owner` for one owner; what
is oldest goes first, and no owner's responses make room for another's beyond the first bound.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from agent_server.stored_responses.record import StoredResponse

MAX_BYTES = 64 * 1024 * 1024
MAX_BYTES_PER_OWNER = 32 * 1024 * 1024

_Key = tuple[str, str]


class MemoryResponseStore:
    """A `ResponseStore` without a database; `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_bytes_per_owner: int = MAX_BYTES_PER_OWNER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_bytes_per_owner = max_bytes_per_owner
        self._clock = clock
        self._records: OrderedDict[_Key, StoredResponse] = OrderedDict()
        self._of_owner: dict[str, OrderedDict[_Key, None]] = {}
        self._bytes = 0
        self._bytes_of: dict[str, int] = {}

    async def put(self, record: StoredResponse) -> None:
        """Keep a record, in place of an older one of the same id and owner."""
        key = (record.owner, record.response_id)
        self._drop(key)
        self._records[key] = record
        self._of_owner.setdefault(record.owner, OrderedDict())[key] = None
        self._bytes += record.size
        self._bytes_of[record.owner] = self._bytes_of.get(record.owner, 0) + record.size
        self._evict(record.owner)

    async def get(self, owner: str, response_id: str) -> StoredResponse | None:
        """The record of an owner's response."""
        record = self._records.get((owner, response_id))
        if record is None or record.expires_at > self._clock():
            return record
        self._drop((owner, response_id))
        return None

    async def get_many(self, owner: str, response_ids: Sequence[str]) -> list[StoredResponse]:
        """The records of those responses that are there."""
        found = [await self.get(owner, response_id) for response_id in response_ids]
        return [record for record in found if record is not None]

    async def chain(self, owner: str, response_id: str, most: int) -> list[StoredResponse]:
        """A response and what it continues, the newest first: `most` records at most."""
        records: list[StoredResponse] = []
        next_id: str | None = response_id
        while next_id is not None and len(records) < most:
            record = await self.get(owner, next_id)
            if record is None:
                break
            records.append(record)
            next_id = record.previous_id
        return records

    async def delete(self, owner: str, response_id: str) -> bool:
        """Forget a response; False if there is none."""
        is_there = await self.get(owner, response_id) is not None
        self._drop((owner, response_id))
        return is_there

    async def statuses(self, owned: Sequence[tuple[str, str]]) -> dict[str, str]:
        """The statuses of responses, given as owner and id, by id."""
        found = [self._records[key] for key in owned if key in self._records]
        return {record.response_id: record.status for record in found}

    def _evict(self, owner: str) -> None:
        while self._bytes_of.get(owner, 0) > self._max_bytes_per_owner:
            self._drop(next(iter(self._of_owner[owner])))
        now = self._clock()
        while self._records:
            key, oldest = next(iter(self._records.items()))
            if self._bytes <= self._max_bytes and oldest.expires_at > now:
                break
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        record = self._records.pop(key, None)
        if record is None:
            return
        owner = record.owner
        self._bytes -= record.size
        self._bytes_of[owner] -= record.size
        own = self._of_owner[owner]
        del own[key]
        if not own:
            del self._of_owner[owner], self._bytes_of[owner]
