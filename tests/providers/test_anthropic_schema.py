"""Schemas of structured answers, in the part of JSON Schema that Anthropic takes."""

from typing import Any

import pytest
from anthropic import transform_schema

from providers.anthropic.schema import output_schema
from streaming.errors import InvalidRequestError

SCHEMA = {
    "type": "object",
    "title": "Person",
    "$defs": {"Pet": {"type": "object", "properties": {"name": {"type": "string"}}}},
    "properties": {
        "name": {"type": "string", "minLength": 2, "description": "Full name"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mail": {"type": "string", "format": "email"},
        "colour": {"type": "string", "format": "colour"},
        "kind": {"enum": ["a", "b"]},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/Pet"}, "minItems": 1, "maxItems": 3},
        "either": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["name"],
    "additionalProperties": True,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}


def test_a_schema_is_closed_and_its_bounds_become_words() -> None:
    schema: Any = output_schema(FORMAT)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Pet"]["additionalProperties"] is False
    assert schema["properties"]["name"] == {
        "type": "string",
        "description": "Full name\n\nminLength: 2",
    }
    assert SCHEMA["additionalProperties"] is True


def without_descriptions(schema: Any) -> Any:
    if isinstance(schema, list):
        return [without_descriptions(item) for item in schema]
    if isinstance(schema, dict):
        return {k: without_descriptions(v) for k, v in schema.items() if k != "description"}
    return schema


def test_a_schema_is_limited_as_the_official_client_does() -> None:
    # The words of the descriptions are each one's own.
    ours = without_descriptions(output_schema(FORMAT))
    assert ours == without_descriptions(transform_schema(SCHEMA))


@pytest.mark.parametrize("holder", [None, {}, {"schema": "text"}])
def test_a_schema_that_is_none_is_refused(holder: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        output_schema({"type": "json_schema", "json_schema": holder})
    assert caught.value.param == "response_format"
