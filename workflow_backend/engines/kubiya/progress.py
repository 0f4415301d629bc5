"""What the messages of a remote run mean: messages to our events and results. Pure.

Guarantee: every step that began has an end among the events, whatever the stream left out, and the
run's end is told once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from workflow_backend import events
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import AttemptResult, AttemptSpec, RunEvent
from workflow_backend.engines.kubiya import words
from workflow_backend.engines.kubiya.messages import VendorMessage
from workflow_backend.masking import Masker
from workflow_backend.step_state import RunStatus, StepState, StepStatus
from workflow_backend.steps.capture import HeadAndTail

MAX_OUTPUT_CHARACTERS = 256 * 1024
MAX_SHOWN_CHARACTERS = 256 * 1024
MAX_ERROR_CHARACTERS = 4_000
MAX_STRANGE_STEPS = 5_000


_AttemptEnding = Literal["success", "failed", "cancelled", "timed_out"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event for the journal; one that ends an attempt comes with its key and result."""

    event: RunEvent
    key: str = ""
    result: AttemptResult | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How the run ended."""

    status: RunStatus
    error: str | None = None


@dataclass(slots=True)
class _Attempt:
    """What is known of a step that has begun."""

    number: int
    began: float
    is_open: bool = True
    shown: int = 0


class RemoteRun:
    """One run as its messages tell it: `take` each, and `settle` it once it has an `end`."""

    def __init__(self, run_id: str, workflow: Workflow, masker: Masker) -> None:
        self.end: RunEnd | None = None
        self.states: dict[str, StepState] = {}
        self._run_id = run_id
        self._steps = {step.name: step for step in workflow.all_steps()}
        self._main = [step.name for step in workflow.steps]
        self._masker = masker
        self._attempts: dict[str, _Attempt] = {}
        self._told: RunStatus | None = None
        self._error = ""
        self._has_error = False
        self._last_text = ""

    def take(self, message: VendorMessage, at: float) -> list[Recorded]:
        """What this message, which came at `at`, adds to the run."""
        masked = self._masker.mask_json(message.body)
        body = masked if isinstance(masked, dict) else {}
        text = self._masker.mask(message.text)
        kind = str(body.get("type") or "")
        recorded: list[Recorded] = []
        if message.kind == "error" or kind in words.ERRORS:
            self._error = self._error or _error_in(body) or text or self._last_text
            self._has_error = True
        elif words.step_name(body):
            recorded = self._take_step(kind, body, at)
        elif kind in words.RUN_ENDS or kind in words.RUN_FAILS:
            told = "failed" if kind in words.RUN_FAILS else words.ending_of(body)
            self._note_status(words.run_status_of(told), body)
        else:
            self._last_text = _error_in(body) or text or self._last_text
        if self.end is None:
            self._look_for_end(message, body)
        return recorded

    def restore(self, event: RunEvent, result: AttemptResult | None) -> None:
        """Take in what was recorded of a step, by its event and the result of that attempt."""
        name, kind = str(event.get("step")), event["type"]
        number = event.get("attempt")
        began = datetime.fromisoformat(str(event["time"])).timestamp()
        if kind == "step_running":
            self._attempts[name] = _Attempt(number if isinstance(number, int) else 1, began)
            self.states.pop(name, None)
        elif kind == "step_skipped":
            self._skip(name, str(event.get("reason") or ""))
        elif result is not None and name in self._attempts:
            self._close(name, self._attempts[name], result, began)

    def stream_ended(self, because: str) -> None:
        """No message comes any more; without an end so far, `because` says what that means."""
        if self.end is not None:
            return
        if self._told is not None or self._has_error:
            self._finish()
        else:
            self.end = RunEnd("failed", because)

    def settle(self, at: float) -> list[Recorded]:
        """The ends of the steps that had none when the run ended."""
        end = self.end or RunEnd("failed", "the run was given up")
        recorded = []
        for name, attempt in self._attempts.items():
            if attempt.is_open:
                status = _SETTLED.get(end.status, "failed")
                error = None if status == "success" else end.error or f"the run was {end.status}"
                result = AttemptResult(status=status, outputs={"stdout": ""}, error=error)
                recorded.append(self._close(name, attempt, result, at))
        why = "the run ended before it began"
        if end.status == "success":
            why = "Kubiya told nothing of it"
        untold = [name for name in self._main if name not in self.states]
        return [*recorded, *(self._skip(name, why) for name in untold)]

    def _take_step(self, kind: str, body: Mapping[str, object], at: float) -> list[Recorded]:
        name, fields = words.step_name(body), words.step_fields(body)
        if kind in words.STEP_BEGINS:
            return self._begin(name, words.first_text(fields, "message", "description"), at)
        if kind in words.STEP_WRITES:
            return self._write(name, words.first_text(fields, "text", "output", "message"), at)
        ending = words.ending_of(fields)
        if kind in words.STEP_SKIPS or (kind in words.STEP_ENDS and ending == "skipped"):
            if name in self.states or self._is_too_much(name):
                return []
            return [self._skip(name, _reason_in(fields))]
        if kind in words.STEP_FAILS or kind in words.STEP_ENDS:
            return self._end(name, kind, fields, at)
        return []

    def _begin(self, name: str, message: str, at: float) -> list[Recorded]:
        attempt = self._attempts.get(name)
        if (attempt is not None and attempt.is_open) or self._is_too_much(name):
            return []
        number = attempt.number + 1 if attempt else 1
        self._attempts[name] = _Attempt(number, at)
        self.states.pop(name, None)
        if not message and name in self._steps:
            spec = AttemptSpec(self._run_id, self._steps[name], number)
            return [Recorded(events.step_running(spec))]
        return [Recorded(events.step_begun(name, message, attempt=number))]

    def _is_too_much(self, name: str) -> bool:
        """Whether the stream tells of more steps that nobody knows than can be kept."""
        known = max(len(self._attempts), len(self.states))
        return name not in self._steps and known >= MAX_STRANGE_STEPS

    def _write(self, name: str, text: str, at: float) -> list[Recorded]:
        recorded = self._begin(name, "", at) if name not in self._attempts else []
        attempt = self._attempts.get(name)
        if attempt is None or not text or attempt.shown > MAX_SHOWN_CHARACTERS:
            return recorded
        attempt.shown += len(text)
        if attempt.shown > MAX_SHOWN_CHARACTERS:
            text = "\n... further output is not shown live ...\n"
        return [*recorded, Recorded(events.step_output(name, attempt.number, text))]

    def _end(self, name: str, kind: str, fields: Mapping[str, object], at: float) -> list[Recorded]:
        attempt = self._attempts.get(name)
        if attempt is not None and not attempt.is_open:
            return []
        recorded = self._begin(name, "", at) if attempt is None else []
        if name not in self._attempts:
            return []
        status, error = _ending(kind, fields)
        exit_code = fields.get("exit_code", fields.get("exitCode"))
        kept = HeadAndTail(MAX_OUTPUT_CHARACTERS)
        kept.add(words.first_text(fields, "output", "stdout", "logs"))
        result = AttemptResult(
            status=status,
            outputs={"stdout": kept.text()},
            exit_code=exit_code if type(exit_code) is int else None,
            error=error[:MAX_ERROR_CHARACTERS] or None,
            will_retry=fields.get("will_retry") is True,
        )
        return [*recorded, self._close(name, self._attempts[name], result, at)]

    def _close(self, name: str, attempt: _Attempt, result: AttemptResult, at: float) -> Recorded:
        attempt.is_open = False
        result = replace(result, duration_seconds=max(0.0, at - attempt.began))
        step = self._steps.get(name) or Step(name=name)
        spec = AttemptSpec(self._run_id, step, attempt.number)
        status: StepStatus = "failed" if result.status == "worker_lost" else result.status
        self.states[name] = StepState(
            status=status,
            outputs=result.outputs,
            error=result.error,
            exit_code=result.exit_code,
            attempts=attempt.number,
            has_failed_before=attempt.number > 1,
        )
        return Recorded(events.step_ended(spec, result), spec.key, result)

    def _skip(self, name: str, reason: str) -> Recorded:
        if name in self._attempts:
            self._attempts[name].is_open = False
        self.states[name] = StepState(status="skipped", reason=reason)
        return Recorded(events.step_skipped(name, reason))

    def _note_status(self, told: RunStatus | None, body: Mapping[str, object]) -> None:
        """What the API says of the run as a whole; its first word stays."""
        self._told = self._told or told
        has_failed = self._told not in {None, "success"}
        said = _error_in(body) if has_failed else words.first_text(body, "error")
        self._error = self._error or said

    def _look_for_end(self, message: VendorMessage, body: Mapping[str, object]) -> None:
        reason = body.get("finishReason")
        if body.get("end") or reason:
            told = words.run_status_of(words.ending_of(body))
            self._note_status(told or words.finish_status(reason), body)
            self._finish()
        elif message.kind == "done":
            is_known = self._told is not None or self._has_error
            if is_known or all(name in self.states for name in self._main):
                self._finish()
            else:
                self.end = RunEnd("failed", _UNTOLD)

    def _finish(self) -> None:
        """The end, by what was told of the run, else by its steps."""
        failed = [name for name in self.states if self._has_failed(name)]
        status = self._told
        if status is None:
            has_failed = self._has_error or self._error or failed
            status = "failed" if has_failed else "success"
        if status == "success":
            self.end = RunEnd("success")
            return
        error = self._error
        if not error and failed:
            first = self.states[failed[0]]
            error = f"step {failed[0]} {_WORDS.get(first.status, 'failed')}: {first.error or ''}"
        error = error.rstrip(": ") or f"Kubiya says that the run {_WORDS.get(status, 'failed')}"
        self.end = RunEnd(status, error[:MAX_ERROR_CHARACTERS])

    def _has_failed(self, name: str) -> bool:
        step = self._steps.get(name)
        tolerated = step is not None and step.continue_on_error
        return self.states[name].status not in {"success", "skipped"} and not tolerated


def _ending(kind: str, fields: Mapping[str, object]) -> tuple[_AttemptEnding, str]:
    """How the step ended, and the error if it did not end well."""
    ending = words.ending_of(fields)
    error = words.first_text(fields, "error")
    if ending == "skipped" or (kind in words.STEP_FAILS and ending == "success"):
        ending = "failed"
    if ending is None:
        exit_code = fields.get("exit_code", fields.get("exitCode"))
        has_failed = kind in words.STEP_FAILS or error or exit_code not in (None, 0)
        ending = "failed" if has_failed else "success"
    if ending == "success":
        return "success", ""
    return ending, error or words.first_text(fields, "message", "reason") or "the step failed"


def _error_in(body: Mapping[str, object]) -> str:
    return words.first_text(body, "error", "message", "reason", "detail")


def _reason_in(fields: Mapping[str, object]) -> str:
    return words.first_text(fields, "reason", "message") or "Kubiya skipped it"


_UNTOLD = (
    "Kubiya ended the stream without telling how the run ended; look at it there. It was not"
    " started again"
)
_SETTLED: dict[str, _AttemptEnding] = {
    "success": "success",
    "cancelled": "cancelled",
    "timed_out": "timed_out",
}
_WORDS = {"failed": "failed", "cancelled": "was cancelled", "timed_out": "timed out"}
