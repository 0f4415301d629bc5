"""Input schemas for every provider."""

import pytest
from pydantic import BaseModel, Field

from mcp_bridge.schemas import SchemaRefusedError, clean_schema


class Leaf(BaseModel):
    title: str = Field(description="evil\x1b[31m text")
    size: int | None = None


class Tree(BaseModel):
    leaves: list[Leaf]
    children: list["Tree"] = []
    labels: dict[str, Leaf] = {}


def test_references_are_inlined_and_recursion_becomes_an_object() -> None:
    leaf = {
        "type": "object",
        "properties": {
            "title": {"type": "string", "description": "evil text"},
            "size": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        },
        "required": ["title"],
    }
    # The root of pydantic is itself a reference, so the tree is unfolded once before it is cut.
    schema = clean_schema(Tree.model_json_schema())
    assert schema["properties"]["leaves"] == {"type": "array", "items": leaf}
    assert schema["properties"]["labels"]["additionalProperties"] == leaf
    assert schema["properties"]["children"]["items"] == {"type": "object"}
    assert schema["required"] == ["leaves"]


def test_noise_goes_but_a_property_of_the_same_name_stays() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "x",
        "$comment": "c",
        "title": "Arguments",
        "type": "object",
        "properties": {
            "title": {"type": "string", "title": "Title", "x-mcp-header": "X"},
            "definitions": {"type": "string"},
            "pair": {"prefixItems": [{"title": "T", "type": "string"}], "items": False},
            "old": {"items": [{"title": "T"}]},
            "free": {"type": "object", "additionalProperties": {}},
            "closed": {"type": "object", "additionalProperties": False},
            "choice": {"enum": ["title", {"title": "kept, for it is data"}]},
            "nothing": {"not": {}, "const": None},
        },
        "required": [],
    }
    assert clean_schema(schema) == {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "definitions": {"type": "string"},
            "pair": {"prefixItems": [{"type": "string"}], "items": False},
            "old": {"items": [{}]},
            "free": {"type": "object"},
            "closed": {"type": "object", "additionalProperties": False},
            "choice": {"enum": ["title", {"title": "kept, for it is data"}]},
            "nothing": {"not": {}, "const": None},
        },
    }


def test_a_schema_of_nothing_is_an_object_without_properties() -> None:
    assert clean_schema({}) == {"type": "object", "properties": {}}


def test_what_stands_beside_a_reference_wins() -> None:
    schema = {
        "properties": {"a": {"$ref": "#/$defs/A~1B", "description": "mine"}},
        "$defs": {"A/B": {"type": "string", "description": "theirs"}},
    }
    assert clean_schema(schema)["properties"] == {"a": {"type": "string", "description": "mine"}}


def test_a_reference_to_the_root_is_cut() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    inner = {"type": "object", "properties": {"next": {"type": "object"}}}
    assert clean_schema(schema)["properties"] == {"next": inner}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "http://169.254.169.254/schema"}}},
        {"properties": {"a": {"$ref": "other.json#/a"}}},
        {"properties": {"a": {"$ref": "#/$defs/missing"}}},
        {"properties": {f"p{n}": {"type": "string"} for n in range(5001)}},
        {"properties": {"a": {"enum": ["x" * 70_000]}}},
    ],
    ids=["foreign url", "foreign file", "dangling", "too many parts", "too large"],
)
def test_a_schema_that_cannot_be_shown_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(SchemaRefusedError):
        clean_schema(schema)


def test_a_schema_that_is_too_deep_is_refused() -> None:
    schema: dict[str, object] = {}
    for _ in range(40):
        schema = {"items": schema, "type": "array"}
    with pytest.raises(SchemaRefusedError):
        clean_schema({"properties": {"a": schema}})


def test_references_that_multiply_are_refused_in_bounded_time() -> None:
    definitions: dict[str, object] = {
        f"d{n}": {"properties": {k: {"$ref": f"#/$defs/d{n + 1}"} for k in "abcdefgh"}}
        for n in range(20)
    }
    definitions["d20"] = {"type": "string"}
    with pytest.raises(SchemaRefusedError):
        clean_schema({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions})
