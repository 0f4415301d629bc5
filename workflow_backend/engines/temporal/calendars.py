"""A cron expression as Temporal's calendars, which mean the same days and minutes. Pure.

Temporal reads cron expressions itself, but joins day of month and day of week by "and", where cron
joins two that are both restricted by "or". What it has no counterpart for is refused: `L` and `#`.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from cronsim import CronSim
from temporalio.client import ScheduleCalendarSpec, ScheduleRange

_BASE = datetime(2025, 1, 1, tzinfo=UTC)
_DAYS = range(1, 32)
_WEEKDAYS = range(7)


class CalendarError(ValueError):
    """Temporal has no counterpart for the expression."""


def calendars_of(cron: str) -> list[ScheduleCalendarSpec]:
    """The calendars; a time fits if it fits one of them.

    Raises:
        CalendarError: A day is counted from the month's end, or within it.
    """
    parsed = CronSim(cron, _BASE)
    days = _numbers(cron, parsed.days)
    # Of Sunday's two numbers Temporal knows the first.
    weekdays = [day % 7 for day in _numbers(cron, parsed.weekdays)]
    if parsed.day_and:
        chosen = [(days, weekdays)]
    else:
        chosen = [(days, list(_WEEKDAYS)), (list(_DAYS), weekdays)]
    return [
        ScheduleCalendarSpec(
            minute=_ranges(parsed.minutes),
            hour=_ranges(parsed.hours),
            day_of_month=_ranges(of_month),
            month=_ranges(parsed.months),
            day_of_week=_ranges(of_week),
        )
        for of_month, of_week in chosen
    ]


def _numbers(cron: str, items: Iterable[object]) -> list[int]:
    numbers = [item for item in items if isinstance(item, int)]
    if len(numbers) < len(list(items)) or any(number < 0 for number in numbers):
        raise CalendarError(
            f"the expression {cron!r} counts days from the end of the month, or within it (`L`,"
            " `#`), which Temporal cannot"
        )
    return numbers


def _ranges(numbers: Iterable[int]) -> list[ScheduleRange]:
    """The numbers as few ranges."""
    ranges: list[ScheduleRange] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1].end == number - 1:
            ranges[-1] = ScheduleRange(ranges[-1].start, number)
        else:
            ranges.append(ScheduleRange(number, number))
    return ranges
