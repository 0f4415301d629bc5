"""The times of a schedule: a cron expression in a time zone, as Unix seconds. Pure.

Daylight saving, as cron of Debian has it: a job with a fixed hour and minute that the clock skips
runs when the clock goes on, and one within an hour that comes twice runs in the first of them; one
with `*` as its minute or hour follows the minutes that really pass. Source: cronsim 2.8, "DST".
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim

from workflow_backend.definition.control import Schedule


@dataclass(frozen=True, slots=True)
class Passed:
    """The times that passed: the newest ones, and how many more there were before them."""

    times: tuple[int, ...]
    older: int


class Times:
    """The times of one schedule, which was checked with its workflow."""

    def __init__(self, schedule: Schedule) -> None:
        self._cron = schedule.cron
        self._zone: tzinfo = UTC if schedule.timezone == "UTC" else ZoneInfo(schedule.timezone)

    def after(self, at: float) -> Iterator[int]:
        """The times after a time, in order; they end where no further day fits."""
        last = at
        # In the second of two hours with one name the first would be told of again.
        for found in CronSim(self._cron, datetime.fromtimestamp(at, self._zone)):
            time = int(found.timestamp())
            if time > last:
                last = time
                yield time

    def next(self, at: float) -> int | None:
        """The first time after a time."""
        return next(self.after(at), None)

    def passed(self, first: int, now: float, window_seconds: float, most: int) -> Passed:
        """The times from `first` to now, none older than the window, and `most` of them."""
        start = max(float(first), now - window_seconds)
        newest: deque[int] = deque(maxlen=most)
        count = 0
        for time in self.after(start - 1e-6):
            if time > now:
                break
            newest.append(time)
            count += 1
        older = count - len(newest)
        return Passed(tuple(newest), older + self._count(first, start))

    def _count(self, first: int, until: float) -> int:
        """How many times there are from `first` until before a time, counted to a bound."""
        count = 0
        if first >= until:
            return 0
        for time in self.after(first - 1):
            if time >= until or count >= MAX_COUNTED:
                break
            count += 1
        return count


# A schedule of each minute has so many in a week.
MAX_COUNTED = 10_000
