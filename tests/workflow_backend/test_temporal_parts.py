"""The parts of the engine on Temporal that need no cluster."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from temporalio.converter import ActivitySerializationContext, WorkflowSerializationContext
from temporalio.service import RPCError, RPCStatusCode

from tests.workflow_backend.journals import step, workflow
from workflow_backend.artefacts import ArtefactStore
from workflow_backend.engines.base import (
    Artefact,
    AttemptResult,
    AttemptSpec,
    EngineBusyError,
    EngineUnavailableError,
    RunFilter,
)
from workflow_backend.engines.temporal import wire
from workflow_backend.engines.temporal.claims import CLAIM_OVER_BYTES, ClaimError, claim_store
from workflow_backend.engines.temporal.dev_server import DevServer, find_program
from workflow_backend.engines.temporal.history import Fact, RunHistory
from workflow_backend.engines.temporal.keeper import VISITED, Keeper, has_visited
from workflow_backend.engines.temporal.link import Link, data_converter
from workflow_backend.engines.temporal.listing import query_of
from workflow_backend.engines.temporal.options import Cluster
from workflow_backend.engines.temporal.search_attributes import attribute_text, register
from workflow_backend.engines.temporal.threads import STACK_BYTES

ARGUMENTS = wire.RunArguments(
    run_id="run-1",
    owner="alice",
    workflow={"name": "test", "steps": [{"name": "a", "run": "true"}]},
    sha256="",
    inputs={},
    interpreter=2,
    heartbeat_timeout_seconds=4.0,
)
SPEC = AttemptSpec("run-1", step("a", retry={"limit": 2}), 2, {"A": "1"}, ("TOKEN",), 3.0, 1)


def fact(number: int, kind: str, **values: Any) -> Fact:
    about, name = values.pop("about", 0), values.pop("name", "")
    return Fact(number, kind, 1_000.0 + number, about, name, values)


def events_of(*facts: Fact) -> tuple[RunHistory, list[Any]]:
    history = RunHistory()
    started = fact(1, "started", input=ARGUMENTS.to_json())
    taken = [history.take(each) for each in (started, *facts)]
    return history, [event for event in taken if event is not None]


def scheduled(number: int) -> Fact:
    return fact(number, "attempt_scheduled", name=wire.ATTEMPT, input=wire.spec_to_json(SPEC))


def emitted(number: int, **event: Any) -> Fact:
    return fact(number, "memo", **{wire.EVENT: event, wire.NOW: {"at": 1_000.5 + number}})


def test_attempts_and_emitted_events_become_events_with_numbers() -> None:
    result = AttemptResult("failed", {"stdout": "out"}, 3, "exit code 3", 0.25, will_retry=True)
    history, events = events_of(
        emitted(5, type="workflow_started", workflow="test", steps=1),
        scheduled(7),
        fact(9, "attempt_completed", about=7, result=wire.result_to_json(result)),
        emitted(11, type="workflow_complete", workflow="test", status="failed", error="bad"),
    )
    assert [(event["seq"], event["type"]) for event in events] == [
        (1, "workflow_started"),
        (2, "step_running"),
        (3, "step_failed"),
        (4, "workflow_complete"),
    ]
    assert events[2]["error"] == "exit code 3"
    assert events[2]["will_retry"] is True
    assert {event["run_id"] for event in events} == {"run-1"}
    assert events[0]["time"] == "1970-01-01T00:16:45.500Z"
    assert events[3]["duration"] == "6.0s"
    assert (history.status, history.error, history.has_ended) == ("failed", "bad", True)


@pytest.mark.parametrize(
    ("end", "status", "error"),
    [
        (fact(9, "attempt_timed_out", about=7), "worker_lost", "worker_lost"),
        (
            fact(9, "attempt_failed", about=7, name=wire.WORKER_STOPPED, message="x"),
            "worker_lost",
            "worker_lost",
        ),
        (fact(9, "attempt_failed", about=7, name="ClaimError", message="disk"), "failed", "disk"),
        (fact(9, "attempt_cancelled", about=7), "cancelled", "cancelled: enough"),
        (
            fact(
                9,
                "attempt_completed",
                about=7,
                result=wire.result_to_json(AttemptResult("cancelled", {"stdout": ""})),
            ),
            "cancelled",
            "cancelled: enough",
        ),
    ],
)
def test_an_attempt_that_was_not_told_has_an_end_all_the_same(
    end: Fact, status: str, error: str
) -> None:
    stop = fact(8, "memo", **{wire.STOPPED: "enough"})
    _, events = events_of(scheduled(7), stop, end)
    assert (events[1]["type"], events[1]["status"]) == ("step_failed", status)
    assert str(events[1]["error"]).startswith(error)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("terminated", "cancelled"),
        ("cancelled", "cancelled"),
        ("timed_out", "timed_out"),
        ("failed", "failed"),
        ("completed", "failed"),
        ("continued", "failed"),
    ],
)
def test_an_execution_that_was_cut_off_ends_once(kind: str, status: str) -> None:
    history, events = events_of(
        emitted(5, type="workflow_started", workflow="test", steps=1), fact(9, kind, message="why")
    )
    assert [event["type"] for event in events] == ["workflow_started", "workflow_complete"]
    assert (events[1]["status"], history.was_cut_off) == (status, True)
    complete = emitted(7, type="workflow_complete", workflow="test", status="success")
    history, events = events_of(complete, scheduled(8), fact(9, kind, message="why"))
    assert [event["type"] for event in events] == ["workflow_complete"]
    assert (history.status, history.was_cut_off) == ("success", False)


def test_what_is_hidden_and_what_comes_after_the_end_gives_nothing() -> None:
    hidden = fact(6, "attempt_scheduled", name=wire.HIDDEN_ATTEMPT)
    end = fact(7, "attempt_completed", about=6, result={})
    complete = emitted(8, type="workflow_complete", workflow="test", status="success")
    _, events = events_of(hidden, end, complete, emitted(9, type="step_queued", step="a"))
    assert [event["type"] for event in events] == ["workflow_complete"]


def test_only_the_first_signal_of_a_key_is_kept() -> None:
    answers: list[dict[str, object]] = [
        {"key": "k", "is_late": True},
        {"key": "k", "payload": {"n": 1}, "is_first": True},
        {"key": "k", "payload": {"n": 1}, "is_first": False},
    ]
    history, _ = events_of(*(fact(4 + n, "update", result=a) for n, a in enumerate(answers)))
    assert history.signals == {"k": {"n": 1}}


def test_attempts_and_results_pass_through_json_unchanged() -> None:
    assert wire.spec_from_json(wire.spec_to_json(SPEC)) == SPEC
    result = AttemptResult(
        "success",
        {"stdout": "x", "n": [1, None]},
        0,
        None,
        1.5,
        artefacts=(Artefact("f", "ab", 3),),
    )
    assert wire.result_from_json(wire.result_to_json(result)) == result
    assert wire.RunArguments.from_json({**ARGUMENTS.to_json(), "later": 1}) == ARGUMENTS
    flow = workflow(step("a", if_="true"), inputs={"n": {"type": "integer", "default": 3}})
    document, sha256 = wire.workflow_to_json(flow)
    assert wire.workflow_from_json(document) == flow
    assert wire.workflow_to_json(wire.workflow_from_json(document))[1] == sha256


async def test_values_keep_the_order_of_their_keys_and_large_ones_are_files(tmp_path: Path) -> None:
    converter = data_converter(tmp_path, "default").with_context(
        WorkflowSerializationContext(namespace="default", workflow_id="run-1")
    )
    small = {"z": 1, "a": [None, 1.0, "ü"]}
    compressible = {"text": "x" * 500_000}
    large = {"text": os.urandom(2 * CLAIM_OVER_BYTES).hex()}
    payloads = await converter.encode([small, compressible, large, None])
    assert payloads[0].data == b'{"z":1,"a":[null,1.0,"\xc3\xbc"]}'
    assert all(len(payload.data) < 4_000 for payload in payloads)
    assert payloads[2].data.startswith(b"sha256:")
    found = await converter.decode(payloads)
    assert found == [small, compressible, large, None]
    assert list(found[0]) == ["z", "a"]
    store = claim_store(tmp_path, "default")
    assert store.run_ids() == ["run-1"]
    store.forget("run-1")
    with pytest.raises(ClaimError, match="AGENT_SERVER_ARTEFACTS_DIR"):
        await converter.decode(payloads)
    activity = ActivitySerializationContext(
        namespace="default", activity_id="a#1", activity_type="attempt", activity_task_queue="q",
        workflow_id="run-2", workflow_type="run", is_local=False,
    )  # fmt: skip
    await converter.with_context(activity).encode([large])
    assert store.run_ids() == ["run-2"]
    group = WorkflowSerializationContext(namespace="default", workflow_id="group:1")
    for own in (converter.with_context(group), data_converter(tmp_path, "default")):
        assert await own.decode(await own.encode([large])) == [large]
    assert store.run_ids() == ["run-2"]


STACKS = """
import threading
threading.stack_size(256 * 1024)
from workflow_backend.definition.cel import evaluate
from workflow_backend.engines.temporal.threads import RoomyThreads
threads = RoomyThreads(2)
deep = "1+" * 499 + "1"
print(threads.submit(evaluate, deep, {}).result())
assert threading.stack_size() == 256 * 1024
"""


def test_the_deepest_expression_has_room_on_the_threads_of_workflows() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STACKS],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, "500\n"), done.stderr
    assert threading.stack_size() < STACK_BYTES


def test_a_backend_without_a_cluster_imports_nothing_of_temporal() -> None:
    code = "import workflow_backend.__main__, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert "workflow_backend.engines.router" in done.stdout.split()
    assert not [name for name in done.stdout.split() if name.startswith("temporalio")]


def test_a_query_quotes_what_it_is_given() -> None:
    query = query_of(RunFilter("o'br\"ien \\ ü", workflow="a b", status="failed"))
    assert "AgentServerOwner = 'o%27br%22ien %5C %C3%BC'" in query
    assert "AgentServerWorkflow = 'a b'" in query
    assert "AgentServerParent IS NULL" in query
    assert "ExecutionStatus IN ('Failed')" in query
    assert attribute_text("alice") == "alice"


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (RPCStatusCode.UNAVAILABLE, EngineUnavailableError, "h:1.*TEMPORAL_HOST"),
        (RPCStatusCode.DEADLINE_EXCEEDED, EngineUnavailableError, "h:1"),
        (RPCStatusCode.PERMISSION_DENIED, EngineUnavailableError, "TEMPORAL_API_KEY"),
        (RPCStatusCode.RESOURCE_EXHAUSTED, EngineBusyError, "busy"),
        (RPCStatusCode.INVALID_ARGUMENT, RPCError, "told"),
    ],
)
def test_a_fault_of_the_cluster_says_its_mend(
    tmp_path: Path, status: RPCStatusCode, kind: type[Exception], words: str
) -> None:
    link = Link(Cluster("h:1", api_key="key-of-cloud"), tmp_path, 1.0)
    with pytest.raises(kind, match=words) as raised, link.explained():
        raise RPCError("told", status, b"")
    assert "key-of-cloud" not in str(raised.value) + repr(link.cluster)


class Refusing:
    """A cluster that lets nobody see its search attributes."""

    namespace = "prod"

    @property
    def operator_service(self) -> "Refusing":
        return self

    async def list_search_attributes(self, *_: object, **__: object) -> None:
        raise RPCError("not allowed", RPCStatusCode.PERMISSION_DENIED, b"")


async def test_attributes_that_may_not_be_added_are_told_with_the_command() -> None:
    with pytest.raises(EngineUnavailableError) as raised:
        await register(Refusing(), None)  # type: ignore[arg-type]
    assert "temporal operator search-attribute create --namespace prod" in str(raised.value)
    assert "--name AgentServerOwner --type Keyword" in str(raised.value)


class Forgetful(Link):
    """A cluster that knows one run."""

    async def client(self) -> Any:
        return self

    def get_workflow_handle(self, run_id: str) -> "Forgetful":
        self.asked = run_id
        return self

    async def describe(self, **_: object) -> None:
        if self.asked != "known":
            raise RPCError("no such run", RPCStatusCode.NOT_FOUND, b"")


async def test_traces_of_runs_go_once_they_are_old_and_the_cluster_forgot_them(
    tmp_path: Path,
) -> None:
    claims, artefacts = ArtefactStore(tmp_path / "claims"), ArtefactStore(tmp_path / "artefacts")
    link = Forgetful(Cluster("h:1"), tmp_path, 1.0)
    keeper = Keeper(link, tmp_path, claims=claims, artefacts=artefacts, days=30)
    for run_id in ("known", "old", "new", "elsewhere"):
        (tmp_path / "runs" / run_id / "work").mkdir(parents=True)
        if run_id != "elsewhere":
            keeper.visit(run_id)
        for store in (claims, artefacts):
            spool = store.spool()
            spool.write(run_id.encode())
            spool.keep(run_id if run_id != "elsewhere" or store is artefacts else "old")
    long_ago = time.time() - 31 * 86_400
    for run_id in ("known", "old"):
        os.utime(tmp_path / VISITED / run_id, (long_ago, long_ago))
        os.utime(tmp_path / "claims" / "runs" / run_id, (long_ago, long_ago))
    assert await keeper.forget() == 1
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "elsewhere", "known", "new",
    ]  # fmt: skip
    assert sorted(claims.run_ids()) == ["known", "new"]
    assert sorted(artefacts.run_ids()) == ["elsewhere", "known", "new"]
    assert has_visited(tmp_path, "known")
    assert not has_visited(tmp_path, "old")
    assert not has_visited(tmp_path, "../known")


async def test_a_dev_server_that_does_not_start_says_its_last_word(tmp_path: Path) -> None:
    try:
        find_program()
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    (tmp_path / "temporal.db").mkdir()
    server = DevServer(tmp_path)
    with pytest.raises(EngineUnavailableError, match="ended at once") as raised:
        await server.start()
    assert str(tmp_path / "temporal.log") in str(raised.value)
    assert server.pid is None
