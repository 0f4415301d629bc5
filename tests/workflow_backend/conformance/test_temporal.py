"""What only the engine on Temporal has to do: its cluster, its workers, its own tools."""

import asyncio
import base64
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client

from tests.workflow_backend.attempts import LIMITS, has_died
from tests.workflow_backend.conformance.conftest import require_program
from tests.workflow_backend.conformance.places import Place, of_step, processes, statuses, types
from tests.workflow_backend.journals import Gated, step, workflow
from workflow_backend import interpreter
from workflow_backend.engines.base import (
    AttemptResult,
    EngineUnavailableError,
    RunFilter,
    RunOptions,
)
from workflow_backend.engines.temporal import listing
from workflow_backend.engines.temporal.dev_server import DevServer
from workflow_backend.engines.temporal.engine import TemporalEngine
from workflow_backend.engines.temporal.groups import group_id
from workflow_backend.engines.temporal.options import Cluster
from workflow_backend.engines.temporal.runners import UnknownRunnerError
from workflow_backend.engines.temporal.search_attributes import ATTRIBUTES
from workflow_backend.secrets import Secrets
from workflow_backend.steps import StepExecutor, StepSettings

ROOT = Path(__file__).parents[3]


async def client_of(place: Place) -> Client:
    """A client of its own, as an operator has one."""
    assert place.cluster is not None
    return await Client.connect(place.cluster.host, namespace=place.cluster.namespace)


async def history_of(place: Place, name: str = "run") -> str:
    """The whole history as JSON, with nothing decoded."""
    client = await client_of(place)
    return (await client.get_workflow_handle(place.id(name)).fetch_history()).to_json()


async def test_a_run_that_is_terminated_ends_once_with_its_processes(temporal: Place) -> None:
    word = f"84{uuid4().int % 10**9}"
    flow = workflow(step("a", run=f"sleep {word}"), step("b", "a"))
    async with temporal.engine() as engine:
        await engine.start(temporal.id(), flow, {}, temporal.owner)
        following = asyncio.create_task(temporal.follow(engine))
        [pid] = await processes(word)
        client = await client_of(temporal)
        await client.get_workflow_handle(temporal.id()).terminate(reason="by the operator")
        events = await following
        run = await temporal.get(engine)
        assert await asyncio.to_thread(has_died, pid)
        again = await temporal.follow(engine, after_seq=1)
        assert await engine.states(temporal.id(), temporal.owner) == {}
        [listed] = await _listed(engine, temporal, status="cancelled")
    assert types(events) == ["workflow_started", "step_running", "workflow_complete"]
    assert again == events[1:]
    assert (run.status, run.error) == ("cancelled", "terminated in Temporal: by the operator")
    assert statuses(run) == {"a": "cancelled", "b": "cancelled"}
    assert listed.status == "cancelled"


async def test_a_cancel_by_temporals_own_means_ends_the_run_in_order(temporal: Place) -> None:
    executor = Gated("a")
    flow = workflow(step("a"), step("b", "a"), finally_=[step("clean")])
    async with temporal.engine(executor) as engine:
        await engine.start(temporal.id(), flow, {}, temporal.owner)
        await executor.has_started("a")
        client = await client_of(temporal)
        await client.get_workflow_handle(temporal.id()).cancel()
        await temporal.follow(engine)
        run = await temporal.get(engine)
    assert run.status == "cancelled"
    assert statuses(run) == {"a": "cancelled", "b": "skipped", "clean": "success"}


async def test_a_runner_that_nobody_polls_is_refused_with_those_that_there_are(
    temporal: Place,
) -> None:
    flow = workflow(step("a"), runner="nobody")
    async with temporal.engine(Gated(), runners=("gpu",)) as engine:
        assert isinstance(engine, TemporalEngine)
        with pytest.raises(UnknownRunnerError, match=r"runners: local, gpu") as raised:
            await engine.start(temporal.id(), flow, {}, temporal.owner)
        assert "agent-server worker --task-queue nobody" in str(raised.value)
        waiting = workflow(step("a"), runner="gpu")
        await engine.start(temporal.id("waits"), waiting, {}, temporal.owner)
        await temporal.until(engine, "step_running", "a", "waits")
        run = await engine.cancel(temporal.id("waits"), temporal.owner, "nobody comes")
        assert (run.status, statuses(run)) == ("cancelled", {"a": "cancelled"})


