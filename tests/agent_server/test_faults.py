"""The sixteen faults of an upstream, through the whole server: what the client sees of each.

Two routes: the first is faulty, the second is fine, unless a case says otherwise. The budgets are
short, so that what is bounded by them ends at once; `-s` prints the scorecard.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest
from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk

from tests import fault_upstream as faults
from tests.fault_upstream import TEXT, FaultUpstream, Step, closed_port, fault_upstream
from tests.serving import serving

# Far more than any budget: only a call that no budget ends takes so long.
HANG_SECONDS = 20
BUDGETS = "{connect: 1, first_byte: 0.4, first_token: 0.5, idle: 0.4, total: 6}"
LONG = "    timeouts: {first_byte: 30, first_token: 30, idle: 30, total: 30}\n"
CALL: dict[str, Any] = {"model": "smart", "messages": [{"role": "user", "content": "Say it."}]}
HEADERS = {"x-api-key": "none", "anthropic-version": "2023-06-01"}
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}


@dataclass
class Seen:
    """What a client saw of one call."""

    status: int
    text: str
    error: dict[str, Any] | None
    headers: httpx2.Headers
    seconds: float
    is_cut: bool = False

    @property
    def attempts(self) -> int:
        return int(self.headers.get("x-attempts", "0"))

    @property
    def provider(self) -> str | None:
        return self.headers.get("x-provider")


@dataclass
class Stage:
    """A server in front of faulty upstreams."""

    url: str
    upstreams: dict[str, FaultUpstream]
    client: httpx2.AsyncClient

    def asked(self) -> dict[str, int]:
        return {name: upstream.attempts for name, upstream in self.upstreams.items()}

    async def call(
        self, *, door: str = "chat", stream: bool = True, lets_go_on: bool = True
    ) -> Seen:
        body = {**CALL, "stream": stream}
        if door == "messages":
            body["max_tokens"] = 50
        began = time.monotonic()
        request = self.client.stream("POST", self.url + PATHS[door], json=body, headers=HEADERS)
        async with asyncio.timeout(HANG_SECONDS), request as answer:
            data = b""
            async for piece in answer.aiter_bytes():
                data += piece
                if lets_go_on and b"The answer" in data:
                    for upstream in self.upstreams.values():
                        upstream.may_go_on.set()
        return seen(answer, data, time.monotonic() - began)


def seen(answer: httpx2.Response, data: bytes, seconds: float) -> Seen:
    """The answer as a client reads it: of a stream, its text, its error, and whether it ended."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        body = orjson.loads(data)
        return Seen(
            answer.status_code, text_of_body(body), body.get("error"), answer.headers, seconds
        )
    text, error, is_ended = "", None, False
    for frame in data.decode().split("\n\n"):
        line = next((line for line in frame.split("\n") if line.startswith("data: ")), None)
        if line is None:
            continue
        if line == "data: [DONE]":
            is_ended = True
            continue
        event = orjson.loads(line[6:])
        error = event.get("error") or error
        is_ended = is_ended or event.get("type") == "message_stop"
        text += text_of_event(event)
    return Seen(
        answer.status_code, text, error, answer.headers, seconds, not is_ended and error is None
    )


def text_of_body(body: dict[str, Any]) -> str:
    if choices := body.get("choices"):
        return str(choices[0]["message"]["content"])
    return "".join(block["text"] for block in body.get("content", ()))


def text_of_event(event: dict[str, Any]) -> str:
    if event.get("type") == "content_block_delta":
        return str(event["delta"]["text"])
    choices = event.get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""


@asynccontextmanager
async def stage(
    folder: Path,
    *scripts: tuple[Step, ...] | None,
    like: str = "custom",
    model: str = "",
    rest: str = "",
    extra: str = "",
) -> AsyncIterator[Stage]:
    """A server with one route for each script, in this order; None is a closed port.

    `model` are further lines of the model, `rest` follow it; `extra` is the address of a provider
    `second` that no route of the model names.
    """
    with ExitStack() as stack:
        upstreams: dict[str, FaultUpstream] = {}
        providers, routes = "", ""
        for name, script in zip(("first", "second", "third"), scripts, strict=False):
            if script is None:
                url = stack.enter_context(closed_port())
            else:
                upstreams[name] = stack.enter_context(fault_upstream(*script))
                url = upstreams[name].url
            # Anthropic's base URL goes without the version.
            url = url.removesuffix("/v1") if like == "anthropic" else url
            providers += f"  {name}: {{like: {like}, base_url: '{url}', api_key: '${{KEY}}'}}\n"
            routes += f"      - {{provider: {name}, model: {faults.MODEL}}}\n"
        if extra:
            providers += f"  second: {{base_url: '{extra}'}}\n"
        if "timeouts" not in model:
            model += f"    timeouts: {BUDGETS}\n"
        path = folder / "gateway.yaml"
        path.write_text(
            f"providers:\n{providers}models:\n  smart:\n{model}    routes:\n{routes}{rest}"
        )
        client = httpx2.AsyncClient(timeout=HANG_SECONDS)
        async with serving(folder / "data", gateway_config=path) as url, client:
            yield Stage(url, upstreams, client)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-fault")


