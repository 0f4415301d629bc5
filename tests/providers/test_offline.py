"""The offline provider as a model: what it says and calls, with the tools of the real backend."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from agent_server.toolbox import AgentCaller
from mcp_bridge import Bridge
from providers.chat_request import ChatRequest, Message, TextPart, ToolChoice, ToolSpec
from providers.code_blocks import CodeBlock, split_code_blocks
from providers.offline import MODEL, OfflineProvider
from streaming.errors import InvalidRequestError
from streaming.events import (
    AgentToolCalled,
    Event,
    Finished,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from tests.agents import agent_on, backend_spec, finish_of, running_bridge, text_of, workflow_events

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND_SECONDS = 20
NOTE = "rules, not a model"
HELLO = "name: greet\nsteps:\n  - name: hello\n    run: echo hello there\n    timeout: 5s\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bridge]:
    async with running_bridge(backend_spec(tmp_path_factory.mktemp("data"))) as running:
        yield running


async def ask(bridge: Bridge, *messages: str | Message, **fields: Any) -> list[Event]:
    async with agent_on(bridge) as agent, asyncio.timeout(BOUND_SECONDS):
        events = [event async for event in agent.ask(*messages, **fields)]
    assert NOTE in text_of(events)
    assert finish_of(events).usage == Usage()
    return events


def assistant(text: str) -> Message:
    return Message("assistant", (TextPart(text),))


def called(events: list[Event]) -> list[str]:
    return [event.name for event in events if isinstance(event, AgentToolCalled)]


def shown_workflow(events: list[Event]) -> str:
    [block] = [
        part.text
        for part in split_code_blocks(text_of(events))
        if isinstance(part, CodeBlock) and part.language == "yaml"
    ]
    return block


async def test_a_workflow_in_the_message_is_run_as_it_is(bridge: Bridge) -> None:
    events = await ask(bridge, f"Run this workflow:\n\n```yaml\n{HELLO}```")
    assert called(events) == ["compile_workflow", "plan_workflow", "execute_workflow"]
    compiled = next(event for event in events if isinstance(event, AgentToolCalled))
    assert compiled.arguments == {"workflow": HELLO.rstrip()}
    assert workflow_events(events)[-1]["status"] == "success"
    answer = text_of(events)
    assert "hello there" in answer
    assert "ended with **success**" in answer
    assert workflow_events(events)[0]["run_id"] in answer
    assert shown_workflow(events) == HELLO.rstrip()


@pytest.mark.parametrize(
    "words", ["Look at this:", "Do not run this:", "Plan only, please:", "How do I run this?"]
)
async def test_a_workflow_is_only_shown_unless_the_message_says_run(
    bridge: Bridge, words: str
) -> None:
    events = await ask(bridge, f"{words}\n\n```yaml\n{HELLO}```")
    assert called(events) == ["compile_workflow", "plan_workflow"]
    assert "Nothing was run. Shall I run it?" in text_of(events)
    assert shown_workflow(events) == HELLO.rstrip()


@pytest.mark.parametrize(
    "order", ["yes", "Run it!", "go ahead and run it", "run the greet workflow"]
)
async def test_a_follow_up_means_the_workflow_above(bridge: Bridge, order: str) -> None:
    shown = text_of(await ask(bridge, f"Look:\n```yaml\n{HELLO}```"))
    events = await ask(bridge, f"Look:\n```yaml\n{HELLO}```", assistant(shown), order)
    assert "execute_workflow" in called(events)
    last = workflow_events(events)[-1]
    assert (last["workflow"], last["status"]) == ("greet", "success")
    assert "hello there" in text_of(events)


async def test_a_run_of_any_output_can_be_followed_up(bridge: Bridge) -> None:
    lines = r"```\n```yaml\nname: trap\nsteps:\n  - name: t\n    run: echo trapped\n```\n"
    trap = f"printf '{lines}'"
    first = f"Run:\n```yaml\nname: greet\nsteps:\n  - name: a\n    run: {json.dumps(trap)}\n```"
    shown = text_of(await ask(bridge, first))
    assert "trapped" in shown
    events = await ask(bridge, first, assistant(shown), "run it again")
    assert workflow_events(events)[0]["workflow"] == "greet"


async def test_a_list_of_known_things_is_run(bridge: Bridge) -> None:
    events = await ask(
        bridge, "Run these:\n1. check disk usage\n2. greet: `echo hello`\n3. wait 0 seconds"
    )
    done = [event["step"] for event in workflow_events(events) if event["type"] == "step_complete"]
    assert done == ["check-disk-usage", "greet", "wait-0-seconds"]


async def test_a_list_with_an_unknown_thing_is_shown_and_never_run(bridge: Bridge) -> None:
    events = await ask(bridge, "Create and run this:\n1. `echo ok`\n2. Send Slack notification")
    assert "execute_workflow" not in called(events)
    assert not workflow_events(events)
    assert "`send-slack-notification`: **needs a command**" in text_of(events)
    assert "needs_command: Send Slack notification" in shown_workflow(events)


async def test_problems_are_shown_with_their_mend(bridge: Bridge) -> None:
    broken = HELLO.replace("run:", "runn:")
    events = await ask(bridge, f"Run:\n```yaml\n{broken}```")
    assert called(events) == ["compile_workflow"]
    assert "`steps[0].runn`" in text_of(events)
    assert "Did you mean `run`?" in text_of(events)


@pytest.mark.parametrize(
    ("words", "template"),
    [
        ("Create and run a health check", "system-health"),
        ("Create and execute a monitoring workflow", "system-health"),
        ("Show disk usage and run it", "disk-usage"),
    ],
)
async def test_the_words_of_a_request_find_a_template(
    bridge: Bridge, words: str, template: str
) -> None:
    events = await ask(bridge, words)
    assert f"Taking the template `{template}`" in text_of(events)
    assert workflow_events(events)[-1]["status"] == "success"


async def test_a_template_that_is_not_what_was_asked_is_not_run(bridge: Bridge) -> None:
    events = await ask(bridge, "Create and run a database backup")
    assert not workflow_events(events)
    assert "it knows nothing of `database`" in text_of(events)


async def test_inputs_come_from_the_words_also_of_the_request_before(bridge: Bridge) -> None:
    request = "Create a workflow for the disk usage of /var/tmp"
    shown = text_of(await ask(bridge, request))
    events = await ask(bridge, request, assistant(shown), "run it")
    run = [event for event in events if isinstance(event, AgentToolCalled)][-1]
    assert run.name == "execute_workflow"
    inputs: Any = run.arguments["inputs"]
    assert "/var/tmp" in inputs.values()  # noqa: S108 - a folder of every machine


@pytest.mark.parametrize("fence", ["```yaml\n{}```", "{}"])
async def test_what_a_given_workflow_says_names_no_inputs(bridge: Bridge, fence: str) -> None:
    workflow = (
        "name: own\ninputs:\n  path: {type: string, default: /default}\n"
        "  count: {type: integer, default: 1}\n"
        "steps:\n  - name: a\n    run: ls -d /etc; count=7; echo $P\n    timeout: 5s\n"
        '    env: {P: "${{ inputs.path }}"}\n'
    )
    around = await ask(bridge, "Run this workflow with count=2\n\n" + fence.replace("{}", workflow))
    run = [event for event in around if isinstance(event, AgentToolCalled)][-1]
    assert run.name == "execute_workflow"
    assert run.arguments["inputs"] == {"count": 2}


async def test_a_single_known_thing_needs_no_template(bridge: Bridge) -> None:
    events = await ask(bridge, "List logged-in users and run it")
    assert workflow_events(events)[-1]["status"] == "success"


async def test_what_nothing_fits_is_said_plainly(bridge: Bridge) -> None:
    events = await ask(bridge, "Create a workflow to dance the polka")
    assert "No template fits" in text_of(events)
    assert "`system-health`" in text_of(events)
    assert "execute_workflow" not in called(events)


@pytest.mark.parametrize("words", ["Hello", "", "What can you do?", "Thanks!"])
async def test_small_talk_gets_what_it_can_do(bridge: Bridge, words: str) -> None:
    events = await ask(bridge, words)
    assert called(events) == []
    assert "numbered or bulleted list" in text_of(events)


@pytest.mark.parametrize(
    ("words", "tool"),
    [
        ("list runs", "list_runs"),
        ("Show me all open approvals.", "list_approvals"),
        ("Show me the templates.", "list_templates"),
        ("list runners", "get_workflow_runners"),
        ("What are the secrets?", "get_workflow_secrets"),
        ("cancel run 12345678-abcd", "cancel_run"),
        ("status of run 12345678-abcd", "get_run"),
    ],
)
async def test_questions_about_runs_are_answered(bridge: Bridge, words: str, tool: str) -> None:
    events = await ask(bridge, words)
    assert called(events) == [tool]
    assert f"`{tool}`" in text_of(events)


async def test_a_refusal_of_the_server_is_passed_on(bridge: Bridge) -> None:
    caller = AgentCaller("tester", may_not_execute="Set AGENT_SERVER_API_KEYS.")
    events = await ask(bridge, f"Run:\n```yaml\n{HELLO}```", caller=caller)
    assert "Set AGENT_SERVER_API_KEYS." in text_of(events)
    assert shown_workflow(events) == HELLO.rstrip()


TOOLS = tuple(
    ToolSpec(name)
    for name in ("compile_workflow", "plan_workflow", "list_templates", "get_template")
)
REQUEST = ChatRequest(MODEL, (Message("user", (TextPart(HELLO),)),), tools=TOOLS)


async def answer(request: ChatRequest) -> list[Event]:
    return [event async for event in OfflineProvider().chat(request)]


async def test_it_speaks_like_a_model() -> None:
    started, *rest = await answer(REQUEST)
    assert isinstance(started, Started)
    assert started.model == MODEL
    texts = [event for event in rest if isinstance(event, TextDelta)]
    call, delta, ended, finished = rest[len(texts) :]
    assert isinstance(call, ToolCallStarted)
    assert isinstance(delta, ToolCallDelta)
    assert ended == ToolCallEnded(0, call.call_id, "compile_workflow", delta.arguments)
    assert json.loads(delta.arguments) == {"workflow": HELLO.rstrip()}
    assert finished == Finished("tool_calls", usage=Usage())


async def test_the_same_messages_give_the_same_answer() -> None:
    first, second = await answer(REQUEST), await answer(REQUEST)
    assert text_of(first) == text_of(second)
    arguments = [[e.arguments for e in a if isinstance(e, ToolCallEnded)] for a in (first, second)]
    assert arguments[0] == arguments[1]


async def test_text_comes_in_small_parts_that_make_the_whole() -> None:
    events = await answer(replace(REQUEST, tools=()))
    parts = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(parts) > 20
    assert max(map(len, parts)) < 100
    assert "".join(parts).startswith("I cannot answer this")
    assert NOTE in "".join(parts)


@pytest.mark.parametrize("tools", [(), (ToolSpec("get_weather"),)])
async def test_without_the_tools_of_the_agent_it_answers_in_text(
    tools: tuple[ToolSpec, ...],
) -> None:
    events = await answer(replace(REQUEST, tools=tools))
    assert finish_of(events) == Finished("stop", usage=Usage())
    assert "kubiya-workflow-agent" in text_of(events)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": ToolChoice("required")}, "tool_choice"),
    ],
)
async def test_what_needs_a_model_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        await answer(replace(REQUEST, **fields))
    assert raised.value.param == param


async def test_it_lists_one_model() -> None:
    assert [model.model_id for model in await OfflineProvider().models()] == [MODEL]
