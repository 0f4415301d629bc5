"""The times of schedules: time zones, daylight saving, what passed."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_backend.definition.control import Schedule
from workflow_backend.schedules.times import Times

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def times(cron: str, after: str, count: int, timezone: str = BERLIN) -> list[str]:
    found = islice(Times(Schedule(cron=cron, timezone=timezone)).after(at(after)), count)
    return [
        datetime.fromtimestamp(time, ZoneInfo(timezone)).isoformat(timespec="minutes")
        for time in found
    ]


def test_times_are_those_of_the_zone() -> None:
    assert times("0 6 * * mon-fri", "2026-11-27T07:00+01:00", 2) == [
        "2026-11-30T06:00+01:00",
        "2026-12-01T06:00+01:00",
    ]
    assert times("0 6 * * *", "2026-06-01T00:00+00:00", 1) == ["2026-06-01T06:00+02:00"]
    assert times("30 0 1 1 *", "2026-06-01T00:00Z", 1, "Pacific/Auckland") == [
        "2027-01-01T00:30+13:00"
    ]


def test_a_time_is_after_its_beginning_and_never_at_it() -> None:
    assert times("0 6 * * *", "2026-11-27T06:00+01:00", 1) == ["2026-11-28T06:00+01:00"]
    assert times("0 6 * * *", "2026-11-27T05:59:59.999+01:00", 1) == ["2026-11-27T06:00+01:00"]


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # On 29 March 2026 the clock goes from 02:00 to 03:00.
        ("30 2 * * *", "03-28T12:00+01:00", ["03-29T03:00+02:00", "03-30T02:30+02:00"]),
        ("0 2,3 * * *", "03-28T12:00+01:00", ["03-29T03:00+02:00", "03-30T02:00+02:00"]),
        ("*/30 * * * *", "03-29T01:00+01:00", ["03-29T01:30+01:00", "03-29T03:00+02:00"]),
        ("0 * * * *", "03-29T00:30+01:00", ["03-29T01:00+01:00", "03-29T03:00+02:00"]),
        # On 25 October 2026 it goes from 03:00 back to 02:00.
        ("30 2 * * *", "10-24T12:00+02:00", ["10-25T02:30+02:00", "10-26T02:30+01:00"]),
        ("30 2 * * *", "10-25T02:40+02:00", ["10-26T02:30+01:00", "10-27T02:30+01:00"]),
        ("45 2 * * *", "10-25T02:30+01:00", ["10-26T02:45+01:00", "10-27T02:45+01:00"]),
        ("0 * * * *", "10-25T01:30+02:00", ["10-25T02:00+02:00", "10-25T02:00+01:00"]),
        ("*/30 * * * *", "10-25T02:20+02:00", ["10-25T02:30+02:00", "10-25T02:00+01:00"]),
    ],
)
def test_daylight_saving_is_as_debians_cron_has_it(
    cron: str, after: str, expected: list[str]
) -> None:
    assert times(cron, f"2026-{after}", 2) == [f"2026-{time}" for time in expected]


CRONS = st.sampled_from(
    ["30 2 * * *", "*/7 * * * *", "0 */2 * * *", "15 0-5 * * *", "0 2 29 2 *", "59 23 L * *"]
)
ZONES = st.sampled_from(
    [BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]
)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(CRONS, ZONES, MOMENTS)
def test_times_go_up_and_do_not_depend_on_where_one_begins(
    cron: str, zone: str, start: datetime
) -> None:
    schedule = Times(Schedule(cron=cron, timezone=zone))
    found = list(islice(schedule.after(start.timestamp()), 12))
    assert found == sorted(set(found))
    assert found[0] > start.timestamp()
    for number in range(len(found) - 1):
        assert schedule.next(found[number]) == found[number + 1]
        assert schedule.next(found[number + 1] - 0.5) == found[number + 1]


EVERY_MINUTE: dict[str, Any] = {"cron": "* * * * *"}


def test_what_passed_is_made_up_within_the_window_and_the_rest_counted() -> None:
    schedule = Times(Schedule(**EVERY_MINUTE))
    first, now = at("2026-11-27T10:01Z"), at("2026-11-27T11:00:30Z")
    passed = schedule.passed(int(first), now, 600, 100)
    assert [datetime.fromtimestamp(time, UTC).minute for time in passed.times] == [
        *range(51, 60),
        0,
    ]
    assert passed.older == 50
    few = schedule.passed(int(first), now, 86_400, 7)
    assert (len(few.times), few.older) == (7, 53)
    assert few.times[-1] == int(at("2026-11-27T11:00Z"))
    none = schedule.passed(int(first), now, 20, 100)
    assert (none.times, none.older) == ((), 60)


def test_a_time_that_is_just_due_is_no_missed_one() -> None:
    schedule = Times(Schedule(**EVERY_MINUTE))
    due = int(at("2026-11-27T10:01Z"))
    for late in (0.0, 0.5, 59.0):
        assert schedule.passed(due, due + late, 60, 100).times == (due,)


def test_a_long_time_away_is_counted_to_a_bound() -> None:
    schedule = Times(Schedule(**EVERY_MINUTE))
    now = datetime(2026, 11, 27, tzinfo=UTC)
    first = now - timedelta(days=400)
    passed = schedule.passed(int(first.timestamp()), now.timestamp(), 60, 100)
    assert passed.older == 10_000
