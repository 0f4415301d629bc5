"""The response cache in Redis, which several servers share (the extra `[redis]`).

What this module promises: a Redis that is down or hangs is a miss, costs one caller at most
`TIMEOUT_SECONDS`, and is not asked again for `RETRY_SECONDS`; keeping an answer holds up nobody.
"""

import asyncio
import contextlib
import time

from redis.exceptions import RedisError

from agent_server.accounts.cache import (
    MAX_ANSWER_BYTES,
    BackgroundPuts,
    CachedAnswer,
    decode_answer,
    encode_answer,
)
from agent_server.accounts.redis_limits import PREFIX, TIMEOUT_SECONDS, open_redis
from agent_server.log_config import get_logger

RETRY_SECONDS = 2.0
MOST_PUTS = 64

log = get_logger()


class RedisCache:
    """Answers in Redis, under digests, for as long as they count."""

    def __init__(self, url: str, *, ttl_seconds: float) -> None:
        """Prepare a client; nothing is opened yet.

        Raises:
            ValueError: the URL is none of Redis'.
        """
        self._redis = open_redis(url)
        self._ttl_ms = max(1, int(ttl_seconds * 1000))
        self._puts = BackgroundPuts(MOST_PUTS)
        self._down_until = 0.0

    async def get(self, key: str) -> CachedAnswer | None:
        """The answer of a key; a Redis that does not answer has none."""
        if time.monotonic() < self._down_until:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                found = await self._redis.get(_name(key))
        except (RedisError, OSError, TimeoutError) as exc:
            self._note_down(exc)
            return None
        return decode_answer(found) if isinstance(found, bytes) else None

    def put(self, key: str, answer: CachedAnswer) -> None:
        """Keep an answer in the background; it is dropped where too many are on their way."""
        is_small = answer.size <= MAX_ANSWER_BYTES
        if is_small and time.monotonic() >= self._down_until and self._puts.has_room():
            self._puts.add(asyncio.create_task(self._set(key, encode_answer(answer))))

    async def aclose(self) -> None:
        """Wait for what is on its way, and close."""
        await self._puts.finish(TIMEOUT_SECONDS)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await asyncio.wait_for(self._redis.aclose(), TIMEOUT_SECONDS)

    async def _set(self, key: str, data: bytes) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._redis.set(_name(key), data, px=self._ttl_ms)
        except (RedisError, OSError, TimeoutError) as exc:
            self._note_down(exc)

    def _note_down(self, exc: BaseException) -> None:
        now = time.monotonic()
        if now >= self._down_until:
            log.warning("Response cache cannot be reached", error_type=type(exc).__name__)
        self._down_until = now + RETRY_SECONDS


def _name(key: str) -> str:
    return f"{PREFIX}:answer:{key}"
