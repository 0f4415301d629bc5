"""JSON of values that came from processes and tools we do not know."""

import json
from types import MappingProxyType

import pytest

from streaming.json_bytes import dump


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(
            {"a": ["\u00e9\n", 1, 1.5, None, True]}, '{"a":["\u00e9\\n",1,1.5,null,true]}'
        ),
        pytest.param("half \ud83d", '"half ?"', id="half of a surrogate pair"),
        pytest.param(
            {"n": 2**70, "t": True}, f'{{"n":{2**70},"t":true}}', id="integer over 64 bits"
        ),
        pytest.param({1: ("\ud83d", 0.5, None)}, '{"1":["?",0.5,null]}', id="all of it together"),
        pytest.param(MappingProxyType({"a": {"b": 1}}), '{"a":{"b":1}}', id="a mapping"),
        pytest.param(MappingProxyType({"a": "\ud83d"}), '{"a":"?"}', id="a mapping to mend"),
        pytest.param(float("nan"), "null", id="not a number"),
    ],
)
def test_a_value_becomes_compact_json(value: object, expected: str) -> None:
    assert dump(value).decode() == expected
    json.loads(expected)


@pytest.mark.parametrize("value", [object(), [object()], {"a": b"bytes"}])
def test_a_value_without_a_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no JSON form"):
        dump(value)
