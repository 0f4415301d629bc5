"""Spans and measurements of calls, agent answers and tools, by the GenAI semantic conventions.

What this module promises: no text of a request, an answer, a tool's arguments or its result is
recorded; a span ends once, with what is known then; recording never fails a request, and the
telemetry's end is bounded.

A trace context is a mapping of its W3C headers (`traceparent`, `tracestate`): what came with a
request is a span's parent, and a span's own `headers` go on to the upstream, into `_meta` of an MCP
call, and to the spans inside it. Nothing depends on the task in which it runs.

Source: OpenTelemetry, "Semantic conventions for generative client AI spans" and "... agent spans",
2026-11 (Development); W3C, "Trace Context", Recommendation of 2021-11-23; for MCP, "Request
metadata", OpenTelemetry trace context, 2026-07-28.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from agent_server.telemetry.instruments import Instruments
from streaming.errors import AgentServerError
from streaming.events import Usage

TraceHeaders = Mapping[str, str]

SCOPE: Final = "agent_server"
AGENT_NAME: Final = "kubiya-workflow-agent"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.42.0"
OTHER: Final = "other"
MAX_MODELS: Final = 64
# Characters of a model's name, which a caller chooses.
MAX_NAME: Final = 256
CLOSE_SECONDS: Final = 5.0
# The conventions' own names for providers, where they are not ours.
PROVIDER_NAMES: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
_PORTS: Final = {"http": 80, "https": 443}
_NOTHING: Final[Mapping[str, AttributeValue]] = {}
_propagator = TraceContextTextMapPropagator()


class Telemetry:
    """The spans and measurements of one server; it owns the providers that it is given."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider, version: str) -> None:
        self._tracers = tracers
        self._meters = meters
        self._tracer = tracers.get_tracer(SCOPE, version, schema_url=SCHEMA_URL)
        self.instruments = Instruments(meters.get_meter(SCOPE, version, SCHEMA_URL))
        self._models: set[str] = set()

    def call(self, operation: str, model: str, parent: TraceHeaders, *, stream: bool) -> "CallSpan":
        """Begin a call to a model; `operation` is `chat` or `embeddings`."""
        model = model[:MAX_NAME]
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": stream,
        }
        span = self._begin(f"{operation} {model}", SpanKind.CLIENT, attributes, parent)
        return CallSpan(self, span, operation, is_stream=stream)

    def agent(self, model: str, parent: TraceHeaders) -> "AgentSpan":
        """Begin an answer of the workflow agent, which uses this model."""
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": AGENT_NAME,
            "gen_ai.request.model": model,
        }
        span = self._begin(f"invoke_agent {AGENT_NAME}", SpanKind.INTERNAL, attributes, parent)
        return AgentSpan(self, span)

    def tool(self, name: str, call_id: str, parent: TraceHeaders) -> "ToolSpan":
        """Begin a call of one of the agent's tools."""
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call_id,
            "gen_ai.tool.type": "extension",
        }
        span = self._begin(f"execute_tool {name}", SpanKind.INTERNAL, attributes, parent)
        return ToolSpan(self, span, name)

    def known_model(self, model: str, *, has_answered: bool) -> str:
        """The model's name, if it is one of those that may be an attribute of a measurement."""
        if model not in self._models:
            if not has_answered or len(self._models) >= MAX_MODELS:
                return OTHER
            self._models.add(model)
        return model

    async def aclose(self) -> None:
        """Send what waits, for `CLOSE_SECONDS` at the most."""
        loop = asyncio.get_running_loop()
        closed = asyncio.Event()

        def close() -> None:
            self._tracers.shutdown()
            self._meters.shutdown()
            # Nobody waits any more where the loop has ended before.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(closed.set)

        # A daemon, so that a collector that does not answer cannot hold the process.
        threading.Thread(target=close, daemon=True, name="telemetry-close").start()
        try:
            await asyncio.wait_for(closed.wait(), CLOSE_SECONDS)
        except TimeoutError:
            return

    def _begin(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        parent: TraceHeaders,
    ) -> Span:
        context = _propagator.extract(parent, Context())
        return self._tracer.start_span(name, context, kind, attributes)


class _OpenSpan:
    """A span that is under way; `headers` make other spans its children."""

    __slots__ = ("_began", "_span", "_telemetry", "headers")

    def __init__(self, telemetry: Telemetry, span: Span) -> None:
        self._telemetry = telemetry
        self._span = span
        self._began = time.perf_counter()
        self.headers: dict[str, str] = {}
        _propagator.inject(self.headers, set_span_in_context(span, Context()))

    def _end(self, error_type: str | None, attributes: Mapping[str, AttributeValue]) -> float:
        """End the span and give its seconds."""
        seconds = time.perf_counter() - self._began
        self._span.set_attributes(attributes)
        if error_type is not None:
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        return seconds


