"""What holds on every door, whatever the upstream speaks: costs, limits, and the client's leaving.

Each door meets an upstream of its own format, whose frames are relayed, and one of another, whose
answer is translated.
"""

import asyncio
import contextlib
import itertools
import random
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent_server.accounts.keys import digest_of
from tests.model_upstream import ModelUpstream, model_upstream
from tests.servers import Scripted, ScriptedServer, scripted
from tests.serving import serving

BOUND_SECONDS = 10
TEXT = "Say it."
ASKED: list[dict[str, str]] = [{"role": "user", "content": TEXT}]
# The path of each door, and a body that lets the answer have 50 tokens.
DOORS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": ASKED, "max_tokens": 50}),
    "responses": ("/v1/responses", {"input": TEXT, "max_output_tokens": 50, "store": False}),
    "messages": ("/v1/messages", {"messages": ASKED, "max_tokens": 50}),
}
WIRES = ("chat", "messages", "responses")
WAYS = (
    ("chat", "chat"),
    ("chat", "messages"),
    ("responses", "responses"),
    ("responses", "chat"),
    ("messages", "messages"),
    ("messages", "chat"),
)
FIRST = {
    "chat": b'data: {"id":"u","model":"m","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n',
    "messages": b'event: message_start\ndata: {"type":"message_start","message":{"id":"u",'
    b'"type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,'
    b'"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"Hel"}}\n\n',
    "responses": b'event: response.created\ndata: {"type":"response.created",'
    b'"sequence_number":0,"response":{"id":"resp_u","object":"response","status":"in_progress",'
    b'"model":"m","output":[]}}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    b'"sequence_number":1,"item_id":"msg_u","output_index":0,"content_index":0,"delta":"Hel"}\n\n',
}
SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
ADMIN, ONE, FEW, POOR = (f"as-{letter * 40}" for letter in "aofp")
FILE = """
providers:
  of-chat: {{like: custom, base_url: {url}/v1, api_key: "${{MODEL_KEY}}"}}
  of-messages: {{like: anthropic, base_url: {url}, api_key: "${{MODEL_KEY}}"}}
  of-responses: {{like: azure, base_url: {url}, api_key: "${{MODEL_KEY}}"}}
models:
  by-chat: {{retries: 0, routes: [{{provider: of-chat, model: gpt-real}}]{more}}}
  by-messages: {{retries: 0, routes: [{{provider: of-messages, model: claude-real}}]{more}}}
  by-responses: {{retries: 0, routes: [{{provider: of-responses, model: gpt-5-codex}}]{more}}}
keys:
  - {{name: admin, sha256: {admin}, scopes: [chat, admin]}}
  - {{name: one, sha256: {one}, scopes: [chat], requests_per_minute: 1}}
  - {{name: few, sha256: {few}, scopes: [chat], parallel: 4}}
  - {{name: poor, sha256: {poor}, scopes: [chat], budget_per_day: 0.0015}}
prices:
  of-*/*: {{input: 7, output: 11}}
breaker: {{failures: 1000, failure_rate: 1}}
"""


@contextlib.asynccontextmanager
async def gateway(
    folder: Path, upstream: str, more: str = "", **settings: Any
) -> AsyncIterator[str]:
    """The URL of a server with a store, before an upstream that is asked in each format."""
    path = folder / "gateway.yaml"
    digests = {"admin": ADMIN, "one": ONE, "few": FEW, "poor": POOR}
    digests = {name: f"sha256:{digest_of(key)}" for name, key in digests.items()}
    path.write_text(FILE.format(url=upstream, more=more, **digests))
    given = {"gateway_config": path, "database_url": "sqlite", **settings}
    async with serving(folder, **given) as url:
        yield url


@pytest.fixture(autouse=True)
def provider_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", "sk-upstream-key-0123456789")


@pytest.fixture
def upstream() -> Iterator[ModelUpstream]:
    with model_upstream() as server:
        yield server


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


