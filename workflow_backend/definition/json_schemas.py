"""JSON Schemas that a workflow carries: whether they are valid, and cheap to check with.

A schema may come from a model, so what can take exponential time is refused: references that
multiply, recursion, and regular expressions, which Python's `re` follows without a bound.
"""

import json
from collections.abc import Mapping

MAX_SCHEMA_BYTES = 16 * 1024
MAX_EXPANDED_NODES = 5_000
MAX_REFERENCE_DEPTH = 20

# Keywords whose value maps names, not keywords, to schemas.
_BY_NAME = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
# Keywords whose value is data.
_DATA = frozenset({"const", "enum", "default", "examples"})
_REFUSED = {
    "pattern": "list the values in `enum`, or check the text in a step after it",
    "patternProperties": "name the properties in `properties`",
    "$id": "remove it",
    "$anchor": "refer to `#/$defs/NAME`",
    "$dynamicAnchor": "remove it",
    "$dynamicRef": "refer to `#/$defs/NAME`",
    "$recursiveRef": "refer to `#/$defs/NAME`",
    "unevaluatedItems": "use `items: false`",
    "unevaluatedProperties": "use `additionalProperties: false`",
}


class JsonSchemaError(ValueError):
    """The schema cannot be used; the message says why, `fix` how to mend it."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.fix = fix


def check_json_schema(schema: Mapping[str, object]) -> None:
    """Whether the schema (draft 2020-12) is valid and cheap.

    Raises:
        JsonSchemaError: It is not.
    """
    size = len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "replace"))
    if size > MAX_SCHEMA_BYTES:
        raise JsonSchemaError(
            f"the schema has {size} bytes, the limit is {MAX_SCHEMA_BYTES}.",
            "Ask for less, or leave out descriptions.",
        )
    # Few definitions have a schema, and this takes as long to import as all else here.
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(map(str, error.absolute_path)) or "its top"
        raise JsonSchemaError(
            f"this is no JSON Schema: at {place}: {error.message[:200]}.",
            "Mend it, such as `{type: object, properties: {summary: {type: string}}}`.",
        ) from None
    if _Expansion(schema).nodes(schema, ()) > MAX_EXPANDED_NODES:
        raise JsonSchemaError(
            f"with its references written out the schema has over {MAX_EXPANDED_NODES} parts.",
            "Ask for less, or say `{type: object}` for parts of it.",
        )


class _Expansion:
    """Counts the parts of a schema as if its references were written out."""

    def __init__(self, root: Mapping[str, object]) -> None:
        self._root = root
        self._counted: dict[str, int] = {}

    def nodes(self, schema: object, above: tuple[str, ...]) -> int:
        """How many parts; `above` are the references on the way here."""
        if isinstance(schema, list):
            return sum(self.nodes(item, above) for item in schema)
        if not isinstance(schema, Mapping):
            return 1
        count = 1
        for key, value in schema.items():
            if key in _REFUSED:
                raise JsonSchemaError(f"`{key}` is not read here.", f"Instead {_REFUSED[key]}.")
            if key == "$ref":
                count += self._behind(str(value), above)
            elif key in _BY_NAME and isinstance(value, Mapping):
                count += sum(self.nodes(member, above) for member in value.values())
            elif key not in _DATA:
                count += self.nodes(value, above)
            if count > MAX_EXPANDED_NODES:
                break
        return count

    def _behind(self, reference: str, above: tuple[str, ...]) -> int:
        if reference in above:
            raise JsonSchemaError(
                f"the reference {reference[:80]!r} leads back to itself.",
                "Write the levels out that are needed.",
            )
        if len(above) >= MAX_REFERENCE_DEPTH:
            raise JsonSchemaError(
                f"references lead to references over {MAX_REFERENCE_DEPTH} deep.",
                "Write some of them out.",
            )
        if reference not in self._counted:
            target = self._target(reference)
            self._counted[reference] = self.nodes(target, (*above, reference))
        return self._counted[reference]

    def _target(self, reference: str) -> object:
        value: object = self._root
        names = reference.removeprefix("#/").split("/") if reference.startswith("#/") else None
        for name in names or [""]:
            key = name.replace("~1", "/").replace("~0", "~")
            if names is None or not isinstance(value, Mapping) or key not in value:
                raise JsonSchemaError(
                    f"the reference {reference[:80]!r} leads nowhere.",
                    "Refer to a schema of this document: `#/$defs/NAME`.",
                )
            value = value[key]
        return value
