"""What Prometheus reads: names and values, bounded series, and who may read them."""

import json
import platform
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from agent_server.access import Access
from agent_server.accounts.keys import digest_of, parse_api_keys
from agent_server.guard import Guard
from agent_server.metrics import CONTENT_TYPE, Metrics
from agent_server.request_context import RequestContext
from agent_server.routes.metrics import metrics as metrics_route
from agent_server.toolbox import AgentCaller, Toolbox
from mcp_bridge import Bridge
from providers.chat_request import ToolCall
from streaming.events import Event, Usage
from tests.agents import BACKEND, READY_SECONDS, backend_spec
from tests.conftest import ALICE, KEY_ENTRIES
from tests.doc_pages import text_of
from tests.servers import Scripted, scripted
from tests.serving import serving

COMPLETION = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello!"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
)
GREETING = json.dumps({"name": "greet", "steps": [{"name": "hello", "run": "echo hello"}]})
OPERATOR = "as-operator"
MOST_SERIES = 4000


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name without the prefix, and the values of its labels in order."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (
            sample.name.removeprefix("agent_server_"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_request_counts_with_its_times_tokens_and_cost() -> None:
    metrics = Metrics("1.0.0")
    metrics.request_began("chat")
    metrics.request_began("chat")
    usage = Usage(100, 20, 120, cached_tokens=40, reasoning_tokens=5)
    metrics.request_ended("chat", "gpt-4o", "openai", "ok", 0.7, 0.2, usage, 1_500_000)
    found = values(metrics)
    labels = ("chat", "gpt-4o", "openai")
    assert found["requests_total", "chat", "gpt-4o", "ok", "openai"] == 1
    assert found["requests_in_flight", "chat"] == 1
    assert found["request_duration_seconds_sum", *labels] == 0.7
    assert found["request_duration_seconds_bucket", "chat", "0.5", "gpt-4o", "openai"] == 0
    assert found["request_duration_seconds_bucket", "chat", "1.0", "gpt-4o", "openai"] == 1
    assert found["request_duration_seconds_bucket", "chat", "+Inf", "gpt-4o", "openai"] == 1
    assert found["time_to_first_token_seconds_count", *labels] == 1
    assert found["tokens_total", *labels, "input"] == 100
    assert found["tokens_total", *labels, "output"] == 20
    assert found["tokens_total", *labels, "cached_input"] == 40
    assert found["tokens_total", *labels, "reasoning_output"] == 5
    assert found["cost_usd_total", *labels] == 0.0015
    assert found["build_info", platform.python_version(), "1.0.0"] == 1


def test_what_happens_on_the_way_counts_by_its_kind() -> None:
    metrics = Metrics("1.0.0")
    metrics.upstream_attempt("openai", "upstream_timeout")
    metrics.retry("openai")
    metrics.fallback("openai", "anthropic")
    metrics.upstream_truncated("openai")
    metrics.client_gone("messages")
    metrics.limit_rejected("tokens")
    metrics.cache_looked_up(hit=True)
    metrics.cache_looked_up(hit=False)
    metrics.tool_called("workflows", "ok", 0.3)
    metrics.workflow_ended("success", 12.0)
    metrics.watch_breakers(lambda: {"openai/gpt-4o": "open"})
    metrics.watch_usage_rows(lambda: (7, 2))
    found = values(metrics)
    assert found["upstream_attempts_total", "upstream_timeout", "openai"] == 1
    assert found["retries_total", "openai"] == 1
    assert found["fallbacks_total", "openai", "anthropic"] == 1
    assert found["upstream_truncated_total", "openai"] == 1
    assert found["clients_gone_total", "messages"] == 1
    assert found["limit_rejections_total", "tokens"] == 1
    assert found["cache_requests_total", "hit"] == found["cache_requests_total", "miss"] == 1
    assert found["mcp_calls_total", "ok", "workflows"] == 1
    assert found["mcp_call_duration_seconds_sum", "workflows"] == 0.3
    assert found["workflow_duration_seconds_count", "success"] == 1
    assert found["breaker_state", "openai/gpt-4o", "open"] == 1
    assert found["breaker_state", "openai/gpt-4o", "closed"] == 0
    assert found["usage_rows_waiting",] == 7
    assert found["usage_rows_lost_total",] == 2
    assert found["process_resident_memory_bytes",] > 1e6
    assert found["process_open_fds",] > 0


def test_names_that_callers_invent_make_no_series() -> None:
    metrics = Metrics("1.0.0")
    metrics.request_ended("chat", "gpt-4o", "openai", "ok", 0.1)
    before = len(values(metrics))
    for number in range(10_000):
        metrics.request_ended("chat", f"invented-{number}", "openai", "error", 0.1)
    found = values(metrics)
    assert found["requests_total", "chat", "other", "error", "openai"] == 10_000
    assert not [key for key in found if "invented" in str(key)]
    # One more set of labels: its outcome and its histogram of durations.
    assert len(found) - before <= 16


def test_the_number_of_series_has_a_bound_whatever_is_counted() -> None:
    metrics = Metrics("1.0.0")
    usage = Usage(1, 1, 2, 1, 1, 1)
    for number in range(2_000):
        name = f"name-{number}"
        metrics.request_ended(f"door-{number % 4}", name, name, "ok", 1, 1, usage, 1)
        metrics.request_ended(f"door-{number % 4}", name, name, "error", 1)
        metrics.upstream_attempt(name, name)
        metrics.fallback(name, name)
        metrics.retry(name)
        metrics.tool_called(name, name, 1)
        metrics.workflow_ended(name, 1)
    metrics.watch_breakers(lambda: {f"route-{number}": "open" for number in range(2_000)})
    found = values(metrics)
    assert len(found) <= MOST_SERIES
    counted = sum(value for key, value in found.items() if key[0] == "requests_total")
    assert counted == 4_000


async def test_calls_of_mcp_tools_and_runs_are_told(tmp_path: Path) -> None:
    metrics = Metrics("1.0.0")
    bridge = Bridge([backend_spec(tmp_path)], on_called=metrics.tool_called)
    toolbox = Toolbox(bridge, on_run_ended=metrics.workflow_ended)

    async def execute(workflow: str) -> None:
        arguments = json.dumps({"workflow": workflow})
        await toolbox.call(
            ToolCall("call-1", "execute_workflow", arguments),
            AgentCaller("tester"),
            run_is_asked=True,
            emit=ignore,
        )

    await bridge.start()
    try:
        assert await bridge.wait_ready(READY_SECONDS)
        await execute(GREETING)
        await execute("no workflow at all")
    finally:
        await bridge.stop(grace_seconds=0)
    found = values(metrics)
    assert found["mcp_calls_total", "ok", BACKEND] >= 2
    assert found["workflow_duration_seconds_count", "success"] == 1
    assert found["workflow_duration_seconds_count", "refused"] == 1


async def ignore(_: Event) -> None:
    """Take an event and do nothing with it."""


class Answered:
    """What an application answered to one `GET /metrics`."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.body += message.get("body", b"")


async def scrape(
    *, keys: str = "", is_loopback: bool = True, key: str | None = None, **headers: str
) -> Answered:
    access = Access(
        keys=parse_api_keys(keys.split()),
        is_loopback=is_loopback,
        allowed_hosts=(),
        cors_origins=(),
    )
    guard = Middleware(Guard, access=access, max_body_bytes=1024, max_concurrent_requests=8)
    app = Starlette(
        routes=[Route("/metrics", metrics_route)], middleware=[Middleware(RequestContext), guard]
    )
    app.state.services = SimpleNamespace(metrics=Metrics("1.0.0"))
    given = {"host": "127.0.0.1", **headers, **({"x-api-key": key} if key else {})}
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/metrics",
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in given.items()],
    }
    answered = Answered()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    await app(scope, receive, answered.send)
    return answered


async def test_metrics_are_open_to_this_machine_where_no_key_is_configured() -> None:
    answered = await scrape()
    assert answered.status == 200
    assert answered.headers["content-type"] == CONTENT_TYPE
    assert b"agent_server_build_info{" in answered.body


@pytest.mark.parametrize(
    "asked", [{"is_loopback": False}, {"x_forwarded_for": "10.0.0.1"}], ids=["bound", "proxied"]
)
async def test_metrics_are_closed_to_others_where_no_key_is_configured(asked: Any) -> None:
    answered = await scrape(**asked)
    assert answered.status == 403
    assert b"AGENT_SERVER_API_KEYS" in answered.body


async def test_metrics_need_a_key_of_an_admin() -> None:
    keys = f"{KEY_ENTRIES} ops=sha256:{digest_of(OPERATOR)};scopes=admin"
    assert (await scrape(keys=keys)).status == 401
    assert (await scrape(keys=keys, key=ALICE)).status == 403
    assert (await scrape(keys=keys, key=OPERATOR, is_loopback=False)).status == 200


async def test_a_server_counts_what_it_answers(tmp_path: Path) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    async with (
        scripted(Scripted(pieces=(COMPLETION,)), Scripted(status=500)) as upstream,
        serving(
            tmp_path,
            provider="openai",
            base_url=f"{upstream.url}/v1",
            provider_api_key="sk-key",
            max_retries=1,
        ) as url,
        aiohttp.ClientSession(url) as session,
    ):
        for status in (200, 502):
            async with session.post("/v1/chat/completions", json=body) as answer:
                assert answer.status == status, await answer.text()
        async with session.get("/metrics") as answer:
            text = await answer.text()
    for line in (
        'requests_total{door="chat",model="gpt-4o",outcome="ok",provider="openai"} 1.0',
        'requests_total{door="chat",model="gpt-4o",outcome="error",provider="openai"} 1.0',
        'tokens_total{door="chat",model="gpt-4o",provider="openai",type="output"} 2.0',
        'upstream_attempts_total{outcome="ok",provider="openai"} 1.0',
        'retries_total{provider="openai"} 1.0',
        'requests_in_flight{door="chat"} 0.0',
    ):
        assert f"agent_server_{line}\n" in text, text


def test_the_page_of_metrics_names_each_with_its_type() -> None:
    metrics = Metrics("1.0.0")
    metrics.watch_usage_rows(lambda: (0, 0))
    page = text_of("docs/observability.md")
    told = dict(re.findall(r"(?m)^\| `(agent_server_\w+)` \| (\w+) \|", page))
    # A counter's name ends with its samples; the build is a gauge in the text format.
    types = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in metrics.collect()
    }
    types["agent_server_build_info"] = "gauge"
    types.pop("agent_server_build")
    assert told == types
