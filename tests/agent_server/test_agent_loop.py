"""The agent with the real bridge and backend: what it asks, what it calls, how it ends."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from typing_extensions import override

from agent_server.agent_bounds import AgentLimits
from agent_server.toolbox import AgentCaller
from mcp_bridge import Bridge
from providers.base import ModelInfo, Provider
from providers.chat_request import ChatRequest, Message, TextPart, ToolCall, ToolChoice, ToolSpec
from streaming.errors import (
    AgentLimitError,
    InvalidRequestError,
    OverloadedError,
    UpstreamConnectionError,
)
from streaming.events import (
    AgentToolCalled,
    Event,
    Finished,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    WorkflowEvent,
)
from tests.agents import (
    BACKEND,
    agent_on,
    backend_spec,
    finish_of,
    running_bridge,
    running_model,
    text_of,
    tool_results,
    workflow_events,
)
from tests.scripted_model import Call, Turn

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND_SECONDS = 20
WEATHER = ToolSpec("get_weather", "The weather.", {"type": "object", "properties": {}})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bridge]:
    async with running_bridge(backend_spec(tmp_path_factory.mktemp("data"))) as running:
        yield running


async def read(events: AsyncGenerator[Event, None], seen: list[Event] | None = None) -> list[Event]:
    """The events of an answer; in `seen` they are there even if it fails."""
    seen = [] if seen is None else seen
    async with asyncio.timeout(BOUND_SECONDS), aclosing(events):
        async for event in events:
            seen.append(event)
    return seen


def workflow(*commands: str, name: str = "test") -> str:
    steps = [
        {"name": f"step-{number}", "run": command, "depends": [f"step-{number - 1}"][: number - 1]}
        for number, command in enumerate(commands, start=1)
    ]
    return json.dumps({"name": name, "steps": steps})


def wait_for(path: Path) -> str:
    """A command that ends once the file is there."""
    return f"until [ -e {path} ]; do sleep 0.02; done"


def assistant(*calls: ToolCall, text: str = "") -> Message:
    return Message("assistant", (TextPart(text),) if text else (), tool_calls=calls)


def tool(call_id: str, text: str) -> Message:
    return Message("tool", (TextPart(text),), tool_call_id=call_id)


async def run_status(bridge: Bridge, run_id: str, owner: str) -> str:
    result = await bridge.call_server(BACKEND, "watch_run", {"run_id": run_id}, owner=owner)
    assert result.structured is not None, result.text
    return str(result.structured["status"])


async def test_a_health_check_is_created_and_run_step_by_step(bridge: Bridge) -> None:
    async with agent_on(bridge) as agent:
        events = await read(agent.ask("Create and run a system health check"))
    seen = workflow_events(events)
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert seen[0]["type"] == "workflow_started"
    assert {event["type"] for event in seen} >= {"step_running", "step_complete"}
    assert (seen[-1]["type"], seen[-1]["status"]) == ("workflow_complete", "success")
    answer = text_of(events)
    assert "ended with **success**" in answer
    assert seen[0]["run_id"] in answer
    assert "rules, not a model" in answer
    assert isinstance(events[0], Started)
    assert finish_of(events) == Finished("stop", usage=Usage())


async def test_the_model_compiles_runs_and_answers(bridge: Bridge) -> None:
    definition = workflow("echo hello")
    turns = [
        Turn(["I ", "compile."], [Call("compile_workflow", {"workflow": definition})]),
        Turn(["I run."], [Call("execute_workflow", {"workflow": definition})]),
        Turn(["It said hello."]),
    ]
    async with running_model(turns) as (model, provider), agent_on(bridge, provider) as agent:
        told = Message("system", (TextPart("Speak plainly."),))
        events = await read(agent.ask(told, "Run a greeting"))
    assert events[0] == Started("chatcmpl-test", "kubiya-workflow-agent")
    assert len([event for event in events if isinstance(event, Started)]) == 1
    assert text_of(events) == "I compile.\n\nI run.\n\nIt said hello."
    assert finish_of(events) == Finished("stop", usage=Usage(30, 15, 45))
    [run] = tool_results(events, "execute_workflow")
    assert run.structured is not None
    assert run.structured["status"] == "success"
    first, _, last = model.requests
    ours, clients, question = first["messages"]
    assert "workflow agent" in ours["content"]
    assert "you may call execute_workflow" in ours["content"]
    assert (clients["content"], question["content"]) == ("Speak plainly.", "Run a greeting")
    names = {spec["function"]["name"] for spec in first["tools"]}
    assert names >= {"compile_workflow", "execute_workflow"}
    assert not names & {"start_run", "watch_run"}
    assert [message["role"] for message in last["messages"][3:]] == ["assistant", "tool"] * 2
    assert json.loads(last["messages"][4]["content"])["valid"] is True
    assert "hello" in last["messages"][6]["content"]


async def test_workflow_events_come_while_the_run_goes_on(bridge: Bridge, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    definition = workflow("echo one", wait_for(gate))
    turns = [Turn(calls=[Call("execute_workflow", {"workflow": definition})]), Turn(["Done."])]
    async with running_model(turns) as (_, provider), agent_on(bridge, provider) as agent:
        seen: list[Event] = []
        async with asyncio.timeout(BOUND_SECONDS), aclosing(agent.ask("run it")) as events:
            async for event in events:
                seen.append(event)
                if isinstance(event, WorkflowEvent) and event.step == "step-2":
                    gate.touch()
    assert workflow_events(seen)[-1]["status"] == "success"


async def test_tool_calls_of_one_turn_run_side_by_side(bridge: Bridge, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    calls = [
        Call("execute_workflow", {"workflow": workflow(f"touch {mine}", wait_for(other))})
        for mine, other in ((one, two), (two, one))
    ]
    turns = [Turn(calls=calls), Turn(["Both are done."])]
    async with running_model(turns) as (model, provider), agent_on(bridge, provider) as agent:
        events = await read(agent.ask("run them both"))
    runs = [event["run_id"] for event in workflow_events(events)]
    assert len(set(runs)) == 2
    assert all('"success"' in result.text for result in tool_results(events, "execute_workflow"))
    ids = [message["tool_call_id"] for message in model.requests[1]["messages"][-2:]]
    assert ids == ["model_call_1", "model_call_2"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [WEATHER, ToolSpec("compile_workflow")]}, "tools[1].function.name"),
        ({"tool_choice": ToolChoice("function", "nonesuch")}, "tool_choice"),
    ],
)
async def test_a_request_that_cannot_be_honoured_is_refused_at_once(
    bridge: Bridge, fields: dict[str, Any], param: str
) -> None:
    async with agent_on(bridge) as agent:
        with pytest.raises(InvalidRequestError) as raised:
            agent.ask("Hello", **fields)
    assert raised.value.param == param


async def test_a_turn_with_calls_of_both_kinds_returns_the_clients_alone(bridge: Bridge) -> None:
    definition = workflow("echo hello")
    turns = [
        Turn(calls=[Call("list_templates", {}, "own-0")]),
        Turn(
            ["Let me see."],
            [
                Call("compile_workflow", {"workflow": definition}, "own-1"),
                Call("get_weather", {"city": "Bonn"}, "theirs-1"),
            ],
        ),
        Turn(["It rains."]),
    ]
    async with running_model(turns) as (model, provider), agent_on(bridge, provider) as agent:
        events = await read(agent.ask("What now?", tools=[WEATHER]))
        [started] = [event for event in events if isinstance(event, ToolCallStarted)]
        [delta] = [event for event in events if isinstance(event, ToolCallDelta)]
        [ended] = [event for event in events if isinstance(event, ToolCallEnded)]
        assert (started.index, started.name) == (0, "get_weather")
        assert json.loads(delta.arguments) == json.loads(ended.arguments) == {"city": "Bonn"}
        assert events.index(started) > events.index(tool_results(events, "compile_workflow")[0])
        assert finish_of(events) == Finished("tool_calls", usage=Usage(20, 10, 30))

        call = ToolCall(started.call_id, "get_weather", delta.arguments)
        history: list[str | Message] = [
            "What now?",
            assistant(call, text="Let me see."),
            tool(call.call_id, "rain"),
        ]
        events = await read(agent.ask(*history, tools=[WEATHER]))
        assert text_of(events) == "It rains."
    said = model.requests[2]["messages"][1:]
    assert [message["role"] for message in said] == [
        "user", "assistant", "tool", "assistant", "tool", "tool",
    ]  # fmt: skip
    assert [call["id"] for call in said[3]["tool_calls"]] == ["own-1", "theirs-1"]
    assert [said[place]["tool_call_id"] for place in (2, 4, 5)] == ["own-0", "own-1", "theirs-1"]
    assert said[5]["content"] == "rain"
    assert '"valid": true' in said[4]["content"]


async def test_kept_results_go_to_their_owner_alone(bridge: Bridge) -> None:
    turns = [
        Turn(calls=[Call("list_templates", {}), Call("get_weather", {})]),
        Turn(["Hello, stranger."]),
    ]
    async with running_model(turns) as (model, provider), agent_on(bridge, provider) as agent:
        events = await read(agent.ask("What now?", tools=[WEATHER], owner="alice"))
        [started] = [event for event in events if isinstance(event, ToolCallStarted)]
        call = ToolCall(started.call_id, "get_weather", "{}")
        history: list[str | Message] = ["What now?", assistant(call), tool(call.call_id, "rain")]
        await read(agent.ask(*history, tools=[WEATHER], owner="mallory"))
    said = model.requests[1]["messages"][1:]
    assert [message["role"] for message in said] == ["user", "assistant", "tool"]
    assert len(said[1]["tool_calls"]) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("compile_workflow", '{"workflow": '), "not valid JSON"),
        (Call("compile_workflow", "[]"), "one JSON object"),
        (Call("compile_workflow", {}), "'workflow' is a required property"),
        (Call("list_runs", {"limit": "many"}), "$.limit"),
        (Call("nonesuch", {}), "No tool 'nonesuch'"),
        (Call("get_run", {"run_id": "unknown"}), "There is no run unknown"),
    ],
)
async def test_a_wrong_call_goes_back_to_the_model_as_its_result(
    bridge: Bridge, call: Call, words: str
) -> None:
    turns = [Turn(calls=[call]), Turn(["I see."])]
    async with running_model(turns) as (model, provider), agent_on(bridge, provider) as agent:
        events = await read(agent.ask("Hello"))
    assert text_of(events) == "I see."
    [result] = tool_results(events, call.name)
    assert result.is_error
    assert words in result.text
    assert words in model.requests[1]["messages"][-1]["content"]


LISTING = Turn(calls=[Call("list_templates", {})])


@pytest.mark.parametrize(
    ("limits", "turns", "setting"),
    [
        (AgentLimits(max_turns=2), [LISTING] * 3, "AGENT_SERVER_MAX_TURNS"),
        (
            AgentLimits(max_tool_calls=2),
            [Turn(calls=[Call("list_templates", {})] * 3)],
            "AGENT_SERVER_MAX_TOOL_CALLS",
        ),
        (AgentLimits(max_tokens=20), [LISTING] * 3, "AGENT_SERVER_MAX_TOKENS"),
        (AgentLimits(max_wall_seconds=0.2), [Turn(hangs=True)], "AGENT_SERVER_MAX_WALL_SECONDS"),
    ],
    ids=["turns", "tool calls", "tokens", "wall time"],
)
async def test_a_bound_that_is_reached_is_an_error_that_names_its_setting(
    bridge: Bridge, limits: AgentLimits, turns: Sequence[Turn], setting: str
) -> None:
    async with (
        running_model(turns) as (_, provider),
        agent_on(bridge, provider, limits=limits) as agent,
    ):
        with pytest.raises(AgentLimitError) as raised:
            await read(agent.ask("Hello"))
    assert raised.value.param == setting
    assert setting in raised.value.message


async def test_a_bound_that_is_just_not_passed_is_no_error(bridge: Bridge) -> None:
    limits = AgentLimits(max_turns=2, max_tool_calls=1, max_tokens=16)
    async with (
        running_model([LISTING, Turn(["Done."])]) as (_, provider),
        agent_on(bridge, provider, limits=limits) as agent,
    ):
        assert text_of(await read(agent.ask("Hello"))) == "Done."


async def test_a_model_that_breaks_off_is_an_error_and_no_quiet_end(bridge: Bridge) -> None:
    turns = [LISTING, Turn(["It ", "is"], breaks_after=1)]
    seen: list[Event] = []
    async with running_model(turns) as (_, provider), agent_on(bridge, provider) as agent:
        with pytest.raises(UpstreamConnectionError):
            await read(agent.ask("Hello"), seen)
    assert text_of(seen) == "It "
    assert not [event for event in seen if isinstance(event, Finished)]


async def test_a_reader_that_leaves_ends_the_model(bridge: Bridge) -> None:
    turns = [Turn(["Wait."], hangs=True)]
    async with running_model(turns) as (model, provider), agent_on(bridge, provider) as agent:
        async with asyncio.timeout(BOUND_SECONDS), aclosing(agent.ask("Hello")) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        async with asyncio.timeout(BOUND_SECONDS):
            await model.left.wait()


async def leave_during_run(agent: Any, caller: AgentCaller) -> str:
    """Ask for a run and leave once its first step runs; gives the run's id."""
    async with asyncio.timeout(BOUND_SECONDS), aclosing(agent.ask("run it", caller=caller)) as run:
        async for event in run:
            if isinstance(event, WorkflowEvent) and event.type == "step_running":
                return str(event.data["run_id"])
    raise AssertionError("no step ran")


