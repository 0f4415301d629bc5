"""Approvals in a chat: the server reads them from the newest message, and no model is asked."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openai import OpenAI

from agent_server.accounts.keys import digest_of
from agent_server.approval_answers import ApprovalAnswer, clicked_answers, written_answers
from providers.chat_request import Message, TextPart
from tests.running_server import RunningServer, ask, running_server
from tests.scripted_model import Call, ScriptedModel, Turn, scripted_model

ANNA, BERT, CAROL = (f"as-{letter * 40}" for letter in "wxy")
KEYS = " ".join(
    (
        f"anna=sha256:{digest_of(ANNA)};scopes=chat+run+approve",
        f"bert=sha256:{digest_of(BERT)};scopes=chat+run+approve",
        f"carol=sha256:{digest_of(CAROL)};scopes=chat+run;owner=anna",
    )
)
ENVIRONMENT = {"AGENT_SERVER_API_KEYS": KEYS, "AGENT_SERVER_ISOLATION": "none"}
RUNS = "/v1/workflows/runs"
DEPLOY = """
name: deploy
steps:
  - {name: build, run: echo built, timeout: 20s}
  - {name: ask, depends: [build], approval: {message: Deploy it?}}
  - {name: roll-out, depends: [ask], run: echo rolled out, timeout: 20s}
outputs: {by: "${{ steps.ask.outputs.by }}"}
"""
TWO = """
name: two
steps:
  - {name: left, approval: {message: Left?}}
  - {name: right, approval: {message: Right?}}
  - {name: after-left, depends: [left], run: echo went left, timeout: 20s}
  - {name: end, depends: [left, right], run: echo both, timeout: 20s}
