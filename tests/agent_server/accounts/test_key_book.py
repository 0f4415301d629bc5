import asyncio
from collections.abc import Sequence

import pytest

from agent_server.accounts.key_book import FRESH_SECONDS, MAX_LOOKUPS, STALE_SECONDS, KeyBook
from agent_server.accounts.keys import ApiKey, api_key_from_fields
from streaming.errors import OverloadedError
from tests.agent_server.accounts.clocks import Clock


def key(letter: str, **fields: object) -> ApiKey:
    return api_key_from_fields({"name": letter, "sha256": letter * 64, **fields})


class Keys:
    """A store of keys that counts how often it is read, and may be down."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = {one.sha256: one for one in keys}
        self.reads: list[list[str]] = []
        self.is_down = False

    async def read(self, digests: Sequence[str]) -> dict[str, ApiKey] | None:
        self.reads.append(list(digests))
        await asyncio.sleep(0)
        if self.is_down:
            return None
        return {digest: self.keys[digest] for digest in digests if digest in self.keys}

    async def of_owner(self, owner: str) -> list[ApiKey] | None:
        await asyncio.sleep(0)
        return None if self.is_down else [k for k in self.keys.values() if k.owner == owner]

    async def has_any(self) -> bool | None:
        return None if self.is_down else bool(self.keys)


def book_of(keys: Keys, clock: Clock, *configured: ApiKey) -> KeyBook:
    return KeyBook(
        configured,
        read_keys=keys.read,
        has_keys=keys.has_any,
        read_owner_keys=keys.of_owner,
        clock=clock,
    )


A, B = "a" * 64, "b" * 64


async def test_a_configured_key_needs_no_store() -> None:
    keys = Keys()
    book = book_of(keys, Clock(), key("a"))
    assert book.peek(A) == await book.find(A) == key("a")
    assert keys.reads == []
    book.configure([key("b")])
    assert book.peek(A) is None
    assert book.peek(B) == key("b")


async def test_a_stored_key_is_read_once_and_then_at_hand() -> None:
    keys, clock = Keys(key("a")), Clock()
    book = book_of(keys, clock)
    assert book.peek(A) is None
    found = await asyncio.gather(*(book.find(A) for _ in range(100)))
    assert set(found) == {key("a")}
    clock.now += FRESH_SECONDS - 1
    assert book.peek(A) == await book.find(A) == key("a")
    assert keys.reads == [[A]]


async def test_a_thousand_requests_with_a_bogus_key_read_the_store_once() -> None:
    keys, clock = Keys(key("a")), Clock()
    book = book_of(keys, clock)
    assert await asyncio.gather(*(book.find(B) for _ in range(500))) == [None] * 500
    assert [await book.find(B) for _ in range(500)] == [None] * 500
    assert len(keys.reads) == 1
    clock.now += FRESH_SECONDS + 1
    await book.find(B)
    assert len(keys.reads) == 2


async def test_many_bogus_keys_at_once_are_told_to_come_again() -> None:
    keys = Keys()
    book = book_of(keys, Clock())
    digests = [f"{number:064x}" for number in range(MAX_LOOKUPS + 10)]
    found = await asyncio.gather(*map(book.find, digests), return_exceptions=True)
    refused = [one for one in found if one is not None]
    assert len(refused) == 10
    assert all(isinstance(one, OverloadedError) for one in refused)
    assert await book.find(digests[-1]) is None


async def test_a_revoked_key_dies_at_the_next_refresh_and_without_one_when_it_is_stale() -> None:
    keys, clock = Keys(key("a"), key("b")), Clock()
    book = book_of(keys, clock)
    await book.find(A)
    await book.find(B)
    del keys.keys[A]
    await book.refresh()
    assert book.peek(A) is None
    assert book.peek(B)
    assert await book.find(A) is None
    del keys.keys[B]
    clock.now += FRESH_SECONDS
    assert book.peek(B) is None
    assert await book.find(B) is None


async def test_a_refresh_brings_changed_limits_and_keeps_the_object_of_an_unchanged_key() -> None:
    keys = Keys(key("a"), key("b"))
    book = book_of(keys, Clock())
    before = [await book.find(A), await book.find(B)]
    keys.keys[A] = key("a", requests_per_minute=5)
    keys.keys[B] = key("b")
    await book.refresh()
    assert book.peek(A) == key("a", requests_per_minute=5)
    assert book.peek(B) is before[1]


async def test_known_keys_work_on_while_the_store_is_down_but_not_for_ever() -> None:
    keys, clock = Keys(key("a")), Clock()
    book = book_of(keys, clock)
    await book.find(A)
    keys.is_down = True
    clock.now += FRESH_SECONDS + 1
    assert await book.find(A) == key("a")
    reads = len(keys.reads)
    clock.now += STALE_SECONDS - FRESH_SECONDS - 2
    assert book.peek(A) == key("a")
    assert len(keys.reads) == reads
    with pytest.raises(OverloadedError):
        await book.find(B)
    clock.now += 2
    assert book.peek(A) is None
    with pytest.raises(OverloadedError):
        await book.find(A)
    keys.is_down = False
    assert await book.find(A) == key("a")


async def test_a_store_that_cannot_be_read_at_the_start_may_have_keys() -> None:
    keys = Keys()
    keys.is_down = True
    book = book_of(keys, Clock())
    await book.start()
    assert book.is_keyed
    await book.stop()


async def test_a_server_is_open_until_there_is_a_key_and_never_again() -> None:
    keys = Keys()
    book = book_of(keys, Clock())
    await book.start()
    assert not book.is_keyed
    keys.keys[A] = key("a")
    await book.refresh()
    assert book.is_keyed
    keys.keys.clear()
    await book.refresh()
    assert book.is_keyed
    await book.stop()
    assert not KeyBook([]).is_keyed
    assert KeyBook([key("a")]).is_keyed


async def test_a_new_key_works_at_once_where_it_was_made() -> None:
    keys = Keys()
    book = book_of(keys, Clock())
    assert await book.find(A) is None
    keys.keys[A] = key("a")
    assert await book.find(A) is None
    book.forget(A)
    assert await book.find(A) == key("a")


async def test_the_caches_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_server.accounts.key_book.MAX_KNOWN", 3)
    monkeypatch.setattr("agent_server.accounts.key_book.MAX_UNKNOWN", 3)
    letters = "abcdef"
    keys = Keys(*map(key, letters))
    book = book_of(keys, Clock())
    for letter in letters:
        await book.find(letter * 64)
        await book.find(f"{ord(letter):064x}")
    assert len(book._known) == len(book._unknown) == 3
    assert book.peek("f" * 64)
    assert book.peek("a" * 64) is None


async def test_a_request_that_goes_away_ends_no_look_up_of_another() -> None:
    book = book_of(Keys(key("a")), Clock())
    first, second = (asyncio.create_task(book.find(A)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == key("a")
    assert book._lookups == {}


async def test_the_keys_of_an_owner_are_those_of_now() -> None:
    keys = Keys(key("a", owner="team"), key("b", owner="other"))
    book = book_of(keys, Clock(), key("c", owner="team"), key("d", owner="other"))
    assert await book.of_owner("team") == [key("c", owner="team"), key("a", owner="team")]
    assert await book.of_owner("nobody") == []
    del keys.keys[A]
    assert await book.of_owner("team") == [key("c", owner="team")]
    keys.is_down = True
    with pytest.raises(OverloadedError):
        await book.of_owner("team")
    assert await KeyBook([key("c", owner="team")]).of_owner("team") == [key("c", owner="team")]
