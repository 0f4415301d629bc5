"""Reading a body as JSON: what is no object is refused, and the error says where."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_server.requests.json_body import MAX_BRACKETS, MAX_DEPTH, read_json_object
from streaming.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "body is empty", id="empty"),
        pytest.param(b" \r\n", "body is empty", id="white space"),
        pytest.param(b'{"a": 1,}', "trailing comma .* line 1, column 8", id="trailing comma"),
        pytest.param(b'{"a":\n tru}', "line 2, column", id="position by line"),
        pytest.param(b'{"a": [1, 2', "not JSON: .*line 1", id="cut"),
        pytest.param(b"{'a': 1}", "not JSON", id="single quotes"),
        pytest.param(b'{"a": NaN}', "not JSON", id="NaN"),
        pytest.param(b'{"a": Infinity}', "not JSON", id="infinity"),
        pytest.param(b'{"a": 1e999}', "not JSON: .*infinity", id="overflow"),
        pytest.param(b'{"a": "\\ud800"}', "not JSON: .*surrogate", id="half a surrogate pair"),
        pytest.param(b'{"a": 1} {"b": 2}', "not JSON", id="two values"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', "byte order mark", id="BOM"),
        pytest.param(b'{"a": "\xff"}', r"not UTF-8 \(byte 7\)", id="no UTF-8"),
        pytest.param('{"a": "x"}'.encode("utf-16"), r"not UTF-8 \(byte 0\)", id="UTF-16"),
        pytest.param(b"a=1&b=2", "not JSON", id="form"),
        pytest.param(b"[1]", "must be a JSON object", id="list"),
        pytest.param(b'"text"', "must be a JSON object", id="string"),
        pytest.param(b"null", "must be a JSON object", id="null"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        read_json_object(body)
    assert caught.value.code == "invalid_json"


def test_an_object_is_given_as_it_is() -> None:
    body = '{"model": "m\u00e9", "n": [1, 2.5, null, true, {}], "big": 18446744073709551615}'
    assert read_json_object(body.encode()) == {
        "model": "m\u00e9",
        "n": [1, 2.5, None, True, {}],
        "big": 18446744073709551615,
    }


def test_of_a_key_that_occurs_twice_the_last_counts() -> None:
    assert read_json_object(b'{"model": "cheap", "model": "dear"}') == {"model": "dear"}


def nested(levels: int, left: str, right: str) -> bytes:
    return ('{"a":' + left * (levels - 1) + "1" + right * (levels - 1) + "}").encode()


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_bounded(left: str, right: str) -> None:
    step = left.count("[") + left.count("{")
    fitting = MAX_DEPTH // step
    read_json_object(nested(fitting, left, right))
    for levels in (fitting + 2, 500, 100_000):
        with pytest.raises(InvalidRequestError, match="nested more than 64 levels"):
            read_json_object(nested(levels, left, right))


def test_a_wide_body_is_not_a_deep_one() -> None:
    body = b'{"a": [' + b",".join([b"[{}]"] * 10_000) + b"]}"
    assert len(read_json_object(body)) == 1


def test_brackets_in_strings_are_no_depth() -> None:
    assert read_json_object(b'{"a": "' + b"[" * 10_000 + b'"}') == {"a": "[" * 10_000}


@pytest.mark.parametrize("piece", [b"[]", b"{}", b'"["'])
def test_a_body_of_nothing_but_brackets_is_not_parsed(piece: bytes) -> None:
    body = b'{"a": [' + b",".join([piece] * (MAX_BRACKETS + 1)) + b"]}"
    with pytest.raises(InvalidRequestError, match="the server reads at most 500000") as raised:
        read_json_object(body)
    assert raised.value.code == "invalid_json"


@given(st.binary(max_size=40))
def test_no_body_fails_in_any_other_way(body: bytes) -> None:
    with contextlib.suppress(InvalidRequestError):
        assert isinstance(read_json_object(body), dict)
