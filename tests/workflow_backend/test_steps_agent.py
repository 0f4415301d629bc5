"""`agent` steps against a server on loopback that answers as a script says."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from streaming.run_tokens import (
    KEY_BYTES,
    MAX_AGE_SECONDS,
    MAX_DEPTH,
    RunClaims,
    key_of_phrase,
    key_to_text,
    read_claims,
)
from tests.servers import Request, Scripted, ScriptedServer, scripted
from tests.workflow_backend.attempts import LIMITS, attempt, opened, run
from workflow_backend.engines.base import AttemptResult
from workflow_backend.secrets import Secrets
from workflow_backend.settings import SettingsError, load_settings, take_server_link
from workflow_backend.steps import StepExecutor
from workflow_backend.steps.server_link import ServerLink, server_link

KEY = b"k" * KEY_BYTES
TRACE = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
BOUND_SECONDS = 20


def says(
    text: str | None, *, reason: str = "stop", usage: tuple[int, int] | None = (10, 5), **more: Any
) -> Scripted:
    """A chat completion."""
    choice = {"index": 0, "message": {"content": text, **more}, "finish_reason": reason}
    body: dict[str, Any] = {"object": "chat.completion", "choices": [choice]}
    if usage is not None:
        prompt, said = usage
        body["usage"] = {"prompt_tokens": prompt, "completion_tokens": said}
    return Scripted(200, (orjson.dumps(body),), {"Content-Type": "application/json"})


def refuses(status: int, **error: Any) -> Scripted:
    """An error as the server tells it."""
    whole = {"message": "as asked", "type": "server_error", "param": None, "code": None, **error}
    return Scripted(status, (orjson.dumps({"error": whole}),))


@contextlib.asynccontextmanager
async def asking(
    folder: Path, *answers: Scripted, **settings: Any
) -> AsyncIterator[tuple[StepExecutor, ScriptedServer]]:
    """An executor whose server gives these answers."""
    async with scripted(*answers) as server:
        link = ServerLink(server.url, KEY)
        async with opened(folder, server=link, **settings) as executor:
            yield executor, server


async def ask(
    executor: StepExecutor, *, depth: int = 0, seconds: float | None = 10.0, **task: Any
) -> AttemptResult:
    agent = {"prompt": "Count.", **task}
    spec = replace(
        attempt(agent=agent, timeout=seconds, number=2),
        owner="alice",
        trace=TRACE,
        depth=depth,
        instance="step[3]",
        iteration=4,
    )
    return await run(executor, spec)


def claims_of(request: Request) -> RunClaims:
    scheme, _, token = request.headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    return read_claims(token, KEY, time.time())


async def test_an_answer_becomes_outputs(tmp_path: Path) -> None:
    async with asking(tmp_path, says("four", usage=(12, 3))) as (executor, server):
        result = await ask(executor, system="Be short.")
    assert result.status == "success"
    assert result.exit_code is None
    assert result.outputs == {
        "stdout": "four",
        "text": "four",
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
    }
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["traceparent"] == TRACE["traceparent"]
    assert request.json == {
        "model": "kubiya-workflow-agent",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Count."},
        ],
    }


async def test_a_call_carries_the_run_and_what_its_step_may_use(tmp_path: Path) -> None:
    async with asking(tmp_path, says("four")) as (executor, server):
        before = time.time()
        await ask(
            executor,
            depth=2,
            seconds=30.0,
            tools=["list_runs", "get_run"],
            budget={"tokens": 700, "turns": 5},
        )
    claims = claims_of(server.requests[0])
    assert before + 29 < claims.expires_at < before + 35
    assert claims == RunClaims(
        owner="alice",
        run_id="run-1",
        step="step[3]@4",
        depth=3,
        tokens=700,
        turns=5,
        tools=("list_runs", "get_run"),
        expires_at=claims.expires_at,
    )


async def test_no_token_outlives_a_quarter_of_an_hour(tmp_path: Path) -> None:
    async with asking(tmp_path, says("four")) as (executor, server):
        await ask(executor, seconds=None)
    assert LIMITS.timeout_seconds > MAX_AGE_SECONDS
    assert claims_of(server.requests[0]).expires_at <= time.time() + MAX_AGE_SECONDS + 1


@pytest.mark.parametrize(
    ("model", "tools", "named"),
    [
        (None, [], "kubiya-workflow-agent"),
        (None, ["list_runs"], "kubiya-workflow-agent"),
        ("openai/gpt-5.4", [], "openai/gpt-5.4"),
        ("openai/gpt-5.4", ["list_runs"], "kubiya-workflow-agent:openai/gpt-5.4"),
        ("fast", ["list_runs"], "kubiya-workflow-agent:fast"),
        ("workflow-agent:fast", ["list_runs"], "workflow-agent:fast"),
        ("kubiya-workflow-agent", ["list_runs"], "kubiya-workflow-agent"),
    ],
)
async def test_the_agent_is_asked_where_there_are_tools_and_else_the_model(
    tmp_path: Path, model: str | None, tools: list[str], named: str
) -> None:
    async with asking(tmp_path, says("four")) as (executor, server):
        await ask(executor, model=model, tools=tools)
    assert server.requests[0].json["model"] == named


async def test_an_answer_that_fits_the_schema_is_json(tmp_path: Path) -> None:
    async with asking(tmp_path, says('{"n": 4}')) as (executor, server):
        result = await ask(executor, output_schema=SCHEMA)
    assert result.status == "success"
    assert result.outputs["json"] == {"n": 4}
    assert result.outputs["text"] == '{"n": 4}'
    [request] = server.requests
    assert request.json["response_format"]["json_schema"]["schema"] == SCHEMA
    # One of the eight turns is kept for a repair.
    assert claims_of(request).turns == 7


async def test_an_answer_that_does_not_fit_is_repaired_once_without_tools(tmp_path: Path) -> None:
    answers = (says('{"n": "x"}', usage=(100, 20)), says('{"n": 4}', usage=(150, 10)))
    async with asking(tmp_path, *answers) as (executor, server):
        result = await ask(executor, output_schema=SCHEMA, tools=["list_runs"])
    assert result.status == "success"
    assert result.outputs["json"] == {"n": 4}
    assert result.outputs["usage"] == {
        "prompt_tokens": 250,
        "completion_tokens": 30,
        "total_tokens": 280,
    }
    first, repair = server.requests
    assert repair.json["messages"][:-1] == [
        *first.json["messages"],
        {"role": "assistant", "content": '{"n": "x"}'},
    ]
    assert "at n: 'x' is not of type 'integer'" in repair.json["messages"][-1]["content"]
    assert repair.json["response_format"] == first.json["response_format"]
    claims = claims_of(repair)
    assert (claims.tools, claims.turns, claims.tokens) == ((), 1, 50_000 - 120)


async def test_a_second_answer_that_does_not_fit_fails_the_step(tmp_path: Path) -> None:
    async with asking(tmp_path, says("four"), says('{"n": "x"}')) as (executor, server):
        result = await ask(executor, output_schema=SCHEMA)
    assert result.status == "failed"
    assert "does not fit `output_schema`" in (result.error or "")
    assert "at n: 'x'" in (result.error or "")
    assert result.outputs["text"] == '{"n": "x"}'
    assert len(server.requests) == 2


async def test_with_one_turn_there_is_no_repair(tmp_path: Path) -> None:
    async with asking(tmp_path, says("four")) as (executor, server):
        result = await ask(executor, output_schema=SCHEMA, budget={"turns": 1})
    assert result.status == "failed"
    assert [claims_of(request).turns for request in server.requests] == [1]


async def test_there_is_no_repair_without_tokens(tmp_path: Path) -> None:
    async with asking(tmp_path, says("four", usage=(90, 10))) as (executor, server):
        result = await ask(executor, output_schema=SCHEMA, budget={"tokens": 100})
    assert result.status == "failed"
    assert "has used 100 of its 100 tokens" in (result.error or "")
    assert len(server.requests) == 1


async def test_where_nobody_counts_tokens_the_bytes_do(tmp_path: Path) -> None:
    answers = (says("x" * 4_000, usage=None), says('{"n": 4}'))
    async with asking(tmp_path, *answers) as (executor, server):
        await ask(executor, output_schema=SCHEMA)
    left = claims_of(server.requests[1]).tokens
    asked = len(server.requests[0].body)
    assert left == 50_000 - 1_000 - asked // 4


async def test_a_model_that_takes_no_schema_is_asked_in_words(tmp_path: Path) -> None:
    refusal = refuses(400, param="response_format.type", message="not with this model")
    async with asking(tmp_path, refusal, says('{"n": 4}')) as (executor, server):
        result = await ask(executor, system="Be short.", output_schema=SCHEMA)
    assert result.outputs["json"] == {"n": 4}
    request = server.requests[1].json
    assert "response_format" not in request
    own, schema, task = request["messages"]
    assert (own["content"], task["content"]) == ("Be short.", "Count.")
    assert orjson.dumps(SCHEMA) in orjson.dumps(orjson.loads(schema["content"].splitlines()[-1]))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            refuses(422, code="agent_limit", message="Raise it."),
            "Raise it. (HTTP 422, agent_limit)",
        ),
        (refuses(401, code="expired_run_token"), "as asked (HTTP 401, expired_run_token)"),
        (refuses(400, param="model"), "as asked (HTTP 400)"),
        (Scripted(502, (b"<html>Bad Gateway</html>",)), "the server answered an error (HTTP 502)"),
        (Scripted(302, (), {"Location": "/elsewhere"}), "the server answered an error (HTTP 302)"),
        (Scripted(200, (b"hello",)), "no chat completion"),
        (Scripted(200, (b"[]",)), "no chat completion"),
        (Scripted(200, (b'{"choices": [{}]}',)), "no chat completion"),
        (Scripted(200, (b'{"cho',), {"Content-Length": "99"}, ending="cut"), "does not answer"),
        (Scripted(None, ending="reset"), "does not answer"),
        (says("four and", reason="length"), "raise `budget.tokens`"),
        (says(None, reason="content_filter"), "content_filter"),
        (says(None, refusal="I will not."), "the model refused: I will not."),
    ],
)
async def test_what_is_no_answer_fails_the_step_in_words(
    tmp_path: Path, answer: Scripted, error: str
) -> None:
    async with asking(tmp_path, answer) as (executor, server):
        result = await ask(executor)
    assert result.status == "failed"
    assert error in (result.error or "")
    assert len(server.requests) == 1
    assert set(result.outputs) == {"stdout", "text", "usage"}


async def test_what_was_cut_off_is_still_shown(tmp_path: Path) -> None:
    async with asking(tmp_path, says("four and", reason="length")) as (executor, _):
        result = await ask(executor)
    assert result.outputs["text"] == result.outputs["stdout"] == "four and"


async def test_a_server_that_is_not_there_fails_the_step(tmp_path: Path) -> None:
    async with opened(tmp_path, server=ServerLink("http://127.0.0.1:1", KEY)) as executor:
        result = await ask(executor)
    assert result.status == "failed"
    assert "http://127.0.0.1:1 does not answer" in (result.error or "")
    assert "asr_" not in repr(result)


async def test_without_a_server_the_step_says_what_is_missing(tmp_path: Path) -> None:
    async with opened(tmp_path) as executor:
        result = await ask(executor)
    assert result.status == "failed"
    assert "`agent-server serve`" in (result.error or "")


async def test_a_fourth_agent_above_one_another_is_refused_before_it_is_asked(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path, says("four")) as (executor, server):
        deepest = await ask(executor, depth=MAX_DEPTH - 1)
        result = await ask(executor, depth=MAX_DEPTH)
    assert deepest.status == "success"
    assert result.status == "failed"
    assert f"stands below {MAX_DEPTH} agents" in (result.error or "")
    assert len(server.requests) == 1


@pytest.mark.parametrize("schema", [{"type": "text"}, {"$ref": "https://example.com/schema"}])
async def test_a_schema_that_is_none_asks_nobody(tmp_path: Path, schema: dict[str, Any]) -> None:
    async with asking(tmp_path, says("four")) as (executor, server):
        result = await ask(executor, output_schema=schema)
    assert result.status == "failed"
    assert "output_schema" in (result.error or "")
    assert server.requests == []


async def test_names_of_tools_that_no_header_holds_ask_nobody(tmp_path: Path) -> None:
    async with asking(tmp_path, says("four")) as (executor, server):
        result = await ask(executor, tools=["tool" * 100 + str(n) for n in range(30)])
    assert result.status == "failed"
    assert "name fewer" in (result.error or "")
    assert server.requests == []


async def test_an_attempt_ends_with_its_time_and_so_does_its_call(tmp_path: Path) -> None:
    async with asking(tmp_path, Scripted(None, ending="silence")) as (executor, server):
        result = await ask(executor, seconds=0.2)
        await asyncio.wait_for(server.client_left.wait(), BOUND_SECONDS)
    assert result.status == "timed_out"
    assert result.error == "timed out after 0.2 s"
    assert result.outputs["usage"] == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
    }


async def test_a_cancelled_attempt_ends_its_call_and_says_why(tmp_path: Path) -> None:
    async with asking(tmp_path, Scripted(None, ending="silence")) as (executor, server):
        asked = asyncio.create_task(ask(executor))
        await asyncio.wait_for(server.asked.wait(), BOUND_SECONDS)
        asked.cancel("nobody wants it")
        result = await asked
        await asyncio.wait_for(server.client_left.wait(), BOUND_SECONDS)
    assert result.status == "cancelled"
    assert result.error == "cancelled: nobody wants it"


async def test_secrets_and_the_token_are_in_no_result(tmp_path: Path) -> None:
    secrets = Secrets({"PASSWORD": "hunter2-is-long"})
    answers = (
        says('{"n": "hunter2-is-long"}'),
        says('{"n": 4, "password": "hunter2-is-long"}'),
        refuses(500, message="hunter2-is-long"),
    )
    async with asking(tmp_path, *answers, secrets=secrets) as (executor, server):
        found = await ask(executor, output_schema=SCHEMA)
        failed = await ask(executor)
    for result in (found, failed):
        shown = repr(result)
        assert "hunter2" not in shown
        assert "asr_" not in shown
        for request in server.requests:
            assert request.headers["authorization"].removeprefix("Bearer ")[4:40] not in shown
    assert found.outputs["json"] == {"n": 4, "password": "***"}


async def test_a_long_answer_is_cut_and_kept_whole_as_a_log(tmp_path: Path) -> None:
    long = says("x" * (LIMITS.stdout_characters + 1_000))
    async with asking(tmp_path, long, long, long) as (executor, _):
        result = await ask(executor)
        with_schema = await ask(executor, output_schema=SCHEMA, budget={"turns": 1})
    assert "\n... 1000 characters left out ...\n" in str(result.outputs["text"])
    [log] = result.artefacts
    assert log.is_log
    assert log.size == LIMITS.stdout_characters + 1_000
    assert with_schema.status == "failed"
    assert "over" in (with_schema.error or "")


async def test_no_proxy_of_the_environment_sees_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted(says("proxied")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with asking(tmp_path, says("four")) as (executor, _):
            result = await ask(executor)
    assert result.outputs["text"] == "four"
    assert proxy.requests == []


def test_a_backend_knows_its_server_by_url_and_key_or_phrase() -> None:
    assert server_link(None, key_to_text(KEY), None) is None
    assert server_link("http://server", None, None) is None
    by_key = server_link("http://server/", key_to_text(KEY), "a phrase")
    assert by_key == ServerLink("http://server", KEY)
    by_phrase = server_link("http://server", None, "a phrase")
    assert by_phrase == ServerLink("http://server", key_of_phrase("a phrase"))
    assert "k" * 8 not in repr(by_key)


def test_the_key_leaves_the_environment_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SERVER_URL", "http://127.0.0.1:8000")
    monkeypatch.setenv("AGENT_SERVER_RUN_TOKEN_KEY", key_to_text(KEY))
    settings = load_settings()
    assert take_server_link(settings, None) == ServerLink("http://127.0.0.1:8000", KEY)
    assert take_server_link(settings, None) is None
    monkeypatch.setenv("AGENT_SERVER_RUN_TOKEN_KEY", "short")
    with pytest.raises(SettingsError, match=r"AGENT_SERVER_RUN_TOKEN_KEY: .* 32 bytes"):
        take_server_link(settings, None)