"""
SLOW = DEPLOY.replace("steps:\n", "steps:\n  - {name: slow, run: sleep 60, timeout: 90s}\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("chat"), environment=ENVIRONMENT) as running:
        yield running


def of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def stream(server: RunningServer, text: str, key: str = ANNA) -> Any:
    client = OpenAI(base_url=f"{server.url}/v1", api_key=key, timeout=25)
    return client.chat.completions.create(
        model="kubiya-workflow-agent", messages=[{"role": "user", "content": text}], stream=True
    )


def said(chunks: Any) -> tuple[str, list[dict[str, Any]]]:
    """The text of a stream, and its events."""
    text, events = "", []
    for chunk in chunks:
        events += [(chunk.model_extra or {}).get("workflow_event")]
        text += chunk.choices[0].delta.content or ""
    return text, [event for event in events if event is not None]


def run_it(server: RunningServer, workflow: str, key: str = ANNA) -> tuple[str, str, list[Any]]:
    """What the agent says to an order to run a workflow: the run, the text, the events."""
    text, events = said(stream(server, f"Run this workflow:\n```yaml{workflow}```", key))
    return events[0]["run_id"], text, events


def show(server: RunningServer, run_id: str) -> dict[str, Any]:
    return dict(ask(server.url, "GET", f"{RUNS}/{run_id}", headers=of(ANNA)).json)


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    told = [(event["type"], event.get("step")) for event in events]
    return [item for item in told if item[0] != "step_output"]


def test_an_answer_ends_where_a_person_must_decide_and_says_how(server: RunningServer) -> None:
    run_id, text, events = run_it(server, DEPLOY)
    assert events[-1]["type"] == "approval_requested"
    assert events[-1]["approval_id"] == f"{run_id}/ask"
    # In the line of the event, and in the answer.
    assert text.count(f"`approve {run_id}/ask`") == 2
    assert "waits for a person" in text
    run = show(server, run_id)
    assert (run["status"], run["is_waiting"]) == ("running", True)


def test_approve_in_the_newest_message_decides_and_shows_the_rest(server: RunningServer) -> None:
    run_id, _, before = run_it(server, DEPLOY)
    text, events = said(stream(server, f"  APPROVE {run_id}/ask looks good\n"))
    assert text.startswith(f"`{run_id}/ask` is approved: looks good.")
    assert kinds(events) == [
        ("approval_decided", "ask"),
        ("step_complete", "ask"),
        ("step_running", "roll-out"),
        ("step_complete", "roll-out"),
        ("workflow_complete", None),
    ]
    assert [event["seq"] for event in before + events] == list(range(1, events[-1]["seq"] + 1))
    assert (events[0]["by"], events[0]["reason"]) == ("anna", "looks good")
    assert "ended with **success**" in text
    assert '"by": "anna"' in text


def test_reject_ends_the_run_and_a_later_approval_changes_nothing(server: RunningServer) -> None:
    run_id, *_ = run_it(server, DEPLOY)
    text, events = said(stream(server, f"`reject {run_id}/ask` not on a Sunday"))
    assert "is rejected: not on a Sunday" in text
    assert events[-1]["status"] == "failed"
    text, events = said(stream(server, f"approve {run_id}/ask"))
    assert "had been rejected by anna already" in text
    assert kinds(events)[0] == ("approval_decided", "ask")
    assert show(server, run_id)["status"] == "failed"


def test_each_branch_is_decided_by_itself_and_the_answer_stops_at_the_next(
    server: RunningServer,
) -> None:
    run_id, text, events = run_it(server, TWO)
    assert {event["approval_id"] for event in events if event["type"] == "approval_requested"} == {
        f"{run_id}/left",
        f"{run_id}/right",
    }
    assert "Left?" in text
    assert "Right?" in text
    text, events = said(stream(server, f"approve {run_id}/left"))
    assert ("step_complete", "after-left") in kinds(events)
    assert "Right? To decide, write" in text
    assert "Left?" not in text
    text, events = said(stream(server, f"approve {run_id}/right"))
    assert events[-1]["status"] == "success"


def test_two_decisions_of_one_message_are_both_taken(server: RunningServer) -> None:
    run_id, *_ = run_it(server, TWO)
    _, events = said(stream(server, f"approve {run_id}/left\napprove {run_id}/right"))
    assert events[-1]["status"] == "success"
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})


def test_a_key_without_the_scope_is_told_so_and_decides_nothing(server: RunningServer) -> None:
    run_id, *_ = run_it(server, DEPLOY)
    text, events = said(stream(server, f"approve {run_id}/ask", CAROL))
    assert text.startswith("Nothing was decided.")
    assert "lacks the scope 'approve'" in text
    assert events == []
    assert show(server, run_id)["is_waiting"]


def test_another_owners_approval_is_unknown(server: RunningServer) -> None:
    run_id, *_ = run_it(server, DEPLOY)
    text, events = said(stream(server, f"approve {run_id}/ask", BERT))
    assert f"There is no run {run_id}" in text
    assert events == []
    assert show(server, run_id)["is_waiting"]


def test_a_decision_that_is_not_possible_is_said(server: RunningServer) -> None:
    run_id, *_ = run_it(server, DEPLOY)
    text, _ = said(stream(server, f"approve {run_id}/build"))
    assert "is no approval" in text
    ask(server.url, "POST", f"{RUNS}/{run_id}/cancel", {}, of(ANNA))
    text, _ = said(stream(server, f"approve {run_id}/ask"))
    assert "Nothing was decided" in text


def test_a_form_that_needs_values_is_not_approved_by_words(server: RunningServer) -> None:
    form = "{message: Deploy it?, form: {ticket: {type: string, required: true}}}"
    run_id, *_ = run_it(server, DEPLOY.replace("{message: Deploy it?}", form))
    text, _ = said(stream(server, f"approve {run_id}/ask"))
    assert "values.ticket" in text
    assert show(server, run_id)["is_waiting"]


def test_a_json_answer_holds_what_came_of_the_decision(server: RunningServer) -> None:
    run_id, *_ = run_it(server, DEPLOY)
    message = {"role": "user", "content": f"approve {run_id}/ask"}
    body = {"model": "kubiya-workflow-agent", "messages": [message]}
    answer = ask(server.url, "POST", "/v1/chat/completions", body, of(ANNA)).json
    assert "is approved" in answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["workflow_events"][-1]["status"] == "success"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", lambda text: {"input": text}),
        (
            "/v1/messages",
            lambda text: {"max_tokens": 100, "messages": [{"role": "user", "content": text}]},
        ),
        (
            "/api/chat",
            lambda text: {
                "stream": False,
                "messages": [{"role": "user", "parts": [{"type": "text", "text": text}]}],
            },
        ),
    ],
    ids=["responses", "messages", "use-chat"],
)
def test_every_door_of_the_agent_reads_a_decision(
    server: RunningServer, path: str, body: Any
) -> None:
    run_id, *_ = run_it(server, DEPLOY)
    sent = {"model": "kubiya-workflow-agent", **body(f"approve {run_id}/ask")}
    answer = ask(server.url, "POST", path, sent, of(ANNA))
    assert answer.status == 200, answer.body
    assert "is approved" in answer.body.decode()
    assert show(server, run_id)["status"] == "success"


def test_a_run_that_has_asked_outlives_the_client_that_began_it(server: RunningServer) -> None:
    chunks = stream(server, f"Run this workflow:\n```yaml{SLOW}```")
    for chunk in chunks:
        event = (chunk.model_extra or {}).get("workflow_event", {})
        if event.get("type") == "approval_requested":
            break
    chunks.close()
    run_id = event["run_id"]
    events = events_until(server, f"approve {run_id}/ask", "roll-out")
    assert ("step_complete", "roll-out") in kinds(events)
    assert show(server, run_id)["status"] == "running"
    ask(server.url, "POST", f"{RUNS}/{run_id}/cancel", {}, of(ANNA))


def events_until(server: RunningServer, text: str, step: str) -> list[dict[str, Any]]:
    """The events of an answer until a step is complete; then its client goes away."""
    chunks = stream(server, text)
    events: list[dict[str, Any]] = []
    for chunk in chunks:
        event = (chunk.model_extra or {}).get("workflow_event")
        if event is not None:
            events.append(event)
            if (event["type"], event.get("step")) == ("step_complete", step):
                break
    chunks.close()
    return events


def test_a_run_inside_another_is_decided_and_both_are_shown(server: RunningServer) -> None:
    nested = """
