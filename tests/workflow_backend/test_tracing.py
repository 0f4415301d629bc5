"""Spans of attempts, at a real OTLP receiver."""

from pathlib import Path

import pytest

from tests.collector import attributes, collector
from tests.workflow_backend.attempts import LIMITS
from tests.workflow_backend.journals import OWNER, follow, journal, step, workflow
from workflow_backend.engines.base import RunOptions
from workflow_backend.steps import StepExecutor, StepSettings
from workflow_backend.tracing import traced

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACE = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}


async def test_every_attempt_is_a_span_below_the_trace_that_started_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = workflow(
        step(
            "a",
            run='echo "in=$TRACEPARENT"; test "$ATTEMPT" = 2',
            retry={"limit": 1, "interval": "1ms"},
        ),
        step("b", "a", foreach=["x"]),
    )
    with collector(monkeypatch) as received:
        executor = traced(StepExecutor(StepSettings(tmp_path, "none", limits=LIMITS)), "1")
        async with journal(tmp_path, executor) as engine:
            await engine.start("run-1", flow, {}, OWNER, RunOptions(trace=TRACE))
            events = await follow(engine, "run-1")
    assert [span.name for span in received.spans] == ["step a", "step a", "step b"]
    assert {span.trace_id.hex() for span in received.spans} == {TRACE_ID}
    failed, passed, item = received.spans
    assert attributes(failed)["cicd.pipeline.task.run.result"] == "failure"
    assert attributes(failed)["error.type"] == "failed"
    assert attributes(passed)["workflow.step.attempt"] == 2
    assert attributes(item)["cicd.pipeline.task.name"] == "b[0]"
    assert attributes(item)["cicd.pipeline.run.id"] == "run-1"
    outputs = [str(event["output"]) for event in events if "output" in event]
    assert f"in=00-{TRACE_ID}-{failed.span_id.hex()}-01" in outputs[0]
    assert "in=" not in str([attributes(span) for span in received.spans])
