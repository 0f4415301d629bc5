"""Progress as text: a line for each event that a person waits for, and no control characters."""

import pytest

from streaming.events import JsonValue, WorkflowEvent
from streaming.progress import MAX_DETAIL_CHARACTERS, ProgressText, plain_text


def line(**data: JsonValue) -> str:
    return ProgressText().line(WorkflowEvent(data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"type": "workflow_started", "workflow": "backup"}, "Running workflow backup\n"),
        ({"type": "step_running", "step": "check-cpu"}, "Step 1: check-cpu ...\n"),
        (
            {"type": "step_running", "step": "check-cpu", "message": "Checking CPU", "attempt": 1},
            "Step 1: check-cpu - Checking CPU\n",
        ),
        (
            {"type": "step_running", "step": "deploy", "attempt": 2},
            "Step 1: deploy (attempt 2) ...\n",
        ),
        (
            {"type": "step_complete", "step": "disk", "output": "65%\n", "duration": "1.2s"},
            "Step 1: disk done in 1.2s: 65%\n",
        ),
        ({"type": "step_complete", "step": "disk", "output": ""}, "Step 1: disk done\n"),
        (
            {"type": "step_failed", "step": "deploy", "error": "timeout", "will_retry": True},
            "Step 1: deploy failed: timeout (will be tried again)\n",
        ),
        (
            {"type": "step_failed", "step": "deploy", "error": "timeout", "will_retry": False},
            "Step 1: deploy failed: timeout\n",
        ),
        (
            {"type": "step_skipped", "step": "tell", "reason": "if was false"},
            "Step 1: tell skipped: if was false\n",
        ),
        (
            {
                "type": "approval_requested",
                "step": "deploy",
                "message": "Ship it?",
                "approval_id": "r1/deploy",
            },
            "Step 1: deploy waits for an approval: Ship it? - to decide, write `approve r1/deploy`"
            " or `reject r1/deploy`\n",
        ),
        (
            {"type": "approval_decided", "step": "deploy", "approved": True, "by": "anna"},
            "Step 1: deploy approved by anna\n",
        ),
        (
            {
                "type": "approval_decided",
                "step": "deploy",
                "approved": False,
                "by": "anna",
                "reason": "not\nnow",
            },
            "Step 1: deploy rejected by anna: not now\n",
        ),
        (
            {"type": "wait_started", "step": "pause", "kind": "timer", "expires": "2026-12-01"},
            "Step 1: pause waits until 2026-12-01\n",
        ),
        (
            {"type": "wait_started", "step": "go", "kind": "signal", "signal": "deployed"},
            "Step 1: go waits for the signal deployed\n",
        ),
        (
            {"type": "wait_started", "step": "hook", "kind": "webhook", "url_path": "/secret"},
            "Step 1: hook waits for its webhook\n",
        ),
        (
            {
                "type": "workflow_complete",
                "workflow": "backup",
                "status": "success",
                "duration": "45s",
            },
            "Workflow backup: success in 45s\n",
        ),
        ({"type": "step_output", "step": "disk", "text": "x"}, ""),
        ({"type": "step_queued", "step": "disk"}, ""),
        ({"type": "not yet known"}, ""),
        ({}, ""),
    ],
)
def test_an_event_becomes_a_line(data: dict[str, JsonValue], expected: str) -> None:
    assert line(**data) == expected


def test_steps_are_numbered_as_they_appear_and_keep_their_number() -> None:
    progress = ProgressText()
    steps = [("a", "step_running"), ("b", "step_running"), ("a", "step_complete")]
    lines = [progress.line(WorkflowEvent({"type": kind, "step": step})) for step, kind in steps]
    assert lines == ["Step 1: a ...\n", "Step 2: b ...\n", "Step 1: a done\n"]


def test_each_run_counts_its_own_steps() -> None:
    progress = ProgressText()
    lines = [
        progress.line(WorkflowEvent({"type": "step_running", "step": step, "run_id": run}))
        for run, step in [("r1", "a"), ("r2", "b"), ("r1", "b"), ("r2", "a")]
    ]
    assert [text[5] for text in lines] == ["1", "1", "2", "2"]


@pytest.mark.parametrize(
    ("after", "begin"), [("", ""), ("text", "\n"), ("text\n", ""), ("text\n\n", "")]
)
def test_a_line_begins_on_a_line_of_its_own(after: str, begin: str) -> None:
    event = WorkflowEvent({"type": "step_running", "step": "a"})
    assert ProgressText().line(event, after=after) == f"{begin}Step 1: a ...\n"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        pytest.param("\x1b[31mred\x1b[0m", "red", id="colour"),
        pytest.param("\x9b2Jgone", "gone", id="one-byte CSI"),
        pytest.param("\x1b]0;title\x07text", "text", id="window title"),
        pytest.param("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link", id="link"),
        pytest.param("\x1b(Btext\x1bc", "text", id="short sequences"),
        pytest.param("a\tb\r\nc\x00d\x7fe\x85f", "a b c d e f", id="control characters"),
        pytest.param("evil\u202etxt\u2066.exe\u2028x", "evil txt .exe x", id="direction marks"),
        pytest.param("\x1b", "", id="lone escape"),
    ],
)
def test_nothing_that_moves_a_cursor_is_written(text: str, plain: str) -> None:
    assert plain_text(text) == plain


def test_every_value_of_an_event_is_cleaned() -> None:
    event = {"type": "step_failed", "step": "a\x1b[1mb", "error": "x\x1b[2J\r\ny"}
    assert line(**event) == "Step 1: ab failed: x y\n"
    done = {"type": "workflow_complete", "workflow": "\x1b]0;t\x07w", "status": "failed\x07"}
    assert line(**done, duration="1s\n") == "Workflow w: failed in 1s\n"


def test_a_long_output_is_cut() -> None:
    text = line(type="step_complete", step="a", output="x" * 1_000_000)
    assert text == "Step 1: a done: " + "x" * (MAX_DETAIL_CHARACTERS - 1) + "\u2026\n"


def test_values_of_wrong_types_leave_their_place_empty() -> None:
    assert line(type="step_complete", step="a", output={"x": 1}, duration=3) == "Step 1: a done\n"
    assert line(type="step_running", step=7, attempt="2") == " ...\n"
