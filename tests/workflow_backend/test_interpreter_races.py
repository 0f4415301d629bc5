"""The interpreter when a cancel and the end of an attempt meet."""

import asyncio
from typing import Any

from tests.workflow_backend.scripted_runtime import BAD, OK, Scripted, workflow
from workflow_backend.definition.model import Step
from workflow_backend.engines.base import AttemptResult, AttemptSpec
from workflow_backend.interpreter import interpret


class Late(Scripted):
    """A runtime whose first attempt has ended by itself when the cancel reaches it."""

    async def attempt(self, spec: AttemptSpec) -> AttemptResult:
        result = await super().attempt(spec)
        self.cancel.set_result("enough")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return result
        raise AssertionError("nobody cancelled")


async def test_a_failure_that_meets_a_cancel_is_not_retried() -> None:
    runtime = Late({"a": BAD})
    retry: Any = {"limit": 3, "interval": "1h", "max_interval": "1h"}
    flow = workflow(Step(name="a", run="exit 3", retry=retry))
    outcome = await asyncio.wait_for(interpret(flow, {}, runtime, run_id="run-1"), 20)
    assert (outcome.status, outcome.steps) == ("cancelled", {"a": "cancelled"})
    assert runtime.sleeps == {}
    assert runtime.attempts() == ["a#1"]


async def test_a_time_that_meets_a_cancel_is_the_last_one() -> None:
    runtime = Late({"a": OK})
    repeat: Any = {"until": "false", "limit": 5, "interval": "1h"}
    flow = workflow(Step(name="a", run="true", repeat=repeat))
    outcome = await asyncio.wait_for(interpret(flow, {}, runtime, run_id="run-1"), 20)
    assert (outcome.status, outcome.steps) == ("cancelled", {"a": "cancelled"})
    assert runtime.sleeps == {}
    assert runtime.attempts() == ["a#1"]