async def test_a_reader_that_leaves_cancels_the_run(bridge: Bridge, tmp_path: Path) -> None:
    definition = workflow(wait_for(tmp_path / "never"))
    turns = [Turn(calls=[Call("execute_workflow", {"workflow": definition})])]
    async with running_model(turns) as (_, provider), agent_on(bridge, provider) as agent:
        run_id = await leave_during_run(agent, AgentCaller("leaver"))
        async with asyncio.timeout(BOUND_SECONDS):
            assert await run_status(bridge, run_id, "leaver") == "cancelled"


async def test_a_detached_answer_goes_on_without_its_reader(bridge: Bridge, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    definition = workflow(wait_for(gate))
    turns = [
        Turn(calls=[Call("execute_workflow", {"workflow": definition})]),
        Turn(calls=[Call("execute_workflow", {"workflow": workflow(f"touch {tmp_path}/second")})]),
        Turn(["Done."]),
    ]
    async with running_model(turns) as (model, provider), agent_on(bridge, provider) as agent:
        run_id = await leave_during_run(agent, AgentCaller("absent", detached=True))
        gate.touch()
        async with asyncio.timeout(BOUND_SECONDS):
            assert await run_status(bridge, run_id, "absent") == "success"
            await model.asked(3)
    assert (tmp_path / "second").exists()


async def test_detached_answers_without_a_reader_are_bounded(
    bridge: Bridge, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    turns = [
        Turn(calls=[Call("execute_workflow", {"workflow": workflow(wait_for(gate))})]),
        Turn(["Done."]),
    ]
    async with (
        running_model(turns) as (_, provider),
        agent_on(bridge, provider, max_detached=1) as agent,
    ):
        await leave_during_run(agent, AgentCaller("absent", detached=True))
        with pytest.raises(OverloadedError, match="1 answers go on"):
            agent.ask("again", caller=AgentCaller("other", detached=True))
        agent.ask("again", caller=AgentCaller("other"))
        gate.touch()


async def test_a_server_that_stops_leaves_detached_runs_alone(
    bridge: Bridge, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    turns = [Turn(calls=[Call("execute_workflow", {"workflow": workflow(wait_for(gate))})])]
    async with running_model(turns) as (_, provider):
        async with agent_on(bridge, provider) as agent:
            run_id = await leave_during_run(agent, AgentCaller("stopped", detached=True))
        gate.touch()
        async with asyncio.timeout(BOUND_SECONDS):
            assert await run_status(bridge, run_id, "stopped") == "success"


async def test_the_wall_time_cancels_the_run(bridge: Bridge, tmp_path: Path) -> None:
    definition = workflow(wait_for(tmp_path / "never"))
    turns = [Turn(calls=[Call("execute_workflow", {"workflow": definition})])]
    seen: list[Event] = []
    async with (
        running_model(turns) as (_, provider),
        agent_on(bridge, provider, limits=AgentLimits(max_wall_seconds=1.0)) as agent,
    ):
        with pytest.raises(AgentLimitError):
            await read(agent.ask("run it", owner="slow"), seen)
    run_id = workflow_events(seen)[0]["run_id"]
    async with asyncio.timeout(BOUND_SECONDS):
        assert await run_status(bridge, run_id, "slow") == "cancelled"


async def test_a_backend_killed_during_a_run_loses_no_event(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    definition = workflow("echo one", wait_for(gate), "echo three")
    turns = [Turn(calls=[Call("execute_workflow", {"workflow": definition})]), Turn(["Done."])]
    seen: list[Event] = []
    async with (
        running_bridge(backend_spec(tmp_path / "data")) as bridge,
        running_model(turns) as (_, provider),
        agent_on(bridge, provider) as agent,
        asyncio.timeout(BOUND_SECONDS),
    ):
        [status] = bridge.status()
        assert status.pid is not None
        async for event in agent.ask("run it"):
            seen.append(event)
            is_second = isinstance(event, WorkflowEvent) and event.step == "step-2"
            if is_second and not gate.exists():
                psutil.Process(status.pid).kill()
                gate.touch()
    events = workflow_events(seen)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["run_id"] for event in events}) == 1
    done = [event["step"] for event in events if event["type"] == "step_complete"]
    assert done == ["step-1", "step-2", "step-3"]
    assert events[-1]["status"] == "success"
    assert text_of(seen) == "Done."
    assert bridge.status()[0].restarts == 1


async def test_twenty_agents_at_once_keep_their_histories_apart(bridge: Bridge) -> None:
    def script(body: dict[str, Any]) -> Turn:
        said = body["messages"]
        word = next(m["content"] for m in said if m["role"] == "user").rpartition(" ")[2]
        if said[-1]["role"] == "tool":
            return Turn([said[-1]["content"]])
        definition = workflow(f"echo {word}", name=f"of-{word}")
        return Turn(calls=[Call("execute_workflow", {"workflow": definition}, "same-id")])

    words = [f"word{number}x" for number in range(20)]
    async with running_model(script) as (model, provider), agent_on(bridge, provider) as agent:
        answers = await asyncio.gather(
            *(read(agent.ask(f"Run and say {word}", owner=f"owner-{word}")) for word in words)
        )
    for word, events in zip(words, answers, strict=True):
        outputs = [e["output"] for e in workflow_events(events) if e["type"] == "step_complete"]
        assert outputs == [f"{word}\n"]
        listed = await bridge.call("list_runs", {}, owner=f"owner-{word}")
        runs: Any = (listed.structured or {})["runs"]
        assert [run["workflow"] for run in runs] == [f"of-{word}"]
        assert [other for other in words if other in text_of(events)] == [word]
    for body in model.requests:
        spoken = json.dumps(body["messages"])
        assert len([word for word in words if word in spoken]) == 1


async def test_a_forced_tool_call_is_forced_once(bridge: Bridge) -> None:
    turns = [LISTING, Turn(["Done."])]
    async with running_model(turns) as (model, provider), agent_on(bridge, provider) as agent:
        await read(agent.ask("Hello", tool_choice=ToolChoice("required")))
    assert [body.get("tool_choice") for body in model.requests] == ["required", None]


async def test_a_call_that_is_cut_off_is_not_made(bridge: Bridge) -> None:
    turns = [Turn(["Well"], [Call("list_templates", '{"query": "dis')], reason="length")]
    async with running_model(turns) as (_, provider), agent_on(bridge, provider) as agent:
        events = await read(agent.ask("Hello"))
    assert finish_of(events).reason == "length"
    assert not [event for event in events if isinstance(event, AgentToolCalled)]


class ThinkingProvider(Provider):
    """A model that thinks, signs it, calls a tool of ours and one of the client's, then answers."""

    name = "thinking"
    default_model = "thinking"

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []

    @override
    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        number = len(self.requests)
        if number < 3:
            yield ReasoningDelta(f"thought {number}")
            yield ReasoningEnded(ReasoningBlock(f"thought {number}", f"signature {number}"))
            name = "list_templates" if number == 1 else "get_weather"
            yield ToolCallStarted(0, "", name)
            yield ToolCallEnded(0, "", name, "{}")
            yield Finished("tool_calls")
        else:
            yield TextDelta("Done.")
            yield Finished("stop")

    @override
    async def models(self) -> list[ModelInfo]:
        return []

    @override
    async def aclose(self) -> None:
        pass


async def test_signed_thinking_goes_back_with_the_results(bridge: Bridge) -> None:
    provider = ThinkingProvider()
    async with agent_on(bridge, provider) as agent:
        events = await read(agent.ask("Hello", tools=[WEATHER]))
        assert finish_of(events).usage is None
        [started] = [event for event in events if isinstance(event, ToolCallStarted)]
        call = ToolCall(started.call_id, "get_weather", "{}")
        history: list[str | Message] = ["Hello", assistant(call), tool(call.call_id, "rain")]
        await read(agent.ask(*history, tools=[WEATHER]))
    blocks = [message.reasoning for message in provider.requests[2].messages if message.reasoning]
    assert blocks == [
        (ReasoningBlock("thought 1", "signature 1"),),
        (ReasoningBlock("thought 2", "signature 2"),),
    ]
