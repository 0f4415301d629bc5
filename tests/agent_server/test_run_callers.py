"""Who calls with a run token, seen from outside: a real server, asked as its backend asks it."""

import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from streaming.run_tokens import KEY_BYTES, MAX_DEPTH
from tests.agent_server.run_servers import (
    ADMIN,
    ALICE,
    BOB,
    ENTRIES,
    TINA,
    RunServer,
    run_server,
    token,
    tool_messages,
    workflow_text,
)
from tests.scripted_model import Call, Turn

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUN = workflow_text({"name": "one", "run": "echo ran"})
HELLO = Turn(["hello"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunServer]:
    folder = tmp_path_factory.mktemp("runs")
    variables = {"AGENT_SERVER_DATABASE_URL": "sqlite", "AGENT_SERVER_ISOLATION": "none"}
    async with run_server(folder, keys=ENTRIES, **variables) as running:
        yield running


async def test_a_step_without_tools_asks_the_model_as_anybody_does(server: RunServer) -> None:
    server.say(HELLO)
    answer = await server.ask(token(), "sum this up")
    assert answer.status == 200, answer.body
    assert answer.json["choices"][0]["message"]["content"] == "hello"
    assert answer.json["model"] == "scripted"
    [asked] = server.model.requests
    assert asked["messages"] == [{"role": "user", "content": "sum this up"}]
    assert "tools" not in asked


async def test_the_key_of_the_owner_pays(server: RunServer) -> None:
    before = await server.tokens_left(TINA)
    server.say(Turn(["hello"], usage=(70, 7)))
    assert (await server.ask(token(owner="tina"))).status == 200
    assert before - await server.tokens_left(TINA) == 70 + 7 + 15


async def test_an_answer_over_the_budget_is_cut_off_and_paid_for(server: RunServer) -> None:
    before = await server.tokens_left(TINA)
    server.say(Turn(["1 2 3 4 " * 4_000], hangs=True))
    answer = await server.ask(token(owner="tina", tokens=6_000))
    assert (answer.status, answer.error["code"]) == (422, "agent_limit")
    assert answer.error["param"] == "budget.tokens"
    assert "raise `budget.tokens`" in answer.error["message"]
    # Nobody has counted them, so it is an estimate.
    assert 10_000 < before - await server.tokens_left(TINA) < 30_000


async def test_the_length_of_an_answer_is_bounded_by_what_is_left(server: RunServer) -> None:
    server.say(HELLO, HELLO, HELLO)
    await server.ask(token(tokens=1_000))
    await server.ask(token(tokens=1_000), max_tokens=10)
    await server.ask(token(tokens=50_000))
    small, smaller, large = server.model.requests
    assert 900 < small["max_tokens"] < 1_000
    assert smaller["max_tokens"] == 10
    # Many models refuse more than their own most.
    assert "max_tokens" not in large


@pytest.mark.parametrize("tokens", [-5, 0, 1])
async def test_a_budget_that_is_used_up_asks_nobody(server: RunServer, tokens: int) -> None:
    server.say()
    answer = await server.ask(token(tokens=tokens))
    assert (answer.status, answer.error["code"]) == (422, "agent_limit")
    assert server.model.requests == []


async def test_a_prompt_that_the_budget_has_no_room_for_asks_nobody(server: RunServer) -> None:
    server.say()
    answer = await server.ask(token(tokens=500), "1 2 3 4 " * 500)
    assert (answer.status, answer.error["param"]) == (422, "budget.tokens")
    assert server.model.requests == []


async def test_a_model_gets_the_turns_of_the_token_and_no_more(server: RunServer) -> None:
    listing = Turn(calls=[Call("list_runs")])
    server.say(listing, listing, HELLO)
    answer = await server.ask(token(tools=("list_runs",), turns=2))
    assert (answer.status, answer.error["param"]) == (422, "budget.turns")
    assert len(server.model.requests) == 2


async def test_the_model_is_told_of_the_tools_of_the_token_alone(server: RunServer) -> None:
    server.say(HELLO)
    assert (await server.ask(token(tools=("list_runs", "get_run")))).status == 200
    assert server.tools_shown() == ["get_run", "list_runs"]
    [system, _] = server.model.requests[0]["messages"]
    assert system["role"] == "system"
    assert "step of a workflow" in system["content"]
    assert "execute_workflow" not in system["content"]


async def test_a_tool_that_the_token_does_not_name_is_not_called(server: RunServer) -> None:
    # The text orders a run, as data may: only the list of tools decides.
    server.say(Turn(calls=[Call("execute_workflow", {"workflow": RUN})]), HELLO)
    answer = await server.ask(token(tools=("list_runs",)), "run the workflow, now")
    assert answer.status == 200
    assert tool_messages(server.model.requests[1]) == [
        "No tool 'execute_workflow'. Tools: list_runs."
    ]
    assert "workflow_events" not in answer.json


async def test_a_tool_that_the_token_names_needs_no_order(server: RunServer) -> None:
    server.say(Turn(calls=[Call("execute_workflow", {"workflow": RUN})]), HELLO)
    answer = await server.ask(
        token(tools=("execute_workflow",)), "Is all well? Do not run a thing."
    )
    assert [event["type"] for event in answer.json["workflow_events"]][-1] == "workflow_complete"


@pytest.mark.parametrize("name", ["fetch_page", "start_run", "watch_run"])
async def test_a_tool_that_is_not_there_is_named_with_those_that_are(
    server: RunServer, name: str
) -> None:
    server.say()
    answer = await server.ask(token(tools=("list_runs", name)))
    assert (answer.status, answer.error["code"]) == (400, "unknown_tool")
    assert f"'{name}'" in answer.error["message"]
    assert "execute_workflow" in answer.error["message"]
    assert server.model.requests == []


async def test_the_tools_see_the_runs_of_the_owner_alone(server: RunServer) -> None:
    server.say(
        Turn(calls=[Call("execute_workflow", {"workflow": RUN})]),
        HELLO,
        Turn(calls=[Call("list_runs")]),
        HELLO,
    )
    ran = await server.ask(token(owner="bob", tools=("execute_workflow",)))
    run_id = ran.json["workflow_events"][0]["run_id"]
    assert (await server.ask(token(tools=("list_runs",)))).status == 200
    [listed] = tool_messages(server.model.requests[-1])
    assert run_id not in listed
    for key, status in ((ALICE, 404), (BOB, 200)):
        answer = await server.call("GET", f"/v1/workflows/runs/{run_id}", key=key)
        assert answer.status == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/workflows/runs"),
        ("GET", "/v1/workflows/runs/run-1"),
        ("POST", "/v1/workflows/runs"),
        ("POST", "/v1/workflows/runs/run-1/cancel"),
        ("POST", "/v1/workflows/runs/run-1/approvals/ask"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/messages/count_tokens"),
        ("POST", "/v1/embeddings"),
        ("POST", "/api/chat"),
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("DELETE", "/v1/keys/alice"),
        ("GET", "/metrics"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/nothing"),
    ],
)
async def test_a_token_is_for_one_path_alone(server: RunServer, method: str, path: str) -> None:
    server.say()
    answer = await server.ask(token(tools=("execute_workflow",)), method=method, path=path)
    assert answer.status == 403
    assert answer.json["error"].get("code", "run_token_not_allowed") == "run_token_not_allowed"
    assert server.model.requests == []


async def test_a_token_is_taken_from_either_header(server: RunServer) -> None:
    server.say(HELLO)
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"x-api-key": token()}
    answer = await server.call("POST", "/v1/chat/completions", body, headers=headers)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (lambda: token(-1), "expired_run_token"),
        (lambda: token(3600), "invalid_run_token"),
        (lambda: token(key=b"o" * KEY_BYTES), "invalid_run_token"),
        (lambda: token()[:-1], "invalid_run_token"),
        (lambda: token() + "A", "invalid_run_token"),
        (lambda: "asr_", "invalid_run_token"),
        (lambda: "asr_" + "A" * 9_000, "invalid_run_token"),
        (lambda: token(owner="nobody"), "run_owner_gone"),
        (lambda: token(owner="local"), "run_owner_gone"),
        (lambda: token(owner="carol"), "run_owner_gone"),
        (lambda: token(owner="gone"), "run_owner_gone"),
        (lambda: token(owner="admin"), "run_owner_gone"),
    ],
    ids=[
        *("expired", "too-long", "another-key", "cut-off", "longer", "bare", "huge"),
        *("unknown-owner", "local", "chat-only", "expired-key", "admin"),
    ],
)
async def test_what_is_no_token_of_a_living_owner_is_nobody(
    server: RunServer, sent: Callable[[], str], code: str
) -> None:
    server.say()
    answer = await server.ask(sent())
    assert (answer.status, answer.error["code"]) == (401, code)
    assert server.model.requests == []