class Scorecard:
    """What was measured, for people."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def note(self, fault: str, got: Seen, at: Stage) -> None:
        outcome = f"error {got.error.get('code')}" if got.error else "whole answer"
        asked = " + ".join(str(number) for number in at.asked().values()) or "0"
        self.rows.append(f"{fault:36} {got.status} {outcome:32} {asked:8} {got.seconds:5.2f} s")


@pytest.fixture(scope="module")
def scorecard() -> Iterator[Scorecard]:
    card = Scorecard()
    yield card
    print("", *card.rows, sep="\n")  # noqa: T201 - what -s shows


# name, what the first route does, how often it is asked, and whether the answer is rescued.
RESCUED: list[tuple[str, tuple[Step, ...] | None, int]] = [
    ("429, Retry-After: 1", (faults.limited(retry_after="1"), faults.fine), 2),
    ("429, Retry-After: 30", (faults.limited(retry_after="30"),), 1),
    ("429, retry-after-ms: 20", (faults.limited(retry_after_ms="20"), faults.fine), 2),
    ("429 without Retry-After", (faults.limited(),), 2),
    ("500, then fine", (faults.failing(500), faults.fine), 2),
    ("500", (faults.failing(500),), 2),
    ("503", (faults.failing(503),), 2),
    ("529", (faults.failing(529),), 2),
    ("connection refused", None, 0),
    ("reset before the head", (faults.reset_before_head,), 2),
    ("reset in the head", (faults.reset_in_head,), 2),
    ("no response", (faults.silent,), 1),
    ("slow first token", (faults.slow_first_token,), 1),
    ("cut before content", (faults.cut_before_content,), 2),
    ("malformed first event", (faults.malformed_first_event,), 1),
    ("error event first", (faults.error_event_first,), 2),
    ("wrong content type", (faults.html,), 1),
    ("auth failure", (faults.denied,), 1),
]
STREAM_ONLY = {"cut before content", "malformed first event", "error event first"}


@pytest.mark.parametrize(("name", "script", "asked"), RESCUED, ids=[row[0] for row in RESCUED])
async def test_a_fault_before_the_content_is_not_seen(
    name: str,
    script: tuple[Step, ...] | None,
    asked: int,
    tmp_path: Path,
    scorecard: Scorecard,
) -> None:
    async with stage(tmp_path, script, (faults.fine,)) as at:
        got = await at.call()
        assert (got.status, got.text, got.error, got.is_cut) == (200, TEXT, None, False), got
        is_first = script is not None and script[-1] is faults.fine
        assert got.provider == ("first" if is_first else "second")
        assert at.asked().get("first", 0) == asked
        assert got.attempts == sum(at.asked().values()) + (2 if script is None else 0)
        scorecard.note(name, got, at)


@pytest.mark.parametrize(
    ("name", "script", "asked"),
    [row for row in RESCUED if row[0] not in STREAM_ONLY],
    ids=[row[0] for row in RESCUED if row[0] not in STREAM_ONLY],
)
async def test_nor_is_it_without_a_stream(
    name: str, script: tuple[Step, ...] | None, asked: int, tmp_path: Path
) -> None:
    async with stage(tmp_path, script, (faults.fine,)) as at:
        got = await at.call(stream=False)
        assert (got.status, got.text) == (200, TEXT), got
        assert at.asked().get("first", 0) == asked


LATER: list[tuple[str, Step, str]] = [
    ("stall", faults.stalls, "upstream_timeout"),
    ("cut before the finish", faults.cut_before_finish, "upstream_protocol upstream_connection"),
    ("reset in the body", faults.reset_in_body, "upstream_connection"),
    ("malformed later event", faults.malformed_later_event, "upstream_protocol"),
    ("error event later", faults.error_event_later, "overloaded"),
]
# Upstream's format and the door: relayed twice, translated twice.
WAYS = [
    ("custom", "chat"),
    ("anthropic", "messages"),
    ("anthropic", "chat"),
    ("custom", "messages"),
]


@pytest.mark.parametrize(("like", "door"), WAYS, ids=str)
@pytest.mark.parametrize(("name", "step", "code"), LATER, ids=[row[0] for row in LATER])
async def test_a_fault_after_the_first_content_is_an_error_in_the_stream(
    name: str, step: Step, code: str, like: str, door: str, tmp_path: Path, scorecard: Scorecard
) -> None:
    async with stage(tmp_path, (step,), (faults.fine,), like=like) as at:
        got = await at.call(door=door)
        assert got.status == 200
        assert TEXT.startswith(got.text)
        assert got.text != TEXT or name == "malformed later event"
        assert got.error is not None, "a truncated answer that looks whole"
        assert got.error.get("type") or got.error.get("code")
        if door == "chat":
            assert got.error["code"] in code.split()
        assert at.asked() == {"first": 1, "second": 0}
        if (like, door) == WAYS[0]:
            scorecard.note(name, got, at)


@pytest.mark.parametrize(("name", "step", "code"), LATER[:2], ids=[row[0] for row in LATER[:2]])
async def test_openais_sdk_raises_where_a_stream_breaks_off(
    name: str, step: Step, code: str, tmp_path: Path
) -> None:
    async with stage(tmp_path, (step,)) as at:
        client = openai.AsyncOpenAI(base_url=f"{at.url}/v1", api_key="none", max_retries=0)
        async with client:
            stream = await client.chat.completions.create(**CALL, stream=True)
            with pytest.raises(openai.APIError, match="first"):
                await read_all(stream, at.upstreams["first"])


async def read_all(stream: AsyncStream[ChatCompletionChunk], upstream: FaultUpstream) -> None:
    async for chunk in stream:
        upstream.may_go_on.set()
        assert not any(choice.finish_reason for choice in chunk.choices)


async def test_openais_sdk_gets_its_answer_past_a_dead_route(tmp_path: Path) -> None:
    async with stage(tmp_path, None, (faults.fine,)) as at:
        client = openai.AsyncOpenAI(base_url=f"{at.url}/v1", api_key="none", max_retries=0)
        async with client:
            answer = await client.chat.completions.with_raw_response.create(**CALL)
        assert answer.parse().choices[0].message.content == TEXT
        # The client gets the name that it asked for, and is told who answered.
        assert answer.parse().model == "smart"
        assert answer.headers["x-route"] == f"second/{faults.MODEL}"


ALONE: list[tuple[str, tuple[Step, ...] | None, int, str, int]] = [
    ("429, Retry-After: 40", (faults.limited(retry_after="40"),), 429, "rate_limit_exceeded", 1),
    ("429 without Retry-After", (faults.limited(),), 429, "rate_limit_exceeded", 2),
    ("500", (faults.failing(500),), 502, "upstream_error", 2),
    ("503", (faults.failing(503),), 503, "overloaded", 2),
    ("529", (faults.failing(529),), 503, "overloaded", 2),
    ("connection refused", None, 502, "upstream_connection", 0),
    ("reset before the head", (faults.reset_before_head,), 502, "upstream_connection", 2),
    ("no response", (faults.silent,), 504, "upstream_timeout", 1),
    ("slow first token", (faults.slow_first_token,), 504, "upstream_timeout", 1),
    ("cut before content", (faults.cut_before_content,), 502, "upstream_protocol", 2),
    ("malformed first event", (faults.malformed_first_event,), 502, "upstream_protocol", 1),
    ("error event first", (faults.error_event_first,), 503, "overloaded", 2),
    ("wrong content type", (faults.html,), 502, "upstream_protocol", 1),
    ("over-long context", (faults.too_long,), 400, "context_length_exceeded", 1),
    ("content filter", (faults.filtered,), 400, "content_policy_violation", 1),
    ("auth failure", (faults.denied,), 502, "upstream_credentials", 1),
]


@pytest.mark.parametrize(
    ("name", "script", "status", "code", "asked"), ALONE, ids=[row[0] for row in ALONE]
)
async def test_a_single_route_that_fails_is_an_error_with_its_status(
    name: str,
    script: tuple[Step, ...] | None,
    status: int,
    code: str,
    asked: int,
    tmp_path: Path,
    scorecard: Scorecard,
) -> None:
    async with stage(tmp_path, script) as at:
        got = await at.call()
        assert got.error is not None
        assert (got.status, got.error["code"]) == (status, code)
        assert at.asked().get("first", 0) == asked
        assert got.headers["x-route"] == f"first/{faults.MODEL}"
        assert got.attempts == (asked or 2)
        assert "sk-fault" not in str(got.error)
        if script == ALONE[0][1]:
            assert got.headers["retry-after"] == "40"
        scorecard.note(f"{name}, one route", got, at)


async def test_all_routes_down_names_the_first_cause_and_all_that_was_tried(
    tmp_path: Path, scorecard: Scorecard
) -> None:
    scripts = ((faults.denied,), (faults.failing(503),), (faults.bad_request,))
    async with stage(tmp_path, *scripts) as at:
        got = await at.call()
        assert got.error is not None
        assert got.status == 503
        message = got.error["message"]
        assert "First cause: first refused the server's key (401)" in message
        assert f"second/{faults.MODEL}" in message
        assert f"third/{faults.MODEL}" in message
        assert at.asked() == {"first": 1, "second": 2, "third": 1}
        scorecard.note("all routes down", got, at)


async def test_all_routes_limited_is_a_429_with_the_shortest_wait(tmp_path: Path) -> None:
    scripts = [(faults.limited(retry_after=seconds),) for seconds in ("50", "40")]
    async with stage(tmp_path, *scripts) as at:
        for _ in range(3):
            got = await at.call()
            assert (got.status, got.headers["retry-after"]) == (429, "40")
        # They rest: who comes later is told without asking them.
        assert at.asked() == {"first": 1, "second": 1}


async def test_an_upstream_that_says_so_is_not_asked_again(tmp_path: Path) -> None:
    step = faults.limited(x_should_retry="false")
    async with stage(tmp_path, (step,), (faults.fine,)) as at:
        assert (await at.call()).provider == "second"
        assert at.asked() == {"first": 1, "second": 1}


@pytest.mark.parametrize(
    ("name", "route"),
    [("first/x: a=b", "first/x: a=b"), ("first/größe", "first/gr%C3%B6%C3%9Fe")],
)
async def test_the_name_of_a_model_is_a_header_that_can_be_sent(
    tmp_path: Path, name: str, route: str
) -> None:
    async with stage(tmp_path, (faults.fine,)) as at:
        answer = await at.client.post(at.url + PATHS["chat"], json={**CALL, "model": name})
        assert answer.headers["x-route"] == route


async def test_the_name_of_a_model_cannot_write_headers(tmp_path: Path) -> None:
    async with stage(tmp_path, (faults.fine,)) as at:
        body = {**CALL, "model": "first/x\r\nset-cookie: a=b"}
        answer = await at.client.post(at.url + PATHS["chat"], json=body)
        assert answer.status_code == 400
        assert "set-cookie" not in answer.headers


async def test_a_request_that_is_wrong_is_asked_once_and_told(tmp_path: Path) -> None:
    async with stage(tmp_path, (faults.bad_request,), (faults.fine,)) as at:
        got = await at.call()
        assert (got.status, at.asked()) == (400, {"first": 1, "second": 0})


@pytest.mark.parametrize(
    ("step", "cause"),
    [(faults.too_long, "context_length"), (faults.filtered, "content_filter")],
    ids=["over-long context", "content filter"],
)
async def test_a_fallback_is_asked_for_what_it_lists(
    step: Step, cause: str, tmp_path: Path, scorecard: Scorecard
) -> None:
    with fault_upstream(faults.fine) as other:
        # The other model goes to a provider of its own, at the end of the file.
        rest = (
            f"    fallbacks: [{{model: other, on: [{cause}]}}]\n"
            "  other:\n    routes: [{provider: second, model: larger}]\n"
        )
        async with stage(tmp_path, (step,), rest=rest, extra=other.url) as at:
            got = await at.call()
            assert (got.status, got.text, got.provider) == (200, TEXT, "second")
            assert (at.asked()["first"], other.attempts) == (1, 1)
            assert other.requests[0].body["model"] == "larger"
            scorecard.note(f"{cause}, with a fallback", got, at)


async def test_a_flapping_route_costs_probes_alone_and_is_used_when_it_is_back(
    tmp_path: Path, scorecard: Scorecard
) -> None:
    down = 4
    flapping = (*[faults.failing(503)] * down, faults.fine)
    breaker = "breaker: {failures: 4, probe_seconds: 1}\n"
    async with stage(tmp_path, flapping, (faults.fine,), rest=breaker) as at:
        first = at.upstreams["first"]
        answers = [await at.call() for _ in range(6)]
        # Two calls of two attempts each open the breaker; nobody else is made to wait.
        assert first.attempts == 4
        assert [answer.attempts for answer in answers] == [3, 3, 1, 1, 1, 1]
        async with asyncio.timeout(HANG_SECONDS):
            while answers[-1].provider != "first":
                await asyncio.sleep(0.1)
                answers.append(await at.call())
        assert {answer.text for answer in answers} == {TEXT}
        # The probe that found it well, and nothing else.
        assert first.attempts == down + 1
        assert (await at.call()).provider == "first"
        scorecard.note("flapping", answers[-1], at)


async def test_a_broken_single_route_says_until_when(tmp_path: Path) -> None:
    breaker = "breaker: {failures: 2, probe_seconds: 60}\n"
    async with stage(tmp_path, (faults.failing(503),), rest=breaker) as at:
        await at.call()
        began = time.monotonic()
        got = await at.call()
        assert (got.status, at.asked()) == (503, {"first": 2})
        assert got.error is not None
        assert f"first/{faults.MODEL} (again in" in got.error["message"]
        assert 0 < int(got.headers["retry-after"]) <= 60
        assert time.monotonic() - began < HANG_SECONDS


async def test_hedging_asks_the_second_route_beside_the_first(
    tmp_path: Path, scorecard: Scorecard
) -> None:
    hedge = "    hedge_after_seconds: 0.05\n"
    async with stage(tmp_path, (faults.slow_first_token,), (faults.fine,), model=hedge) as at:
        got = await at.call()
        assert (got.text, got.provider, got.attempts) == (TEXT, "second", 2)
        assert at.upstreams["first"].departures.acquire(timeout=5)
        scorecard.note("slow first token, hedged", got, at)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("step", [faults.silent, faults.slow_first_token], ids=["head", "token"])
async def test_a_client_that_leaves_ends_the_attempt(
    step: Step, stream: bool, tmp_path: Path
) -> None:
    async with stage(tmp_path, (step,), (faults.fine,), model=LONG) as at:
        upstream = at.upstreams["first"]
        call = asyncio.create_task(at.call(stream=stream))
        assert await asyncio.to_thread(upstream.asked.acquire, timeout=5)
        call.cancel()
        left = await asyncio.to_thread(upstream.departures.acquire, timeout=5)
        assert left, "the upstream still works for nobody"
        assert at.asked()["second"] == 0


async def test_a_reload_keeps_a_running_stream_and_tells_of_a_bad_file(tmp_path: Path) -> None:
    async with stage(tmp_path, (faults.waits_for_more,), (faults.fine,), model=LONG) as at:
        path = tmp_path / "gateway.yaml"
        call = asyncio.create_task(at.call(lets_go_on=False))
        assert await asyncio.to_thread(at.upstreams["first"].asked.acquire, timeout=5)
        # From now on the name goes to the second route alone.
        text = path.read_text().replace(f"{{provider: first, model: {faults.MODEL}}}", "SECOND")
        path.write_text(text.replace("      - SECOND\n", ""))
        assert (await until(at, lambda health: health["reloads"] == 1))["status"] == "current"
        assert (await at.call()).provider == "second"
        path.write_text("models: {smart: {}}\n")
        stale = await until(at, lambda health: health["status"] == "stale")
        assert stale["error"].startswith("gateway.yaml, line 1: models.smart.routes:")
        assert (await at.call()).provider == "second"
        at.upstreams["first"].may_go_on.set()
        got = await call
        assert (got.text, got.error, got.is_cut, got.provider) == (TEXT, None, False, "first")


async def until(at: Stage, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What `/health` says of the file once that holds."""
    async with asyncio.timeout(5):
        while True:
            body = (await at.client.get(f"{at.url}/health")).json()
            if holds(body["gateway_config"]):
                return dict(body["gateway_config"])
            await asyncio.sleep(0.05)
