import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_server.accounts import leases, redis_limits
from agent_server.accounts.keys import ApiKey, api_key_from_fields
from agent_server.accounts.limits import Admission, Ask, Limits
from agent_server.accounts.meters import Period
from agent_server.accounts.redis_limits import RedisPool
from streaming.errors import RateLimitError
from tests.agent_server.accounts.clocks import Clock
from tests.databases import RedisServer

PROGRAM = Path(__file__).with_name("limited_process.py")
ROOT = Path(__file__).parents[3]


def key(**fields: object) -> ApiKey:
    return api_key_from_fields({"name": "alice", "sha256": "a" * 64, **fields})


async def admitted(limits: Limits, holder: ApiKey, ask: Ask, calls: int) -> list[Admission]:
    found = await asyncio.gather(
        *(limits.admit(holder, ask) for _ in range(calls)), return_exceptions=True
    )
    for one in found:
        if isinstance(one, BaseException):
            assert isinstance(one, RateLimitError), one
    return [one for one in found if isinstance(one, Admission)]


@contextlib.asynccontextmanager
async def server(redis: RedisServer, **parts: object) -> AsyncIterator[tuple[RedisPool, Limits]]:
    """One server of several that share limits, in this process."""
    pool = RedisPool(redis.url)
    limits = Limits(pool=pool, **parts)  # type: ignore[arg-type]
    await pool.start()
    try:
        yield pool, limits
    finally:
        await pool.stop()


