"""The runs of the caller: list, one, events, cancel, and that nobody sees another's."""

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.conftest import ALICE, BOB, CAROL
from tests.running_server import RunningServer, ask

RUNS = "/v1/workflows/runs"
LONG = """Run this workflow:
```yaml
name: long-one
steps:
  - name: begin
    run: echo begun
  - name: wait
    run: sleep 60
    depends: [begin]
```"""


def chat(server: RunningServer, key: str, text: str, **headers: str) -> Any:
    client = OpenAI(base_url=f"{server.url}/v1", api_key=key, default_headers=headers)
    return client.chat.completions.create(
        model="kubiya-workflow-agent", messages=[{"role": "user", "content": text}], stream=True
    )


def events_of(stream: Any) -> list[dict[str, Any]]:
    extras = [chunk.model_extra or {} for chunk in stream]
    return [extra["workflow_event"] for extra in extras if "workflow_event" in extra]


def of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def feed(
    server: RunningServer, run_id: str, key: str, **headers: str
) -> list[tuple[int, dict[str, Any]]]:
    """The events of a finished run's feed, each with its id."""
    answer = ask(server.url, "GET", f"{RUNS}/{run_id}/events", headers={**of(key), **headers})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = []
    for frame in answer.body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
        if "data" in lines:
            event = json.loads(lines["data"])
            assert lines["event"] == event["type"]
            events.append((int(lines["id"]), event))
    return events


@pytest.fixture(scope="module")
def finished(keyed_agent: RunningServer) -> list[dict[str, Any]]:
    """The events of a finished run of ALICE, as her chat streamed them."""
    return events_of(chat(keyed_agent, ALICE, "Create and run a system health check"))


@pytest.fixture
def begun(keyed_agent: RunningServer) -> Iterator[tuple[str, Any]]:
    """A run of ALICE that is under way, and the chat stream behind it."""
    stream = chat(keyed_agent, ALICE, LONG)
    for chunk in stream:
        event = (chunk.model_extra or {}).get("workflow_event", {})
        if event.get("type") == "step_running" and event["step"] == "wait":
            yield event["run_id"], stream
            break
    stream.close()


def test_events_are_gapless_and_carry_run_and_time(finished: list[dict[str, Any]]) -> None:
    assert [event["seq"] for event in finished] == list(range(1, len(finished) + 1))
    assert len({event["run_id"] for event in finished}) == 1
    assert all(event["time"].endswith("Z") for event in finished)
    assert finished[-1]["type"] == "workflow_complete"
    assert finished[-1]["status"] == "success"


def test_the_feed_of_a_run_is_what_the_chat_streamed(
    keyed_agent: RunningServer, finished: list[dict[str, Any]]
) -> None:
    fed = feed(keyed_agent, finished[0]["run_id"], ALICE)
    assert [event for _, event in fed] == finished
    assert [number for number, _ in fed] == [event["seq"] for event in finished]


def test_a_feed_goes_on_after_the_last_event_that_the_client_has(
    keyed_agent: RunningServer, finished: list[dict[str, Any]]
) -> None:
    fed = feed(keyed_agent, finished[0]["run_id"], ALICE, **{"Last-Event-ID": "5"})
    assert [number for number, _ in fed] == list(range(6, len(finished) + 1))


def test_a_feed_from_the_end_is_empty(
    keyed_agent: RunningServer, finished: list[dict[str, Any]]
) -> None:
    last = str(len(finished))
    assert feed(keyed_agent, finished[0]["run_id"], ALICE, **{"Last-Event-ID": last}) == []


@pytest.mark.parametrize("last", ["x", "-1", "\xb2", "9" * 30, "9" * 5000])
def test_a_last_event_id_that_is_none_is_400(
    keyed_agent: RunningServer, finished: list[dict[str, Any]], last: str
) -> None:
    path = f"{RUNS}/{finished[0]['run_id']}/events"
    answer = ask(keyed_agent.url, "GET", path, headers={**of(ALICE), "Last-Event-ID": last})
    assert answer.status == 400
    assert answer.error["param"] == "Last-Event-ID"


def test_a_run_is_shown_with_its_steps(
    keyed_agent: RunningServer, finished: list[dict[str, Any]]
) -> None:
    answer = ask(keyed_agent.url, "GET", f"{RUNS}/{finished[0]['run_id']}", headers=of(ALICE))
    run = answer.json
    assert run["run_id"] == finished[0]["run_id"]
    assert run["status"] == "success"
    done = {event["step"] for event in finished if event["type"] == "step_complete"}
    assert {step["name"] for step in run["steps"]} == done


