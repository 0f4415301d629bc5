"""The numbers of one server, gathered cheaply and read by Prometheus.

What this module promises: whatever callers send, the number of series has a fixed bound, and no
label holds a key, an owner or an address; the end of a request costs a few microseconds.

A model is a label once one of its calls has been answered, until `MAX_CALL_SETS` sets of door,
model and provider are taken; every other name counts as `other`.

Source of names and units: Prometheus documentation, "Metric and label naming", 2026-10.
"""

import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from agent_server.metric_series import OTHER, Histogram, LabelledCounter, LabelledHistogram
from streaming.events import Usage

PREFIX: Final = "agent_server_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_CALL_SETS: Final = 48
MAX_OTHER_SETS: Final = 24
MAX_ROUTES: Final = 64
# In the order of `_CallSeries.tokens`; cached and reasoning tokens are parts of the others.
TOKEN_TYPES: Final = ("input", "output", "cached_input", "cache_creation_input", "reasoning_output")
BREAKER_STATES: Final = ("closed", "half_open", "open")
# Seconds.
REQUEST_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
FIRST_TOKEN_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MCP_BOUNDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 120.0)
WORKFLOW_BOUNDS: Final = (0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

# `aborted`: the client went away; `truncated`: the upstream broke off; `rejected`: a limit.
Outcome = Literal["ok", "error", "aborted", "truncated", "cached", "rejected"]


class _CallSeries:
    """All numbers of the calls of one door, model and provider."""

    __slots__ = ("cost_nano_usd", "duration", "first_token", "labels", "outcomes", "tokens")

    def __init__(self, labels: tuple[str, str, str]) -> None:
        self.labels = labels
        self.outcomes: dict[str, int] = {}
        self.duration = Histogram(REQUEST_BOUNDS)
        self.first_token = Histogram(FIRST_TOKEN_BOUNDS)
        self.tokens = [0] * len(TOKEN_TYPES)
        self.cost_nano_usd = 0


class Metrics:
    """The numbers of one server; every method may be called from the event loop, and only there.

    `render` may be called from another thread.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self._calls: dict[tuple[str, str, str], _CallSeries] = {}
        self._in_flight: dict[str, int] = {}
        self._breakers: Callable[[], Mapping[str, str]] = dict
        self._usage_rows: Callable[[], tuple[int, int]] | None = None
        self._attempts = LabelledCounter(
            f"{PREFIX}upstream_attempts",
            "Attempts at upstreams, by how they ended.",
            "provider",
            "outcome",
        )
        self._retries = LabelledCounter(
            f"{PREFIX}retries", "Repeats of an attempt on the same route.", "provider"
        )
        self._fallbacks = LabelledCounter(
            f"{PREFIX}fallbacks", "Calls that went on to another route.", "from", "to"
        )
        self._truncated = LabelledCounter(
            f"{PREFIX}upstream_truncated", "Streams that an upstream broke off.", "provider"
        )
        self._clients_gone = LabelledCounter(
            f"{PREFIX}clients_gone", "Clients that left before their answer was whole.", "door"
        )
        self._rejected = LabelledCounter(
            f"{PREFIX}limit_rejections", "Requests refused by a limit of their key.", "kind"
        )
        self._cache = LabelledCounter(
            f"{PREFIX}cache_requests", "Look-ups in the response cache.", "result"
        )
        self._mcp_calls = LabelledCounter(
            f"{PREFIX}mcp_calls", "Calls of MCP tools, by how they ended.", "server", "outcome"
        )
        self._mcp_seconds = LabelledHistogram(
            f"{PREFIX}mcp_call_duration_seconds", "Length of MCP calls.", "server", MCP_BOUNDS
        )
        self._workflow_seconds = LabelledHistogram(
            f"{PREFIX}workflow_duration_seconds",
            "Workflow runs that a caller followed to their end.",
            "status",
            WORKFLOW_BOUNDS,
        )
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def request_began(self, door: str) -> None:
        """Count a request of a door as under way; `request_ended` ends it."""
        self._in_flight[door] = self._in_flight.get(door, 0) + 1

    def request_ended(
        self,
        door: str,
        model: str,
        provider: str,
        outcome: Outcome,
        duration_seconds: float,
        first_token_seconds: float | None = None,
        usage: Usage | None = None,
        cost_nano_usd: int | None = None,
    ) -> None:
        """Count a request that has ended, however it did.

        `model` and `provider` are those that answered, or were asked last; empty where none was.
        """
        self._in_flight[door] = self._in_flight.get(door, 1) - 1
        series = self._calls.get((door, model, provider))
        if series is None:
            series = self._series(door, model, provider, may_add=outcome == "ok")
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + 1
        series.duration.observe(duration_seconds)
        if first_token_seconds is not None:
            series.first_token.observe(first_token_seconds)
        if usage is not None:
            tokens = series.tokens
            tokens[0] += usage.prompt_tokens
            tokens[1] += usage.completion_tokens
            tokens[2] += usage.cached_tokens
            tokens[3] += usage.cache_creation_tokens
            tokens[4] += usage.reasoning_tokens
        if cost_nano_usd:
            series.cost_nano_usd += cost_nano_usd

    def upstream_attempt(self, provider: str, outcome: str) -> None:
        """Count an attempt; `outcome` is `ok` or the code of its error."""
        self._attempts.add(provider, outcome)

    def retry(self, provider: str) -> None:
        """Count a repeat on the same route."""
        self._retries.add(provider)

    def fallback(self, from_provider: str, to_provider: str) -> None:
        """Count a call that goes on to another route."""
        self._fallbacks.add(from_provider, to_provider)

    def upstream_truncated(self, provider: str) -> None:
        """Count a stream that its upstream broke off."""
        self._truncated.add(provider)

    def client_gone(self, door: str) -> None:
        """Count a client that left before its answer was whole."""
        self._clients_gone.add(door)

    def limit_rejected(self, kind: str) -> None:
        """Count a refusal by a limit: `requests`, `tokens`, `parallel`, `day` or `month`."""
        self._rejected.add(kind)

    def cache_looked_up(self, *, hit: bool) -> None:
        """Count a look-up in the response cache."""
        self._cache.add("hit" if hit else "miss")

    def tool_called(self, server: str, outcome: str, seconds: float) -> None:
        """Count a call of a tool; `outcome` is `ok`, `error` (its own) or the code of an error."""
        self._mcp_calls.add(server, outcome)
        self._mcp_seconds.observe(server, seconds)

    def workflow_ended(self, status: str, seconds: float) -> None:
        """Count a workflow run that has ended, with its status."""
        self._workflow_seconds.observe(status, seconds)

    def watch_breakers(self, states: Callable[[], Mapping[str, str]]) -> None:
        """Read the state of each configured route's breaker from here."""
        self._breakers = states

    def watch_usage_rows(self, rows: Callable[[], tuple[int, int]]) -> None:
        """Read how many rows of the usage log wait, and how many were lost, from here."""
        self._usage_rows = rows

    def render(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Everything as Prometheus's library takes it."""
        yield InfoMetricFamily(
            f"{PREFIX}build",
            "The program.",
            {"version": self._version, "python": platform.python_version()},
        )
        yield from self._collect_calls()
        for counter in (
            self._attempts,
            self._retries,
            self._fallbacks,
            self._truncated,
            self._clients_gone,
            self._rejected,
            self._cache,
            self._mcp_calls,
            self._mcp_seconds,
            self._workflow_seconds,
        ):
            yield from counter.collect()
        yield from self._collect_states()

    def _series(self, door: str, model: str, provider: str, *, may_add: bool) -> _CallSeries:
        """The numbers of a set of labels; made where there is room and the model has answered."""
        labels = (door, model, provider)
        if not may_add or len(self._calls) >= MAX_CALL_SETS:
            labels = (door, OTHER, provider or OTHER)
        if labels not in self._calls and len(self._calls) >= MAX_CALL_SETS + MAX_OTHER_SETS:
            labels = (OTHER, OTHER, OTHER)
        return self._calls.setdefault(labels, _CallSeries(labels))

    def _collect_calls(self) -> Iterator[Metric]:
        labels = ("door", "model", "provider")
        requests = CounterMetricFamily(
            f"{PREFIX}requests", "Requests to models.", labels=(*labels, "outcome")
        )
        duration = HistogramMetricFamily(
            f"{PREFIX}request_duration_seconds", "Length of requests to models.", labels=labels
        )
        first_token = HistogramMetricFamily(
            f"{PREFIX}time_to_first_token_seconds",
            "Time until an answer had content.",
            labels=labels,
        )
        tokens = CounterMetricFamily(
            f"{PREFIX}tokens",
            "Tokens, as upstreams report them; cached and reasoning ones are parts of the others.",
            labels=(*labels, "type"),
        )
        cost = CounterMetricFamily(
            f"{PREFIX}cost_usd", "Cost of answers whose price is known.", labels=labels
        )
        for series in list(self._calls.values()):
            for outcome, count in series.outcomes.copy().items():
                requests.add_metric((*series.labels, outcome), count)
            series.duration.add_to(duration, series.labels)
            series.first_token.add_to(first_token, series.labels)
            for kind, count in zip(TOKEN_TYPES, series.tokens, strict=True):
                if count:
                    tokens.add_metric((*series.labels, kind), count)
            if series.cost_nano_usd:
                cost.add_metric(series.labels, series.cost_nano_usd / 1e9)
        yield from (requests, duration, first_token, tokens, cost)

    def _collect_states(self) -> Iterator[Metric]:
        in_flight = GaugeMetricFamily(
            f"{PREFIX}requests_in_flight", "Requests under way.", labels=["door"]
        )
        for door, count in self._in_flight.copy().items():
            in_flight.add_metric([door], count)
        yield in_flight
        breakers = GaugeMetricFamily(
            f"{PREFIX}breaker_state",
            "1 for the state in which the breaker of a configured route is.",
            labels=["route", "state"],
        )
        for route, state in list(self._breakers().items())[:MAX_ROUTES]:
            for name in BREAKER_STATES:
                breakers.add_metric([route, name], float(name == state))
        yield breakers
        if self._usage_rows is not None:
            waiting, lost = self._usage_rows()
            yield GaugeMetricFamily(
                f"{PREFIX}usage_rows_waiting", "Rows of usage not written yet.", waiting
            )
            yield CounterMetricFamily(
                f"{PREFIX}usage_rows_lost", "Rows of usage that were never written.", lost
            )
