"""Limits that several servers hold together, in Redis (the extra `[redis]`).

What this module promises:

- all servers together never admit more than a limit, as long as Redis answers: each uses what it
  has leased, and Redis leases no more than there is;
- most calls ask Redis nothing: a lease is up to a twentieth of its limit, for two seconds; a call
  that finds it used up waits for one round trip, as does every call under a limit below twenty;
- a Redis that is down or hangs stops no call: after `TIMEOUT_SECONDS` each server holds its share
  (the limit divided by the servers that were there last), says so, and tries again;
- a server that dies gives its parallel calls back after `SLOT_LIFE` seconds, its leases with time.

What was used while Redis was away counts in it for budgets, and not for limits per minute.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from agent_server.accounts.keys import ApiKey
from agent_server.accounts.leases import (
    SLOT_LIFE,
    Command,
    LeasedMeter,
    LeasedSlots,
    LeasedSpend,
    LeasedWindow,
)
from agent_server.accounts.limits import Account, Ask, Kind, LimitsScope, hard_part, soft_part
from agent_server.accounts.meters import Meter, day_of, month_of
from agent_server.accounts.redis_scripts import COUNT_SERVERS
from agent_server.log_config import get_logger

TIMEOUT_SECONDS = 0.5
TICK_SECONDS = 0.1
BEAT_SECONDS = 5.0
RETRY_SECONDS = 1.0
BATCH = 500
PREFIX = "agent-server"

log = get_logger()


class RedisPool:
    """The shared limits. It is the `SharedPool` of the limits and the `Share` of the leases."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a client; nothing is opened yet.

        Raises:
            ValueError: the URL is none of Redis'.
        """
        self._redis = open_redis(url)
        self._clock = clock
        self._wall = wall
        self._task: asyncio.Task[None] | None = None
        self._next_beat = 0.0
        self.on_return: Callable[[], None] = _nothing
        self.changes: list[Command] = []
        self.active: set[LeasedMeter] = set()
        self.server = secrets.token_hex(8)
        self.servers = 1
        self.is_up = False

    @property
    def scope(self) -> LimitsScope:
        """Whether Redis answers."""
        return "shared" if self.is_up else "process"

    async def start(self) -> None:
        """Connect; where Redis does not answer, it is tried again in the background."""
        await self._beat()
        if not self.is_up:
            log.warning("Redis does not answer, limits hold for each server alone")
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Give back what is leased."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.is_up:
            for meter in list(self.active):
                meter.tick(float("inf"))
            await self._tell()
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await asyncio.wait_for(self._redis.aclose(), TIMEOUT_SECONDS)

    def meters(self, key: ApiKey) -> Mapping[Kind, Meter]:
        """The meters of a key."""
        # In braces is what one node of a cluster is to hold together.
        name = f"{PREFIX}:{{{key.key_id}}}"
        return {
            "requests": LeasedWindow(f"{name}:requests", self),
            "tokens": LeasedWindow(f"{name}:tokens", self),
            "parallel": LeasedSlots(f"{name}:parallel", self),
            "day": LeasedSpend(f"{name}:spend", self, day_of, self._wall),
            "month": LeasedSpend(f"{name}:spend", self, month_of, self._wall),
        }

    async def fill(self, account: Account, ask: Ask) -> bool:
        """Lease what the call needs and this server does not have; False if there is no room."""
        # A caller that goes away takes no answer of Redis with it, which would be lost units.
        return await asyncio.shield(asyncio.create_task(self._fill(account, ask)))

    async def _fill(self, account: Account, ask: Ask) -> bool:
        async with account.filling:
            now = self._clock()
            if not self.is_up or account.short_of(ask, now) is None:
                return True
            wanted = []
            for kind, limit, meter in account.rows:
                least = hard_part(kind, ask)
                if isinstance(meter, LeasedMeter) and meter.room(limit, now) < least:
                    command = meter.wanted(limit, least, least + soft_part(kind, ask), now)
                    if command is None:
                        return False
                    wanted.append((meter, least, command))
            changes, self.changes = self.changes, []
            answers = await self._send([*changes, *(command for *_, command in wanted)])
            for (meter, least, command), answer in zip(
                wanted, answers[len(changes) :], strict=False
            ):
                meter.granted(command, answer, least, now)
            return account.short_of(ask, self._clock()) is None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS if self.is_up else RETRY_SECONDS)
            now = self._clock()
            if not self.is_up or now >= self._next_beat:
                await self._beat()
            if self.is_up:
                for meter in list(self.active):
                    meter.tick(now)
                await self._tell()
            else:
                # What is owed of budgets is kept by the meters; the rest is soon over.
                self.changes.clear()

    async def _beat(self) -> None:
        """Say that this server is there, and hear how many are."""
        arguments = (self.server, 3 * SLOT_LIFE)
        answers = await self._send([Command(COUNT_SERVERS, f"{PREFIX}:servers", arguments)])
        if not answers:
            return
        self.servers = max(1, int(answers[0]))
        self._next_beat = self._clock() + BEAT_SECONDS
        if not self.is_up:
            for meter in self.active:
                meter.forget()
            self.is_up = True
            self.on_return()
            log.info("Limits are shared", servers=self.servers)
        else:
            for meter in self.active:
                if isinstance(meter, LeasedSlots):
                    meter.beat()

    async def _tell(self) -> None:
        while self.changes and self.is_up:
            batch, self.changes = self.changes[:BATCH], self.changes[BATCH:]
            await self._send(batch)

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands in one round trip; none where Redis is down."""
        if not commands:
            return []
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._redis.pipeline(transaction=False) as pipeline,
            ):
                for script, key, arguments in commands:
                    pipeline.eval(script, 1, key, *map(str, arguments))
                found: list[Any] = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as exc:
            if self.is_up:
                log.warning(
                    "Redis cannot be reached, each server holds its share of the limits",
                    error_type=type(exc).__name__,
                    servers=self.servers,
                )
            self.is_up = False
            return []
        return found


def open_redis(url: str) -> Redis:
    """A client that gives up soon and never repeats by itself.

    Raises:
        ValueError: the URL is none of Redis'.
    """
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def _nothing() -> None:
    """What is done on a return that nobody waits for."""