def rows(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    """The usage of every call of a server that has ended."""
    with contextlib.closing(sqlite3.connect(folder / "server.db")) as store:
        return store.execute(f"SELECT {columns} FROM usage ORDER BY id").fetchall()  # noqa: S608


async def ask(
    web: aiohttp.ClientSession,
    url: str,
    door: str,
    wire: str,
    *,
    stream: bool,
    key: str = ADMIN,
    **fields: Any,
) -> tuple[int, bytes]:
    path, body = DOORS[door]
    body = {**body, "model": f"by-{wire}", "stream": stream, **fields}
    async with web.post(url + path, json=body, headers={"x-api-key": key}) as answer:
        return answer.status, await answer.read()


async def test_a_call_costs_the_same_on_every_door_streamed_or_not(
    tmp_path: Path, upstream: ModelUpstream, web: aiohttp.ClientSession
) -> None:
    calls = list(itertools.product(DOORS, WIRES, (True, False)))
    async with gateway(tmp_path, upstream.url) as url:
        for door, wire, stream in calls:
            status, body = await ask(web, url, door, wire, stream=stream)
            assert (status, b"Turn" in body) == (200, True)
    found = rows(tmp_path, "outcome, prompt_tokens, completion_tokens, cost_nano_usd")
    assert len(found) == len(calls)
    assert len(set(found)) == 1
    outcome, prompt, completion, cost = found[0]
    assert outcome == "ok"
    assert cost == prompt * 7000 + completion * 11000 > 0


async def test_the_last_request_of_a_minute_is_answered_once_over_all_doors(
    tmp_path: Path, upstream: ModelUpstream, web: aiohttp.ClientSession
) -> None:
    async with gateway(tmp_path, upstream.url) as url:
        calls = (
            ask(web, url, door, wire, stream=stream, key=ONE)
            for door, wire, stream in itertools.product(DOORS, WIRES, (True, False))
        )
        answers = await asyncio.gather(*calls)
    assert sorted(status for status, _ in answers) == [200] + [429] * (len(answers) - 1)
    assert len(upstream.requests) == 1


async def test_calls_at_once_never_pass_a_budget_on_any_door(
    tmp_path: Path, upstream: ModelUpstream, web: aiohttp.ClientSession
) -> None:
    async with gateway(tmp_path, upstream.url) as url:
        calls = (
            ask(web, url, door, wire, stream=stream, key=POOR)
            for door, wire, stream in itertools.product(DOORS, WIRES, (True, False))
        )
        answers = await asyncio.gather(*calls)
        statuses = {status for status, _ in answers}
        refused = next(body for status, body in answers if status == 429)
    assert statuses == {200, 429}
    assert b"budget" in refused
    spent = sum(cost or 0 for (cost,) in rows(tmp_path, "cost_nano_usd"))
    assert 0 < spent <= 1_500_000


@pytest.mark.parametrize(
    ("door", "bounds", "answered"),
    [
        ("chat", {"max_tokens": None, "max_output_tokens": 1}, 1),
        ("chat", {"max_tokens": 10**6, "max_completion_tokens": 1}, 0),
        ("chat", {"max_tokens": 50, "n": 1000.0}, 0),
        ("responses", {"max_output_tokens": None, "max_tokens": 1}, 1),
        ("messages", {"max_tokens": 10**6, "max_output_tokens": 1}, 0),
    ],
)
async def test_a_bound_that_no_upstream_obeys_is_not_believed(
    tmp_path: Path, web: aiohttp.ClientSession, door: str, bounds: dict[str, Any], answered: int
) -> None:
    late = Scripted(200, (_WHOLE_CHAT,), JSON, ending="late")
    async with (
        scripted(late) as upstream,
        gateway(tmp_path, upstream.url) as url,
        asyncio.timeout(BOUND_SECONDS),
    ):
        running = {
            asyncio.create_task(ask(web, url, door, "chat", stream=False, key=POOR, **bounds))
            for _ in range(8)
        }
        # Those that find no room in the budget end while the others are still answered.
        while len(running) > answered:
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result()[0] for task in ended} == {429}
        upstream.may_end.set()
        assert [(await task)[0] for task in running] == [200] * answered