async def test_a_token_that_was_good_is_refused_once_its_time_is_over(server: RunServer) -> None:
    server.say(HELLO)
    ends = int(time.time()) + 2
    short = token(ends - time.time())
    assert (await server.ask(short)).status == 200
    # Asked until it is over: there is nothing else to wait for but the clock.
    while (answer := await server.ask(short, n=2)).status != 401:
        assert time.time() < ends + 1
    assert answer.error["code"] == "expired_run_token"
    assert "expired" in answer.error["message"]


@pytest.mark.parametrize("depth", [-1, 0, MAX_DEPTH + 1, 100])
async def test_no_more_than_three_agents_stand_above_a_call(server: RunServer, depth: int) -> None:
    server.say()
    answer = await server.ask(token(depth=depth))
    assert (answer.status, answer.error["code"]) == (403, "agent_depth")
    assert server.model.requests == []


async def test_of_two_keys_of_one_owner_the_narrower_limits_hold(server: RunServer) -> None:
    server.say(HELLO, HELLO, HELLO)
    # One key may ask twice a minute, the other may name one model.
    assert (await server.ask(token(owner="team"))).status == 200
    refused = await server.ask(token(owner="team"), model="scripted-other")
    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    assert "'erin'" in refused.error["message"]
    assert (await server.ask(token(owner="team"))).status == 200
    limited = await server.ask(token(owner="team"))
    assert (limited.status, limited.error["code"]) == (429, "rate_limit_exceeded")
    assert "'dave'" in limited.error["message"]
    assert len(server.model.requests) == 2


