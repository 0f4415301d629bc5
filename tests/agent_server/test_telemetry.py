"""What is traced and measured, by the GenAI semantic conventions, and that no text is in it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from agent_server.agent_loop import AgentLoop
from agent_server.telemetry import start_telemetry
from agent_server.telemetry.spans import Telemetry
from agent_server.toolbox import AgentCaller, Toolbox
from mcp_bridge import Bridge
from providers.anthropic.adapter import AnthropicProvider
from providers.base import Provider
from providers.chat_request import ChatRequest, Message, TextPart
from providers.openai.adapter import OpenAIProvider
from providers.upstream import RetryPolicy, Upstream
from streaming.errors import AgentServerError, UpstreamTimeoutError
from streaming.events import AgentToolReturned, Event, Usage
from tests.agents import READY_SECONDS, running_model
from tests.collector import collector
from tests.mcp_bridge.bridges import child_spec
from tests.scripted_model import Call, Turn
from tests.servers import Scripted, scripted

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01", "tracestate": "vendor=opaque"}
QUESTION = "What is the secret of the pharaohs?"
ANSWER = "Nobody knows the secret."


class Recorded:
    """A telemetry that keeps in memory what it would send."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(tracers, meters, "1.0.0")

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._spans.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        [found] = [span for span in self.spans if span.name == name]
        return found

    def points(self) -> dict[str, tuple[str, list[Any]]]:
        """The unit and the data points of each metric."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: (metric.unit or "", list(metric.data.data_points))
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def child_of(span: ReadableSpan, parent: ReadableSpan) -> bool:
    assert span.parent is not None
    assert parent.context is not None
    return bool(span.parent.span_id == parent.context.span_id)


def test_a_streamed_call_is_a_span_of_the_conventions() -> None:
    recorded = Recorded()
    span = recorded.telemetry.call("chat", "gpt-4o-mini", PARENT, stream=True)
    assert not recorded.spans
    span.end(
        provider="xai",
        model="grok-4",
        base_url="https://user:secret@api.example.com/v1?key=secret",
        usage=Usage(100, 20, 120, 40, 0, 5),
        finish_reason="length",
        response_model="grok-4-0709",
        response_id="resp-1",
        first_chunk_seconds=0.25,
    )
    [found] = recorded.spans
    assert (found.name, found.kind) == ("chat gpt-4o-mini", SpanKind.CLIENT)
    assert found.context is not None
    assert found.parent is not None
    assert format(found.context.trace_id, "032x") == TRACE_ID
    assert format(found.parent.span_id, "016x") == "b7ad6b7169203331"
    assert found.status.status_code is StatusCode.UNSET
    assert dict(found.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "x_ai",
        "gen_ai.request.model": "grok-4",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "grok-4-0709",
        "gen_ai.response.id": "resp-1",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "server.address": "api.example.com",
        "server.port": 443,
        "agent_server.attempts": 1,
    }


def test_a_call_is_measured_in_the_units_and_buckets_of_the_conventions() -> None:
    recorded = Recorded()
    span = recorded.telemetry.call("chat", "gpt-4o", {}, stream=True)
    span.end(provider="openai", model="gpt-4o", usage=Usage(100, 20, 120), first_chunk_seconds=0.2)
    points = recorded.points()
    unit, [duration] = points["gen_ai.client.operation.duration"]
    assert unit == "s"
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert duration.explicit_bounds[-1] == 81.92
    assert duration.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
    }
    unit, [first] = points["gen_ai.client.operation.time_to_first_chunk"]
    assert (unit, first.sum) == ("s", 0.2)
    unit, tokens = points["gen_ai.client.token.usage"]
    assert unit == "{token}"
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in tokens} == {
        "input": 100,
        "output": 20,
    }
    assert tokens[0].explicit_bounds == tuple(4**power for power in range(14))


def test_a_call_that_is_no_stream_has_no_time_to_first_chunk() -> None:
    recorded = Recorded()
    span = recorded.telemetry.call("embeddings", "embed-1", {}, stream=False)
    span.end(provider="openai", model="embed-1", first_chunk_seconds=0.2)
    assert "gen_ai.response.time_to_first_chunk" not in (recorded.spans[0].attributes or {})
    assert "gen_ai.client.operation.time_to_first_chunk" not in recorded.points()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UpstreamTimeoutError("too slow", provider="openai", code="upstream_timeout"), None),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError("words of the request"), "ValueError"),
    ],
    ids=["ours", "client gone", "foreign"],
)
def test_a_call_that_fails_ends_as_an_error_without_its_words(
    error: BaseException, kind: str | None
) -> None:
    recorded = Recorded()
    span = recorded.telemetry.call("chat", "gpt-4o", {}, stream=True)
    failed = ["openai/gpt-4o: upstream_timeout"]
    span.end(provider="anthropic", model="claude", attempts=2, failed_attempts=failed, error=error)
    [found] = recorded.spans
    expected = kind or (isinstance(error, AgentServerError) and error.code)
    assert found.status.status_code is StatusCode.ERROR
    assert not found.status.description
    assert (found.attributes or {})["error.type"] == expected
    assert (found.attributes or {})["agent_server.failed_attempts"] == tuple(failed)
    assert "words" not in found.to_json()
    _, [duration] = recorded.points()["gen_ai.client.operation.duration"]
    assert duration.attributes["error.type"] == expected


def test_models_that_callers_invent_are_no_attributes_of_measurements() -> None:
    recorded = Recorded()
    error = ValueError()
    for number in range(200):
        span = recorded.telemetry.call("chat", f"invented-{number}", {}, stream=False)
        span.end(provider="openai", model=f"invented-{number}", error=error)
    for number in range(200):
        span = recorded.telemetry.call("chat", f"accepted-{number}", {}, stream=False)
        span.end(provider="openai", model=f"accepted-{number}")
    _, durations = recorded.points()["gen_ai.client.operation.duration"]
    models = {point.attributes["gen_ai.request.model"] for point in durations}
    assert len(models) <= 65
    assert not [model for model in models if str(model).startswith("invented")]


@pytest.mark.parametrize("kind", [OpenAIProvider, AnthropicProvider])
async def test_an_upstream_gets_the_trace_context(kind: Any) -> None:
    upstream = Upstream()
    request = ChatRequest("m", (Message("user", (TextPart("Hi"),)),), trace=PARENT)
    try:
        async with scripted(Scripted(status=500)) as server:
            provider: Provider = kind(
                name="scripted",
                base_url=server.url,
                api_key="key",
                default_model="m",
                upstream=upstream,
                retry=RetryPolicy(limit=0),
            )
            with pytest.raises(AgentServerError):
                await anext(provider.chat(request))
            [asked] = server.requests
    finally:
        await upstream.aclose()
    assert {name: asked.headers.get(name) for name in PARENT} == PARENT


async def test_an_agents_answer_is_one_trace_from_the_caller_to_its_tools() -> None:
    recorded = Recorded()
    failing = {"result": {"content": [{"type": "text", "text": ANSWER}], "isError": True}}
    turns = [
        Turn(calls=[Call("child__meta"), Call("child__raw", failing)]),
        Turn(text=[ANSWER]),
    ]
    events = await answer_of_agent(recorded.telemetry, turns)
    agent = recorded.named("invoke_agent kubiya-workflow-agent")
    tool = recorded.named("execute_tool child__meta")
    failed = recorded.named("execute_tool child__raw")
    assert agent.parent is not None
    assert format(agent.parent.span_id, "016x") == "b7ad6b7169203331"
    assert (agent.attributes or {})["gen_ai.usage.input_tokens"] == 20
    assert child_of(tool, agent)
    assert child_of(failed, agent)
    assert (tool.attributes or {})["gen_ai.operation.name"] == "execute_tool"
    assert (failed.attributes or {})["error.type"] == "tool_error"
    [told] = [event.text for event in events if isinstance(event, AgentToolReturned)][:1]
    meta = json.loads(told)
    assert tool.context is not None
    assert meta["traceparent"] == f"00-{TRACE_ID}-{tool.context.span_id:016x}-01"
    assert meta["tracestate"] == "vendor=opaque"
    everything = "".join(span.to_json() for span in recorded.spans)
    assert "pharaohs" not in everything
    assert "Nobody" not in everything
    points = recorded.points()
    assert points["gen_ai.invoke_agent.duration"][1][0].count == 1
    assert sum(point.count for point in points["gen_ai.execute_tool.duration"][1]) == 2


async def answer_of_agent(telemetry: Telemetry, turns: list[Turn]) -> list[Event]:
    """The events of an answer whose model makes these turns, with the tools of a child."""
    bridge = Bridge([child_spec(is_own=False)])
    toolbox = Toolbox(bridge, telemetry=telemetry)
    loop = AgentLoop(toolbox, telemetry=telemetry)
    await bridge.start()
    try:
        await bridge._servers["child"].wait_ready(READY_SECONDS)
        async with running_model(turns) as (_, provider):
            answer = loop.run(
                ChatRequest("scripted", (Message("user", (TextPart(QUESTION),)),)),
                provider=provider,
                caller=AgentCaller("tester", trace=PARENT),
                response_id="chatcmpl-1",
                model="kubiya-workflow-agent",
            )
            return [event async for event in answer]
    finally:
        await bridge.stop(grace_seconds=0)


async def test_what_waits_is_sent_to_a_collector_by_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector(monkeypatch) as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=ours")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        telemetry = start_telemetry("1.2.3")
        span = telemetry.call("chat", "gpt-4o", PARENT, stream=True)
        span.end(provider="openai", model="gpt-4o", usage=Usage(1, 2, 3))
        await telemetry.aclose()
    [traces] = received.traces
    [metrics] = received.metrics
    [resource] = traces.resource_spans
    [sent] = resource.scope_spans[0].spans
    assert sent.name == "chat gpt-4o"
    assert sent.trace_id.hex() == TRACE_ID
    assert sent.parent_span_id.hex() == "b7ad6b7169203331"
    found = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert found["service.name"] == "agent-server"
    assert found["deployment.environment.name"] == "test"
    assert resource.scope_spans[0].scope.version == "1.2.3"
    assert received.headers["x-tenant"] == "ours"
    [measured] = metrics.resource_metrics
    names = {metric.name for metric in measured.scope_metrics[0].metrics}
    assert names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}


async def test_a_collector_that_hangs_does_not_hold_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent_server.telemetry.spans.CLOSE_SECONDS", 0.05)
    async with scripted(Scripted(status=None, ending="silence")) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        telemetry = start_telemetry("1.2.3")
        telemetry.call("chat", "m", {}, stream=False).end(provider="openai", model="m")
        await telemetry.aclose()
        await asyncio.wait_for(server.asked.wait(), 10)


def test_without_the_extra_the_start_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
from agent_server.telemetry import TelemetryError, start_telemetry
try:
    start_telemetry("1")
except TelemetryError as error:
    print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=25
    ).stdout
    assert "install `agent-server[otel]`" in said
    assert "AGENT_SERVER_OTEL" in said
