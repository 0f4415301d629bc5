"""One reader, many writers, a bound."""

import asyncio

import pytest

from agent_server.event_channel import EventChannel
from streaming.events import TextDelta


async def test_events_come_out_in_the_order_they_were_put_in() -> None:
    channel = EventChannel(capacity=1)
    texts = [TextDelta(str(number)) for number in range(20)]

    async def write() -> None:
        for text in texts:
            await channel.put(text)
        await channel.end()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(write())
        assert [event async for event in channel.events()] == texts


async def test_a_writer_waits_for_a_slow_reader() -> None:
    channel = EventChannel(capacity=2)
    await channel.put(TextDelta("1"))
    await channel.put(TextDelta("2"))
    third = asyncio.create_task(channel.put(TextDelta("3")))
    await asyncio.sleep(0)
    assert not third.done()
    await anext(channel.events())
    async with asyncio.timeout(5):
        await third


@pytest.mark.parametrize("writers", [1, 5])
async def test_a_reader_that_leaves_holds_up_nobody(writers: int) -> None:
    channel = EventChannel(capacity=1)
    await channel.put(TextDelta("0"))
    waiting = [asyncio.create_task(channel.put(TextDelta("x"))) for _ in range(writers)]
    await asyncio.sleep(0)
    channel.abandon()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
        for _ in range(10):
            await channel.put(TextDelta("y"))
        await channel.end()
