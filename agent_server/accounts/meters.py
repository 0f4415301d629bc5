"""Meters: how much of one limit of one key is used, in a minute, at a moment, in a day or month.

What this module promises: a window never holds more than its limit in any 60 seconds, whatever the
phase of the clock; what was taken and not used is given back; nothing here waits or fails.

All meters have the methods of `Meter`. Amounts are requests, tokens, calls or nano-dollars; `now`
is in seconds of one monotonic clock.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol, runtime_checkable

WINDOW_SECONDS = 60
DAY_SECONDS = 86_400
# A bucket is a second longer than the window, because it does not know when in it something came.
BUCKET_LIFE = WINDOW_SECONDS + 1
# When a call ends is not known: whoever finds all parallel ones taken asks again this much later.
PARALLEL_WAIT_SECONDS = 1.0


class Meter(Protocol):
    """What a limit is held by."""

    def room(self, limit: int, now: float) -> int:
        """How much may be taken now; below 0 where more was used than reserved."""

    def remaining(self, limit: int, now: float) -> int:
        """How much is left of the whole limit, which may be more than there is room for here."""

    def take(self, amount: int, now: float) -> object:
        """Take an amount, whether or not there is room; gives what `settle` needs."""

    def settle(self, hold: object, reserved: int, used: int, now: float) -> None:
        """Turn what was taken into what was used."""

    def wait_seconds(self, limit: int, amount: int, now: float) -> float:
        """How long until this amount has room, if nothing else is taken."""

    def reset_seconds(self, now: float) -> float:
        """How long until the whole limit is there again."""


@dataclass(frozen=True, slots=True)
class Period:
    """A day or a month in UTC: its name (`2026-11-22`, `2026-11`), its begin and end.

    Begin and end are in Unix seconds; the end is no longer part of it.
    """

    name: str
    begins_at: float
    ends_at: float

    def holds(self, moment: float) -> bool:
        """Whether a moment in Unix seconds is part of it."""
        return self.begins_at <= moment < self.ends_at


@runtime_checkable
class SpendMeter(Meter, Protocol):
    """What a budget is held by."""

    period: Period

    def begin_with(self, spent: int) -> None:
        """Take what the store says was spent in the period."""


class Bucket:
    """What was taken within one second of a window; `is_over` once it no longer counts."""

    __slots__ = ("amount", "is_over", "second")

    def __init__(self, second: int) -> None:
        self.second = second
        self.amount = 0
        self.is_over = False


class Window:
    """Units taken within the last minute, counted in buckets of one second.

    What was taken within a second is free again 61 seconds after that second began: up to one
    second later than exact, and never too early.
    """

    __slots__ = ("_buckets", "_used")

    def __init__(self) -> None:
        self._buckets: deque[Bucket] = deque()
        self._used = 0

    def room(self, limit: int, now: float) -> int:
        """How many units may be taken now; below 0 where more was used than reserved."""
        buckets = self._buckets
        while buckets and buckets[0].second + BUCKET_LIFE <= now:
            over = buckets.popleft()
            over.is_over = True
            self._used -= over.amount
        return limit - self._used

    def remaining(self, limit: int, now: float) -> int:
        """How much is left: there is room for all of it."""
        return self.room(limit, now)

    def take(self, amount: int, now: float) -> Bucket:
        """Take units; the bucket takes back what is not used."""
        buckets = self._buckets
        second = int(now)
        if not buckets or buckets[-1].second != second:
            buckets.append(Bucket(second))
        bucket = buckets[-1]
        bucket.amount += amount
        self._used += amount
        return bucket

    def settle(self, hold: object, reserved: int, used: int, now: float) -> None:
        """Give back to the bucket what was not used; what went beyond counts from now on."""
        if used > reserved:
            self.take(used - reserved, now)
        elif isinstance(hold, Bucket) and not hold.is_over:
            hold.amount -= reserved - used
            self._used -= reserved - used

    def wait_seconds(self, limit: int, amount: int, now: float) -> float:
        """How long until this amount has room; at most a bucket's life."""
        missing = amount - self.room(limit, now)
        for bucket in self._buckets:
            missing -= bucket.amount
            if missing <= 0:
                return bucket.second + BUCKET_LIFE - now
        return float(BUCKET_LIFE)

    def reset_seconds(self, now: float) -> float:
        """How long until the newest bucket is over."""
        return self._buckets[-1].second + BUCKET_LIFE - now if self._buckets else 0.0


