from typing import Any

from agent_server.live_log import LiveLog


def text(*events: dict[str, Any], **of: Any) -> str:
    log = LiveLog(**of)
    return "".join(log.text_of({"attempt": 1, **event}) for event in events)


def running(step: str, **fields: Any) -> dict[str, Any]:
    return {"type": "step_running", "step": step, **fields}


def wrote(step: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "step_output", "step": step, "text": text, **fields}


def complete(step: str, output: str = "", **fields: Any) -> dict[str, Any]:
    return {"type": "step_complete", "step": step, "output": output, **fields}


def failed(step: str, error: str, **fields: Any) -> dict[str, Any]:
    return {**complete(step, **fields), "type": "step_failed", "error": error}


def test_steps_that_write_side_by_side_take_turns() -> None:
    assert text(
        {"type": "workflow_started"},
        running("a"),
        running("b"),
        wrote("a", "a1\n"),
        wrote("a", "a2"),
        wrote("b", "b1\n"),
        complete("b", "b1\n"),
        wrote("a", "a3\n"),
        complete("a", "a1\na2a3\n"),
    ) == ("== a (attempt 1) ==\na1\na2\n== b (attempt 1) ==\nb1\n== a (attempt 1) ==\na3\n")


def test_what_was_not_told_before_the_end_is_told_at_the_end() -> None:
    assert text(running("get"), complete("get", "body")) == "== get (attempt 1) ==\nbody"
    assert text(running("get"), complete("get", "")) == ""


def test_a_failure_is_told_and_the_next_attempt_is_another() -> None:
    assert (
        text(
            running("a"),
            wrote("a", "x"),
            failed("a", "exit code 1", output="x"),
            running("a", attempt=2),
            wrote("a", "y\n", attempt=2),
        )
        == "== a (attempt 1) ==\nx\n== a failed: exit code 1 ==\n== a (attempt 2) ==\ny\n"
    )


def test_times_of_a_repeated_step_are_told_apart() -> None:
    events = (
        running("poll"),
        wrote("poll", "1\n"),
        complete("poll", "1\n"),
        running("poll", iteration=2),
        wrote("poll", "2\n"),
    )
    assert text(*events) == "== poll (attempt 1) ==\n1\n== poll@2 (attempt 1) ==\n2\n"
    assert text(*events, step="poll@2") == "== poll@2 (attempt 1) ==\n2\n"


def test_only_what_is_asked_for_is_told() -> None:
    events = (
        running("a[0]"),
        wrote("a[0]", "zero\n"),
        running("b"),
        wrote("b", "b\n"),
        failed("b", "why", output="b\n"),
        running("b", attempt=2),
        wrote("b", "again\n", attempt=2),
    )
    assert text(*events, step="a") == text(*events, step="a[0]") == "== a[0] (attempt 1) ==\nzero\n"
    assert text(*events, step="b", attempt=2) == "== b (attempt 2) ==\nagain\n"
    assert text(*events, step="none") == ""