async def test_a_token_dies_with_the_key_of_its_owner(server: RunServer) -> None:
    fields = {"name": "frank", "scopes": ["chat", "run"]}
    made = await server.call("POST", "/v1/keys", fields, key=ADMIN)
    assert made.status == 201, made.body
    server.say(HELLO)
    token_of_frank = token(owner="frank")
    assert (await server.ask(token_of_frank)).status == 200
    assert (await server.call("DELETE", "/v1/keys/frank", key=ADMIN)).status == 200
    refused = await server.ask(token_of_frank)
    assert (refused.status, refused.error["code"]) == (401, "run_owner_gone")
    assert len(server.model.requests) == 1


async def test_the_answer_does_not_outlive_the_step(server: RunServer) -> None:
    server.say()
    answer = await server.ask(token(), headers={"x-workflow-detached": "true"}, stream=True)
    assert (answer.status, answer.error["param"]) == (400, "X-Workflow-Detached")
    assert server.model.requests == []


async def test_a_call_is_found_in_the_log_by_its_run_and_no_token_is(server: RunServer) -> None:
    server.say(HELLO)
    sent = token(run_id="run-in-the-log", step="deploy[0]@2")
    assert (await server.ask(sent)).status == 200
    broken = sent[:-1]
    await server.ask(broken)
    await server.ask(token(), broken, n=2)
    log = server.server.log
    assert "run_id=run-in-the-log step=deploy[0]@2" in log
    assert "asr_" not in log
    assert sent[8:40] not in log
