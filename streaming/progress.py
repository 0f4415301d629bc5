"""Workflow progress as text: one readable line for each event that a person waits for."""

import re
from collections.abc import Callable, Mapping

from streaming.approval_words import approval_id_of, decide_words
from streaming.events import JsonValue, WorkflowEvent

MAX_DETAIL_CHARACTERS = 200

# Escape sequences of terminals: CSI, OSC and the other strings with their end, the short ones.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
)
# C0, DEL and C1, the separators that break lines, and the marks that turn the reading direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


class ProgressText:
    """Writes the lines of one answer; steps are numbered in the order in which they appear."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._steps_of_run: dict[str, int] = {}

    def line(self, event: WorkflowEvent, after: str = "") -> str:
        """The event as one line with its line end, or "" for an event that says nothing new.

        `after` is the text written last: the line begins on a line of its own.
        """
        writer = _LINES.get(event.type)
        if writer is None:
            return ""
        text = writer(event.data, self._step(event))
        return f"\n{text}\n" if after and not after.endswith("\n") else f"{text}\n"

    def _step(self, event: WorkflowEvent) -> str:
        if event.step is None:
            return ""
        run = str(event.data.get("run_id", ""))
        # `poll@2` is a further time of `poll`.
        name = event.step.partition("@")[0]
        number = self._numbers.get((run, name))
        if number is None:
            number = self._steps_of_run.get(run, 0) + 1
            self._numbers[run, name] = self._steps_of_run[run] = number
        return f"Step {number}: {_detail(event.step)}"


def plain_text(text: str) -> str:
    """The text as one line without terminal escape sequences and control characters."""
    return _CONTROL.sub(" ", _ESCAPE_SEQUENCE.sub("", text)).strip()


def _detail(value: JsonValue) -> str:
    # Only the beginning is shown, so only the beginning is read.
    text = plain_text(value[: 8 * MAX_DETAIL_CHARACTERS] if isinstance(value, str) else "")
    if len(text) <= MAX_DETAIL_CHARACTERS:
        return text
    return text[: MAX_DETAIL_CHARACTERS - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _after(mark: str, value: JsonValue) -> str:
    detail = _detail(value)
    return f"{mark}{detail}" if detail else ""


def _workflow_started(data: Mapping[str, JsonValue], _step: str) -> str:
    return f"Running workflow{_after(' ', data.get('workflow'))}"


def _step_running(data: Mapping[str, JsonValue], step: str) -> str:
    attempt = data.get("attempt")
    again = f" (attempt {attempt})" if isinstance(attempt, int) and attempt > 1 else ""
    return f"{step}{again}{_after(' - ', data.get('message')) or ' ...'}"


def _step_complete(data: Mapping[str, JsonValue], step: str) -> str:
    return f"{step} done{_after(' in ', data.get('duration'))}{_after(': ', data.get('output'))}"


def _step_failed(data: Mapping[str, JsonValue], step: str) -> str:
    again = " (will be tried again)" if data.get("will_retry") is True else ""
    return f"{step} failed{_after(': ', data.get('error'))}{again}"


def _step_skipped(data: Mapping[str, JsonValue], step: str) -> str:
    return f"{step} skipped{_after(': ', data.get('reason'))}"


def _approval_requested(data: Mapping[str, JsonValue], step: str) -> str:
    words = plain_text(decide_words(approval_id_of(data)))
    return f"{step} waits for an approval{_after(': ', data.get('message'))} - to decide, {words}"


def _approval_decided(data: Mapping[str, JsonValue], step: str) -> str:
    word = "approved" if data.get("approved") is True else "rejected"
    return f"{step} {word}{_after(' by ', data.get('by'))}{_after(': ', data.get('reason'))}"


def _wait_started(data: Mapping[str, JsonValue], step: str) -> str:
    what = {
        "signal": f" for the signal{_after(' ', data.get('signal'))}",
        # Its address is a secret, and the text of an answer goes to models.
        "webhook": " for its webhook",
        "timer": _after(" until ", data.get("expires")),
    }
    return f"{step} waits{what.get(str(data.get('kind')), '')}"


def _workflow_complete(data: Mapping[str, JsonValue], _step: str) -> str:
    name = _after(" ", data.get("workflow"))
    return f"Workflow{name}: {_detail(data.get('status'))}{_after(' in ', data.get('duration'))}"


# `step_queued` and `step_output` have no line: they would bury the others.
_LINES: Mapping[str, Callable[[Mapping[str, JsonValue], str], str]] = {
    "workflow_started": _workflow_started,
    "step_running": _step_running,
    "step_complete": _step_complete,
    "step_failed": _step_failed,
    "step_skipped": _step_skipped,
    "approval_requested": _approval_requested,
    "approval_decided": _approval_decided,
    "wait_started": _wait_started,
    "workflow_complete": _workflow_complete,
}
