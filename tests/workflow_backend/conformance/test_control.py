"""What people and other runs do to a run, on both engines: cancel, approve, queue, rerun."""

import asyncio

import pytest

from tests.workflow_backend.attempts import has_died
from tests.workflow_backend.conformance.places import Place, of_step, processes, statuses, types
from tests.workflow_backend.journals import Gated, step, workflow
from workflow_backend.definition.model import Step
from workflow_backend.engines.base import (
    AttemptResult,
    AttemptSpec,
    AttemptWatch,
    Engine,
    RunConflictError,
    RunEndedError,
    RunFilter,
    RunNotFoundError,
    RunOptions,
)
from workflow_backend.reruns import kept_states

BAD = AttemptResult("failed", {"stdout": ""}, 3, "exit code 3")
YES = {"approved": True, "by": "ann", "values": {"why": "fine"}, "reason": "", "time": "now"}
NO = {"approved": False, "by": "bob", "values": {}, "reason": "no", "time": "now"}
CANCEL_SECONDS = {"journal": 1.0, "temporal": 2.0}


async def test_a_cancel_ends_every_process_of_a_group_in_time(place: Place) -> None:
    word = f"86{int(place.name[1:], 16) % 10**9}"
    script = f"sleep {word} & sleep {word} & echo up; sleep {word}"
    flow = workflow(step("a", run=script), step("b", "a"))
    async with place.engine() as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.until(engine, "step_running", "a")
        pids = await processes(word, 3)
        began = asyncio.get_running_loop().time()
        run = await engine.cancel(place.id(), place.owner, "not needed any more")
        assert all(has_died(pid, 0) for pid in pids)
        took = asyncio.get_running_loop().time() - began
        events = await place.follow(engine)
        again = await engine.cancel(place.id(), place.owner, "twice")
    print(f"{place.kind}: {took:.3f} s from the cancel to the end of the run")  # noqa: T201
    assert took < CANCEL_SECONDS[place.kind]
    assert (run.status, run.error) == ("cancelled", "not needed any more")
    assert (again.status, again.error) == (run.status, run.error)
    assert statuses(run) == {"a": "cancelled", "b": "skipped"}
    assert events[-3]["error"] == "cancelled: not needed any more"
    assert of_step(events, "a") == ["step_running", "step_failed"]


async def test_a_cancel_ends_a_wait_for_the_next_attempt(place: Place) -> None:
    executor = Gated()
    executor.answers = {"a": BAD}
    retry = {"limit": 3, "interval": "1h", "max_interval": "1h"}
    flow = workflow(step("a", retry=retry), step("b", "a"), finally_=[step("clean")])
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.until(engine, "step_failed", "a")
        run = await engine.cancel(place.id(), place.owner, "enough")
        events = await place.follow(engine)
    assert run.status == "cancelled"
    assert statuses(run) == {"a": "cancelled", "b": "skipped", "clean": "success"}
    assert executor.attempts == ["a#1", "clean#1"]
    assert of_step(events, "a") == ["step_running", "step_failed", "step_failed"]


async def test_parallel_approvals_are_decided_each_by_its_own_signal(place: Place) -> None:
    flow = workflow(
        step("left", run=None, approval={"message": "left?"}),
        step("right", run=None, approval={"message": "right?"}),
        step("after-left", "left"),
        step("after-right", "right"),
    )
    executor = Gated()
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.until(engine, "approval_requested", "right")
        assert statuses(await place.get(engine))["left"] == "waiting"
        assert await _signal(place, engine, "approval:right", YES) == (YES, True)
        await place.until(engine, "step_complete", "after-right")
        assert executor.attempts == ["after-right#1"]
        # Approving twice is harmless: the first decision stays.
        assert await _signal(place, engine, "approval:right", NO) == (YES, False)
        assert await _signal(place, engine, "approval:left", NO) == (NO, True)
        await place.follow(engine)
        run = await place.get(engine)
        assert await _signal(place, engine, "approval:left", YES) == (NO, False)
        states = await engine.states(place.id(), place.owner)
        with pytest.raises(RunEndedError):
            await _signal(place, engine, "approval:nobody", YES)
    assert statuses(run) == {
        "left": "failed", "right": "success", "after-left": "skipped", "after-right": "success",
    }  # fmt: skip
    assert states["right"].outputs["values"] == {"why": "fine"}


