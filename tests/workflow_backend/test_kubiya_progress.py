"""What the messages of a remote run come to: events, results, and how the run ended."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.kubiya.messages import MessageDecoder
from workflow_backend.engines.kubiya.progress import Recorded, RemoteRun, RunEnd
from workflow_backend.masking import Masker

WORKFLOW = Workflow(
    name="demo",
    steps=[
        Step(name="build", run="make", description="Build it"),
        Step(name="test", run="make test", depends=["build"], continue_on_error=True),
    ],
)
LOST = "the connection was lost"
ENDED = '{"finishReason":"stop"}'


def lines(*texts: str) -> bytes:
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def told(stream: bytes, masker: Masker | None = None) -> tuple[list[Recorded], RemoteRun]:
    """What a whole stream comes to, one second for each message."""
    run = RemoteRun("r1", WORKFLOW, masker or Masker())
    decoder = MessageDecoder()
    at = 1000.0
    recorded: list[Recorded] = []
    for message in [*decoder.feed(stream), *decoder.finish()]:
        if run.end is None:
            recorded += run.take(message, at)
        at += 1
    run.stream_ended(LOST)
    return recorded + run.settle(at), run


def short(recorded: Iterable[Recorded]) -> list[tuple[object, ...]]:
    return [(each.event["type"], each.event.get("step")) for each in recorded]


def step(kind: str, name: str = "build", as_object: bool = True, **fields: object) -> str:
    inner = {"name": name, **fields} if as_object else name
    return json.dumps({"type": kind, "step": inner, **({} if as_object else fields)})


@pytest.mark.parametrize("as_object", [True, False])
@pytest.mark.parametrize("ending", ["step_finished", "step_complete", "step_completed"])
def test_a_step_begins_and_ends_in_every_spelling(ending: str, as_object: bool) -> None:
    recorded, run = told(
        lines(
            step("step_running", as_object=as_object),
            step(ending, as_object=as_object, status="finished", output="built"),
            step(ending, "test", as_object=as_object, output="tested"),
            ENDED,
        )
    )
    assert short(recorded) == [
        ("step_running", "build"),
        ("step_complete", "build"),
        ("step_running", "test"),
        ("step_complete", "test"),
    ]
    assert recorded[0].event["message"] == "Build it"
    assert recorded[1].event["output"] == "built"
    assert recorded[1].event["duration"] == "1.0s"
    assert recorded[1].key == "build#1"
    assert run.end == RunEnd("success")
    assert run.states["build"].outputs == {"stdout": "built"}


@pytest.mark.parametrize(
    "end",
    [
        '{"end":true}',
        '{"finishReason":"stop"}',
        'd:{"finishReason":"stop"}',
        '2:{"type":"end","end":true,"status":"completed"}',
        '{"type":"workflow_complete","status":"finished","success":true,"end":true}',
    ],
)
def test_every_end_of_a_good_run_is_success(end: str) -> None:
    _, run = told(lines(step("step_complete"), step("step_complete", "test"), end))
    assert run.end == RunEnd("success")


def test_done_without_an_end_counts_only_when_every_step_is_told() -> None:
    _, run = told(lines(step("step_complete"), step("step_complete", "test"), "[DONE]"))
    assert run.end == RunEnd("success")
    _, run = told(lines(step("step_complete"), "[DONE]"))
    assert run.end is not None
    assert run.end.status == "failed"
    assert "without telling" in str(run.end.error)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ('{"finishReason":"error","error":"no disk"}', "failed"),
        ('{"finishReason":"cancelled"}', "cancelled"),
        ('{"type":"workflow_complete","status":"failed","message":"no disk","end":true}', "failed"),
        ('{"type":"workflow_complete","status":"finished","success":false,"end":true}', "failed"),
        ('{"type":"workflow_failed","error":"no disk"}', "failed"),
        ('{"end":true,"status":"timed_out"}', "timed_out"),
    ],
)
def test_an_end_that_tells_of_a_failure_is_one(end: str, status: str) -> None:
    _, run = told(lines(step("step_complete"), step("step_complete", "test"), end))
    assert run.end is not None
    assert run.end.status == status
    assert run.end.error
    assert "no disk" not in end or "no disk" in run.end.error


def test_a_failed_step_fails_the_run_unless_it_may_fail() -> None:
    failing = step("step_complete", status="failed", error="exit 2", output="oops")
    recorded, run = told(lines(step("step_running"), failing, ENDED))
    event = recorded[1].event
    assert (event["type"], event["error"], event["output"]) == ("step_failed", "exit 2", "oops")
    assert run.end == RunEnd("failed", "step build failed: exit 2")
    may_fail = step("step_failed", "test", error="flaky")
    _, run = told(lines(step("step_complete"), may_fail, ENDED))
    assert run.end == RunEnd("success")


def test_a_step_that_is_tried_again_has_a_second_attempt() -> None:
    recorded, run = told(
        lines(
            step("step_running"),
            step("step_failed", error="busy", will_retry=True),
            step("step_running"),
            step("step_complete", output="built"),
            step("step_complete", "test"),
            ENDED,
        )
    )
    keys = [each.key for each in recorded if each.key]
    assert keys == ["build#1", "build#2", "test#1"]
    assert recorded[1].event["will_retry"] is True
    assert run.states["build"].attempts == 2
    assert run.end == RunEnd("success")


def test_heartbeats_and_repeats_add_nothing() -> None:
    recorded, _ = told(
        lines(
            '{"type":"heartbeat","timestamp":1}',
            step("step_running"),
            '2:{"type":"heartbeat"}',
            step("step_running"),
            step("step_complete"),
            step("step_complete"),
            step("step_complete", "test"),
            ENDED,
        )
    )
    assert len(recorded) == 4


@pytest.mark.parametrize(
    "stream",
    [
        b'event: error\ndata: {"error":"runner is gone"}\n\n',
        b'data: {"error":"runner is gone"}\n\nevent: error\n\n',
        b'data: {"type":"error","message":"runner is gone"}\n\n',
        b'data: 3:"runner is gone"\n\n',
    ],
)
def test_an_error_event_fails_the_run_with_its_text(stream: bytes) -> None:
    for after in (b"", lines("[DONE]"), lines(ENDED)):
        recorded, run = told(lines(step("step_running")) + stream + after)
        assert run.end == RunEnd("failed", "runner is gone")
        assert short(recorded)[:2] == [("step_running", "build"), ("step_failed", "build")]


def test_a_cut_stream_fails_the_run_and_closes_its_steps() -> None:
    recorded, run = told(lines(step("step_running")))
    assert run.end == RunEnd("failed", LOST)
    assert short(recorded) == [
        ("step_running", "build"),
        ("step_failed", "build"),
        ("step_skipped", "test"),
    ]
    assert recorded[1].event["error"] == LOST


def test_what_was_told_before_the_cut_counts() -> None:
    whole = '{"type":"workflow_complete","status":"finished","success":true}'
    _, run = told(lines(step("step_complete"), step("step_complete", "test"), whole))
    assert run.end == RunEnd("success")


def test_steps_of_which_nothing_was_told_are_not_said_to_have_run() -> None:
    recorded, run = told(lines(step("step_running"), ENDED))
    assert run.end == RunEnd("success")
    assert short(recorded)[1:] == [("step_complete", "build"), ("step_skipped", "test")]


def test_output_on_the_way_is_shown_and_the_whole_is_kept_with_its_middle_cut() -> None:
    recorded, run = told(
        lines(
            step("step_output", as_object=False, text="half"),
            step("step_complete", output="x" * 1_000_000),
            step("step_complete", "test", logs=["a", "b"]),
            ENDED,
        )
    )
    assert recorded[1].event["text"] == "half"
    assert len(str(run.states["build"].outputs["stdout"])) < 300_000
    assert run.states["test"].outputs == {"stdout": "a\nb"}


def test_a_flood_of_output_and_of_strange_steps_is_bounded() -> None:
    outputs = [step("step_output", as_object=False, text="x" * 10_000) for _ in range(100)]
    strange = [step("step_running", f"other-{number}") for number in range(6_000)]
    recorded, run = told(lines(*outputs, *strange, ENDED))
    shown = [each.event for each in recorded if each.event["type"] == "step_output"]
    assert sum(len(str(event["text"])) for event in shown) < 300_000
    assert "not shown live" in str(shown[-1]["text"])
    assert len(run.states) <= 5_002


def test_the_key_is_masked_wherever_the_stream_says_it() -> None:
    key = "kub-secret-key"
    stream = lines(
        step("step_running", message=f"curl -H {key}"),
        step("step_complete", output=f"token {key}", status="failed", error=f"bad {key}"),
    )
    recorded, run = told(stream + f"event: error\ndata: {key}\n\n".encode(), Masker([key]))
    assert key not in str(recorded)
    assert key not in str(run.end)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
KEYS = ["type", "step", "name", "status", "output", "error", "end", "finishReason", "success",
        "message", "exit_code", "logs"]  # fmt: skip
KINDS = st.sampled_from(
    ["step_running", "step_finished", "step_failed", "step_skipped", "step_output", "error",
     "workflow_complete", "heartbeat", "build", "test", "failed", "finished"]
)  # fmt: skip
BODIES = st.dictionaries(st.sampled_from(KEYS), KINDS | JSON, max_size=6)


@given(st.lists(BODIES, max_size=8))
def test_whatever_the_messages_hold_every_begun_step_ends_once(
    bodies: list[dict[str, object]],
) -> None:
    recorded, run = told(lines(*(json.dumps(body) for body in bodies)))
    assert run.end is not None
    open_steps: set[object] = set()
    for each in recorded:
        kind, name = each.event["type"], each.event.get("step")
        if kind == "step_running":
            assert name not in open_steps
            open_steps.add(name)
        elif kind in {"step_complete", "step_failed", "step_skipped"}:
            open_steps.discard(name)
    assert not open_steps
    assert {"build", "test"} <= set(run.states)
