"""The journal engine over restarts: what is recorded is never done again, the rest is."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.workflow_backend.attempts import LIMITS, has_died, pids_with
from tests.workflow_backend.journals import (
    OWNER,
    Gated,
    chain,
    follow,
    journal,
    step,
    types,
    workflow,
)
from workflow_backend.engines.base import AttemptResult
from workflow_backend.engines.journal import (
    EngineClosedError,
    JournalBrokenError,
    JournalLockedError,
    JournalVersionError,
    schema,
)
from workflow_backend.reaper import MARK_VARIABLE, birth_of
from workflow_backend.steps import StepExecutor, StepSettings

BAD = AttemptResult("failed", {"stdout": ""}, 3, "exit code 3")


async def test_close_leaves_a_run_that_goes_on_with_the_next_open(tmp_path: Path) -> None:
    flow = workflow(step("a"), step("b", "a"), step("c", "b"))
    first = Gated("b")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await first.has_started("b")
        events = engine.events("run-1", OWNER)
        seen = [await anext(events) for _ in range(4)]
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
    with pytest.raises(EngineClosedError):
        await waiting
    assert types(seen)[-1] == "step_running"

    second = Gated()
    async with journal(tmp_path, second) as engine:
        rest = await follow(engine, "run-1", after_seq=4)
        assert (await engine.get("run-1", OWNER)).status == "success"
    assert first.attempts == ["a#1", "b#1"]
    assert second.attempts == ["b#1", "c#1"]
    assert types(rest) == ["step_running", "step_complete"] * 2 + ["workflow_complete"]


async def test_a_run_that_never_began_begins_after_the_restart(tmp_path: Path) -> None:
    blocking = Gated("a")
    async with journal(tmp_path, blocking, max_running_runs=1) as engine:
        await engine.start("run-1", workflow(step("a")), {}, OWNER)
        await engine.start("run-2", chain(2), {}, OWNER)
        await blocking.has_started("a")
    async with journal(tmp_path, Gated()) as engine:
        assert types(await follow(engine, "run-1"))[-1] == "workflow_complete"
        assert types(await follow(engine, "run-2"))[-1] == "workflow_complete"


async def test_a_result_is_used_again_with_its_outputs_and_its_retry(tmp_path: Path) -> None:
    flow = workflow(
        step("a", retry={"limit": 2, "interval": "1ms"}),
        step("b", "a", env={"GOT": "${{ steps.a.outputs.size }}"}),
    )
    first = Gated("b")
    first.answers = {"a#1": BAD, "a#2": AttemptResult("success", {"stdout": "", "size": "7"}, 0)}
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await first.has_started("b")
    second = Gated()
    async with journal(tmp_path, second) as engine:
        await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    assert second.attempts == ["b#1"]
    assert second.specs[0].env == {"GOT": "7"}
    assert run.steps[0]["attempt"] == 2


async def test_an_interrupted_attempt_is_lost_if_its_step_says_so(tmp_path: Path) -> None:
    once = step("a", retry={"limit": 3, "on_worker_lost": False})
    first = Gated("a")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", workflow(once), {}, OWNER)
        await first.has_started("a")
    second = Gated()
    async with journal(tmp_path, second) as engine:
        events = await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    assert second.attempts == []
    assert run.status == "failed"
    assert "worker_lost" in str(run.error)
    assert types(events)[-2:] == ["step_failed", "workflow_complete"]
    assert events[-2]["will_retry"] is False


async def test_a_timer_goes_on_where_it_was(tmp_path: Path) -> None:
    flow = workflow(step("a", retry={"limit": 1, "interval": "1h", "max_interval": "1h"}))
    first = Gated()
    first.answers = {"a#1": BAD}
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        events = engine.events("run-1", OWNER)
        assert types([await anext(events) for _ in range(3)])[-1] == "step_failed"
        await events.aclose()
        await _recorded(engine, "run-1", "a#1:sleep")
    # An hour has passed by the time of the next open.
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        past = b"%d" % (time.time() - 1)
        connection.execute("UPDATE records SET value = ? WHERE key = 'a#1:sleep'", (past,))
    connection.close()
    second = Gated()
    async with journal(tmp_path, second) as engine:
        await follow(engine, "run-1")
    assert second.attempts == ["a#2"]


async def test_a_cancel_that_was_asked_for_holds_over_a_restart(tmp_path: Path) -> None:
    first = Gated("a")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", workflow(step("a"), step("b", "a")), {}, OWNER)
        await first.has_started("a")
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("UPDATE runs SET cancel_reason = 'asked for'")
    connection.close()
    second = Gated()
    async with journal(tmp_path, second) as engine:
        await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    assert (run.status, run.error) == ("cancelled", "asked for")
    assert second.attempts == []


async def test_a_run_of_another_interpreter_ends_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Gated("a")
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", workflow(step("a")), {}, OWNER)
        await first.has_started("a")
    monkeypatch.setattr(
        "workflow_backend.engines.journal.scheduler.SUPPORTED_VERSIONS", frozenset({98, 99})
    )
    async with journal(tmp_path, Gated()) as engine:
        await follow(engine, "run-1")
        run = await engine.get("run-1", OWNER)
    assert run.status == "failed"
    assert "version 2 of the interpreter" in str(run.error)


async def test_close_ends_the_processes_of_steps(tmp_path: Path) -> None:
    word = f"87{uuid4().int % 10**9}"
    flow = workflow(step("a", run=f"echo up; sleep {word} & sleep {word}"))
    engine = journal(tmp_path, StepExecutor(StepSettings(tmp_path, "none", limits=LIMITS)))
    async with engine:
        await engine.start("run-1", flow, {}, OWNER)
        async for event in engine.events("run-1", OWNER):
            if event["type"] == "step_output":
                break
        assert len(pids_with(word)) >= 1
    assert all(has_died(pid) for pid in pids_with(word))


def _sleeper(env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], start_new_session=True, env=env)


HOST = """
import asyncio, sys
from pathlib import Path
from tests.workflow_backend.journals import Gated, journal