class Gauge:
    """Calls that are running."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def room(self, limit: int, now: float) -> int:
        """How many more may run."""
        del now
        return limit - self.used

    def remaining(self, limit: int, now: float) -> int:
        """How much is left: there is room for all of it."""
        return self.room(limit, now)

    def take(self, amount: int, now: float) -> None:
        """Count calls in."""
        del now
        self.used += amount

    def settle(self, hold: object, reserved: int, used: int, now: float) -> None:
        """Count calls out: once it has ended, a call uses nothing."""
        del hold, used, now
        self.used -= reserved

    def wait_seconds(self, limit: int, amount: int, now: float) -> float:
        """When to ask again."""
        del limit, amount, now
        return PARALLEL_WAIT_SECONDS

    def reset_seconds(self, now: float) -> float:
        """When to ask again, if calls run."""
        del now
        return PARALLEL_WAIT_SECONDS if self.used else 0.0


def day_of(now: float) -> Period:
    """The day of a moment in Unix seconds."""
    return _day(int(now) // DAY_SECONDS)


def month_of(now: float) -> Period:
    """The month of a moment in Unix seconds."""
    return _month(int(now) // DAY_SECONDS)


@lru_cache(maxsize=64)
def _day(number: int) -> Period:
    begin = number * DAY_SECONDS
    name = datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%d")
    return Period(name, float(begin), float(begin + DAY_SECONDS))


@lru_cache(maxsize=64)
def _month(day: int) -> Period:
    moment = datetime.fromtimestamp(day * DAY_SECONDS, UTC)
    begin = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    after = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return Period(moment.strftime("%Y-%m"), begin.timestamp(), after.timestamp())


class Spend:
    """Nano-dollars spent and reserved within the period that is now; `wall` is in Unix seconds.

    A call counts in the period in which it was admitted.
    """

    __slots__ = ("_period_of", "_wall", "period", "reserved", "spent")

    def __init__(self, period_of: Callable[[float], Period], wall: Callable[[], float]) -> None:
        self._period_of = period_of
        self._wall = wall
        self.period = period_of(wall())
        self.spent = 0
        self.reserved = 0

    def begin_with(self, spent: int) -> None:
        """Take what the store says was spent in the period."""
        self.spent = spent

    def room(self, limit: int, now: float) -> int:
        """How much may still be spent."""
        del now
        wall = self._wall()
        if wall >= self.period.ends_at:
            self.period = self._period_of(wall)
            self.spent = self.reserved = 0
        return limit - self.spent - self.reserved

    def remaining(self, limit: int, now: float) -> int:
        """How much is left: there is room for all of it."""
        return self.room(limit, now)

    def take(self, amount: int, now: float) -> Period:
        """Reserve an amount."""
        del now
        self.reserved += amount
        return self.period

    def settle(self, hold: object, reserved: int, used: int, now: float) -> None:
        """Turn a reservation into its cost; one of a period that is over changes nothing."""
        del now
        if hold is self.period:
            self.reserved -= reserved
            self.spent += used

    def wait_seconds(self, limit: int, amount: int, now: float) -> float:
        """How long until the next period."""
        del limit, amount
        return self.reset_seconds(now)

    def reset_seconds(self, now: float) -> float:
        """How long until the next period."""
        del now
        return max(0.0, self.period.ends_at - self._wall())