name: outer
workflows:
  inner:
    steps:
      - {name: ask, approval: {message: Inner?}}
      - {name: say, depends: [ask], run: echo inner, timeout: 20s}
steps:
  - {name: call, workflow: {ref: inner}}
  - {name: after, depends: [call], run: echo outer, timeout: 20s}
"""
    run_id, text, _ = run_it(server, nested)
    assert f"`approve {run_id}.call/ask`" in text
    text, events = said(stream(server, f"approve {run_id}.call/ask"))
    assert (f"{run_id}.call", "say") in {(e["run_id"], e.get("step")) for e in events}
    assert events[-1]["run_id"] == run_id
    assert events[-1]["status"] == "success"
    assert f"(run `{run_id}`) ended with **success**" in text


def clicked(server: RunningServer, run_id: str, key: str) -> list[dict[str, Any]]:
    """The chunks of the answer to a click on an approval, whose call somebody has changed."""
    part = {
        "type": "dynamic-tool",
        "toolName": "workflow_approval",
        "toolCallId": f"approval:{run_id}/ask",
        "state": "approval-responded",
        "input": {"message": "Something else?", "values": {"x": 1}},
        "approval": {"id": f"{run_id}/ask", "approved": True, "reason": "clicked"},
    }
    messages = [
        {"id": "1", "role": "user", "parts": [{"type": "text", "text": "Run it"}]},
        {"id": "2", "role": "assistant", "parts": [{"type": "step-start"}, part]},
    ]
    body = {"id": "chat", "trigger": "submit-message", "messages": messages}
    answer = ask(server.url, "POST", "/api/chat", body, of(key))
    assert answer.status == 200
    lines = [line.removeprefix("data: ") for line in answer.body.decode().splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_click_decides_what_the_run_recorded_whatever_the_client_says_of_it(
    server: RunningServer,
) -> None:
    run_id, *_ = run_it(server, DEPLOY)
    chunks = clicked(server, run_id, ANNA)
    assert "messageId" not in chunks[0]
    [closed] = [chunk for chunk in chunks if chunk["type"] == "tool-output-available"]
    assert closed["toolCallId"] == f"approval:{run_id}/ask"
    assert closed["output"] == {"approved": True, "by": "anna", "reason": "clicked"}
    run = show(server, run_id)
    assert (run["status"], run["outputs"]) == ("success", {"by": "anna"})


def test_a_click_without_the_scope_decides_nothing_and_its_part_says_so(
    server: RunningServer,
) -> None:
    run_id, *_ = run_it(server, DEPLOY)
    chunks = clicked(server, run_id, CAROL)
    [closed] = [chunk for chunk in chunks if chunk["type"].startswith("tool-output")]
    assert closed["type"] == "tool-output-error"
    text = "".join(chunk.get("delta", "") for chunk in chunks)
    assert "lacks the scope 'approve'" in text
    assert show(server, run_id)["is_waiting"]


@pytest_asyncio.fixture
async def scripted() -> AsyncIterator[ScriptedModel]:
    """A model that runs what it is told to, and then says what it was told."""

    def turn(body: dict[str, Any]) -> Turn:
        last = body["messages"][-1]
        if last["role"] == "tool":
            return Turn(text=(f"The tool said: {last['content']}",))
        return Turn(calls=(Call("execute_workflow", {"workflow": TWO}),))

    async with scripted_model(turn) as model:
        yield model


async def test_the_model_is_told_that_it_cannot_decide_and_is_not_asked_where_people_do(
    scripted: ScriptedModel, tmp_path: Path
) -> None:
    environment = {**ENVIRONMENT, "OPENAI_API_KEY": "sk-upstream-key-0123456789"}
    options = ("--provider", "openai", "--base-url", scripted.url)

    def in_thread(server: RunningServer) -> None:
        text, events = said(stream(server, "Run the workflow, please."))
        found["run_id"], found["text"] = events[0]["run_id"], text
        found["asked"] = len(scripted.requests)
        found["rest"], _ = said(stream(server, f"approve {found['run_id']}/left"))

    found: dict[str, Any] = {}
    with running_server(tmp_path, *options, environment=environment) as server:
        thread = threading.Thread(target=in_thread, args=(server,))
        thread.start()
        await asyncio.to_thread(thread.join, 25)
        assert not thread.is_alive()
    told = json.loads(found["text"].partition("The tool said: ")[2])
    assert told["is_waiting"] is True
    assert {one["approval_id"] for one in told["approvals"]} == {
        f"{found['run_id']}/left",
        f"{found['run_id']}/right",
    }
    assert "You cannot decide it" in told["note"]
    tools = {tool["function"]["name"] for tool in scripted.requests[0]["tools"]}
    assert "execute_workflow" in tools
    assert not tools & {"decide_approval", "signal_run", "deliver_webhook", "rerun_run"}
    assert re.search("cannot approve anything", scripted.requests[0]["messages"][0]["content"])
    assert len(scripted.requests) == found["asked"]
    assert "is approved" in found["rest"]


# --- what counts as a decision --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("approve run-1/ask", [ApprovalAnswer("run-1", "ask", True)]),
        ("`Reject run-1/ask`", [ApprovalAnswer("run-1", "ask", False)]),
        ("approve `run-1/ask` it is fine", [ApprovalAnswer("run-1", "ask", True, "it is fine")]),
        ("approve a.b.0/ask[12]@3.", [ApprovalAnswer("a.b.0", "ask[12]@3", True)]),
        ("approve a/x: ok\n\nreject a/y", [
            ApprovalAnswer("a", "x", True, "ok"), ApprovalAnswer("a", "y", False),
        ]),
        ("please approve run-1/ask", []),
        ("approve run-1/ask\nand then tell me a joke", []),
        ("approve", []),
        ("approve the deployment", []),
        ("approve ../ask", []),
        ("approve a/x/y", []),
        ("", []),
    ],
)  # fmt: skip
def test_a_decision_is_a_message_of_nothing_else(text: str, expected: list[ApprovalAnswer]) -> None:
    said_before = Message("user", (TextPart("approve older/ask"),))
    newest = Message("user", (TextPart(text),))
    assert list(written_answers([said_before, newest])) == expected


def test_an_older_message_decides_nothing() -> None:
    messages = [Message("user", (TextPart("approve a/b"),)), Message("assistant", ())]
    assert written_answers(messages) == ()


def test_only_our_own_answered_parts_of_the_newest_message_are_decisions() -> None:
    part = {
        "type": "dynamic-tool",
        "toolName": "workflow_approval",
        "toolCallId": "approval:r/s",
        "state": "approval-responded",
        "input": {"message": "something else"},
        "approval": {"id": "r/s", "approved": True, "reason": "fine"},
    }
    others: list[dict[str, Any]] = [
        {**part, "toolName": "delete_everything"},
        {**part, "state": "approval-requested"},
        {**part, "approval": {"id": "r/s", "approved": "yes"}},
        {**part, "approval": {"id": "no id", "approved": True}},
        {"type": "text", "text": "approve x/y"},
    ]
    newest: Any = {"role": "assistant", "parts": [part, *others]}
    assert clicked_answers({"messages": [newest]}) == (ApprovalAnswer("r", "s", True, "fine"),)
    assert clicked_answers({"messages": [newest, {"role": "user", "parts": []}]}) == ()
