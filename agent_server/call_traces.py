"""Traces calls to models, from their admission to the end of their answers.

What this module promises: a span that was begun is ended once, with whatever is known then; the
upstream gets the span's trace context, and without tracing the client's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agent_server.gateway.call import ModelCall
from agent_server.gateway.failover import Trail
from agent_server.gateway.names import Target
from agent_server.gateway.routes import Route, RoutePlan
from providers.chat_request import ChatRequest
from streaming.events import Finished, Started, Usage

if TYPE_CHECKING:
    from agent_server.telemetry.spans import CallSpan, Telemetry

# Where the provider of a route answers; empty where it has no address.
BaseUrlOf = Callable[[Route], str]

OPERATIONS: Final[Mapping[str, str]] = {"embeddings": "embeddings"}


class CallTraces:
    """The traces of one server's calls."""

    def __init__(self, telemetry: "Telemetry") -> None:
        self._telemetry = telemetry

    def begin(self, call: ModelCall, target: Target) -> None:
        """Begin the span of a call; the agent has spans of its own."""
        if target.is_agent:
            return
        operation = OPERATIONS.get(call.door.wire, "chat")
        model = call.model or target.plan.name
        call.span = self._telemetry.call(operation, model, call.trace, stream=call.is_stream)
        call.forwarded = {**call.forwarded, **call.span.headers}

    def end(self, call: ModelCall, base_url_of: BaseUrlOf) -> None:
        """End the span of a call, if it has one."""
        span, answer = call.span, call.answer
        if span is None:
            return
        call.span = None
        _end(
            span,
            call.trail,
            base_url_of,
            usage=answer.usage if answer else None,
            finish_reason=answer.finish_reason if answer else None,
            started=Started(answer.response_id or "", answer.model or "") if answer else None,
            error=call.failure,
        )

    def inner_call(self, request: ChatRequest, plan: RoutePlan) -> "InnerCall":
        """Begin one of the agent's own calls."""
        span = self._telemetry.call("chat", plan.name, request.trace, stream=True)
        return InnerCall(replace(request, trace=span.headers), span)


class InnerCall:
    """The span of one of the agent's own calls; `request` is what the upstream is to be asked."""

    def __init__(self, request: ChatRequest, span: "CallSpan") -> None:
        self.request = request
        self._span = span
        self._started: Started | None = None
        self._finished: Finished | None = None

    def note(self, event: object) -> None:
        """Take an event of the answer."""
        if isinstance(event, Started):
            self._started = event
        elif isinstance(event, Finished):
            self._finished = event

    def end(self, trail: Trail, base_url_of: BaseUrlOf, error: BaseException | None) -> None:
        """End the span."""
        finished = self._finished
        _end(
            self._span,
            trail,
            base_url_of,
            usage=finished.usage if finished else None,
            finish_reason=finished.reason if finished else None,
            started=self._started,
            error=error,
        )


def _end(
    span: "CallSpan",
    trail: Trail,
    base_url_of: BaseUrlOf,
    *,
    usage: Usage | None,
    finish_reason: str | None,
    started: Started | None,
    error: BaseException | None,
) -> None:
    route = trail.route
    span.end(
        provider=route.provider if route else "",
        model=route.model if route else "",
        base_url=base_url_of(route) if route else "",
        usage=usage,
        finish_reason=finish_reason,
        response_model=started.model if started else None,
        response_id=started.response_id if started else None,
        first_chunk_seconds=trail.first_content_seconds,
        attempts=trail.attempts,
        failed_attempts=[
            f"{failure.route_id}: {failure.code or failure.error_type}"
            for failure in trail.failures
        ],
        error=error,
    )