class CallSpan(_OpenSpan):
    """One call to a model, with all its attempts, until the end of its answer."""

    __slots__ = ("_is_stream", "_operation")

    def __init__(
        self, telemetry: Telemetry, span: Span, operation: str, *, is_stream: bool
    ) -> None:
        super().__init__(telemetry, span)
        self._operation = operation
        self._is_stream = is_stream

    def end(
        self,
        *,
        provider: str,
        model: str,
        base_url: str = "",
        usage: Usage | None = None,
        finish_reason: str | None = None,
        response_model: str | None = None,
        response_id: str | None = None,
        first_chunk_seconds: float | None = None,
        attempts: int = 1,
        failed_attempts: Sequence[str] = (),
        error: BaseException | None = None,
    ) -> None:
        """End with what is known of the answer, and of who gave it or was asked last.

        `provider` and `model` are empty where nobody was asked; `failed_attempts` are texts of
        route and error code; `error` is what ended the call early.
        """
        asked = {
            **_known("gen_ai.provider.name", PROVIDER_NAMES.get(provider, provider)),
            **_server_of(base_url),
        }
        found = {
            **asked,
            **_known("gen_ai.request.model", model[:MAX_NAME]),
            "agent_server.attempts": attempts,
            **_known("agent_server.failed_attempts", tuple(failed_attempts) or None),
            **_usage_attributes(usage),
            **_known("gen_ai.response.model", response_model),
            **_known("gen_ai.response.id", response_id),
            **_known("gen_ai.response.finish_reasons", finish_reason and (finish_reason,)),
        }
        if self._is_stream:
            found |= _known("gen_ai.response.time_to_first_chunk", first_chunk_seconds)
        failed = None if error is None else error_type(error)
        seconds = self._end(failed, found)
        has_answered = error is None
        labels = {
            "gen_ai.operation.name": self._operation,
            **asked,
            "gen_ai.request.model": self._telemetry.known_model(model, has_answered=has_answered),
            **_known("error.type", failed),
        }
        self._measure(labels, seconds, usage, first_chunk_seconds)

    def _measure(
        self,
        labels: Mapping[str, AttributeValue],
        seconds: float,
        usage: Usage | None,
        first_chunk_seconds: float | None,
    ) -> None:
        instruments = self._telemetry.instruments
        instruments.duration.record(seconds, labels)
        if self._is_stream and first_chunk_seconds is not None:
            instruments.first_chunk.record(first_chunk_seconds, labels)
        if usage is not None:
            for kind, tokens in (
                ("input", usage.prompt_tokens),
                ("output", usage.completion_tokens),
            ):
                instruments.tokens.record(tokens, {**labels, "gen_ai.token.type": kind})


class AgentSpan(_OpenSpan):
    """One answer of the workflow agent: its model calls and tools are inside."""

    def end(
        self,
        *,
        usage: Usage | None = None,
        finish_reason: str | None = None,
        error: BaseException | None = None,
    ) -> None:
        """End with the usage of all turns."""
        failed = None if error is None else error_type(error)
        seconds = self._end(
            failed,
            {
                **_usage_attributes(usage),
                **_known("gen_ai.response.finish_reasons", finish_reason and (finish_reason,)),
            },
        )
        labels = {"gen_ai.agent.name": AGENT_NAME, **_known("error.type", failed)}
        self._telemetry.instruments.agent_duration.record(seconds, labels)


class ToolSpan(_OpenSpan):
    """One call of a tool."""

    __slots__ = ("_name",)

    def __init__(self, telemetry: Telemetry, span: Span, name: str) -> None:
        super().__init__(telemetry, span)
        self._name = name

    def end(self, error: BaseException | str | None = None) -> None:
        """End; `error` is what ended it early, or a word for a result that is a failure."""
        failed = error_type(error) if isinstance(error, BaseException) else error
        seconds = self._end(failed, _NOTHING)
        labels = {
            "gen_ai.tool.name": self._name,
            "gen_ai.agent.name": AGENT_NAME,
            "gen_ai.tool.type": "extension",
            **_known("error.type", failed),
        }
        self._telemetry.instruments.tool_duration.record(seconds, labels)


def error_type(error: BaseException) -> str:
    """The code of an error of ours, the class of any other; `cancelled` for a client that left."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    if isinstance(error, AgentServerError) and error.code:
        return error.code
    return type(error).__name__


def _known(name: str, value: AttributeValue | None) -> Mapping[str, AttributeValue]:
    return _NOTHING if value is None or value == "" else {name: value}


def _usage_attributes(usage: Usage | None) -> Mapping[str, AttributeValue]:
    if usage is None:
        return _NOTHING
    return {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_creation_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }


def _server_of(base_url: str) -> Mapping[str, AttributeValue]:
    """Host and port of an upstream; nothing of a path, a query or a password in its URL."""
    parts = urlsplit(base_url)
    if not parts.hostname:
        return _NOTHING
    return {
        "server.address": parts.hostname,
        "server.port": parts.port or _PORTS.get(parts.scheme, 443),
    }