@pytest.mark.parametrize(
    ("fields", "ask", "limit"),
    [
        ({"requests_per_minute": 100}, [1], 100),
        ({"requests_per_minute": 7}, [1], 7),
        ({"tokens_per_minute": 1000}, [30], 33),
        ({"parallel": 10}, [1], 10),
        ({"budget_per_day": 1}, [1, 9_000_000], 111),
    ],
    ids=["requests", "few", "tokens", "parallel", "budget"],
)
def test_three_servers_never_pass_a_limit_together(
    redis_server: RedisServer, fields: dict[str, int], ask: list[int], limit: int
) -> None:
    arguments = [redis_server.url, "200", json.dumps(fields), json.dumps(ask)]
    children = [
        subprocess.Popen(
            [sys.executable, PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        )
        for _ in range(3)
    ]
    with contextlib.ExitStack() as stack:
        lines = []
        for child in children:
            stack.enter_context(child)
            assert child.stdin
            assert child.stdout
            lines.append((child.stdin, child.stdout))
        for _, stdout in lines:
            assert stdout.readline() == "ready\n"
        for stdin, _ in lines:
            stdin.write("go\n")
            stdin.flush()
        counts = [int(stdout.readline()) for _, stdout in lines]
        for stdin, _ in lines:
            stdin.close()
    assert sum(counts) <= limit
    # What one has leased and does not use, the others cannot use at once.
    assert sum(counts) >= limit * 0.8


async def test_most_calls_ask_redis_nothing(redis_server: RedisServer) -> None:
    async with server(redis_server) as (pool, limits):
        holder = key(requests_per_minute=100_000, tokens_per_minute=10**8, parallel=50)
        first = await limits.admit(holder, Ask(tokens=10))
        sent = 0
        send = pool._send

        async def counting(commands: list[leases.Command]) -> list[object]:
            nonlocal sent
            sent += 1
            return await send(commands)

        pool._send = counting  # type: ignore[method-assign,assignment]
        first.settle(tokens=10)
        for _ in range(1000):
            (await limits.admit(holder, Ask(tokens=10))).settle(tokens=10)
        assert sent == 0
        assert first.headers() == []


async def test_what_is_not_used_is_there_for_the_others(redis_server: RedisServer) -> None:
    holder = key(tokens_per_minute=100, parallel=3, budget_per_day="0.0000001")
    async with server(redis_server) as (_, one), server(redis_server) as (pool, other):
        admissions = await admitted(one, holder, Ask(tokens=30, cost=30), 5)
        assert len(admissions) == 3
        assert await admitted(other, holder, Ask(tokens=30, cost=30), 3) == []
        for admission in admissions:
            admission.settle(tokens=10, cost=10)
    async with server(redis_server) as (pool, third):
        assert pool.servers >= 1
        left = await admitted(third, holder, Ask(tokens=35, cost=35), 5)
        assert len(left) == 2
        assert third.running(holder) == 2


async def test_headers_tell_of_the_shared_limit(redis_server: RedisServer) -> None:
    holder = key(requests_per_minute=40)
    async with server(redis_server) as (_, one), server(redis_server) as (_, other):
        await admitted(one, holder, Ask(), 10)
        admission = await other.admit(holder, Ask())
        assert int(dict(admission.headers())[b"x-ratelimit-remaining-requests"]) in range(26, 30)
        assert len(await admitted(other, holder, Ask(), 60)) in range(26, 30)
        with pytest.raises(RateLimitError) as raised:
            await other.admit(holder, Ask())
        assert 50 < (raised.value.retry_after_seconds or 0) <= leases.UNIT_LIFE


@pytest.mark.parametrize("trouble", ["stop", "pause"])
async def test_without_redis_each_server_holds_its_share_and_says_so(
    redis_server: RedisServer, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_limits, "TIMEOUT_SECONDS", 0.1)
    holder = key(requests_per_minute=20, parallel=20, budget_per_day="0.0000001")
    async with server(redis_server), server(redis_server) as (pool, limits):
        assert (limits.scope, pool.servers) == ("shared", 2)
        await admitted(limits, holder, Ask(cost=1), 1)
        getattr(redis_server, trouble)()
        # The first calls find out; none of them fails for it.
        assert 1 <= len(await admitted(limits, holder, Ask(cost=1), 30)) <= 10
        assert limits.scope == "process"
        assert await admitted(limits, holder, Ask(cost=1), 30) == []


async def test_limits_are_shared_again_when_redis_is_back(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_limits, "RETRY_SECONDS", 0.01)
    loads: list[str] = []
    back = asyncio.Event()

    async def load(key_id: str, day: Period, month: Period) -> tuple[int, int]:
        loads.append(day.name)
        return 40, 40

    holder = key(parallel=5, budget_per_day="0.0000001")
    async with server(redis_server, load_spend=load) as (pool, limits):
        running = await admitted(limits, holder, Ask(cost=10), 2)
        redis_server.stop()
        running += await admitted(limits, holder, Ask(cost=10), 1)
        assert limits.scope == "process"
        pool.on_return = lambda: (limits._load_again(), back.set())[0]
        redis_server.start()
        async with asyncio.timeout(10):
            await back.wait()
        # The slots in use are known again, and what was spent is read again.
        await pool._tell()
        async with server(redis_server) as (_, other):
            assert len(await admitted(other, key(parallel=5), Ask(), 5)) == 2
        await admitted(limits, holder, Ask(cost=10), 1)
        assert len(loads) == 2
        for admission in running:
            admission.settle(cost=10)


async def test_a_redis_that_is_not_there_stops_nobody() -> None:
    pool = RedisPool("unix:///nowhere/redis.sock")
    limits = Limits(pool=pool)
    await pool.start()
    assert limits.scope == "process"
    assert len(await admitted(limits, key(requests_per_minute=3), Ask(), 9)) == 3
    await pool.stop()


async def test_slots_of_a_server_that_died_are_free_after_a_while(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "SLOT_LIFE", 1)
    monkeypatch.setattr(leases, "REFUSAL_SECONDS", 0.0)
    holder = key(parallel=2)
    dead = RedisPool(redis_server.url)
    limits = Limits(pool=dead)
    await dead._beat()  # and no task that would say again what it holds
    assert len(await admitted(limits, holder, Ask(), 5)) == 2
    async with server(redis_server) as (_, other), asyncio.timeout(10):
        assert await admitted(other, holder, Ask(), 1) == []
        while not await admitted(other, holder, Ask(), 1):
            pass
    await dead._redis.aclose()


async def test_a_caller_that_goes_away_takes_no_units_with_it(redis_server: RedisServer) -> None:
    holder = key(budget_per_month="0.0000001")
    async with server(redis_server) as (_, limits):
        for _ in range(20):
            asking = asyncio.create_task(limits.admit(holder, Ask(cost=50)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asking.cancel()
            for one in await asyncio.gather(asking, return_exceptions=True):
                if isinstance(one, Admission):
                    one.settle()
        assert len(await admitted(limits, holder, Ask(cost=50), 5)) == 2


async def test_a_new_day_has_a_budget_of_its_own(redis_server: RedisServer) -> None:
    wall = Clock(1_795_305_600.0 - 10)
    pool = RedisPool(redis_server.url, wall=wall)
    limits = Limits(pool=pool, wall=wall)
    await pool.start()
    holder = key(budget_per_day="0.0000001")
    late = await admitted(limits, holder, Ask(cost=60), 3)
    assert len(late) == 1
    wall.now += 20
    assert len(await admitted(limits, holder, Ask(cost=60), 3)) == 1
    late[0].settle(cost=0)
    assert await admitted(limits, holder, Ask(cost=60), 3) == []
    await pool.stop()
