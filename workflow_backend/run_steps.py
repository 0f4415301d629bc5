"""The state of each step of a run, read from the run's events. Pure."""

from collections.abc import Iterable, Mapping

from workflow_backend.engines.base import RunEvent

# The events that change what `steps_of` says.
STEP_EVENTS = (
    "step_queued",
    "step_running",
    "step_complete",
    "step_failed",
    "step_skipped",
    "approval_requested",
    "wait_started",
)
_ENDED_FIELDS = (
    "duration",
    "output",
    "exit_code",
    "error",
    "will_retry",
    "artefacts",
    "kept",
)
_BEGINS = frozenset({"step_running", "approval_requested", "wait_started"})
_WAITING_FIELDS = ("message", "form", "expires", "approval_id", "kind", "signal", "hook")


def steps_of(names: Iterable[str], events: Iterable[RunEvent]) -> list[dict[str, object]]:
    """The state of each step, and of each item of fanned-out ones after their step."""
    steps: dict[str, dict[str, object]] = {
        name: {"name": name, "status": "pending"} for name in names
    }
    items: dict[str, dict[str, dict[str, object]]] = {}
    for event in events:
        # `poll@2` is a further time of `poll`, `deploy[0]` an item of `deploy`.
        name = str(event.get("step")).partition("@")[0]
        whole, is_item, _ = name.partition("[")
        if whole not in steps:
            continue
        step = steps[whole]
        if is_item:
            of_step = items.setdefault(whole, {})
            step = of_step.setdefault(name, {"name": name, "status": "pending"})
        _take(step, event)
    listed = (one for name, step in steps.items() for one in (step, *items.get(name, {}).values()))
    return [{key: value for key, value in step.items() if value is not None} for step in listed]


def _take(step: dict[str, object], event: Mapping[str, object]) -> None:
    kind = event["type"]
    if kind in _BEGINS:
        for name in (*_ENDED_FIELDS, "finished_at", "reason"):
            step.pop(name, None)
    step["attempt"] = event.get("attempt", step.get("attempt"))
    if kind == "step_running":
        step["status"] = "running"
        step["started_at"] = event["time"]
        if "child_run_id" in event:
            step["child_run_id"] = event["child_run_id"]
    elif kind in {"approval_requested", "wait_started"}:
        step["status"] = "waiting"
        step["started_at"] = event["time"]
        step.update({key: event[key] for key in _WAITING_FIELDS if key in event})
    elif kind == "step_skipped":
        step.update(status="skipped", reason=event["reason"])
    elif kind in {"step_complete", "step_failed"}:
        step.update({key: event[key] for key in _ENDED_FIELDS if key in event})
        step["status"] = _status(event)
        step["finished_at"] = event["time"]


def _status(event: RunEvent) -> str:
    if event["type"] == "step_complete":
        return "success"
    if event.get("will_retry"):
        return "pending"
    status = str(event.get("status", "failed"))
    return "failed" if status == "worker_lost" else status
