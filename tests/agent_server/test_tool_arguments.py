"""Arguments that a model wrote, held against a schema."""

import pytest

from agent_server.tool_arguments import ArgumentsError, read_arguments
from streaming.events import JsonObject

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "inputs": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "required": ["name"],
}


def test_arguments_that_fit_come_back_as_they_are() -> None:
    assert read_arguments('{"name": "x", "inputs": {"n": 1}}', SCHEMA) == {
        "name": "x",
        "inputs": {"n": 1},
    }


def test_no_text_means_no_arguments() -> None:
    assert read_arguments(" ", {"type": "object"}) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": 1}', "$.name"),
        ('{"name": "x", "inputs": {"n": "1"}}', "$.inputs.n"),
        ("{}", "'name' is a required property"),
        ('{"name": ', "not valid JSON"),
        ('"name"', "one JSON object"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ArgumentsError) as raised:
        read_arguments(text, SCHEMA)
    assert words in str(raised.value)


def test_a_huge_value_does_not_make_a_huge_error() -> None:
    with pytest.raises(ArgumentsError) as raised:
        read_arguments('{"name": "x", "inputs": "' + "y" * 100_000 + '"}', SCHEMA)
    assert len(str(raised.value)) < 1_000


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:9/schema"}, {"$ref": "#/nowhere"}]
)
def test_a_broken_schema_is_left_to_its_server(schema: JsonObject) -> None:
    assert read_arguments('{"name": 1}', schema) == {"name": 1}
