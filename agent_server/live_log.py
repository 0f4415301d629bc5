"""What the steps of a run write, as one text while they write it.

Pure. Steps that run side by side take turns: a line tells whose output follows whenever that
changes.
"""

from collections.abc import Mapping

from streaming.events import JsonValue

_ENDS = frozenset({"step_complete", "step_failed"})


class LiveLog:
    """Makes text of events, for all steps or those that `step` and `attempt` name."""

    def __init__(self, step: str | None = None, attempt: int | None = None) -> None:
        self._step = step
        self._attempt = attempt
        self._last: tuple[str, int] | None = None
        self._is_line_open = False
        self._iterations: dict[str, int] = {}
        self._shown: dict[tuple[str, int], int] = {}

    def text_of(self, event: Mapping[str, JsonValue]) -> str:
        """What an event adds to the text; mostly nothing."""
        kind, step = event.get("type"), str(event.get("step"))
        attempt, iteration = _number(event.get("attempt")), _number(event.get("iteration"))
        if kind != "step_output" and kind in {"step_running", *_ENDS}:
            self._iterations[step] = iteration
        number = self._iterations.get(step, 1)
        place = step if number == 1 else f"{step}@{number}"
        names = {step, place, step.partition("[")[0]}
        if self._step not in {None, *names} or self._attempt not in {None, attempt}:
            return ""
        key = (place, attempt)
        if kind == "step_running":
            self._shown[key] = 0
        elif kind == "step_output":
            return self._write(key, str(event.get("text", "")))
        elif kind in _ENDS:
            return self._end(key, event)
        return ""

    def _write(self, key: tuple[str, int], text: str) -> str:
        self._shown[key] = self._shown.get(key, 0) + len(text)
        head = "" if key == self._last else self._line(f"== {key[0]} (attempt {key[1]}) ==")
        self._last = key
        self._is_line_open = not text.endswith("\n") if text else self._is_line_open
        return head + text

    def _end(self, key: tuple[str, int], event: Mapping[str, JsonValue]) -> str:
        output = str(event.get("output") or "")
        # Not every kind of step tells of its output before its end.
        text = "" if self._shown.pop(key, 0) or not output else self._write(key, output)
        if event.get("type") == "step_failed":
            text += self._line(f"== {key[0]} failed: {event.get('error')} ==")
            self._last = None
        return text

    def _line(self, text: str) -> str:
        begin = "\n" if self._is_line_open else ""
        self._is_line_open = False
        return f"{begin}{text}\n"


def _number(value: object) -> int:
    return value if isinstance(value, int) else 1
