"""The header `X-Dropped-Fields`."""

import pytest

from agent_server.dropped_fields import MOST_NAMES, dropped_headers


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("store", "cache_control"), b"store, cache_control"),
        (("web_search_call",) * 1000, b"web_search_call"),
        (("a\r\nset-cookie: q=1",), b"a??set-cookie: q=1"),
        (("größe\0",), b"gr??e?"),
        (("x" * 70_000,), b"x" * 64),
    ],
    ids=["names", "the same one again", "a line break", "no ascii", "a long one"],
)
def test_the_header_can_be_sent_and_read(names: tuple[str, ...], told: bytes) -> None:
    assert dropped_headers(names) == ((b"x-dropped-fields", told),)


def test_there_is_none_where_nothing_was_left_out() -> None:
    assert dropped_headers(()) == ()


def test_the_number_of_names_has_a_bound() -> None:
    ((_, told),) = dropped_headers(f"field_{number}" for number in range(10_000))
    assert len(told.split(b", ")) == MOST_NAMES
