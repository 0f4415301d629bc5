"""OpenTelemetry spans of attempts, sent by OTLP over HTTP as the `OTEL_*` variables say.

Guarantees: a span ends once, with the attempt; no command, output, input or error text is recorded;
sending never holds an attempt up, and its end is bounded. Nothing of OpenTelemetry is imported
before `traced` is called, which is where its setting is on.

Source: OpenTelemetry, "Semantic conventions for CICD spans" (`cicd.pipeline.*`), 2026-11
(Development); W3C, "Trace Context", Recommendation of 2021-11-23.
"""

import asyncio
import importlib
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from typing_extensions import override

from workflow_backend.engines.base import AttemptResult, AttemptSpec, AttemptWatch, Executor

SCOPE = "workflow_backend"
SERVICE_NAME = "agent-server"
CLOSE_SECONDS = 5.0


class TracingError(Exception):
    """Tracing is switched on, but cannot be started; the message says why."""


class TracedExecutor(Executor):
    """An executor each of whose attempts is a span; the step gets the span as its own context."""

    def __init__(self, executor: Executor, tracing: "Tracing") -> None:
        self._executor = executor
        self._tracing = tracing

    @override
    async def open(self) -> None:
        """Get ready for attempts."""
        await self._executor.open()

    @override
    async def close(self) -> None:
        """End what may still run, and send what waits."""
        await self._executor.close()
        await self._tracing.aclose()

    @override
    async def run_attempt(self, spec: AttemptSpec, watch: AttemptWatch) -> AttemptResult:
        """One attempt in its span."""
        span = self._tracing.begin(spec)
        try:
            result = await self._executor.run_attempt(replace(spec, trace=span.headers), watch)
        except BaseException:
            span.end("cancelled")
            raise
        span.end(result.status)
        return result


class AttemptSpan(Protocol):
    """The span of one attempt; `headers` make other spans its children."""

    headers: Mapping[str, str]

    def end(self, status: str) -> None:
        """The attempt came to this."""
        ...


class Tracing:
    """The spans of one backend."""

    def __init__(self, provider: Any, version: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SCOPE, version)
        self._propagator = importlib.import_module(
            "opentelemetry.trace.propagation.tracecontext"
        ).TraceContextTextMapPropagator()
        self._api = importlib.import_module("opentelemetry.trace")
        self._context = importlib.import_module("opentelemetry.context").Context

    def begin(self, spec: AttemptSpec) -> "AttemptSpan":
        """The span of an attempt, below the context in which its run was started."""
        parent = self._propagator.extract(spec.trace, self._context())
        attributes = {
            "cicd.pipeline.run.id": spec.run_id,
            "cicd.pipeline.task.name": spec.name,
            "workflow.step.kind": spec.step.kind,
            "workflow.step.attempt": spec.attempt,
            "workflow.step.iteration": spec.iteration,
        }
        span = self._tracer.start_span(
            f"step {spec.step.name}", parent, self._api.SpanKind.INTERNAL, attributes
        )
        headers: dict[str, str] = {}
        self._propagator.inject(headers, self._api.set_span_in_context(span, self._context()))
        return _Span(span, headers, self._api.StatusCode.ERROR)

    async def aclose(self) -> None:
        """Send what waits, for `CLOSE_SECONDS` at the most."""
        # A daemon, so that a collector that does not answer cannot hold the process.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)


class _Span:
    def __init__(self, span: Any, headers: Mapping[str, str], error_code: object) -> None:
        self.headers = headers
        self._span = span
        self._error_code = error_code

    def end(self, status: str) -> None:
        """The attempt came to this."""
        self._span.set_attribute("cicd.pipeline.task.run.result", _RESULTS[status])
        if status != "success":
            self._span.set_attribute("error.type", status)
            self._span.set_status(self._error_code)
        self._span.end()


# The convention's words for what a task came to.
_RESULTS = {
    "success": "success",
    "failed": "failure",
    "timed_out": "timeout",
    "cancelled": "cancellation",
    "worker_lost": "error",
}


def traced(executor: Executor, version: str) -> TracedExecutor:
    """The executor with a span for each attempt.

    Raises:
        TracingError: The extra is not installed, or a variable is wrong.
    """
    try:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        resources = importlib.import_module("opentelemetry.sdk.resources")
    except ImportError as error:
        raise TracingError(
            "AGENT_SERVER_OTEL is on, but OpenTelemetry is not installed"
            f" ({error.name or error}): install `agent-server[otel]`, or unset it"
        ) from error
    try:
        resource = resources.Resource.create()
        name = resource.attributes.get("service.name")
        if isinstance(name, str) and name.startswith("unknown_service"):
            resource = resource.merge(resources.Resource({"service.name": SERVICE_NAME}))
        provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    except (ValueError, TypeError, RuntimeError) as error:
        raise TracingError(f"OpenTelemetry could not be started: {error}") from error
    return TracedExecutor(executor, Tracing(provider, version))
