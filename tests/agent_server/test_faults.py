"""The sixteen faults of an upstream, through the whole server: what the client sees of each.

Two routes: the first is faulty, the second is fine, unless a case says otherwise. The budgets are
short, so that what is bounded by them ends at once; `-s` prints the scorecard.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest

from tests import fault_upstream as faults
from tests.fault_upstream import TEXT, FaultUpstream, Step, closed_port, fault_upstream
from tests.serving import serving

# Far more than any budget: only a call that no budget ends takes so long.
HANG_SECONDS = 20
BUDGETS = "{connect: 1, first_byte: 0.4, first_token: 0.5, idle: 0.4, total: 6}"
CALL = {"model": "smart", "messages": [{"role": "user", "content": "Say it."}]}
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

    async def call(self, *, door: str = "chat", stream: bool = True, **fields: Any) -> Seen:
        body = {**CALL, "stream": stream, **fields}
        if door == "messages":
            body["max_tokens"] = 50
        began = time.monotonic()
        async with asyncio.timeout(HANG_SECONDS):
            answer = await self.client.post(self.url + PATHS[door], json=body, headers=HEADERS)
        return seen(answer, time.monotonic() - began)


def seen(answer: httpx2.Response, seconds: float) -> Seen:
    """The answer as a client reads it: of a stream, its text, its error, and whether it ended."""
    data = answer.content
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
) -> AsyncIterator[Stage]:
    """A server with one route for each script, in this order; None is a closed port."""
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
        path = folder / "gateway.yaml"
        path.write_text(
            f"providers:\n{providers}models:\n  smart:\n    timeouts: {BUDGETS}\n{model}"
            f"    routes:\n{routes}{rest}"
        )
        client = await_closed = httpx2.AsyncClient(timeout=HANG_SECONDS)
        async with serving(folder / "data", gateway_config=path) as url, await_closed:
            yield Stage(url, upstreams, client)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-fault")


@pytest.fixture(scope="module")
def scorecard() -> Iterator[list[str]]:
    rows: list[str] = []
    yield rows
    print("", *rows, sep="\n")  # noqa: T201 - what -s shows


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
    scorecard: list[str],
) -> None:
    async with stage(tmp_path, script, (faults.fine,)) as at:
        got = await at.call()
        assert (got.status, got.text, got.error, got.is_cut) == (200, TEXT, None, False), got
        is_first = script is not None and script[-1] is faults.fine
        assert got.provider == ("first" if is_first else "second")
        assert at.asked().get("first", 0) == asked
        assert got.attempts == sum(at.asked().values()) + (2 if script is None else 0)
        scorecard.append(f"{name:28} {got.status} {got.attempts} attempts {got.seconds:.2f} s")


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
