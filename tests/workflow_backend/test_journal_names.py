"""Names of steps, signals and messages that look like one another, and never meet."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.workflow_backend.journals import (
    OWNER,
    Gated,
    done_with,
    follow,
    journal,
    step,
    until,
    workflow,
)
from workflow_backend.definition.model import Step
from workflow_backend.engines.journal import JournalEngine

YES = {"approved": True, "by": "ann"}


async def record(engine: JournalEngine, run_id: str, key: str) -> None:
    """Until this is recorded of the run."""
    row = await engine._reader.find(run_id, OWNER)
    async with asyncio.timeout(20):
        while key not in await engine._store.records(row.id):
            continue


async def test_that_somebody_is_asked_and_that_the_run_ends_are_two_messages(
    tmp_path: Path,
) -> None:
    notify = [{"url": "https://x.example/", "on": ["approval", "success"]}]
    flow = workflow(Step(name="end", approval={"message": "?"}), notify=notify)
    first, second = Gated(), Gated()
    async with journal(tmp_path, first) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await record(engine, "run-1", "notify[0]:approval:end#1")
    async with journal(tmp_path, second) as engine:
        await engine.signal("run-1", OWNER, "approval:end", YES)
        await follow(engine, "run-1")
        await done_with(engine)
    requests: list[Any] = [spec.step.http for spec in (*first.specs, *second.specs)]
    assert [each.json_body["type"] for each in requests] == ["approval.requested", "run.ended"]
    assert len({each.headers["webhook-id"] for each in requests}) == 2


@pytest.mark.parametrize("signal", ["ended", "waiting", "timer"])
async def test_a_step_may_be_called_as_the_keys_of_signals_begin(
    tmp_path: Path, signal: str
) -> None:
    flow = workflow(
        Step(name="signal", wait={"for": "1ms"}),
        Step(name="listen", depends=["signal"], wait={"signal": signal}),
    )
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        await record(engine, "run-1", "listen:waiting")
    async with journal(tmp_path, Gated()) as engine:
        await until(engine, "run-1", "step_complete")
        given = await engine.signal("run-1", OWNER, f"signal:{signal}", {"payload": 7})
        assert (given.is_first, given.payload) == (True, {"payload": 7})
        await follow(engine, "run-1")
        states = await engine.states("run-1", OWNER)
    assert states["listen"].outputs["payload"] == 7


async def test_a_payload_that_cannot_be_written_is_refused_and_harms_nothing(
    tmp_path: Path,
) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    flow = workflow(Step(name="listen", wait={"signal": "go"}), step("a", "listen"))
    async with journal(tmp_path, Gated()) as engine:
        await engine.start("run-1", flow, {}, OWNER)
        for value in (deep, {1, 2}, 2**70):
            with pytest.raises(ValueError, match="cannot be written as JSON"):
                await engine.signal("run-1", OWNER, "signal:go", {"payload": value})
        given = await engine.signal("run-1", OWNER, "signal:go", {"payload": 1})
        assert given.is_first
        await follow(engine, "run-1")
        assert (await engine.get("run-1", OWNER)).status == "success"
