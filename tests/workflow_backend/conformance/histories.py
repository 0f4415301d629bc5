"""Recorded histories: what runs of this version look like to every later one.

`python -m tests.workflow_backend.conformance.histories` records them anew, which is right as long
as no release has written such histories. After that a change of the interpreter that asks for other
things, or in another order, needs a new version of it beside the old one.
"""

import asyncio
import json
import re
import tempfile
from pathlib import Path

from tests.workflow_backend.conformance.places import Place
from tests.workflow_backend.journals import Gated, step, workflow
from workflow_backend.engines.base import AttemptResult, Engine, RunEvent, RunOptions
from workflow_backend.engines.temporal.dev_server import DevServer
from workflow_backend.step_state import StepState

FOLDER = Path(__file__).parents[2] / "data" / "temporal"
BAD = AttemptResult("failed", {"stdout": ""}, 3, "exit code 3")
YES = {"approved": True, "by": "ann", "values": {}, "reason": "", "time": "2026-11-29T00:00:00Z"}
SHORT = "10ms"

EVERYTHING = workflow(
    step("kept"),
    step("fails", "kept", retry={"limit": 1, "interval": SHORT}, continue_on_error=True),
    step("items", foreach=["x", "y", "z"], max_parallel=2, env={"ITEM": "${{ item }}"}),
    step("grid", matrix={"a": [1, 2], "b": ["p", "q"]}, env={"A": "${{ string(item.a) }}"}),
    step("poll", repeat={"until": "steps.poll.attempts > 0", "limit": 3, "interval": SHORT}),
    step("ask", "kept", run=None, approval={"message": "go?", "form": {"n": {"type": "integer"}}}),
    step("late", run=None, approval={"message": "?", "timeout": SHORT, "on_timeout": "skip"}),
    step("hold", "ask", run=None, wait={"signal": "done"}),
    step("pause", "ask", run=None, wait={"for": SHORT}),
    step("call", "ask", run=None, workflow={"ref": "inner", "inputs": {"host": "h"}}),
    step("never", if_="false"),
    step("breaks", "hold", "call", "items"),
    step("after", "breaks"),
    workflows={
        "inner": {
            "inputs": {"host": {"type": "string"}},
            "steps": [{"name": "ping", "run": "true", "env": {"H": "${{ inputs.host }}"}}],
            "outputs": {"host": "${{ inputs.host }}"},
        }
    },
    on_failure=[step("tell", env={"WHY": "${{ run.error }}"})],
    finally_=[step("clean")],
    outputs={"host": "${{ steps.call.outputs.host }}"},
    notify=[{"url": "https://hooks.example.com/runs", "on": ["failed", "approval"]}],
    timeout="1h",
    max_parallel=3,
)
STOPPED = workflow(
    step("slow"),
    step("more", foreach=[1, 2, 3], max_parallel=1),
    step("ask", run=None, approval={"message": "go?"}),
    step("after", "slow"),
    finally_=[step("clean")],
)


async def record_everything(place: Place, engine: Engine) -> None:
    """A run of all that a definition may hold, with what it took over from another one."""
    kept = {"kept": StepState("success", {"stdout": "", "n": "1"}, attempts=1)}
    options = RunOptions(kept=kept, group="g", rerun_of="other")
    await engine.start(place.id(), EVERYTHING, {}, place.owner, options)
    await place.until(engine, "approval_requested", "ask")
    await engine.signal(place.id(), place.owner, "signal:done", {"payload": {"n": 1}})
    await engine.signal(place.id(), place.owner, "approval:ask", YES)
    await place.follow(engine)


async def record_stopped(place: Place, engine: Engine) -> None:
    """A run that is cancelled while something of every kind is under way."""
    await engine.start(place.id(), STOPPED, {}, place.owner)
    await place.until(engine, "approval_requested", "ask")
    await place.until(engine, "step_running", "more[0]")
    await engine.cancel(place.id(), place.owner, "enough")
    await place.follow(engine)


RECORDED = {"everything": record_everything, "stopped": record_stopped}


async def record() -> None:
    """Write all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        server = DevServer(Path(folder) / "server")
        await server.start()
        try:
            for name, make in RECORDED.items():
                place = Place(Path(folder) / name, server.cluster)
                executor = Gated("slow", "more")
                executor.answers = {"fails": BAD, "breaks": BAD}
                async with place.engine(executor) as engine:
                    await make(place, engine)
                    (FOLDER / f"{name}.json").write_text(await _history(place, engine))
                    events = await place.follow(engine)
                    lines = [json.dumps(told(event)) for event in events]
                    (FOLDER / f"{name}.events").write_text("\n".join(lines) + "\n")
        finally:
            await server.stop()


def told(event: RunEvent) -> list[object]:
    """What every later version must tell of an event."""
    return [event[name] for name in ("seq", "type")] + [event.get("step"), event.get("attempt")]


async def _history(place: Place, engine: Engine) -> str:
    """The history, without what tells of the machine that it was recorded on."""
    client = await engine._link.client()  # type: ignore[attr-defined]
    handle = client.get_workflow_handle(place.id())
    # Its last messages may still be under way.
    await handle.result()
    history = await handle.fetch_history()
    plain = re.sub(r'"identity": "[^"]*"', '"identity": "recorder"', history.to_json())
    plain = re.sub(r'"\d+@[^"]*-[0-9a-f]{32}"', '"recorder-sticky"', plain)
    return json.dumps(json.loads(plain), indent=1) + "\n"


if __name__ == "__main__":
    asyncio.run(record())