async def test_an_approval_outlives_restarts_before_and_after_it_is_given(place: Place) -> None:
    flow = workflow(
        step("ask", run=None, approval={"message": "go on?"}), step("go", "ask"), step("end", "go")
    )
    async with place.engine(Gated()) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.until(engine, "approval_requested", "ask")
    second = Gated("go")
    async with place.engine(second) as engine:
        await _signal(place, engine, "approval:ask", YES)
        await second.has_started("go")
    third = Gated()
    async with place.engine(third) as engine:
        events = await place.follow(engine)
        assert (await place.get(engine)).status == "success"
        assert await _signal(place, engine, "approval:ask", NO) == (YES, False)
    assert third.attempts == ["go#1", "end#1"]
    decided = [event for event in events if event["type"] == "approval_decided"]
    assert [event["by"] for event in decided] == ["ann"]


async def test_a_decision_that_comes_too_late_is_refused(place: Place) -> None:
    late = {"message": "soon?", "timeout": "100ms", "on_timeout": "skip"}
    flow = workflow(
        step("ask", run=None, approval=late),
        step("hold", run=None, wait={"signal": "done"}),
    )
    async with place.engine(Gated()) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.until(engine, "step_skipped", "ask")
        with pytest.raises(RunEndedError):
            await _signal(place, engine, "approval:ask", YES)
        await _signal(place, engine, "signal:done", {"payload": {"n": 1}})
        await place.follow(engine)
        states = await engine.states(place.id(), place.owner)
        with pytest.raises(RunEndedError):
            await _signal(place, engine, "approval:ask", YES)
    assert states["hold"].outputs["payload"] == {"n": 1}


async def test_a_run_inside_a_run_is_one_of_its_own(place: Place) -> None:
    flow = workflow(
        step(
            "call",
            run=None,
            foreach=["x", "y"],
            workflow={"ref": "inner", "inputs": {"host": "${{ item }}"}},
        ),
        step("after", "call", env={"GOT": "${{ steps.call.outputs.items[1].host }}"}),
        workflows={
            "inner": {
                "inputs": {"host": {"type": "string"}},
                "steps": [{"name": "ping", "run": "true"}],
                "outputs": {"host": "${{ inputs.host }}"},
            }
        },
    )
    executor = Gated()
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.follow(engine)
        run, child = await place.get(engine), await place.get(engine, "run.call.1")
        states = await engine.states(place.id(), place.owner)
        inner = await place.follow(engine, "run.call.1")
        listed = await _listed(place, engine, 1)
        children = await _listed(place, engine, 2, parent_run_id=place.id())
    assert (run.status, child.status) == ("success", "success")
    assert child.parent_run_id == place.id()
    assert types(inner)[-1] == "workflow_complete"
    assert executor.specs[-1].env == {"GOT": "y"}
    assert listed == [place.id()]
    assert sorted(children) == [place.id("run.call.0"), place.id("run.call.1")]
    assert states["call[0]"].inner["ping"].status == "success"


async def test_a_cancel_reaches_the_runs_inside(place: Place) -> None:
    flow = workflow(
        step("call", run=None, workflow={"ref": "inner"}),
        workflows={"inner": {"steps": [{"name": "slow", "run": "true"}]}},
    )
    executor = Gated("slow")
    async with place.engine(executor) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await executor.has_started("slow")
        run = await engine.cancel(place.id(), place.owner, "stop it")
        child = await place.get(engine, "run.call")
        inner = await place.follow(engine, "run.call")
    assert (run.status, child.status) == ("cancelled", "cancelled")
    assert child.error == "stop it"
    assert inner[-2]["error"] == "cancelled: stop it"


async def test_a_rerun_takes_over_what_had_succeeded(place: Place) -> None:
    first = Gated()
    first.answers = {"b": BAD, "a": AttemptResult("success", {"stdout": "", "n": "5"}, 0)}
    flow = workflow(step("a"), step("b", "a", env={"N": "${{ steps.a.outputs.n }}"}))
    async with place.engine(first) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.follow(engine)
        kept = kept_states(flow, await engine.states(place.id(), place.owner))
    second = Gated()
    async with place.engine(second) as engine:
        options = RunOptions(kept=kept, rerun_of=place.id())
        await engine.start(place.id("again"), flow, {}, place.owner, options)
        events = await place.follow(engine, "again")
        run = await place.get(engine, "again")
        states = await engine.states(place.id("again"), place.owner)
    assert second.attempts == ["b#1"]
    assert second.specs[0].env == {"N": "5"}
    assert (run.status, run.rerun_of) == ("success", place.id())
    assert [event.get("kept") for event in events if event.get("step") == "a"] == [True]
    assert states["a"].outputs["n"] == "5"


