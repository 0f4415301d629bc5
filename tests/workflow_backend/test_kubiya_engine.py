"""The remote engine against a server that speaks as Kubiya's API: runs, ends, cancels, crashes."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.workflow_backend.kubiya_api import KEY, KubiyaApi, Stream, data, kubiya_api
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.parse import parse_workflow
from workflow_backend.engines.base import (
    EngineBusyError,
    EngineUnavailableError,
    Run,
    RunConflictError,
    RunEndedError,
    RunFilter,
    RunNotFoundError,
)
from workflow_backend.engines.journal import JournalLockedError
from workflow_backend.engines.kubiya.client import Patience
from workflow_backend.engines.kubiya.engine import KubiyaEngine, KubiyaSettings
from workflow_backend.engines.kubiya.vendor_workflow import translate
from workflow_backend.step_state import StepState

SOON = 15.0
OWNER = "alice"
WORKFLOW = parse_workflow(
    """
name: demo
inputs: {who: {type: string, default: you}}
steps:
  - {name: build, run: 'echo hi "$WHO"', env: {WHO: "${{ inputs.who }}"}}
  - {name: test, run: make test, depends: [build]}
outputs: {said: "${{ steps.build.outputs.stdout }}"}
"""
)
RUNNING = data('{"type":"step_running","step":{"name":"build"}}')
BUILT = data('{"type":"step_finished","step":{"name":"build","status":"finished","output":"hi"}}')
TESTED = data('{"type":"step_complete","step":"test","output":"ok"}')
HEARTBEAT = data('{"type":"heartbeat"}', "2:")
END = data('{"finishReason":"stop"}', "d:")
GOOD = Stream([RUNNING, HEARTBEAT, BUILT, TESTED, END, data("[DONE]")])


@asynccontextmanager
async def engine_on(
    folder: Path, api: KubiyaApi, *, key: str = KEY, silence: float = 5.0, **settings: Any
) -> AsyncIterator[KubiyaEngine]:
    patience = Patience(connect=2, answer=2, start=2, silence=silence)
    async with KubiyaEngine(KubiyaSettings(folder, api.url, key, patience, **settings)) as engine:
        yield engine


async def ended(engine: KubiyaEngine, run_id: str) -> tuple[Run, list[Mapping[str, object]]]:
    """The run and its events, once it has ended."""
    async with asyncio.timeout(SOON):
        events = [event async for event in engine.events(run_id, OWNER)]
    return await engine.get(run_id, OWNER), events


async def run_of(
    folder: Path, *streams: Stream, workflow: Workflow = WORKFLOW, **options: Any
) -> tuple[Run, list[Mapping[str, object]], KubiyaApi]:
    """What one run comes to with these answers."""
    async with kubiya_api(*streams) as api, engine_on(folder, api, **options) as engine:
        await engine.start("r1", workflow, {"who": "me"}, OWNER)
        return (*await ended(engine, "r1"), api)


def kinds(events: list[Mapping[str, object]]) -> list[tuple[object, object]]:
    return [(event["type"], event.get("step")) for event in events]


async def test_a_run_is_sent_once_and_recorded_with_its_steps_and_outputs(tmp_path: Path) -> None:
    run, events, api = await run_of(tmp_path, GOOD)
    assert (run.status, run.error, run.engine) == ("success", None, "kubiya")
    assert run.outputs == {"said": "hi"}
    assert [(step["name"], step["status"], step["output"]) for step in run.steps] == [
        ("build", "success", "hi"),
        ("test", "success", "ok"),
    ]
    assert kinds(events) == [
        ("workflow_started", None),
        ("step_running", "build"),
        ("step_complete", "build"),
        ("step_running", "test"),
        ("step_complete", "test"),
        ("workflow_complete", None),
    ]
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert all(event["run_id"] == "r1" and event["time"] for event in events)
    assert events[-1]["duration"]
    (started,) = api.started
    assert started.query["runner"] == "kubiya-hosted"
    assert started.body == translate(WORKFLOW).body({"who": "me"})


async def test_the_runner_of_a_workflow_is_the_one_that_is_asked(tmp_path: Path) -> None:
    chosen = WORKFLOW.model_copy(update={"runner": "gke"})
    _, _, api = await run_of(tmp_path, GOOD, workflow=chosen)
    assert api.started[0].query["runner"] == "gke"


async def test_a_start_is_idempotent_by_its_id_and_never_sent_twice(tmp_path: Path) -> None:
    async with kubiya_api(GOOD) as api, engine_on(tmp_path, api) as engine:
        starts = [engine.start("r1", WORKFLOW, {}, OWNER) for _ in range(5)]
        await asyncio.gather(*starts)
        await ended(engine, "r1")
        again = await engine.start("r1", WORKFLOW, {}, OWNER)
        assert again.status == "success"
        other = WORKFLOW.model_copy(update={"description": "another"})
        for workflow, owner in ((other, OWNER), (WORKFLOW, "bob")):
            with pytest.raises(RunConflictError):
                await engine.start("r1", workflow, {}, owner)
        assert len(api.started) == 1


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (Stream([RUNNING, BUILT], ending="cut"), "not started again"),
        (Stream([RUNNING, BUILT]), "the stream ended before the run did"),
        (Stream([RUNNING], ending="silence"), "nothing was heard"),
        (Stream([RUNNING, b'event: error\ndata: {"error":"no pod"}\n\n']), "no pod"),
        (Stream([b"bad key"], status=401, content_type="text/plain"), "KUBIYA_API_KEY"),
        (Stream([b"no"], status=404, content_type="text/plain"), "KUBIYA_BASE_URL"),
        (Stream([b"oops"], status=500, content_type="text/plain"), "not sent twice"),
        (Stream([RUNNING, b"data: {" + b"x" * 100 + b"\n"] * 3, ending="cut"), "not started again"),
    ],
)
async def test_whatever_goes_wrong_the_run_ends_as_failed_and_is_not_sent_again(
    tmp_path: Path, stream: Stream, said: str
) -> None:
    run, events, api = await run_of(tmp_path, stream, silence=0.5)
    assert run.status == "failed"
    assert said in str(run.error)
    assert events[-1]["type"] == "workflow_complete"
    assert all(step["status"] not in {"running", "pending"} for step in run.steps)
    assert len(api.started) == 1


async def test_an_address_where_nobody_answers_fails_the_run(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    api = KubiyaApi()
    api.url = f"http://127.0.0.1:{unused_tcp_port}"
    chosen = WORKFLOW.model_copy(update={"runner": "gke"})
    async with engine_on(tmp_path, api) as engine:
        await engine.start("r1", chosen, {}, OWNER)
        run, _ = await ended(engine, "r1")
        with pytest.raises(EngineUnavailableError):
            await engine.runners()
    assert run.status == "failed"
    assert "cannot be reached" in str(run.error)


async def test_the_key_is_nowhere_in_what_is_kept(tmp_path: Path) -> None:
    leak = data(json.dumps({"type": "step_failed", "step": "build", "error": f"Bearer {KEY}"}))
    refused = Stream([f"{KEY} is bad".encode()], status=403, content_type="text/plain")
    for number, stream in enumerate([Stream([leak, END]), refused]):
        folder = tmp_path / str(number)
        run, events, _ = await run_of(folder, stream)
        assert run.status == "failed"
        assert KEY not in f"{run} {events}"
        for file in folder.glob("kubiya.db*"):
            assert KEY.encode() not in file.read_bytes()


async def test_events_come_while_the_run_goes_on_and_from_any_number(tmp_path: Path) -> None:
    gate = asyncio.Event()
    slow = Stream([RUNNING, gate, BUILT, TESTED, END])
    async with kubiya_api(slow) as api, engine_on(tmp_path, api) as engine:
        await engine.start("r1", WORKFLOW, {}, OWNER)
        seen: list[Mapping[str, object]] = []
        async with asyncio.timeout(SOON):
            async for event in engine.events("r1", OWNER):
                seen.append(event)
                if event["type"] == "step_running" and event["step"] == "build":
                    assert (await engine.get("r1", OWNER)).status == "running"
                    assert await engine.states("r1", OWNER) == {}
                    gate.set()
            rest = [event async for event in engine.events("r1", OWNER, 3)]
    assert [event["seq"] for event in seen] == [1, 2, 3, 4, 5, 6]
    assert rest == seen[3:]


async def test_a_cancel_leaves_the_stream_and_says_that_it_may_go_on_there(tmp_path: Path) -> None:
    stream = Stream([RUNNING], ending="silence")
    async with kubiya_api(stream) as api, engine_on(tmp_path, api) as engine:
        await engine.start("r1", WORKFLOW, {}, OWNER)
        async with asyncio.timeout(SOON):
            await api.has_started.wait()
            run = await engine.cancel("r1", OWNER, "no longer needed")
            await api.started[0].client_left.wait()
        assert run.status == "cancelled"
        assert "no longer needed" in str(run.error)
        assert "may go on there" in str(run.error)
        again = await engine.cancel("r1", OWNER, "twice")
        assert again == run
        states = await engine.states("r1", OWNER)
        assert {state.status for state in states.values()} <= {"cancelled", "skipped"}


async def test_a_run_that_waits_for_its_turn_is_cancelled_without_being_sent(
    tmp_path: Path,
) -> None:
    stream = Stream([RUNNING], ending="silence")
    async with (
        kubiya_api(stream) as api,
        engine_on(tmp_path, api, max_running_runs=1, max_waiting_runs=2) as engine,
    ):
        await engine.start("r1", WORKFLOW, {}, OWNER)
        await api.has_started.wait()
        await engine.start("r2", WORKFLOW, {}, OWNER)
        with pytest.raises(EngineBusyError):
            await engine.start("r3", WORKFLOW, {}, OWNER)
        run = await engine.cancel("r2", OWNER, "never mind")
        assert (run.status, run.error) == ("cancelled", "cancelled: never mind")
        assert len(api.started) == 1


async def test_the_timeout_of_a_workflow_ends_its_run(tmp_path: Path) -> None:
    quick = WORKFLOW.model_copy(update={"timeout": "500ms"})
    run, _, _ = await run_of(tmp_path, Stream([RUNNING], ending="silence"), workflow=quick)
    assert run.status == "timed_out"
    assert run.steps[0]["status"] == "timed_out"


async def test_what_kubiya_lacks_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    asking = parse_workflow("name: a\nsteps: [{name: s, approval: {message: ok?}}]")
    async with kubiya_api(GOOD) as api, engine_on(tmp_path, api) as engine:
        with pytest.raises(EngineUnavailableError, match=r"steps\[0\].approval"):
            await engine.start("r1", asking, {}, OWNER)
        with pytest.raises(RunNotFoundError):
            await engine.get("r1", OWNER)
        assert engine.lacks(WORKFLOW) == []
        assert api.started == []


async def test_signals_are_refused_and_anothers_runs_unknown(tmp_path: Path) -> None:
    async with kubiya_api(GOOD) as api, engine_on(tmp_path, api) as engine:
        await engine.start("r1", WORKFLOW, {}, OWNER)
        with pytest.raises(RunEndedError, match="takes no approvals or signals"):
            await engine.signal("r1", OWNER, "approval:build", {"approved": True})
        with pytest.raises(RunNotFoundError):
            await engine.signal("r1", "bob", "approval:build", {})
        for call in (engine.get, engine.workflow, engine.states):
            with pytest.raises(RunNotFoundError):
                await call("r1", "bob")
        assert (await engine.list(RunFilter("bob"))).runs == ()
        assert await engine.workflow("r1", OWNER) == WORKFLOW


async def test_runs_are_listed_newest_first_with_a_cursor(tmp_path: Path) -> None:
    async with kubiya_api(GOOD) as api, engine_on(tmp_path, api) as engine:
        for number in range(3):
            await engine.start(f"r{number}", WORKFLOW, {}, OWNER)
            await ended(engine, f"r{number}")
        first = await engine.list(RunFilter(OWNER, limit=2))
        rest = await engine.list(RunFilter(OWNER, limit=2), first.next_cursor)
        assert [run.run_id for run in (*first.runs, *rest.runs)] == ["r2", "r1", "r0"]
        assert {run.engine for run in first.runs} == {"kubiya"}


async def test_the_runners_are_those_of_the_api_after_the_one_for_the_default(
    tmp_path: Path,
) -> None:
    async with kubiya_api(GOOD) as api, engine_on(tmp_path, api) as engine:
        assert await engine.runners() == ("local", "kubiya-hosted", "gke")
        health = {runner.name: runner.is_healthy for runner in await engine.runner_details()}
        assert health == {"local": True, "kubiya-hosted": True, "gke": None}


async def test_an_id_is_taken_whoever_has_it(tmp_path: Path) -> None:
    async with kubiya_api(GOOD) as api, engine_on(tmp_path, api) as engine:
        assert not await engine.has("r1")
        await engine.start("r1", WORKFLOW, {}, OWNER)
        assert await engine.has("r1")


async def test_a_server_that_stops_ends_its_runs_as_lost(tmp_path: Path) -> None:
    async with kubiya_api(Stream([RUNNING], ending="silence")) as api:
        async with engine_on(tmp_path, api) as engine:
            await engine.start("r1", WORKFLOW, {}, OWNER)
            await api.has_started.wait()
        async with engine_on(tmp_path, api) as engine:
            run, events = await ended(engine, "r1")
        assert run.status == "failed"
        assert "this server was stopped" in str(run.error)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert len(api.started) == 1


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.workflow_backend.test_kubiya_engine import OWNER, WORKFLOW, KEY
from workflow_backend.engines.kubiya.engine import KubiyaEngine, KubiyaSettings

async def main():
    async with KubiyaEngine(KubiyaSettings(Path(sys.argv[1]), sys.argv[2], KEY)) as engine:
        await engine.start("r1", WORKFLOW, {}, OWNER)
        async for event in engine.events("r1", OWNER):
            print(event["type"], flush=True)

asyncio.run(main())
"""


