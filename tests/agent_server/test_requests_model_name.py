"""The field `model` of a body."""

import pytest

from agent_server.requests.model_name import LONGEST_NAME, model_name
from streaming.errors import InvalidRequestError
from streaming.events import JsonValue


@pytest.mark.parametrize("name", ["gpt-5.5", "a/b:free", "Qwen 3 模型", "m" * LONGEST_NAME])
def test_a_name_is_taken_as_it_is(name: str) -> None:
    assert model_name({"model": name}) == name


def test_no_name_is_none() -> None:
    assert model_name({}) is None
    assert model_name({"model": None}) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "not empty"),
        (7, "not a number"),
        (["gpt"], "not a list"),
        ("m" * (LONGEST_NAME + 1), "201 characters"),
        ("gpt\r\nset-cookie: a=1", "cannot be printed"),
        ("gpt\0", "cannot be printed"),
        ("gpt\u2028", "cannot be printed"),
    ],
)
def test_what_is_no_name_is_refused(given: JsonValue, told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told) as raised:
        model_name({"model": given})
    assert raised.value.param == "model"
    assert "\n" not in raised.value.message
