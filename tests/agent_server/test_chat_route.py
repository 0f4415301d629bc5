"""The agent by both chat routes: formats, the guide's examples, many at once."""

import asyncio
import json
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.conftest import ALICE, BOB
from tests.running_server import RunningServer, ask

CHAT = "/v1/chat/completions"
MODEL = "kubiya-workflow-agent"
HEALTH = [{"role": "user", "content": "Create and run a system health check"}]


def sdk(server: RunningServer, **headers: str) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="not-needed", default_headers=headers)


def lines(server: RunningServer, path: str, body: dict[str, Any], **headers: str) -> list[str]:
    answer = ask(server.url, "POST", path, body, headers)
    assert answer.status == 200, answer.body
    return answer.body.decode().splitlines()


def test_the_guides_simple_request_answers_text_and_plans(agent: RunningServer) -> None:
    response = sdk(agent).chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Create a backup workflow"}]
    )
    content = response.choices[0].message.content
    assert content is not None
    assert "directory-backup" in content
    assert response.model == MODEL
    assert "workflow_events" not in (response.model_extra or {})


def test_the_guides_streaming_loop_prints_the_steps_as_they_happen(agent: RunningServer) -> None:
    stream = sdk(agent).chat.completions.create(model=MODEL, messages=HEALTH, stream=True)  # type: ignore[arg-type, call-overload]  # plain dicts, as a newcomer writes them
    printed = ""
    for chunk in stream:
        if chunk.choices[0].delta.content:
            printed += chunk.choices[0].delta.content
    assert "Step 1: check-cpu" in printed
    assert "success" in printed


def test_the_guides_parsing_of_events_finds_every_finished_step(agent: RunningServer) -> None:
    client = sdk(agent, **{"X-Streaming-Format": "vercel"})
    stream = client.chat.completions.create(model=MODEL, messages=HEALTH, stream=True)  # type: ignore[arg-type, call-overload]  # plain dicts, as a newcomer writes them
    complete = {}
    for chunk in stream:
        content = chunk.choices[0].delta.content
        if content and content.startswith("2:"):
            event = json.loads(content[2:])
            if event["type"] == "step_complete":
                complete[event["step"]] = event["output"]
    assert set(complete) == {"check-cpu", "check-memory", "check-disk", "check-uptime", "report"}


def test_progress_text_can_be_left_out(agent: RunningServer) -> None:
    client = sdk(agent, **{"X-Workflow-Progress": "none"})
    stream = client.chat.completions.create(model=MODEL, messages=HEALTH, stream=True)  # type: ignore[arg-type, call-overload]  # plain dicts, as a newcomer writes them
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "Step 1:" not in text
    assert any("workflow_event" in (chunk.model_extra or {}) for chunk in chunks)


def test_a_json_answer_lists_the_events_without_output_parts(agent: RunningServer) -> None:
    answer = ask(agent.url, "POST", CHAT, {"model": MODEL, "messages": HEALTH}).json
    kinds = [event["type"] for event in answer["workflow_events"]]
    assert kinds[0] == "workflow_started"
    assert kinds[-1] == "workflow_complete"
    assert "step_output" not in kinds


def test_curl_with_the_vercel_header_gets_the_guides_bytes(agent: RunningServer) -> None:
    body = {"model": MODEL, "messages": HEALTH, "stream": True}
    got = lines(agent, CHAT, body, **{"X-Streaming-Format": "vercel"})
    events = [json.loads(line[2:]) for line in got if line.startswith("2:")]
    assert {"step_running", "step_complete", "workflow_complete"} <= {e["type"] for e in events}
    assert any(line.startswith('0:"') for line in got)
    assert got[-1] == 'd:{"finishReason":"stop"}'


@pytest.mark.parametrize("key", ["trigger", "parts"])
def test_use_chat_5_and_later_gets_ui_chunks(agent: RunningServer, key: str) -> None:
    message = {
        "id": "m1",
        "role": "user",
        "parts": [{"type": "text", "text": HEALTH[0]["content"]}],
    }
    body: dict[str, Any] = {"id": "chat-1", "messages": [message]}
    if key == "trigger":
        body["trigger"] = "submit-message"
    chunks = [
        json.loads(line[6:])
        for line in lines(agent, "/api/chat", body)
        if line.startswith("data: {")
    ]
    assert [chunks[0]["type"], chunks[-1]["type"]] == ["start", "finish"]
    assert any(chunk["type"] == "data-workflow" for chunk in chunks)


def test_use_chat_4_gets_data_lines(agent: RunningServer) -> None:
    got = lines(agent, "/api/chat", {"messages": HEALTH})
    assert any(line.startswith("2:[{") for line in got)
    assert got[-1].startswith('d:{"finishReason":"stop","usage":')


def test_an_unknown_format_is_400_and_names_the_values(agent: RunningServer) -> None:
    headers = {"X-Streaming-Format": "morse"}
    answer = ask(agent.url, "POST", CHAT, {"messages": HEALTH}, headers)
    assert answer.status == 400
    assert "sse-inline" in answer.error["message"]


def test_two_answers_of_the_agent_are_400(agent: RunningServer) -> None:
    answer = ask(agent.url, "POST", CHAT, {"messages": HEALTH, "n": 2, "stream": True})
    assert answer.status == 400
    assert answer.error["param"] == "n"


def test_the_text_of_a_request_is_not_logged(agent: RunningServer) -> None:
    text = "Create a workflow for the purple elephant"
    body = {"messages": [{"role": "user", "content": text}]}
    assert ask(agent.url, "POST", CHAT, body).status == 200
    assert f"1 messages, {len(text)} characters" in agent.log
    assert "purple elephant" not in agent.log


async def test_a_hundred_chats_at_once_each_get_their_own_run(keyed_agent: RunningServer) -> None:
    """Two keys, fifty chats each: every run says its own word, no key sees the other's runs."""

    async def one(client: AsyncOpenAI, word: str) -> str:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"Run this:\n1. `echo hello {word}`"}],
            stream=True,
        )
        events = []
        async for chunk in stream:
            event = (chunk.model_extra or {}).get("workflow_event")
            if event:
                events.append(event)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["status"] == "success", events[-1]
        outputs = [event["output"] for event in events if event["type"] == "step_complete"]
        assert [output.strip() for output in outputs] == [f"hello {word}"]
        return str(events[0]["run_id"])

    async def fifty(key: str, letter: str) -> list[str]:
        async with AsyncOpenAI(base_url=f"{keyed_agent.url}/v1", api_key=key) as client:
            return await asyncio.gather(*(one(client, f"{letter}{n}") for n in range(50)))

    alice, bob = await asyncio.gather(fifty(ALICE, "a"), fifty(BOB, "b"))
    assert len(set(alice) | set(bob)) == 100
    for key, own, others in ((ALICE, alice, bob), (BOB, bob, alice)):
        headers = {"x-api-key": key}
        page = ask(keyed_agent.url, "GET", "/v1/workflows/runs?limit=200", headers=headers).json
        listed = {run["run_id"] for run in page["data"]}
        assert set(own) <= listed
        assert not listed & set(others)
        path = f"/v1/workflows/runs/{others[0]}"
        assert ask(keyed_agent.url, "GET", path, headers=headers).status == 404