async def test_a_process_that_was_killed_leaves_a_run_that_is_lost_and_not_sent_again(
    tmp_path: Path,
) -> None:
    async with kubiya_api(Stream([RUNNING, BUILT], ending="silence")) as api:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(tmp_path), api.url,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        assert child.stdout is not None
        async with asyncio.timeout(SOON):
            while await child.stdout.readline() != b"step_complete\n":
                pass
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        async with engine_on(tmp_path, api) as engine:
            run, events = await ended(engine, "r1")
            states = await engine.states("r1", OWNER)
        assert len(api.started) == 1
    assert run.status == "failed"
    assert "process died" in str(run.error)
    assert "not started again" in str(run.error)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert states["build"] == StepState("success", {"stdout": "hi"}, attempts=1)
    assert states["test"].status == "skipped"


async def test_a_run_that_was_recorded_but_never_sent_is_sent_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with kubiya_api(Stream([RUNNING], ending="silence"), GOOD) as api:
        async with engine_on(tmp_path, api, max_running_runs=1) as engine:
            await engine.start("r1", WORKFLOW, {}, OWNER)
            await api.has_started.wait()
            await engine.start("r2", WORKFLOW, {}, OWNER)
        async with engine_on(tmp_path, api) as engine:
            run, _ = await ended(engine, "r2")
        assert run.status == "success"
        assert len(api.started) == 2


async def test_two_engines_do_not_share_a_folder(tmp_path: Path) -> None:
    async with kubiya_api(GOOD) as api, engine_on(tmp_path, api):
        with pytest.raises(JournalLockedError):
            await KubiyaEngine(KubiyaSettings(tmp_path, api.url, KEY)).open()


async def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    await run_of(tmp_path, GOOD)
    assert (tmp_path / "kubiya.db").stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(tmp_path / "kubiya.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)


async def test_thirty_runs_go_on_side_by_side(tmp_path: Path) -> None:
    async with kubiya_api(GOOD) as api, engine_on(tmp_path, api) as engine:
        ids = [f"r{number}" for number in range(30)]
        await asyncio.gather(*(engine.start(run_id, WORKFLOW, {}, OWNER) for run_id in ids))
        found = await asyncio.gather(*(ended(engine, run_id) for run_id in ids))
        assert {run.status for run, _ in found} == {"success"}
        assert all([event["seq"] for event in events] == [1, 2, 3, 4, 5, 6] for _, events in found)
        assert len(api.started) == 30


def test_the_settings_do_not_show_the_key(tmp_path: Path) -> None:
    assert KEY not in repr(KubiyaSettings(tmp_path, "https://api.kubiya.ai", KEY))
