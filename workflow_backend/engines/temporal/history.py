"""The history of a Temporal workflow as the events of a run. Pure.

Guarantees: the events depend on the history alone, so that their numbers are the same whoever reads
it and whenever; they have no gaps; the last one is `workflow_complete`, and it comes once, however
the execution was closed.

| in the history | event |
|---|---|
| an attempt's activity is scheduled | `step_running` |
| it is completed | `step_complete` or `step_failed`, as its result says |
| it timed out, failed or was cancelled | `step_failed` |
| the memo field `event` is set | that event |
| the execution is closed without an event that ends the run | `workflow_complete` |

Hidden attempts give nothing, nor does anything after `workflow_complete`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workflow_backend import events
from workflow_backend.definition.durations import format_duration
from workflow_backend.engines.base import AttemptResult, AttemptSpec, RunEvent, RunStatus
from workflow_backend.engines.temporal import wire

FINAL = frozenset({"success", "failed", "cancelled", "timed_out"})


@dataclass(frozen=True, slots=True)
class Fact:
    """One event of a history, decoded: its kind in short, when it was, and what it holds.

    `about` is the number of the history's event that it belongs to.
    """

    number: int
    kind: str
    at: float
    about: int = 0
    name: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class RunHistory:
    """What a history says so far; `take` it fact by fact, in order.

    The results of attempts may be large and are kept only where they are asked for.
    """

    keeps_results: bool = False
    arguments: wire.RunArguments | None = None
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    status: RunStatus = "queued"
    error: str | None = None
    outputs: Mapping[str, object] = field(default_factory=dict)
    last_seq: int = 0
    was_cut_off: bool = False
    outcome: Mapping[str, Any] | None = None
    signals: dict[str, Mapping[str, object]] = field(default_factory=dict)
    results: dict[str, AttemptResult] = field(default_factory=dict)
    _attempts: dict[int, AttemptSpec] = field(default_factory=dict)
    _reason: str = ""
    _at: float = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether the run has had its last event."""
        return self.finished_at is not None

    def take(self, fact: Fact) -> RunEvent | None:
        """The event that the fact is, with its number, if it is one."""
        taken = _TAKEN.get(fact.kind)
        event = taken(self, fact) if taken is not None else None
        if event is None or self.has_ended or self.arguments is None:
            return None
        self.last_seq += 1
        self._at = max(self._at, fact.values.get(wire.NOW, {}).get("at", fact.at))
        stamped = events.stamped(event, self.arguments.run_id, self._at)
        stamped = {
            "type": stamped["type"],
            "run_id": stamped["run_id"],
            "seq": self.last_seq,
            **stamped,
        }
        self._note(stamped)
        return stamped

    def _note(self, event: dict[str, Any]) -> None:
        """What the event says of the run."""
        at = self._at
        if event["type"] == "workflow_started":
            self.status, self.started_at = "running", at
        elif event["type"] == "workflow_complete":
            event["duration"] = format_duration(at - (self.started_at or at))
            self.status, self.error = event["status"], event.get("error")
            self.outputs = event.get("outputs", {})
            self.finished_at = at

    def _begin(self, fact: Fact) -> None:
        self.arguments = wire.RunArguments.from_json(fact.values["input"])
        self.created_at = fact.at

    def _attempt_began(self, fact: Fact) -> RunEvent | None:
        if fact.name != wire.ATTEMPT:
            return None
        spec = wire.spec_from_json(fact.values["input"])
        self._attempts[fact.number] = spec
        return events.step_running(spec)

    def _attempt_ended(self, fact: Fact) -> RunEvent | None:
        return self._ended(fact, lambda: wire.result_from_json(fact.values["result"]))

    def _attempt_lost(self, fact: Fact) -> RunEvent | None:
        return self._ended(fact, wire.lost_result)

    def _attempt_failed(self, fact: Fact) -> RunEvent | None:
        if fact.name == wire.WORKER_STOPPED:
            return self._attempt_lost(fact)
        return self._ended(fact, lambda: wire.failed_result(str(fact.values["message"])))

    def _attempt_cancelled(self, fact: Fact) -> RunEvent | None:
        return self._ended(fact, lambda: wire.cancelled_result(self._reason))

    def _ended(self, fact: Fact, result_of: Callable[[], AttemptResult]) -> RunEvent | None:
        spec = self._attempts.pop(fact.about, None)
        if spec is None:
            return None
        result = result_of()
        if result.status == "cancelled":
            result = replace(result, error=wire.cancelled_text(self._reason))
        if self.keeps_results:
            self.results[spec.key] = result
        return events.step_ended(spec, result)

    def _memo(self, fact: Fact) -> RunEvent | None:
        if wire.STOPPED in fact.values:
            self._reason = str(fact.values[wire.STOPPED])
        event: RunEvent | None = fact.values.get(wire.EVENT)
        return event

    def _delivered(self, fact: Fact) -> None:
        answer = fact.values["result"]
        if answer.get("is_first"):
            self.signals[str(answer["key"])] = answer["payload"]

    def _closed(self, fact: Fact) -> RunEvent | None:
        if self.has_ended:
            self.outcome = fact.values.get("result")
            if self.outcome is not None:
                # The event has long ones cut.
                self.outputs = self.outcome["outputs"]
            return None
        self.was_cut_off = True
        status, error = _CLOSED_AS[fact.kind]
        message = str(fact.values.get("message") or "")
        if fact.kind == "failed" and fact.name == wire.CANNOT_CONTINUE:
            error = message
        elif fact.kind == "failed" and not fact.name and self.arguments is not None:
            # A failure of no type is the SDK's own: the code asked for other things than before.
            error = (
                f"the run began with version {self.arguments.interpreter} of the interpreter, and"
                " the program that went on with it does not do the same: start it again"
            )
        elif message:
            error = f"{error}: {message}"
        workflow = str(self.arguments.workflow.get("name")) if self.arguments else ""
        return events.workflow_complete(workflow, status, error, {})


_CLOSED_AS: Mapping[str, tuple[RunStatus, str]] = {
    "completed": ("failed", "the execution ended without an event that ends the run"),
    "failed": ("failed", "the engine failed"),
    "timed_out": ("timed_out", "Temporal's own timeout of the execution passed"),
    "terminated": ("cancelled", "terminated in Temporal"),
    "cancelled": ("cancelled", "cancelled in Temporal"),
    "continued": ("failed", "the execution was continued as another one"),
}
_TAKEN: Mapping[str, Callable[[RunHistory, Fact], RunEvent | None]] = {
    "started": RunHistory._begin,
    "attempt_scheduled": RunHistory._attempt_began,
    "attempt_completed": RunHistory._attempt_ended,
    "attempt_timed_out": RunHistory._attempt_lost,
    "attempt_failed": RunHistory._attempt_failed,
    "attempt_cancelled": RunHistory._attempt_cancelled,
    "memo": RunHistory._memo,
    "update": RunHistory._delivered,
    **dict.fromkeys(_CLOSED_AS, RunHistory._closed),
}
