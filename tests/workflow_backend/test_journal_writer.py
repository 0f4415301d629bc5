"""The writer's thread: order, group commit, failures that stay alone."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from workflow_backend.engines.journal import writer as writer_module
from workflow_backend.engines.journal.writer import JournalBrokenError, JournalWriter


class Log:
    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.rollbacks = 0

    def rolled_back(self) -> None:
        self.rollbacks += 1


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def writer(tmp_path: Path, log: Log) -> AsyncIterator[JournalWriter]:
    connection = sqlite3.connect(
        tmp_path / "test.db", isolation_level=None, check_same_thread=False
    )
    connection.execute("CREATE TABLE numbers (n INTEGER UNIQUE)")
    writer = JournalWriter(connection, log.batches.append, log.rolled_back)
    yield writer
    await writer.close()


def insert(number: int) -> writer_module.Change[int]:
    def change(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        return number

    return change


def everything(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT n FROM numbers ORDER BY rowid")]


async def test_changes_are_made_in_order_and_many_in_one_commit(
    writer: JournalWriter, log: Log
) -> None:
    blocked = threading.Event()
    first = await writer.put(lambda _: blocked.wait(20))
    answers = [await writer.put(insert(number)) for number in range(500)]
    blocked.set()
    assert await first
    assert await asyncio.gather(*answers) == list(range(500))
    assert await (await writer.put(everything)) == list(range(500))
    assert len(log.batches) <= 4


async def test_a_change_that_fails_fails_alone_and_is_remembered(
    writer: JournalWriter, log: Log
) -> None:
    blocked = threading.Event()
    first = await writer.put(lambda _: blocked.wait(20))
    answers = [await writer.put(insert(number)) for number in (1, 2, 2, 3)]
    blocked.set()
    await first
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert [results[0], results[1], results[3]] == [1, 2, 3]
    assert isinstance(results[2], JournalBrokenError)
    assert "UNIQUE" in str(results[2])
    assert log.rollbacks >= 2
    with pytest.raises(JournalBrokenError, match="UNIQUE"):
        await writer.put(insert(4))


async def test_a_change_that_cannot_be_made_does_not_close_the_journal(
    writer: JournalWriter, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO numbers VALUES (?)", ("\ud800",))

    with pytest.raises(UnicodeEncodeError):
        await (await writer.put(wrong))
    assert await (await writer.put(insert(1))) == 1
    assert "was not made" in caplog.text


async def test_the_queue_is_bounded(writer: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_QUEUED", 3)
    blocked = threading.Event()
    for _ in range(3):
        await writer.put(lambda _: blocked.wait(20))
    waiting = asyncio.ensure_future(writer.put(insert(1)))
    await asyncio.sleep(0)
    assert not waiting.done()
    blocked.set()
    assert await (await asyncio.wait_for(waiting, 20)) == 1


async def test_close_writes_what_is_queued(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "closing.db"
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE numbers (n INTEGER UNIQUE)")
    writer = JournalWriter(connection, log.batches.append, log.rolled_back)
    for number in range(3_000):
        writer.put_now(insert(number))
    await writer.close()
    with pytest.raises(JournalBrokenError, match="closed"):
        writer.put_now(insert(1))
    with sqlite3.connect(path) as reader:
        assert everything(reader) == list(range(3_000))
    reader.close()
