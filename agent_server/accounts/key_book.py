"""The keys that the server knows: those of its configuration, and those of the store, in a cache.

What this module promises:

- a key that was used lately is found without a wait, whether or not the store is up;
- a key that was revoked is refused `FRESH_SECONDS` later at the latest, on every server;
- while the store is down, keys that were used lately go on to work, for `STALE_SECONDS`;
- the keys of an owner are always those of now: none is remembered for it;
- a key that is not known costs the store one read each `FRESH_SECONDS`, however often it is sent;
- every cache has a bound.

Keys are found by the SHA-256 of what was sent. Whoever sends a key cannot choose its digest, so the
time that a look-up takes tells nothing of the digests that are there.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from agent_server.accounts.keys import ApiKey
from streaming.errors import OverloadedError

FRESH_SECONDS = 30.0
REFRESH_SECONDS = 10.0
STALE_SECONDS = 3600.0
MAX_KNOWN = 10_000
MAX_UNKNOWN = 10_000
MAX_LOOKUPS = 64
REFRESH_KEYS = 500

# The living keys of these digests, by digest; None: the store cannot be read now.
ReadKeys = Callable[[Sequence[str]], Awaitable[dict[str, ApiKey] | None]]
# The living keys of an owner; None: the store cannot be read now.
ReadOwnerKeys = Callable[[str], Awaitable[list[ApiKey] | None]]
# Whether the store has any key; None: it cannot be read now.
HasKeys = Callable[[], Awaitable[bool | None]]
_Value = TypeVar("_Value")


class KeyBook:
    """The keys by digest. Without `read_keys` there are those of the configuration alone."""

    def __init__(
        self,
        configured: Iterable[ApiKey],
        *,
        read_keys: ReadKeys | None = None,
        has_keys: HasKeys | None = None,
        read_owner_keys: ReadOwnerKeys | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_keys = read_keys
        self._has_keys = has_keys
        self._read_owner_keys = read_owner_keys
        self._clock = clock
        self._known: dict[str, tuple[ApiKey, float]] = {}
        self._unknown: dict[str, float] = {}
        self._lookups: dict[str, asyncio.Task[ApiKey | None]] = {}
        self._is_store_down = False
        self._task: asyncio.Task[None] | None = None
        # Whether callers need a key. A store that cannot be read may have some.
        self.is_keyed = read_keys is not None
        self.configure(configured)

    @property
    def is_stored(self) -> bool:
        """Whether there is a store, which may have keys that are not at hand."""
        return self._read_keys is not None

    def configure(self, configured: Iterable[ApiKey]) -> None:
        """Take other keys of the configuration in place of those before."""
        self._configured = {key.sha256: key for key in configured}
        self.is_keyed = self.is_keyed or bool(self._configured)

    async def start(self) -> None:
        """Ask whether the store has keys, and keep what is used fresh from now on."""
        if self._read_keys is None:
            return
        self.is_keyed = bool(self._configured) or await self._store_has_keys()
        self._task = asyncio.create_task(self._keep_fresh())

    async def stop(self) -> None:
        """End what runs."""
        tasks = [*self._lookups.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def peek(self, digest: str) -> ApiKey | None:
        """The key, if it is known without asking the store."""
        key = self._configured.get(digest)
        if key is not None:
            return key
        found = self._known.get(digest)
        if found is None:
            return None
        age = self._clock() - found[1]
        bound = STALE_SECONDS if self._is_store_down else FRESH_SECONDS
        return found[0] if age < bound else None

    async def find(self, digest: str) -> ApiKey | None:
        """The key, from the store if need be; None if there is none.

        Raises:
            OverloadedError: too many unknown keys are being looked for, or the store is down.
        """
        key = self.peek(digest)
        if key is not None or self._read_keys is None:
            return key
        if self._unknown.get(digest, 0.0) > self._clock():
            return None
        lookup = self._lookups.get(digest)
        if lookup is None:
            if len(self._lookups) >= MAX_LOOKUPS:
                raise OverloadedError(_BUSY, retry_after_seconds=1)
            lookup = asyncio.create_task(self._look_up(digest))
            self._lookups[digest] = lookup
        return await asyncio.shield(lookup)

    async def of_owner(self, owner: str) -> list[ApiKey]:
        """The living keys of an owner, those that have expired too.

        Raises:
            OverloadedError: the store is down, so that nobody knows which of them were revoked.
        """
        keys = [key for key in self._configured.values() if key.owner == owner]
        if self._read_owner_keys is not None:
            stored = await self._read_owner_keys(owner)
            if stored is None:
                raise OverloadedError(_DOWN, retry_after_seconds=5)
            keys += stored
        return keys

    def forget(self, digest: str) -> None:
        """Ask the store again: the key was made or revoked."""
        self._known.pop(digest, None)
        self._unknown.pop(digest, None)
        self.is_keyed = True

    async def _look_up(self, digest: str) -> ApiKey | None:
        try:
            found = await self._read([digest])
            if found is None:
                # Told once by this one, the others may use what was known before.
                if key := self.peek(digest):
                    return key
                raise OverloadedError(_DOWN, retry_after_seconds=5)
            key = found.get(digest)
            if key is None:
                _put(self._unknown, digest, self._clock() + FRESH_SECONDS, MAX_UNKNOWN)
            return key
        finally:
            del self._lookups[digest]

    async def _read(self, digests: Sequence[str]) -> dict[str, ApiKey] | None:
        if self._read_keys is None:
            return {}
        asked_at = self._clock()
        found = await self._read_keys(digests)
        self._is_store_down = found is None
        if found is not None:
            for digest in digests:
                before = self._known.pop(digest, None)
                if key := found.get(digest):
                    # The same object as long as nothing changed, so that it can be told by `is`.
                    same = before[0] if before and before[0] == key else key
                    _put(self._known, digest, (same, asked_at), MAX_KNOWN)
        return found

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """Read all keys of the cache again; the ones that are gone leave it."""
        if not self.is_keyed:
            self.is_keyed = await self._store_has_keys()
        digests = list(self._known)
        for first in range(0, len(digests), REFRESH_KEYS):
            if await self._read(digests[first : first + REFRESH_KEYS]) is None:
                return
        if not digests and self._is_store_down:
            await self._read([])

    async def _store_has_keys(self) -> bool:
        found = await self._has_keys() if self._has_keys else False
        return found is None or found


def _put(cache: dict[str, _Value], digest: str, value: _Value, bound: int) -> None:
    """Put a value at the end of a cache, whose oldest goes where it is full."""
    cache.pop(digest, None)
    if len(cache) >= bound:
        with contextlib.suppress(StopIteration):
            del cache[next(iter(cache))]
    cache[digest] = value


_BUSY = "The server looks for too many keys that it does not know. Come again in a second."
_DOWN = (
    "The key cannot be looked up now, because the store of keys does not answer. Come again in a "
    "few seconds."
)
