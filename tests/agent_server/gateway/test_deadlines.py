"""Deadlines that one timer keeps for all."""

import asyncio

from agent_server.gateway.deadlines import Deadlines

PATIENCE_SECONDS = 10.0


async def test_each_is_called_once_at_its_deadline_and_in_their_order() -> None:
    deadlines, called, is_over = Deadlines(), list[tuple[str, bool]](), asyncio.Event()
    begun = deadlines.loop.time()
    waits = {"third": 0.05, "first": 0.01, "second": 0.03}

    def calling(name: str) -> None:
        called.append((name, deadlines.loop.time() >= begun + waits[name]))
        if len(called) == len(waits):
            is_over.set()

    # Kept by reference, as whoever waits does.
    calls = {name: lambda name=name: calling(name) for name in waits}  # type: ignore[misc]
    for name, seconds in waits.items():
        deadlines.keep(calls[name], begun + seconds)
    await asyncio.wait_for(is_over.wait(), PATIENCE_SECONDS)
    assert called == [("first", True), ("second", True), ("third", True)]


async def test_what_was_dropped_is_not_called() -> None:
    deadlines, called, is_over = Deadlines(), list[str](), asyncio.Event()

    def dropped() -> None:
        called.append("dropped")

    now = deadlines.loop.time()
    deadlines.keep(dropped, now + 0.01)
    deadlines.keep(is_over.set, now + 0.02)
    deadlines.drop(dropped)
    deadlines.drop(dropped)
    await asyncio.wait_for(is_over.wait(), PATIENCE_SECONDS)
    assert called == []


async def test_one_that_is_called_may_keep_another() -> None:
    deadlines, is_over = Deadlines(), asyncio.Event()

    def again() -> None:
        deadlines.keep(is_over.set, deadlines.loop.time())

    deadlines.keep(again, deadlines.loop.time())
    await asyncio.wait_for(is_over.wait(), PATIENCE_SECONDS)
