"""What is kept of a child's stderr."""

import logging

import pytest

from mcp_bridge.plain_text import Redactor
from mcp_bridge.stderr_tail import StderrTail


def make_tail(now: list[float]) -> StderrTail:
    return StderrTail("s", Redactor(["swordfish"]), logging.INFO, clock=lambda: now[0])


def test_lines_are_cleaned_masked_shortened_and_limited() -> None:
    tail = make_tail([0])
    tail.feed(b"first\n" * 300)
    tail.feed(b"\x1b[31mthe password is sword")
    tail.feed(b"fish\n" + b"x" * 5000 + b"\n\xff\n \n")
    assert len(tail.lines) == 200
    assert tail.lines[-4:] == ("the password is ***", "x" * 499 + "…", "\ufffd", " ")
    assert tail.last_line == "\ufffd"


def test_a_last_line_without_newline_is_taken_at_the_end() -> None:
    tail = make_tail([0])
    tail.feed(b"why it died")
    tail.end()
    assert tail.last_line == "why it died"


def test_a_flood_does_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    tail = make_tail(now)
    with caplog.at_level(logging.INFO):
        tail.feed(b"flood\n" * 1000)
        now[0] = 1
        tail.feed(b"calm\n")
    assert len(caplog.records) == 52
    assert [record.getMessage() for record in caplog.records[-2:]] == [
        "s: 950 lines were not logged",
        "s: calm",
    ]