@pytest.mark.timeout(90)
async def test_a_worker_of_its_own_makes_steps_and_gives_them_up_in_order(
    temporal: Place, tmp_path: Path
) -> None:
    queue = f"{temporal.name}-gpu"
    word = f"83{uuid4().int % 10**9}"
    flow = workflow(
        step("a", run=f'echo "$STEP" >> log; test -e go || sleep {word}'),
        step("b", "a", run="cat log"),
        runner=queue,
    )
    async with temporal.engine(Gated(), heartbeat_timeout_seconds=1.5) as engine:
        first = await _worker(temporal, queue, tmp_path / "remote")
        await engine.start(temporal.id(), flow, {}, temporal.owner)
        log = tmp_path / "remote" / "runs" / temporal.id() / "work" / "log"
        [pid] = await processes(word)
        first.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(first.wait(), 20) == 0
        assert has_died(pid, 0)
        second = await _worker(temporal, queue, tmp_path / "remote")
        async with asyncio.timeout(20):
            while log.read_text().split() != ["a", "a"]:  # noqa: ASYNC110 - a file of the step
                await asyncio.sleep(0.01)
        [pid] = await processes(word)
        (log.parent / "go").touch()
        second.kill()
        await second.wait()
        assert has_died(pid)
        third = await _worker(temporal, queue, tmp_path / "remote")
        events = await temporal.follow(engine)
        third.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(third.wait(), 20) == 0
        run = await temporal.get(engine)
    assert (run.status, run.steps[1]["output"]) == ("success", "a\na\na\n")
    assert of_step(events, "a") == ["step_running", "step_complete"]


async def test_a_worker_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    worker = await _start_worker({"AGENT_SERVER_DATA_DIR": str(tmp_path)}, "gpu")
    assert worker.stderr is not None
    lines = (await worker.stderr.read()).decode().splitlines()
    assert await worker.wait() == 2
    assert len(lines) == 1
    assert lines[0].startswith("workflow worker: no dev server of Temporal runs on")
    assert "TEMPORAL_HOST" in lines[0]


@pytest.mark.timeout(60)
async def test_a_cluster_that_is_away_fails_calls_in_time_and_is_used_once_it_is_there(
    tmp_path: Path,
) -> None:
    require_program()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    away = Place(tmp_path / "engine", Cluster(f"127.0.0.1:{port}"))
    flow = workflow(step("a"))
    async with away.engine(Gated(), call_timeout_seconds=1.0) as engine:
        began = time.monotonic()
        with pytest.raises(EngineUnavailableError, match=f"127.0.0.1:{port}.*TEMPORAL_HOST"):
            await engine.start(away.id(), flow, {}, away.owner)
        with pytest.raises(EngineUnavailableError):
            await engine.list(RunFilter(away.owner))
        assert time.monotonic() - began < 5
        folder = tmp_path / "server"
        folder.mkdir()
        (folder / "temporal.json").write_text(f'{{"port": {port}, "pid": 1, "birth": null}}')
        server = DevServer(folder)
        await server.start()
        try:
            assert server.cluster.host == f"127.0.0.1:{port}"
            async with asyncio.timeout(20):
                while True:
                    try:
                        await engine.start(away.id(), flow, {}, away.owner)
                        break
                    except EngineUnavailableError:
                        await asyncio.sleep(0.1)
            await away.follow(engine)
            assert (await away.get(engine)).status == "success"
        finally:
            await server.stop()
        # And away again, in the middle of everything.
        with pytest.raises(EngineUnavailableError):
            await away.get(engine)
        began = time.monotonic()
    assert time.monotonic() - began < 10