@pytest.mark.parametrize(("door", "wire"), WAYS)
async def test_a_client_that_leaves_ends_its_upstream_in_every_phase(
    tmp_path: Path, web: aiohttp.ClientSession, door: str, wire: str
) -> None:
    no_head = Scripted(None, ending="silence")
    no_content = Scripted(headers=SSE, ending="silence")
    half = Scripted(pieces=(FIRST[wire],), headers=SSE, ending="silence")
    no_body = Scripted(headers=JSON, ending="silence")
    script = (no_head, no_content, half, no_body)
    async with (
        scripted(*script) as silent,
        gateway(tmp_path, silent.url, stream_grace_seconds=0.05) as url,
    ):
        for answer in script:
            await _leave(web, url, door, wire, silent, answer)
    found = rows(tmp_path, "door, outcome, status, attempts")
    assert found == [(door, "aborted", 499, 1)] * len(script)


async def _leave(
    web: aiohttp.ClientSession,
    url: str,
    door: str,
    wire: str,
    silent: ScriptedServer,
    answer: Scripted,
) -> None:
    """Ask, go as far as the upstream lets the client, leave, and wait until the upstream knows."""
    silent.asked.clear()
    silent.client_left.clear()
    path, body = DOORS[door]
    body = {**body, "model": f"by-{wire}", "stream": answer.headers != JSON}
    asking = asyncio.create_task(web.post(url + path, json=body, headers={"x-api-key": ADMIN}))
    async with asyncio.timeout(BOUND_SECONDS):
        await silent.asked.wait()
        if answer.headers == SSE:
            reading = await asking
            if answer.pieces:
                await reading.content.readuntil(b"Hel")
            reading.close()
        else:
            asking.cancel()
        await silent.client_left.wait()


@pytest.mark.parametrize(("door", "wire"), WAYS)
async def test_a_silent_upstream_gets_keep_alives_to_the_client_on_every_door(
    tmp_path: Path, web: aiohttp.ClientSession, door: str, wire: str
) -> None:
    path, body = DOORS[door]
    times: dict[str, Any] = {"stream_grace_seconds": 0.05, "keep_alive_seconds": 0.05}
    async with (
        scripted(Scripted(headers=SSE, ending="silence")) as silent,
        gateway(tmp_path, silent.url, **times) as url,
        asyncio.timeout(BOUND_SECONDS),
        web.post(
            url + path,
            json={**body, "model": f"by-{wire}", "stream": True},
            headers={"x-api-key": ADMIN},
        ) as answer,
    ):
        assert answer.status == 200
        for _ in range(2):
            assert await answer.content.readuntil(b"\n\n") == b": ping\n\n"


async def test_more_streams_run_at_once_than_any_pool_would_hold(
    tmp_path: Path, web: aiohttp.ClientSession
) -> None:
    async with (
        scripted(Scripted(pieces=(FIRST["chat"],), headers=SSE, ending="late")) as upstream,
        gateway(tmp_path, upstream.url) as url,
        asyncio.timeout(BOUND_SECONDS),
        contextlib.AsyncExitStack() as streams,
    ):

        async def begin(door: str) -> None:
            path, body = DOORS[door]
            asked = {**body, "model": "by-chat", "stream": True}
            answer = await streams.enter_async_context(
                web.post(url + path, json=asked, headers={"x-api-key": ADMIN})
            )
            await answer.content.readuntil(b"Hel")

        # None ends before all have begun.
        await asyncio.gather(*(begin(door) for door in DOORS for _ in range(30)))
        upstream.may_end.set()
    assert upstream.connections == 90


async def test_an_upstream_is_asked_once_for_its_models_however_many_ask(
    tmp_path: Path, upstream: ModelUpstream, web: aiohttp.ClientSession
) -> None:
    async def listed() -> int:
        async with web.get(f"{url}/v1/models", headers={"x-api-key": ONE}) as answer:
            return len((await answer.json())["data"])

    async with gateway(tmp_path, upstream.url) as url:
        assert len(set(await asyncio.gather(*(listed() for _ in range(20))))) == 1
        assert len(upstream.requests) == 3


