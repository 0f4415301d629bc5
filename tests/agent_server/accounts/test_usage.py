import asyncio
import itertools
from collections.abc import Sequence

import pytest

from agent_server.accounts import usage as usage_module
from agent_server.accounts.meters import day_of, month_of
from agent_server.accounts.usage import UsageLog, UsageRow
from streaming.events import Usage


class Rows:
    """A store of rows that may be down, or hang."""

    def __init__(self) -> None:
        self.rows: list[UsageRow] = []
        self.batches = 0
        self.is_down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self._tried: asyncio.Queue[int] = asyncio.Queue()

    async def until(self, *, batches: int) -> None:
        """Wait for this many tries to write."""
        async with asyncio.timeout(10):
            while self.batches < batches:
                await self._tried.get()

    async def write(self, rows: Sequence[UsageRow]) -> bool:
        self.batches += 1
        self._tried.put_nowait(self.batches)
        await self.gate.wait()
        if not self.is_down:
            self.rows += rows
        return not self.is_down


def row(number: int = 0, *, cost: int | None = 5, key_id: str = "k") -> UsageRow:
    used = Usage(10, 5, 15)
    return UsageRow(
        *(key_id, "chat", "openai", "gpt-6", "ok", 200, used, cost, 900, 120, 1, f"req_{number}")
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "GATHER_SECONDS", 0.001)
    monkeypatch.setattr(usage_module, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(usage_module, "LONGEST_PAUSE_SECONDS", 0.004)


async def test_rows_are_written_in_batches_and_none_is_lost() -> None:
    store = Rows()
    log = UsageLog(store.write)
    log.start()
    for number in range(1200):
        log.add(row(number))
    await store.until(batches=3)
    log.add(row(1200))
    await store.until(batches=4)
    await log.stop()
    assert [one.request_id for one in store.rows] == [f"req_{n}" for n in range(1201)]
    assert store.batches == 4
    assert log.lost == 0


async def test_the_end_writes_what_waits() -> None:
    store = Rows()
    log = UsageLog(store.write)
    log.start()
    log.add(row())
    await log.stop()
    assert len(store.rows) == 1


async def test_rows_wait_for_a_store_that_is_down() -> None:
    store = Rows()
    store.is_down = True
    log = UsageLog(store.write)
    log.start()
    for number in range(3):
        log.add(row(number))
    await store.until(batches=4)
    assert log.waiting == 3
    store.is_down = False
    await store.until(batches=5)
    await log.stop()
    assert [one.request_id for one in store.rows] == ["req_0", "req_1", "req_2"]


async def test_a_full_queue_loses_its_oldest_rows_and_counts_them() -> None:
    store = Rows()
    store.is_down = True
    log = UsageLog(store.write, max_waiting=10)
    for number in range(25):
        log.add(row(number))
    assert (log.waiting, log.lost) == (10, 15)
    assert log.waiting_cost("k", day_of(row().time), month_of(row().time)) == (50, 50)
    log.start()
    await log.stop()
    assert log.lost == 25


async def test_the_end_waits_not_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "STOP_SECONDS", 0.02)
    store = Rows()
    store.gate.clear()
    log = UsageLog(store.write)
    log.start()
    log.add(row())
    async with asyncio.timeout(10):
        await log.stop()
    assert log.lost == 1


async def test_what_waits_is_summed_by_key_and_period() -> None:
    log = UsageLog(Rows().write)
    for one in (row(cost=7), row(cost=None), row(cost=3, key_id="other")):
        log.add(one)
    now = row().time
    assert log.waiting_cost("k", day_of(now), month_of(now)) == (7, 7)
    assert log.waiting_cost("k", day_of(now - 86_400), month_of(now)) == (0, 7)


def test_rows_have_ids_of_their_own_in_the_order_of_their_time() -> None:
    ids = [row().row_id for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(later - earlier > -1024 for earlier, later in itertools.pairwise(ids))
    assert ids[0] < 2**63
