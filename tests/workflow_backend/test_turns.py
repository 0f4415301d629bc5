"""The order in which a resumed run is told its answers again."""

import asyncio

from workflow_backend.engines.journal.turns import Turns


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def waits(turns: Turns, key: str) -> asyncio.Task[None]:
    task = asyncio.create_task(turns.wait(key))
    await settle()
    return task


async def test_an_answer_waits_for_those_before_it() -> None:
    turns = Turns(["a", "b", "c"])
    third, second = await waits(turns, "c"), await waits(turns, "b")
    assert (await waits(turns, "a")).done()
    turns.tell("a")
    await settle()
    assert (second.done(), third.done()) == (True, False)
    turns.tell("b")
    await settle()
    assert third.done()
    assert not turns.over.is_set()
    turns.tell("c")
    assert turns.over.is_set()
    assert turns.told_count == 3


async def test_what_was_not_recorded_waits_for_nothing_but_the_end_of_all() -> None:
    turns = Turns(["a"])
    assert turns.knows("a")
    assert not turns.knows("b")
    assert (await waits(turns, "b")).done()
    assert not turns.over.is_set()
    assert Turns().over.is_set()


async def test_an_answer_that_is_given_up_lets_the_next_one_go() -> None:
    turns = Turns(["a", "b", "c"])
    third = await waits(turns, "c")
    turns.tell("b")
    await settle()
    assert not third.done()
    turns.tell("a")
    await settle()
    assert third.done()
    assert not turns.knows("a")


async def test_who_is_cancelled_takes_nobody_elses_turn() -> None:
    turns = Turns(["a", "b"])
    first, second = await waits(turns, "b"), await waits(turns, "b")
    first.cancel()
    await settle()
    assert first.cancelled()
    assert not second.done()
    turns.tell("a")
    await settle()
    assert second.done()
    assert not second.cancelled()


async def test_what_does_not_fit_any_more_is_let_go_at_once() -> None:
    turns = Turns(["gone", "a", "b"])
    tasks = [await waits(turns, "b"), await waits(turns, "a")]
    turns.release()
    await settle()
    assert all(task.done() for task in tasks)
    assert turns.over.is_set()
    assert not turns.knows("gone")
