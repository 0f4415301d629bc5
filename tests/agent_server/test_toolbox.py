"""What the agent's tools may do, and how a run is followed, with the real backend."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
import structlog

from agent_server.toolbox import AgentCaller, Toolbox, ToolboxLimits, WorkflowMode
from agent_server.workflow_run import WorkflowRun
from mcp_bridge import Bridge, Pacing
from providers.chat_request import ToolCall
from streaming.errors import BridgeUnavailableError
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
    Event,
    JsonObject,
    WorkflowEvent,
)
from tests.agents import BACKEND, backend_spec, running_bridge

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND_SECONDS = 20
GREETING = json.dumps({"name": "greet", "steps": [{"name": "hello", "run": "echo hello"}]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bridge]:
    async with running_bridge(backend_spec(tmp_path_factory.mktemp("data"))) as running:
        yield running


async def call(
    toolbox: Toolbox,
    name: str,
    arguments: JsonObject,
    caller: AgentCaller | None = None,
    *,
    run_is_asked: bool = True,
) -> tuple[AgentToolReturned, list[Event]]:
    seen: list[Event] = []

    async def emit(event: Event) -> None:
        seen.append(event)

    async with asyncio.timeout(BOUND_SECONDS):
        returned = await toolbox.call(
            ToolCall("call-1", name, json.dumps(arguments)),
            caller or AgentCaller("tester"),
            run_is_asked=run_is_asked,
            emit=emit,
        )
    return returned, seen


@pytest.mark.parametrize(
    ("mode", "caller", "run_is_asked", "words"),
    [
        ("plan", AgentCaller("tester"), True, "AGENT_SERVER_WORKFLOW_MODE is plan"),
        (
            "run",
            AgentCaller("tester", may_not_execute="Set AGENT_SERVER_API_KEYS."),
            True,
            "Set AGENT_SERVER_API_KEYS.",
        ),
        ("run", AgentCaller("tester"), False, "does not ask to run"),
    ],
    ids=["mode", "caller", "intent"],
)
async def test_a_workflow_that_may_not_run_is_not_run(
    bridge: Bridge, mode: WorkflowMode, caller: AgentCaller, run_is_asked: bool, words: str
) -> None:
    toolbox = Toolbox(bridge, workflow_mode=mode)
    arguments: JsonObject = {"workflow": GREETING}
    before = await bridge.call("list_runs", {}, owner="tester")
    returned, seen = await call(
        toolbox, "execute_workflow", arguments, caller, run_is_asked=run_is_asked
    )
    assert returned.is_error
    assert words in returned.text
    assert seen == [AgentToolCalled("call-1", "execute_workflow", arguments), returned]
    assert await bridge.call("list_runs", {}, owner="tester") == before
    # Everything else may still be done.
    planned, _ = await call(toolbox, "plan_workflow", arguments, caller, run_is_asked=run_is_asked)
    assert json.loads(planned.text)["can_run"] is True


async def test_a_run_gives_its_events_and_then_its_result(bridge: Bridge) -> None:
    returned, seen = await call(Toolbox(bridge), "execute_workflow", {"workflow": GREETING})
    events = [event for event in seen if isinstance(event, WorkflowEvent)]
    assert seen == [seen[0], *events, returned]
    assert [event.data["seq"] for event in events] == list(range(1, len(events) + 1))
    assert returned.structured is not None
    assert returned.structured["status"] == "success"
    assert json.loads(returned.text) == returned.structured


async def test_a_run_belongs_to_its_owner(bridge: Bridge) -> None:
    toolbox = Toolbox(bridge)
    returned, _ = await call(
        toolbox, "execute_workflow", {"workflow": GREETING}, AgentCaller("alice")
    )
    run_id = json.loads(returned.text)["run_id"]
    mine, _ = await call(toolbox, "get_run", {"run_id": run_id}, AgentCaller("alice"))
    assert json.loads(mine.text)["status"] == "success"
    others, _ = await call(toolbox, "get_run", {"run_id": run_id}, AgentCaller("mallory"))
    assert others.is_error
    assert "hello" not in others.text


async def test_who_may_not_run_may_not_cancel_either(bridge: Bridge) -> None:
    toolbox = Toolbox(bridge)
    returned, _ = await call(
        toolbox, "execute_workflow", {"workflow": GREETING}, AgentCaller("team")
    )
    run_id = json.loads(returned.text)["run_id"]
    reader = AgentCaller("team", may_not_execute="The key lacks the scope 'run'.")
    refused, _ = await call(toolbox, "cancel_run", {"run_id": run_id}, reader)
    assert refused.is_error
    assert refused.text == "The key lacks the scope 'run'."
    allowed, _ = await call(toolbox, "cancel_run", {"run_id": run_id}, AgentCaller("team"))
    assert not allowed.is_error


async def test_a_workflow_that_does_not_compile_is_refused_with_the_mend(bridge: Bridge) -> None:
    broken = json.dumps({"name": "x", "steps": [{"name": "a", "runs": "echo"}]})
    returned, seen = await call(Toolbox(bridge), "execute_workflow", {"workflow": broken})
    assert returned.is_error
    assert "steps[0].runs" in returned.text
    assert not [event for event in seen if isinstance(event, WorkflowEvent)]


async def test_a_long_result_stays_readable_json(bridge: Bridge) -> None:
    noisy = json.dumps({"name": "x", "steps": [{"name": "a", "run": "seq 1 3000"}]})
    toolbox = Toolbox(bridge, limits=ToolboxLimits(max_result_characters=2_000))
    returned, _ = await call(toolbox, "execute_workflow", {"workflow": noisy})
    assert len(returned.text) <= 2_000
    read = json.loads(returned.text)
    assert read["status"] == "success"
    assert "characters in all]" in read["steps"][0]["output"]


async def test_a_reader_that_falls_behind_reads_again_from_the_store(bridge: Bridge) -> None:
    steps = [{"name": f"step-{number}", "run": f"echo {number}"} for number in range(30)]
    run = WorkflowRun(bridge, BACKEND, "behind", "tester", resume_seconds=5, max_waiting=4)
    watcher = WorkflowRun(bridge, BACKEND, "behind", "tester", resume_seconds=5)
    seen: list[WorkflowEvent] = []
    gate = asyncio.Event()

    async def emit_late(event: WorkflowEvent) -> None:
        seen.append(event)
        await gate.wait()

    async def emit(_: WorkflowEvent) -> None:
        pass

    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        started = await run.start({"workflow": json.dumps({"name": "many", "steps": steps})})
        assert not started.is_error, started.text
        following = group.create_task(run.follow(emit_late))
        # While the first event is not taken, the run comes to its end.
        await watcher.follow(emit)
        assert len(seen) == 1
        gate.set()
    assert [event.data["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].type == "workflow_complete"
    assert len(seen) > 60
    assert (following.result().structured or {})["status"] == "success"


async def test_events_begin_after_the_one_that_the_reader_has(bridge: Bridge) -> None:
    run = WorkflowRun(bridge, BACKEND, "twice", "tester", resume_seconds=5)
    await run.start({"workflow": GREETING})
    first: list[WorkflowEvent] = []
    second: list[WorkflowEvent] = []

    async def emit_first(event: WorkflowEvent) -> None:
        first.append(event)

    async def emit_second(event: WorkflowEvent) -> None:
        second.append(event)

    async with asyncio.timeout(BOUND_SECONDS):
        await run.follow(emit_first)
        again = WorkflowRun(bridge, BACKEND, "twice", "tester", resume_seconds=5, after_seq=2)
        await again.follow(emit_second)
    assert second == first[2:]


async def test_a_backend_that_stays_away_is_said_in_plain_words(tmp_path: Path) -> None:
    spec = backend_spec(tmp_path, ready_wait_seconds=0.2, pacing=Pacing(backoff_first_seconds=60))
    async with running_bridge(spec) as bridge:
        toolbox = Toolbox(bridge, limits=ToolboxLimits(resume_seconds=0.2))
        [status] = bridge.status()
        assert status.pid is not None
        psutil.Process(status.pid).kill()
        for name, words in (
            ("execute_workflow", "The workflow backend does not answer. Run "),
            ("compile_workflow", "compile_workflow is not available now"),
        ):
            returned, _ = await call(toolbox, name, {"workflow": GREETING})
            assert returned.is_error
            assert words in returned.text
            assert str(tmp_path) not in returned.text
        run = WorkflowRun(bridge, BACKEND, "none", "tester", resume_seconds=0.2)
        with pytest.raises(BridgeUnavailableError):
            await run.start({"workflow": GREETING})


async def test_a_workflow_and_its_run_are_logged_by_name_and_id(bridge: Bridge) -> None:
    toolbox = Toolbox(bridge)
    with structlog.testing.capture_logs() as lines:
        await call(toolbox, "compile_workflow", {"workflow": GREETING})
        await call(toolbox, "compile_workflow", {"workflow": "name: nothing"})
        ran, _ = await call(toolbox, "execute_workflow", {"workflow": GREETING})
    told = [line["event"] for line in lines]
    run_id = (ran.structured or {})["run_id"]
    assert told == [
        "Workflow created: greet",
        "Workflow refused",
        f"Execution started: {run_id}",
        f"Execution finished: {run_id}",
    ]
