"""The steps of a run appear in the trace of the request that started it; the whole server."""

import os
from pathlib import Path

import pytest

from tests.collector import attributes, collector
from tests.running_server import ask, running_server

RUNS = "/v1/workflows/runs"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
FLOW = {"name": "one", "steps": [{"name": "a", "run": "echo hi", "timeout": "20s"}]}


def test_a_started_runs_steps_are_spans_of_the_callers_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector(monkeypatch) as received:
        environment = {
            "AGENT_SERVER_OTEL": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
            "OTEL_SERVICE_NAME": "ours",
        }
        with running_server(tmp_path, environment=environment) as server:
            headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
            started = ask(server.url, "POST", RUNS, {"workflow": FLOW}, headers)
            assert started.status == 201
            ask(server.url, "GET", f"{RUNS}/{started.json['run_id']}/events")
        span = received.named("step a")
    assert span.trace_id.hex() == TRACE_ID
    assert attributes(span)["cicd.pipeline.run.id"] == started.json["run_id"]
    services = {
        pair.value.string_value
        for request in received.traces
        for resource in request.resource_spans
        for pair in resource.resource.attributes
        if pair.key == "service.name"
    }
    assert services == {"ours"}