async def main():
    async with journal(Path(sys.argv[1]), Gated(), owner_url="http://127.0.0.1:8123"):
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def _host(folder: Path) -> subprocess.Popen[str]:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert host.stdout is not None
    assert host.stdout.readline() == "open\n"
    return host


async def test_a_second_process_is_refused_and_told_who_has_the_journal(tmp_path: Path) -> None:
    host = _host(tmp_path)
    try:
        with pytest.raises(JournalLockedError) as raised:
            await journal(tmp_path, Gated()).open()
        assert raised.value.pid == host.pid
        assert raised.value.url == "http://127.0.0.1:8123"
        assert str(host.pid) in str(raised.value)
        assert "http://127.0.0.1:8123" in str(raised.value)
        owner = json.loads((tmp_path / "journal.lock").read_text())
        assert owner == {"pid": host.pid, "url": "http://127.0.0.1:8123"}
    finally:
        host.send_signal(signal.SIGKILL)
        host.communicate(timeout=20)
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", chain(1), {}, OWNER)
        await follow(engine, "run-1")


async def test_an_open_that_fails_gives_the_lock_back(tmp_path: Path) -> None:
    class Refusing(Gated):
        async def open(self) -> None:
            raise RuntimeError("no isolation")

    with pytest.raises(RuntimeError, match="no isolation"):
        await journal(tmp_path, Refusing()).open()
    async with journal(tmp_path, Gated()):
        pass


async def test_groups_noted_in_the_journal_are_ended_at_the_next_open(tmp_path: Path) -> None:
    async with journal(tmp_path, Gated()):
        pass
    left, other, marked = _sleeper(), _sleeper(), _sleeper({MARK_VARIABLE: "left-mark"})
    try:
        with sqlite3.connect(tmp_path / "journal.db") as connection:
            groups = [
                ("left-mark", left.pid, birth_of(left.pid)),
                ("other-mark", other.pid, "another boot:1"),
            ]
            connection.executemany("INSERT INTO process_groups VALUES (?, ?, ?)", groups)
        async with journal(tmp_path, Gated()):
            assert connection.execute("SELECT count(*) FROM process_groups").fetchone() == (0,)
        connection.close()
        assert left.wait(20) == -signal.SIGKILL
        assert marked.wait(20) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (left, other, marked):
            process.kill()
            process.wait()


async def test_groups_are_noted_while_they_run_and_forgotten_with_the_result(
    tmp_path: Path,
) -> None:
    flow = workflow(step("a", run="echo up; until test -e go; do sleep 0.05; done"))
    executor = StepExecutor(StepSettings(tmp_path, "none", limits=LIMITS))
    async with journal(tmp_path, executor) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        async for event in engine.events("run-1", OWNER):
            if event["type"] == "step_output":
                break
        with sqlite3.connect(tmp_path / "journal.db") as connection:
            [(pgid, birth)] = connection.execute(
                "SELECT pgid, birth FROM process_groups"
            ).fetchall()
            assert birth_of(pgid) == birth
            (tmp_path / "runs/run-1/work/go").touch()
            await follow(engine, "run-1")
            assert connection.execute("SELECT count(*) FROM process_groups").fetchone() == (0,)
        connection.close()


async def test_a_newer_file_and_a_damaged_one_are_refused_with_the_mend(tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    async with journal(newer, Gated()):
        pass
    with sqlite3.connect(newer / "journal.db") as connection:
        connection.execute("INSERT INTO schema_version VALUES (99)")
    connection.close()
    with pytest.raises(JournalVersionError, match="format 99, this program knows up to"):
        await journal(newer, Gated()).open()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "journal.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalBrokenError, match="move it away"):
        await journal(damaged, Gated()).open()


async def test_an_older_file_is_migrated_once_and_a_failed_step_leaves_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", chain(1), {}, OWNER)
        await follow(engine, "run-1")

    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE runs ADD COLUMN colour TEXT")
        connection.execute("SELECT nonsense")

    def works(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE runs ADD COLUMN colour TEXT")

    versions = schema._MIGRATIONS
    monkeypatch.setattr(schema, "_MIGRATIONS", (*versions, fails))
    with pytest.raises(JournalBrokenError):
        await journal(tmp_path, Gated()).open()
    monkeypatch.setattr(schema, "_MIGRATIONS", (*versions, works))
    for _ in range(2):
        async with journal(tmp_path, Gated()) as engine:
            assert (await engine.get("run-1", OWNER)).status == "success"
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        rows = connection.execute("SELECT version FROM schema_version").fetchall()
    connection.close()
    assert Counter(rows) == {(number,): 1 for number in range(1, len(versions) + 2)}


async def _recorded(engine: Any, run_id: str, key: str) -> None:
    """Until the record is in the file."""
    row = await engine._store.find(run_id, OWNER)
    async with asyncio.timeout(20):
        while key not in await engine._store.records(row.id):
            continue
