"""What a crash leaves, on both engines: finished steps stay finished, orphans end, runs go on."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.workflow_backend.attempts import has_died, pids_with
from tests.workflow_backend.conformance.conftest import require_program
from tests.workflow_backend.conformance.hosts import Host, Task
from tests.workflow_backend.conformance.places import Place, of_step, processes, statuses
from tests.workflow_backend.journals import Gated, step, workflow
from workflow_backend.engines.base import RunEvent
from workflow_backend.engines.temporal.dev_server import DATABASE, DevServer

# How long a worker may be silent; the default of 4 s only makes these tests longer.
QUICK: dict[str, dict[str, Any]] = {
    "journal": {},
    "temporal": {
        "heartbeat_timeout_seconds": 1.5,
        "sticky_seconds": 1.0,
        "task_timeout_seconds": 2.0,
    },
}
NOTE = 'echo "$STEP" >> log'


def read_until(host: Host, kind: str, name: str) -> RunEvent:
    """The event of this type of this step; the host must tell it."""
    while (event := host.read()) is not None:
        if (event["type"], event.get("step")) == (kind, name):
            return event
    raise AssertionError(f"the host ended before {kind} of {name}")


async def test_kill_9_of_the_worker_repeats_only_what_had_not_ended(place: Place) -> None:
    word = f"85{uuid4().int % 10**9}"
    hold = f"{NOTE}; test -e go || sleep {word}"
    flow = workflow(
        step("a", run=NOTE),
        step("b", "a", run=hold),
        step("c", "a", run=hold),
        step("d", "b", "c", run=NOTE),
    )
    task = Task(place, flow, {place.id(): 0}, QUICK[place.kind])
    first = Host(task)
    read_until(first, "step_complete", "a")
    orphans = await processes(word, 2)
    first.kill()
    first.close()
    # The reaper ends them, or they would run beside their own repeats.
    assert all(has_died(pid) for pid in orphans)
    (place.work() / "go").touch()
    async with place.engine(**QUICK[place.kind]) as engine:
        events = await place.follow(engine)
        run = await place.get(engine)
    assert statuses(run) == dict.fromkeys("abcd", "success")
    lines = (place.work() / "log").read_text().split()
    assert sorted(lines) == ["a", "b", "b", "c", "c", "d"]
    assert of_step(events, "a") == ["step_running", "step_complete"]


async def test_a_lost_attempt_is_not_repeated_if_its_step_says_so(place: Place) -> None:
    word = f"85{uuid4().int % 10**9}"
    once = {"limit": 3, "interval": "10ms", "on_worker_lost": False}
    flow = workflow(step("a", run=f"{NOTE}; sleep {word}", retry=once), step("b", "a"))
    first = Host(Task(place, flow, {place.id(): 0}, QUICK[place.kind]))
    await processes(word)
    first.kill()
    first.close()
    async with place.engine(**QUICK[place.kind]) as engine:
        events = await place.follow(engine)
        run = await place.get(engine)
    assert (run.status, statuses(run)) == ("failed", {"a": "failed", "b": "skipped"})
    assert [event.get("status") for event in events if event["type"] == "step_failed"] == [
        "worker_lost"
    ]
    assert "worker_lost" in str(run.error)
    assert (place.work() / "log").read_text().split() == ["a"]


async def test_a_timer_and_a_cancel_outlive_a_crash(place: Place) -> None:
    wait = {"limit": 1, "interval": "1h", "max_interval": "1h"}
    flow = workflow(step("a", run="exit 3", retry=wait))
    first = Host(Task(place, flow, {place.id(): 0}, QUICK[place.kind]))
    read_until(first, "step_failed", "a")
    first.kill()
    first.close()
    executor = Gated()
    async with place.engine(executor, **QUICK[place.kind]) as engine:
        run = await engine.cancel(place.id(), place.owner, "no more")
        await place.follow(engine)
    assert executor.attempts == []
    assert (run.status, run.error) == ("cancelled", "no more")


@pytest.fixture
async def own_server(tmp_path: Path) -> Any:
    """A dev server that a test may kill."""
    require_program()
    server = DevServer(tmp_path / "server")
    await server.start()
    yield server
    await server.stop()


@pytest.mark.timeout(60)
async def test_kill_9_of_the_cluster_repeats_nothing(own_server: DevServer, tmp_path: Path) -> None:
    place = Place(tmp_path, own_server.cluster)
    flow = workflow(
        step("a", run=NOTE),
        step("b", "a", run=f"{NOTE}; until test -e go; do sleep 0.02; done"),
        step("c", "b", run=NOTE),
    )
    async with place.engine() as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        following = asyncio.create_task(place.follow(engine))
        await place.until(engine, "step_running", "b")
        async with asyncio.timeout(20):
            while "b" not in (place.work() / "log").read_text().split():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert own_server.pid is not None
        os.kill(own_server.pid, signal.SIGKILL)
        assert has_died(own_server.pid)
        # The step ends while nobody is there to be told.
        (place.work() / "go").touch()
        events = await following
        run = await place.get(engine)
    assert run.status == "success"
    assert (place.work() / "log").read_text().split() == ["a", "b", "c"]
    assert of_step(events, "b") == ["step_running", "step_complete"]
    assert (tmp_path / "server" / DATABASE).exists()


@pytest.mark.timeout(60)
async def test_the_dev_server_ends_with_the_process_that_has_it(tmp_path: Path) -> None:
    require_program()
    place = Place(tmp_path)
    flow = workflow(step("ask", run=None, approval={"message": "?"}), step("b", "ask"))
    first = Host(Task(place, flow, {place.id(): 0}, {"is_temporal": True, **QUICK["temporal"]}))
    read_until(first, "approval_requested", "ask")
    [server] = pids_with(str(tmp_path / DATABASE))
    first.kill()
    first.close()
    assert has_died(server)
    async with place.engine(Gated(), is_temporal=True, **QUICK["temporal"]) as engine:
        given = {"approved": True, "by": "ann"}
        await engine.signal(place.id(), place.owner, "approval:ask", given)
        await place.follow(engine)
        assert (await place.get(engine)).status == "success"
        [server] = pids_with(str(tmp_path / DATABASE))
    assert has_died(server)
