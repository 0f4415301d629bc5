"""The workflow agent on every door, as the official SDKs show what its steps tell."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from tests.running_server import RunningServer

MODEL = "kubiya-workflow-agent"
RUN = "Run this:\n1. `echo one`\n2. `echo two`"
STEPS = [
    ("workflow_started", None),
    ("step_running", "echo-one"),
    ("step_complete", "echo-one"),
    ("step_running", "echo-two"),
    ("step_complete", "echo-two"),
    ("workflow_complete", None),
]
ASKED: list[Any] = [{"role": "user", "content": RUN}]


@pytest.fixture(scope="module")
def of_openai(agent: RunningServer) -> Iterator[OpenAI]:
    base_url = f"{agent.url}/v1"
    with OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=20) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def of_anthropic(agent: RunningServer) -> Iterator[Anthropic]:
    with Anthropic(base_url=agent.url, api_key="none", max_retries=0, timeout=20) as sdk:
        yield sdk


def assert_steps(events: list[dict[str, Any]]) -> None:
    """Every step event of a stream came once, in order; how output is cut is left open."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["run_id"] for event in events}) == 1
    assert told(events) == STEPS


def told(events: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    pairs = [(event["type"], event.get("step")) for event in events]
    return [pair for pair in pairs if pair[0] != "step_output"]


def test_a_chat_chunk_carries_the_event_beside_its_choices(of_openai: OpenAI) -> None:
    chunks = list(of_openai.chat.completions.create(model=MODEL, messages=ASKED, stream=True))
    events = [
        chunk.model_extra["workflow_event"]
        for chunk in chunks
        if chunk.model_extra and "workflow_event" in chunk.model_extra
    ]
    assert_steps(events)
    assert all(chunk.choices for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert list(filter(None, reasons)) == ["stop"]
    with of_openai.chat.completions.stream(model=MODEL, messages=ASKED) as stream:
        final = stream.get_final_completion()
    assert "Step 2: echo-two done" in (final.choices[0].message.content or "")


def test_a_whole_chat_lists_the_events(of_openai: OpenAI) -> None:
    whole = of_openai.chat.completions.create(model=MODEL, messages=ASKED)
    assert whole.model_extra is not None
    assert told(whole.model_extra["workflow_events"]) == STEPS


def test_a_response_has_an_event_of_ours_with_its_number(of_openai: OpenAI) -> None:
    events = list(of_openai.responses.create(model=MODEL, input=RUN, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    ours = [event.to_dict() for event in events if event.type == "response.workflow.event"]  # type: ignore[comparison-overlap]
    assert_steps([event["workflow_event"] for event in ours])  # type: ignore[misc]
    last = events[-1]
    assert last.type == "response.completed"
    assert told(last.response.model_extra["workflow_events"]) == STEPS  # type: ignore[index]
    with of_openai.responses.stream(model=MODEL, input=RUN) as stream:
        final = stream.get_final_response()
    assert (final.status, final.model) == ("completed", MODEL)


def test_a_response_in_the_background_runs_on_and_is_read_again(of_openai: OpenAI) -> None:
    begun = of_openai.responses.create(model=MODEL, input=RUN, background=True)
    assert begun.status in {"queued", "in_progress"}
    events = list(of_openai.responses.retrieve(begun.id, stream=True))
    ours = [event.to_dict() for event in events if event.type == "response.workflow.event"]  # type: ignore[comparison-overlap]
    assert_steps([event["workflow_event"] for event in ours])  # type: ignore[misc]
    half = len(events) // 2
    again = list(of_openai.responses.retrieve(begun.id, stream=True, starting_after=half))
    assert [event.to_dict() for event in again] == [event.to_dict() for event in events[half + 1 :]]
    shown = of_openai.responses.retrieve(begun.id)
    assert shown.status == "completed"
    of_openai.responses.delete(begun.id)
    with pytest.raises(openai.NotFoundError):
        of_openai.responses.retrieve(begun.id)


def test_a_response_continues_the_agents_conversation(of_openai: OpenAI) -> None:
    first = of_openai.responses.create(
        model=MODEL, input="Create this workflow:\n1. `echo one`\n2. `echo two`"
    )
    second = of_openai.responses.create(
        model=MODEL, input="Yes, run it.", previous_response_id=first.id
    )
    assert second.model_extra is not None
    assert told(second.model_extra["workflow_events"]) == STEPS


def test_a_message_has_events_that_the_helper_skips(of_anthropic: Anthropic) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 999, "messages": ASKED}
    events = [event.to_dict() for event in of_anthropic.messages.create(**asked, stream=True)]
    ours: list[Any] = [e["workflow_event"] for e in events if e["type"] == "workflow_event"]
    assert_steps(ours)
    with of_anthropic.messages.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert {block.type for block in final.content} == {"text"}
    assert "message_stop" in kinds
    whole = of_anthropic.messages.create(**asked)
    assert whole.model_extra is not None
    assert told(whole.model_extra["workflow_events"]) == STEPS


async def test_the_three_doors_run_side_by_side(agent: RunningServer) -> None:
    async with (
        AsyncOpenAI(base_url=f"{agent.url}/v1", api_key="none", max_retries=0) as of_openai,
        AsyncAnthropic(base_url=agent.url, api_key="none", max_retries=0) as of_anthropic,
    ):
        answers: Any = await asyncio.gather(
            of_openai.chat.completions.create(model=MODEL, messages=ASKED),
            of_openai.responses.create(model=MODEL, input=RUN),
            of_anthropic.messages.create(model=MODEL, max_tokens=999, messages=ASKED),
        )
    runs = [answer.model_extra["workflow_events"] for answer in answers]
    assert [told(events) for events in runs] == [STEPS] * 3
    assert len({events[0]["run_id"] for events in runs}) == 3
