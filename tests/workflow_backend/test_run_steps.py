"""What is shown of steps, from the events of their run."""

from typing import Any

from workflow_backend.run_steps import steps_of


def event(type_: str, step: str = "a", **fields: Any) -> dict[str, Any]:
    return {"type": type_, "step": step, "time": "2026-01-01T00:00:00.000Z", **fields}


FAILED = event(
    "step_failed",
    attempt=1,
    duration="1s",
    output="x",
    exit_code=3,
    status="failed",
    error="exit code 3",
    will_retry=True,
    artefacts=[{"name": "log"}],
)
STALE = {"error", "exit_code", "will_retry", "artefacts", "output", "duration", "finished_at"}


def test_a_further_attempt_shows_nothing_of_the_one_before() -> None:
    (shown,) = steps_of(["a"], [FAILED])
    assert (shown["status"], shown["error"]) == ("pending", "exit code 3")
    (shown,) = steps_of(["a"], [FAILED, event("step_running", attempt=2)])
    assert (shown["status"], shown["attempt"]) == ("running", 2)
    assert not STALE.intersection(shown)
    done = event("step_complete", attempt=2, duration="2s", output="ok", exit_code=0)
    (shown,) = steps_of(["a"], [FAILED, event("step_running", attempt=2), done])
    assert (shown["status"], shown["output"], shown["exit_code"]) == ("success", "ok", 0)
    assert not {"error", "will_retry", "artefacts"}.intersection(shown)


def test_a_further_time_of_a_wait_shows_nothing_of_the_one_before() -> None:
    late = event("step_failed", attempt=1, status="timed_out", error="nobody decided")
    asked = event("approval_requested", "a@2", message="?", approval_id="run-1/a@2")
    (shown,) = steps_of(["a"], [late, asked])
    assert shown["status"] == "waiting"
    assert not STALE.intersection(shown)
    (shown,) = steps_of(["a"], [late, event("wait_started", kind="timer", iteration=2)])
    assert shown["status"] == "waiting"
    assert not STALE.intersection(shown)
