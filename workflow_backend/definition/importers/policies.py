"""Durations, retries, repeats and what may fail: the policies of a step, taken over."""

import math
import re
from collections.abc import Mapping

from workflow_backend.definition.durations import MAX_SECONDS, DurationError, parse_duration
from workflow_backend.definition.importers.fields import CONTINUE, RETRY
from workflow_backend.definition.importers.notes import Fields, Notes

MAX_RETRIES = 100
MAX_BACKOFF = 10.0

_NUMBER = re.compile(r"\d{1,9}(\.\d{1,6})?")


def duration_of(value: object, path: str, notes: Notes) -> str | None:
    """A duration of ours for seconds or a text such as `10m`; None for nothing or zero."""
    if value in (None, "", 0, False):
        return None
    text = str(value).strip()
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number or _NUMBER.fullmatch(text):
        seconds = float(text)
        if not math.isfinite(seconds) or seconds <= 0:
            return None
        if seconds > MAX_SECONDS:
            notes.add(path, "this is longer than a duration may be.", "It is `30d`.")
            return "30d"
        return f"{int(seconds)}s" if seconds.is_integer() else f"{max(1, round(seconds * 1000))}ms"
    try:
        parse_duration(text)
    except DurationError:
        notes.add(path, f"{text[:40]!r} is no duration that is known when the run begins.")
        return None
    return text


def whole_number(value: object) -> int | None:
    """The value as a whole number, if it is one or a text that is."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else None


def retry_of(fields: Fields | None, *, default_backoff: float) -> dict[str, object] | None:
    """A retry policy of ours."""
    if fields is None:
        return None
    notes = fields.notes
    limit = whole_number(fields.take(*RETRY["limit"]))
    if limit is None or limit < 1:
        fields.note(RETRY["limit"], "the limit is no number.", "The step is not tried again.")
        return None
    if limit > MAX_RETRIES:
        fields.note(RETRY["limit"], f"the limit is over {MAX_RETRIES}.", f"It is {MAX_RETRIES}.")
    retry: dict[str, object] = {"limit": min(limit, MAX_RETRIES)}
    interval = fields.take(*RETRY["interval"])
    place = fields.at(*RETRY["interval"])
    retry["interval"] = duration_of(interval, place, notes) or ("1ms" if interval == 0 else "1s")
    retry["backoff"] = _backoff(fields.take(*RETRY["backoff"]), fields, default_backoff)
    largest = fields.take(*RETRY["max_interval"])
    if longest := duration_of(largest, fields.at(*RETRY["max_interval"]), notes):
        retry["max_interval"] = longest
    elif retry["backoff"] == 1.0:
        retry["max_interval"] = retry["interval"]
    else:
        retry["max_interval"] = "1h"
    if codes := exit_codes(fields, *RETRY["on_exit_codes"]):
        retry["on_exit_codes"] = codes
    fields.finish(_RETRY_REASONS)
    return retry


def exit_codes(fields: Fields, *names: str) -> list[int]:
    """A list of exit codes of failures; others are noted."""
    value = fields.take(*names)
    items = value if isinstance(value, list) else [] if value is None else [value]
    codes = [code for code in map(whole_number, items) if code is not None and 1 <= code <= 255]
    if len(codes) < len(items):
        fields.note(names, "some of these are no exit codes of a failure.", "They were left out.")
    return list(dict.fromkeys(codes))


def may_fail(value: object, path: str, notes: Notes) -> bool:
    """Whether the run goes on after the step failed, by a `continueOn` in any form."""
    if isinstance(value, str):
        value = {value: True}
    if isinstance(value, list):
        value = {str(item): True for item in value}
    if not isinstance(value, Mapping):
        if value is not None:
            notes.add(path, "this is no mapping.")
        return value is True
    fields = Fields(value, path, notes)
    answer = fields.take(*CONTINUE["failure"]) is True
    if not answer:
        fields.finish(_CONTINUE_REASONS)
    elif fields.take("mark_success") is not True:
        fields.take(*CONTINUE["exit_codes"])
        fields.finish(_CONTINUE_REASONS)
    return answer


def _backoff(value: object, fields: Fields, default: float) -> float:
    if value is None:
        return default
    word = str(value).lower()
    if word in {"false", "0", "fixed", "constant", "linear"}:
        return 1.0
    if word in {"true", "exponential"}:
        return 2.0
    try:
        factor = float(str(value))
    except ValueError:
        factor = math.nan
    if not 1.0 <= factor <= MAX_BACKOFF:
        fields.note(RETRY["backoff"], "this is no factor from 1 to 10.", f"It is {default:g}.")
        return default
    return factor


_RETRY_REASONS = {
    "retry_on": (
        "kinds of errors are not told apart.", "The step is tried again after any failure."
    ),
}  # fmt: skip
_CONTINUE_REASONS = {
    "exit_code": (
        "a step goes on after every failure or after none.",
        "These exit codes fail the step; let the script end with `exit 0` for them.",
    ),
    "output": (
        "what a step prints does not decide whether it failed.",
        "Let the script decide by its exit code.",
    ),
    "skipped": (
        "a step after a skipped one is skipped as well.",
        "Give the steps after it `if: always()` if they are to run.",
    ),
    "mark_success": ("a step that may fail counts as one that succeeded.", "Nothing was lost."),
}
