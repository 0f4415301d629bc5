import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_server.accounts import redis_cache, redis_limits
from agent_server.accounts.cache import (
    AnswerCache,
    CachedAnswer,
    MemoryCache,
    Recorder,
    cache_key,
    decode_answer,
    encode_answer,
)
from agent_server.accounts.configured import cache_of
from agent_server.accounts.redis_cache import RedisCache
from agent_server.accounts.store_errors import AccountsConfigError
from agent_server.settings import Settings
from streaming.events import Usage
from tests.agent_server.accounts.clocks import Clock
from tests.databases import RedisServer

ASKED: dict[str, Any] = {
    "owner": "alice",
    "door": "chat",
    "provider": "openai",
    "base_url": "https://api.openai.com/v1",
    "model": "gpt-6",
    "body": {"model": "fast", "messages": [{"role": "user", "content": "hi"}], "stream": True},
}


def answer(*frames: bytes) -> CachedAnswer:
    usage = Usage(10, 5, 15, cached_tokens=3)
    return CachedAnswer(frames or (b"data: 1\n\n",), "text/event-stream", "openai", "gpt-6", usage)


def test_the_key_holds_who_asks_whom_and_every_parameter() -> None:
    whole = cache_key(**ASKED)
    others = [cache_key(**{**ASKED, name: "other"}) for name in ASKED if name != "body"]
    body = ASKED["body"]
    changes = ({"stream": False}, {"temperature": 0}, {"user": "x"}, {"messages": []})
    others += [cache_key(**{**ASKED, "body": {**body, **change}}) for change in changes]
    assert len({whole, *others}) == 1 + len(others)
    assert cache_key(**{**ASKED, "body": dict(reversed(body.items()))}) == whole


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest) -> AnswerCache:
    if request.param == "memory":
        return MemoryCache(max_bytes=10**6, ttl_seconds=60)
    server: RedisServer = request.getfixturevalue("redis_server")
    return RedisCache(server.url, ttl_seconds=60)


async def found_in(cache: AnswerCache, key: str) -> CachedAnswer | None:
    if isinstance(cache, RedisCache):
        await cache._puts.finish(5)
    return await cache.get(key)


async def test_an_answer_comes_back_in_the_frames_in_which_it_went_out(cache: AnswerCache) -> None:
    frames = (b'data: {"a": "\xc3\xa4\\n"}\n\n', b"", b": ping\n\n", b"data: [DONE]\n\n")
    assert await cache.get("k") is None
    cache.put("k", answer(*frames))
    assert await found_in(cache, "k") == answer(*frames)
    cache.put("k", answer(b"{}"))
    assert await found_in(cache, "k") == answer(b"{}")
    assert await cache.get("other") is None
    await cache.aclose()


async def test_an_answer_in_memory_counts_for_its_time() -> None:
    clock = Clock()
    cache = MemoryCache(max_bytes=10**6, ttl_seconds=60, clock=clock)
    cache.put("k", answer())
    clock.now += 59
    assert await cache.get("k")
    clock.now += 1
    assert await cache.get("k") is None
    assert cache._bytes == 0


async def test_an_answer_in_redis_counts_for_its_time(redis_server: RedisServer) -> None:
    cache = RedisCache(redis_server.url, ttl_seconds=60)
    cache.put("k", answer())
    await cache._puts.finish(5)
    left = await cache._redis.pttl("agent-server:answer:k")
    assert 50_000 < left <= 60_000
    await cache.aclose()


async def test_the_cache_in_memory_keeps_its_size_and_what_was_used_last() -> None:
    cache = MemoryCache(max_bytes=40_000, ttl_seconds=60)
    for number in range(20):
        cache.put(f"k{number}", answer(b"x" * 3000))
        await cache.get("k0")
    assert cache._bytes <= 40_000
    assert await cache.get("k0")
    assert await cache.get("k19")
    assert await cache.get("k1") is None
    cache.put("large", answer(b"x" * 10_000))
    assert await cache.get("large") is None


@pytest.mark.parametrize("trouble", ["stop", "pause"])
async def test_a_redis_that_does_not_answer_is_a_miss_and_left_alone(
    redis_server: RedisServer, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_cache, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(redis_limits, "TIMEOUT_SECONDS", 0.05)
    cache = RedisCache(redis_server.url, ttl_seconds=60)
    cache.put("k", answer())
    assert await found_in(cache, "k")
    getattr(redis_server, trouble)()
    assert await cache.get("k") is None
    asked = 0

    async def get(_: str) -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(cache._redis, "get", get)
    assert await cache.get("k") is None
    cache.put("k", answer())
    assert asked == 0
    assert cache._puts._tasks == set()
    await cache.aclose()


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_bytes_lead_back_to_their_answer(frames: list[bytes]) -> None:
    assert decode_answer(encode_answer(answer(*frames))) == answer(*frames)


@pytest.mark.parametrize("data", [b"", b"{}", b"x\ny", encode_answer(answer(b"abc"))[:-1]])
def test_bytes_of_something_else_are_no_answer(data: bytes) -> None:
    assert decode_answer(data) is None


def test_an_answer_over_the_bound_is_not_collected() -> None:
    about: dict[str, Any] = {"content_type": "x", "provider": "p", "model": "m", "usage": Usage()}
    small, large = Recorder(10), Recorder(10)
    assert small.answer(**about) is None
    for recorder, count in ((small, 2), (large, 3)):
        for _ in range(count):
            recorder.add(b"12345")
    whole = small.answer(**about)
    assert whole is not None
    assert whole.frames == (b"12345", b"12345")
    assert large.answer(**about) is None


async def test_the_setting_says_which_cache(tmp_path: Path, redis_server: RedisServer) -> None:
    def settings(**values: object) -> Settings:
        return Settings(data_dir=tmp_path, **values)  # type: ignore[arg-type]

    assert cache_of(settings()) is None
    assert isinstance(cache_of(settings(cache="memory")), MemoryCache)
    shared = cache_of(settings(cache="redis", redis_url=redis_server.url))
    assert isinstance(shared, RedisCache)
    await shared.aclose()
    with pytest.raises(AccountsConfigError, match="AGENT_SERVER_REDIS_URL is not set"):
        cache_of(settings(cache="redis"))


async def test_puts_on_their_way_have_a_bound(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_limits, "TIMEOUT_SECONDS", 0.05)
    cache = RedisCache(redis_server.url, ttl_seconds=60)
    for number in range(redis_cache.MOST_PUTS + 10):
        cache.put(f"k{number}", answer())
    assert len(cache._puts._tasks) == redis_cache.MOST_PUTS
    await asyncio.sleep(0)
    await cache.aclose()
    assert cache._puts._tasks == set()