async def test_runs_of_a_group_go_one_after_another(place: Place) -> None:
    executor = Gated("hold")
    flow = workflow(step("hold"))
    queue = RunOptions(group="deploy")
    async with place.engine(executor) as engine:
        for name in ("one", "two", "three"):
            await engine.start(place.id(name), flow, {}, place.owner, queue)
        other = RunOptions(group="other")
        await engine.start(place.id("other"), workflow(step("x")), {}, place.owner, other)
        await place.follow(engine, "other")
        await executor.has_started("hold")
        assert (await place.get(engine, "two")).status == "queued"
        refusing = RunOptions(group="deploy", group_policy="refuse")
        with pytest.raises(RunConflictError, match="deploy"):
            await engine.start(place.id("four"), flow, {}, place.owner, refusing)
        cancelled = await engine.cancel(place.id("two"), place.owner, "not needed")
        assert cancelled.status == "cancelled"
    second = Gated()
    async with place.engine(second) as engine:
        await place.follow(engine, "one")
        await place.follow(engine, "three")
        assert (await place.get(engine, "three")).status == "success"
        await engine.start(place.id("four"), flow, {}, place.owner, refusing)
        await place.follow(engine, "four")
    runs = [spec.run_id for spec in (*executor.specs, *second.specs) if spec.step.name == "hold"]
    assert list(dict.fromkeys(runs)) == [place.id("one"), place.id("three"), place.id("four")]


async def test_a_run_may_take_the_place_of_the_one_under_way(place: Place) -> None:
    executor = Gated("hold")
    flow = workflow(step("hold"))
    async with place.engine(executor) as engine:
        await engine.start(place.id("old"), flow, {}, place.owner, RunOptions(group="g"))
        await executor.has_started("hold")
        executor.gates["hold"].clear()
        options = RunOptions(group="g", group_policy="cancel_running")
        await engine.start(place.id("new"), flow, {}, place.owner, options)
        await place.follow(engine, "old")
        old = await place.get(engine, "old")
        executor.gates["hold"].set()
        await place.follow(engine, "new")
        new = await place.get(engine, "new")
    assert (old.status, new.status) == ("cancelled", "success")
    assert "took its place" in str(old.error)


async def test_a_run_id_is_used_once(place: Place) -> None:
    flow, other = workflow(step("a")), workflow(step("b"))
    executor = Gated("a")
    async with place.engine(executor) as engine:
        first = await engine.start(place.id(), flow, {}, place.owner)
        second = await engine.start(place.id(), flow, {}, place.owner)
        with pytest.raises(RunConflictError):
            await engine.start(place.id(), other, {}, place.owner)
        with pytest.raises(RunConflictError):
            await engine.start(place.id(), flow, {}, f"{place.owner}-2")
        executor.gates["a"].set()
        await place.follow(engine)
        third = await engine.start(place.id(), flow, {}, place.owner)
    assert executor.attempts == ["a#1"]
    assert first.run_id == second.run_id == third.run_id
    assert third.status == "success"


async def test_another_owner_sees_nothing(place: Place) -> None:
    stranger = f"{place.owner}-2"
    flow = workflow(step("ask", run=None, approval={"message": "?"}))
    async with place.engine(Gated()) as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        await place.until(engine, "approval_requested")
        with pytest.raises(RunNotFoundError):
            await engine.get(place.id(), stranger)
        with pytest.raises(RunNotFoundError):
            await engine.cancel(place.id(), stranger, "mine")
        with pytest.raises(RunNotFoundError):
            await engine.signal(place.id(), stranger, "approval:ask", YES)
        with pytest.raises(RunNotFoundError):
            await engine.states(place.id(), stranger)
        with pytest.raises(RunNotFoundError):
            await engine.workflow(place.id(), stranger)
        with pytest.raises(RunNotFoundError):
            await anext(engine.events(place.id(), stranger))
        assert (await engine.list(RunFilter(stranger))).runs == ()
        assert await _listed(place, engine, 1) == [place.id()]
        assert await engine.workflow(place.id(), place.owner) == flow
        for unknown in ("nobody", "../up", "group:1"):
            with pytest.raises(RunNotFoundError):
                await engine.get(unknown, place.owner)