async def test_no_value_of_a_secret_reaches_the_cluster(temporal: Place) -> None:
    value = f"secret-value-{uuid4().hex}"
    secrets = Secrets({"TOKEN": value})
    executor = StepExecutor(StepSettings(temporal.data_dir, "none", limits=LIMITS, secrets=secrets))
    flow = workflow(
        step(
            "a",
            run='echo "token: $TOKEN"; echo "copy=$TOKEN" >> $OUTPUT; test -n "$TOKEN"',
            env={"TOKEN": "${{ secrets.TOKEN }}"},
        ),
        step("b", "a", env={"GOT": "${{ steps.a.outputs.copy }}"}, run='echo "$GOT" >&2; exit 3'),
        outputs={"copy": "${{ steps.a.outputs.copy }}"},
    )
    async with temporal.engine(executor) as engine:
        await engine.start(temporal.id(), flow, {}, temporal.owner)
        await temporal.follow(engine)
        run = await temporal.get(engine)
    history = await history_of(temporal)
    assert statuses(run) == {"a": "success", "b": "failed"}
    assert "c2VjcmV0cy5UT0tFT" in history or "secrets.TOKEN" in history
    for form in (value, value.encode().hex(), _base64(value)):
        assert form not in history
    assert value not in str(run)


async def test_large_values_are_files_and_a_missing_one_is_told_with_its_folder(
    temporal: Place,
) -> None:
    text = os.urandom(200_000).hex()
    executor = Gated()
    executor.answers = {"a": AttemptResult("success", {"stdout": "", "text": text}, 0)}
    flow = workflow(step("a"), step("b", "a", env={"T": "${{ steps.a.outputs.text }}"}))
    async with temporal.engine(executor) as engine:
        await engine.start(temporal.id(), flow, {}, temporal.owner)
        await temporal.follow(engine)
        assert executor.specs[1].env["T"] == text
        assert len(await history_of(temporal)) < 100_000
        kept = temporal.data_dir / "artefacts" / "claims" / "default" / "runs" / temporal.id()
        files = list(kept.iterdir())
        assert files
        for file in files:
            file.unlink()
        with pytest.raises(EngineUnavailableError, match="AGENT_SERVER_ARTEFACTS_DIR") as raised:
            await engine.get(temporal.id(), temporal.owner)
        assert str(temporal.data_dir / "artefacts") in str(raised.value)


async def test_a_group_goes_on_when_who_is_under_way_was_terminated(temporal: Place) -> None:
    executor = Gated("hold")
    flow, options = workflow(step("hold")), RunOptions(group="g")
    async with temporal.engine(executor) as engine:
        await engine.start(temporal.id("one"), flow, {}, temporal.owner, options)
        await executor.has_started("hold")
        client = await client_of(temporal)
        await client.get_workflow_handle(temporal.id("one")).terminate()
        executor.gates["hold"].set()
        await engine.start(temporal.id("two"), flow, {}, temporal.owner, options)
        await temporal.follow(engine, "two")
        assert (await temporal.get(engine, "two")).status == "success"
        group = client.get_workflow_handle(group_id(temporal.owner, "g"))
        await asyncio.wait_for(group.result(), 20)


