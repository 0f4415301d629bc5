"""Listings that are not quite valid."""

import logging
from typing import Any

import pytest

from mcp_bridge.listing import repair_listing

GOOD = {"name": "good", "inputSchema": {"type": "object"}}


@pytest.mark.parametrize(
    "bad",
    [
        "no object",
        {"inputSchema": {}},
        {"name": 7, "inputSchema": {}},
        {"name": "", "inputSchema": {}},
        {"name": "bad", "inputSchema": "text"},
        {"name": "bad", "inputSchema": {"type": "string"}},
        {"name": "bad", "inputSchema": {"type": "object", "properties": []}},
    ],
)
def test_a_bad_tool_is_left_out_and_the_others_stay(
    bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert repair_listing("s", {"tools": [bad, GOOD]}) == {"tools": [GOOD]}
    assert "tool 0 of its listing is invalid" in caplog.text


@pytest.mark.parametrize(
    ("tool", "repaired"),
    [
        ({"name": "t"}, {}),
        ({"name": "t", "inputSchema": None}, {}),
        ({"name": "t", "inputSchema": {"type": ["object", "null"]}}, {}),
        ({"name": "t", "inputSchema": {"required": "a"}}, {}),
        ({"name": "t", "title": "T", "outputSchema": 7, "icons": "x"}, {"description": "T"}),
        ({"name": "t", "description": {"no": "text"}}, {}),
        (
            {"name": "t", "annotations": {"readOnlyHint": True, "idempotentHint": "yes", "x": 1}},
            {"annotations": {"readOnlyHint": True}},
        ),
    ],
)
def test_a_tool_is_reduced_to_what_is_valid(tool: Any, repaired: Any) -> None:
    expected = {"name": "t", "inputSchema": {"type": "object"}, **repaired}
    assert repair_listing("s", {"tools": [tool]}) == {"tools": [expected]}


def test_the_first_of_two_tools_of_one_name_counts() -> None:
    twice = [{**GOOD, "description": "first"}, {**GOOD, "description": "second"}]
    assert repair_listing("s", {"tools": twice})["tools"] == [{**GOOD, "description": "first"}]


def test_only_a_cursor_that_is_text_is_followed() -> None:
    assert repair_listing("s", {"tools": [], "nextCursor": "2"}) == {"tools": [], "nextCursor": "2"}
    assert repair_listing("s", {"tools": [], "nextCursor": 2}) == {"tools": []}