async def test_a_list_is_newest_first_and_goes_on_by_its_cursor(place: Place) -> None:
    executor = Gated()
    executor.answers = {"bad": BAD}
    async with place.engine(executor) as engine:
        for number in range(5):
            name = "bad" if number == 2 else "good"
            await engine.start(place.id(f"r{number}"), workflow(step(name)), {}, place.owner)
            await place.follow(engine, f"r{number}")
        newest = [place.id(f"r{number}") for number in range(4, -1, -1)]
        assert await _listed(place, engine, 5) == newest
        assert await _listed(place, engine, 1, status="failed") == [place.id("r2")]
        assert await _listed(place, engine, 4, status="success") == [
            run_id for run_id in newest if run_id != place.id("r2")
        ]
        first = await engine.list(RunFilter(place.owner, limit=2))
        second = await engine.list(RunFilter(place.owner, limit=2), first.next_cursor)
        third = await engine.list(RunFilter(place.owner, limit=2), second.next_cursor)
        whole = await place.get(engine, "r2")
        with pytest.raises(ValueError, match="cursor"):
            await engine.list(RunFilter(place.owner), "nonsense")
    pages = [[run.run_id for run in page.runs] for page in (first, second, third)]
    assert pages == [newest[:2], newest[2:4], newest[4:]]
    assert third.next_cursor is None
    brief = second.runs[0]
    for name in ("run_id", "workflow", "owner", "status", "created_at", "error", "engine"):
        assert getattr(brief, name) == getattr(whole, name), name
    assert (brief.last_seq, brief.definition_sha256) == (whole.last_seq, whole.definition_sha256)


async def test_events_can_be_read_again_from_any_number(place: Place) -> None:
    flow = workflow(step("a", run="echo x"), step("b", "a"), step("c", if_="false"))
    async with place.engine() as engine:
        await engine.start(place.id(), flow, {}, place.owner)
        live = await place.follow(engine)
        for after in range(len(live) + 1):
            assert await place.follow(engine, after_seq=after) == live[after:]
        run = await place.get(engine)
    assert run.last_seq == len(live)
    assert (run.started_at, run.finished_at) == (live[0]["time"], live[-1]["time"])


async def _signal(place: Place, engine: object, key: str, payload: object) -> tuple[object, bool]:
    given = await engine.signal(place.id(), place.owner, key, payload)  # type: ignore[attr-defined]
    return given.payload, given.is_first


async def _listed(place: Place, engine: object, count: int, **fields: object) -> list[str]:
    """The ids of so many runs; a cluster's list is a moment late."""
    async with asyncio.timeout(20):
        while True:
            page = await engine.list(RunFilter(place.owner, **fields))  # type: ignore[attr-defined, arg-type]
            if len(page.runs) >= count:
                return [run.run_id for run in page.runs]
            await asyncio.sleep(0.02)


class Asking(Gated):
    """An executor whose agent steps start a run and wait for its end, as agents do."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.engine: Engine | None = None

    async def run_attempt(self, spec: AttemptSpec, watch: AttemptWatch) -> AttemptResult:
        if spec.step.kind == "agent":
            assert self.engine is not None
            options = RunOptions(depth=spec.depth + 1)
            owner, inner = self.place.owner, self.place.id("inner")
            await self.engine.start(inner, workflow(step("work")), {}, owner, options)
            await self.place.follow(self.engine, "inner")
        return await super().run_attempt(spec, watch)


async def test_a_run_that_an_agent_waits_for_has_room_though_that_is_for_one_step(
    place: Place,
) -> None:
    executor = Asking(place)
    room = {"max_running_attempts": 1} if place.kind == "journal" else {"max_attempts": 1}
    flow = workflow(Step(name="ask", agent={"prompt": "Do it."}))
    async with place.engine(executor, **room) as engine:
        executor.engine = engine
        await engine.start(place.id(), flow, {}, place.owner)
        await place.follow(engine)
        assert (await place.get(engine)).status == "success"
    assert sorted(executor.attempts) == ["ask#1", "work#1"]