async def test_a_run_of_another_interpreter_ends_with_a_reason(
    temporal: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Gated("a")
    async with temporal.engine(executor) as engine:
        await engine.start(temporal.id(), workflow(step("a")), {}, temporal.owner)
        await executor.has_started("a")
    monkeypatch.setattr(interpreter, "SUPPORTED_VERSIONS", frozenset({99}))
    async with temporal.engine(Gated(), sticky_seconds=1.0) as engine:
        client = await client_of(temporal)
        await client.get_workflow_handle(temporal.id()).signal("admit")
        events = await temporal.follow(engine)
        run = await temporal.get(engine)
        await engine.start(temporal.id("new"), workflow(step("a")), {}, temporal.owner)
        await temporal.follow(engine, "new")
        new = await temporal.get(engine, "new")
    assert run.status == new.status == "failed"
    assert "version 2 of the interpreter" in str(run.error)
    assert "versions 99 to 99" in str(new.error)
    assert types(events)[-1] == "workflow_complete"


async def test_a_page_is_cut_out_of_many_runs_by_time(
    temporal: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_SPAN_RUNS", 3)
    monkeypatch.setattr(listing, "_FIRST_SPAN", listing.timedelta(milliseconds=1))
    async with temporal.engine(Gated()) as engine:
        for number in range(9):
            await engine.start(temporal.id(f"r{number}"), workflow(step("a")), {}, temporal.owner)
        await temporal.follow(engine, "r8")
        async with asyncio.timeout(20):
            found: list[str] = []
            while len(found) < 9:
                found, cursor = [], None
                while True:
                    page = await engine.list(RunFilter(temporal.owner, limit=2), cursor)
                    found += [run.run_id for run in page.runs]
                    cursor = page.next_cursor
                    if cursor is None:
                        break
    assert found == [temporal.id(f"r{number}") for number in range(8, -1, -1)]


async def test_two_servers_of_one_queue_share_their_runs(temporal: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other", temporal.cluster, temporal.name)
    first, second = Gated("a"), Gated("a")
    first.gates["a"].set()
    second.gates["a"].set()
    shared: dict[str, Any] = {"task_queue": temporal.name, "sticky_seconds": 0.5}
    async with other.engine(second, **shared) as there:
        async with temporal.engine(first, **shared) as here:
            for number in range(6):
                await here.start(temporal.id(f"r{number}"), workflow(step("a")), {}, temporal.owner)
        for number in range(6):
            await temporal.follow(there, f"r{number}")
            run = await there.get(temporal.id(f"r{number}"), temporal.owner)
            assert run.status == "success"
    assert len(first.attempts) + len(second.attempts) == 6


async def test_a_namespace_gets_the_attributes_that_it_lacks(tmp_path: Path) -> None:
    require_program()
    server = DevServer(tmp_path / "server")
    server._arguments = lambda: [  # type: ignore[method-assign]
        argument
        for argument in DevServer._arguments(server)
        if argument != "--search-attribute" and "=Keyword" not in argument
    ]
    await server.start()
    try:
        place = Place(tmp_path / "engine", server.cluster)
        async with place.engine(Gated()) as engine:
            async with asyncio.timeout(20):
                while True:
                    try:
                        await engine.start(place.id(), workflow(step("a")), {}, place.owner)
                        break
                    except EngineUnavailableError:
                        await asyncio.sleep(0.1)
            await place.follow(engine)
            assert len(await _listed(engine, place)) == 1
    finally:
        await server.stop()
    assert len(ATTRIBUTES) == 4


async def _listed(engine: Any, place: Place, **fields: Any) -> tuple[Any, ...]:
    async with asyncio.timeout(20):
        while True:
            page = await engine.list(RunFilter(place.owner, **fields))
            if page.runs:
                return tuple(page.runs)
            await asyncio.sleep(0.02)


async def _worker(place: Place, queue: str, data_dir: Path) -> asyncio.subprocess.Process:
    """A worker process that polls."""
    assert place.cluster is not None
    environment = {
        "AGENT_SERVER_DATA_DIR": str(data_dir),
        "AGENT_SERVER_ARTEFACTS_DIR": str(place.data_dir / "artefacts"),
        "AGENT_SERVER_ISOLATION": "none",
        "TEMPORAL_HOST": place.cluster.host,
    }
    worker = await _start_worker(environment, queue)
    assert worker.stdout is not None
    line = await asyncio.wait_for(worker.stdout.readline(), 20)
    assert line.startswith(b"workflow worker: polls")
    return worker


async def _start_worker(environment: dict[str, str], queue: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent_server", "worker",
        "--task-queue", queue, "--grace-seconds", "0.2",
        env={"PATH": "/usr/bin:/bin", "HOME": environment["AGENT_SERVER_DATA_DIR"], **environment},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode().rstrip("=")
