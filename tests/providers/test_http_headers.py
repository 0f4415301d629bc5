"""The headers of an answer."""

import pytest

from providers.http import Headers

HEADERS = Headers({b"content-type": b"text/plain", b"x-name": b"caf\xe9"})


@pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE"])
def test_names_are_found_in_any_case(name: str) -> None:
    assert HEADERS[name] == "text/plain"
    assert HEADERS.get(name) == "text/plain"
    assert name in HEADERS


@pytest.mark.parametrize("name", ["missing", "ÿ", "Ⅷ"])
def test_a_name_that_is_not_there_is_missing(name: str) -> None:
    assert name not in HEADERS
    assert HEADERS.get(name) is None
    assert HEADERS.get(name, "else") == "else"
    with pytest.raises(KeyError):
        HEADERS[name]
    assert 5 not in HEADERS


def test_headers_are_a_mapping_of_text() -> None:
    assert dict(HEADERS) == {"content-type": "text/plain", "x-name": "café"}
    assert len(HEADERS) == 2


def test_some_can_be_left_out() -> None:
    assert dict(HEADERS.without("content-type", "missing")) == {"x-name": "café"}


def test_no_value_is_in_the_repr() -> None:
    assert repr(HEADERS) == "Headers(content-type, x-name)"