@pytest.mark.parametrize(("door", "wire"), WAYS)
async def test_what_was_said_before_an_upstream_broke_off_is_paid_for(
    tmp_path: Path, web: aiohttp.ClientSession, door: str, wire: str
) -> None:
    cut = Scripted(pieces=(FIRST[wire],), headers=SSE, ending="cut")
    async with scripted(cut) as upstream, gateway(tmp_path, upstream.url) as url:
        status, body = await ask(web, url, door, wire, stream=True)
    assert (status, b"Hel" in body, b"error" in body) == (200, True, True)
    [(outcome, prompt, cost)] = rows(tmp_path, "outcome, prompt_tokens, cost_nano_usd")
    assert outcome == "truncated"
    assert prompt > 0
    assert cost > 0


@pytest.mark.parametrize("door", DOORS)
async def test_an_idempotency_key_is_its_owners_alone(
    tmp_path: Path, upstream: ModelUpstream, web: aiohttp.ClientSession, door: str
) -> None:
    path, body = DOORS[door]
    async with gateway(tmp_path, upstream.url) as url:
        for key in (ADMIN, ADMIN, FEW):
            headers = {"x-api-key": key, "idempotency-key": "try-1"}
            asked = {**body, "model": f"by-{door}"}
            async with web.post(url + path, json=asked, headers=headers) as answer:
                assert answer.status == 200
    first, again, other = (request.headers["idempotency-key"] for request in upstream.requests)
    assert first == again != other
    assert "try-1" not in {first, other}


async def test_places_and_slots_come_back_whatever_becomes_of_calls(
    tmp_path: Path, web: aiohttp.ClientSession
) -> None:
    draw = random.Random(5)  # noqa: S311 - the same in every run
    whole = Scripted(200, (_WHOLE_CHAT,), JSON)
    faults = (
        whole,
        Scripted(500, (b"{}",), JSON),
        Scripted(None, ending="cut"),
        Scripted(headers=SSE, ending="silence"),
        Scripted(pieces=(FIRST["chat"],), headers=SSE, ending="cut"),
        Scripted(pieces=(FIRST["chat"],), headers=SSE, ending="silence"),
    )
    script = [draw.choice(faults) for _ in range(120)]
    budgets = ", timeouts: {first_token: 0.1, idle: 0.1, total: 1}"
    async with (
        scripted(*script, whole) as faulty,
        gateway(tmp_path, faulty.url, budgets) as url,
        asyncio.timeout(20),
    ):

        async def caller() -> None:
            for _ in range(15):
                door, stream = draw.choice(list(DOORS)), draw.random() < 0.7
                patience = draw.choice((0.001, 0.03, 5))
                with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                    async with asyncio.timeout(patience):
                        await ask(web, url, door, "chat", stream=stream, key=FEW)

        await asyncio.gather(*(caller() for _ in range(8)))
        while len(faulty.requests) < len(script):
            await ask(web, url, "chat", "chat", stream=False, key=FEW)
        while await _in_flight(web, url):
            pass
        calls = (ask(web, url, "chat", "chat", stream=False, key=FEW) for _ in range(4))
        assert [status for status, _ in await asyncio.gather(*calls)] == [200] * 4
    assert {outcome for (outcome,) in rows(tmp_path, "outcome")} >= {"ok", "error", "aborted"}


async def _in_flight(web: aiohttp.ClientSession, url: str) -> float:
    async with web.get(f"{url}/metrics", headers={"x-api-key": ADMIN}) as answer:
        assert answer.status == 200
        lines = (await answer.text()).splitlines()
    found = [line for line in lines if "in_flight" in line and not line.startswith("#")]
    assert found
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


_WHOLE_CHAT = (
    b'{"id":"u","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
)
