"""What a step of a run has come to, as it is recorded and as expressions see it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RunStatus = Literal["queued", "running", "success", "failed", "cancelled", "timed_out"]
StepStatus = Literal[
    "pending", "running", "waiting", "success", "failed", "skipped", "cancelled", "timed_out"
]


@dataclass(slots=True)
class StepState:
    """What is known of a step once it is settled.

    `inner` are the states of the run that a `workflow` step made, by instance.
    """

    status: StepStatus = "pending"
    outputs: Mapping[str, object] = field(default_factory=lambda: {"stdout": ""})
    error: str | None = None
    exit_code: int | None = None
    attempts: int = 0
    has_failed_before: bool = False
    reason: str = ""
    inner: Mapping[str, "StepState"] = field(default_factory=dict)

    def as_context(self) -> dict[str, object]:
        """The step as expressions see it."""
        return {
            "status": self.status,
            "outputs": self.outputs,
            "error": self.error or "",
            "exit_code": self.exit_code,
            "attempts": self.attempts,
        }


def states_to_json(states: Mapping[str, StepState]) -> dict[str, object]:
    """The states as a JSON object, by instance."""
    return {name: _to_json(state) for name, state in states.items()}


def states_from_json(document: Mapping[str, object]) -> dict[str, StepState]:
    """The states that `states_to_json` wrote."""
    return {name: _from_json(state) for name, state in document.items() if isinstance(state, dict)}


def _to_json(state: StepState) -> dict[str, object]:
    document: dict[str, object] = {
        "status": state.status,
        "outputs": dict(state.outputs),
        "error": state.error,
        "exit_code": state.exit_code,
        "attempts": state.attempts,
        "has_failed_before": state.has_failed_before,
        "reason": state.reason,
    }
    if state.inner:
        document["inner"] = states_to_json(state.inner)
    return document


def _from_json(document: Mapping[str, object]) -> StepState:
    fields = dict(document)
    inner = fields.pop("inner", {})
    states = states_from_json(inner) if isinstance(inner, dict) else {}
    return StepState(**fields, inner=states)  # type: ignore[arg-type]  # written by `_to_json`