def test_another_keys_run_is_not_found_anywhere(
    keyed_agent: RunningServer, finished: list[dict[str, Any]]
) -> None:
    run_id = finished[0]["run_id"]
    for method, path in [
        ("GET", f"{RUNS}/{run_id}"),
        ("GET", f"{RUNS}/{run_id}/events"),
        ("POST", f"{RUNS}/{run_id}/cancel"),
    ]:
        body = {} if method == "POST" else None
        answer = ask(keyed_agent.url, method, path, body, of(BOB))
        unknown = ask(
            keyed_agent.url, method, path.replace(run_id, str(uuid.uuid4())), body, of(BOB)
        )
        assert answer.status == unknown.status == 404
        assert answer.error["code"] == unknown.error["code"] == "run_not_found"
    listed = ask(keyed_agent.url, "GET", f"{RUNS}?limit=200", headers=of(BOB)).json
    assert run_id not in {run["run_id"] for run in listed["data"]}


def test_runs_are_listed_in_pages_and_filtered(keyed_agent: RunningServer) -> None:
    for _ in range(3):
        events_of(chat(keyed_agent, BOB, "Run the workflow of retry then fail"))
    seen, cursor = [], ""
    while True:
        page = ask(keyed_agent.url, "GET", f"{RUNS}?limit=2{cursor}", headers=of(BOB)).json
        seen += [run["run_id"] for run in page["data"]]
        assert len(page["data"]) <= 2
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) >= 3
    path = f"{RUNS}?status=success"
    assert all(
        run["status"] == "success"
        for run in ask(keyed_agent.url, "GET", path, headers=of(BOB)).json["data"]
    )


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("status=odd", "status"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("cursor=%00", "cursor"),
        ("cursor=" + "x" * 501, "cursor"),
        ("workflow=" + "x" * 201, "workflow"),
    ],
    ids=lambda text: text[:20],
)
def test_a_wrong_filter_is_400(keyed_agent: RunningServer, query: str, param: str) -> None:
    answer = ask(keyed_agent.url, "GET", f"{RUNS}?{query}", headers=of(ALICE))
    assert answer.status == 400
    assert answer.error["param"] == param
    assert "Error executing" not in answer.error["message"]


@pytest.mark.parametrize("run_id", ["%00", "..", "a%20b", "x" * 129, "%F0%9F%92%A9", "unknown"])
def test_a_run_id_that_is_none_is_not_found_in_our_own_words(
    keyed_agent: RunningServer, run_id: str
) -> None:
    answer = ask(keyed_agent.url, "GET", f"{RUNS}/{run_id}", headers=of(ALICE))
    assert (answer.status, answer.error["code"]) == (404, "run_not_found")
    assert "run" in answer.error["message"]
    assert "Error executing" not in answer.error["message"]
    assert "validation" not in answer.error["message"]


def test_cancel_ends_a_running_run_and_its_stream(
    keyed_agent: RunningServer, begun: tuple[str, Any]
) -> None:
    run_id, stream = begun
    rest: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: rest.extend(events_of(stream)))
    reader.start()
    answer = ask(keyed_agent.url, "POST", f"{RUNS}/{run_id}/cancel", {}, of(ALICE))
    assert answer.status == 200
    reader.join(20)
    assert not reader.is_alive()
    assert rest[-1]["type"] == "workflow_complete"
    assert rest[-1]["status"] == "cancelled"
    again = ask(keyed_agent.url, "POST", f"{RUNS}/{run_id}/cancel", {}, of(ALICE))
    assert again.json["status"] == "cancelled"


def test_an_inline_run_is_cancelled_when_its_client_goes_away(
    keyed_agent: RunningServer, begun: tuple[str, Any]
) -> None:
    run_id, stream = begun
    stream.close()
    fed = feed(keyed_agent, run_id, ALICE)
    assert fed[-1][1]["type"] == "workflow_complete"
    assert fed[-1][1]["status"] == "cancelled"


def test_a_detached_run_goes_on_when_its_client_goes_away(keyed_agent: RunningServer) -> None:
    text = LONG.replace("sleep 60", "sleep 2; echo survived")
    stream = chat(keyed_agent, ALICE, text, **{"X-Workflow-Detached": "true"})
    first = next(
        (chunk.model_extra or {})["workflow_event"]
        for chunk in stream
        if "workflow_event" in (chunk.model_extra or {})
    )
    stream.close()
    fed = feed(keyed_agent, first["run_id"], ALICE)
    assert fed[-1][1]["status"] == "success"
    assert any("survived" in str(event.get("output")) for _, event in fed)


def test_a_key_that_may_only_chat_plans_and_runs_nothing(keyed_agent: RunningServer) -> None:
    chunks = list(chat(keyed_agent, CAROL, "Create and run a system health check"))
    assert not events_of(chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "scope 'run'" in text
    assert ask(keyed_agent.url, "GET", RUNS, headers=of(CAROL)).json["data"] == []
