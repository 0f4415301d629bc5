"""The schema of a structured answer, said in the part of JSON Schema that Anthropic takes.

Source: "Structured outputs", section "JSON Schema limitations", 2026-10: no open objects, no bounds
of numbers, strings or arrays (but `minItems` 0 and 1), few formats. What falls outside is refused
with a 400, so it moves into the description, where the model may still follow it.
"""

from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue

_KEPT = frozenset({"$ref", "type", "enum", "const", "title", "default", "required", "description"})
_SCHEMA_MAPS = frozenset({"$defs", "definitions", "properties"})
_SCHEMA_LISTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_FORMATS = frozenset(
    "date-time time date duration email hostname uri ipv4 ipv6 uuid".split()  # noqa: SIM905 # shorter
)


def output_schema(response_format: JsonObject) -> JsonObject:
    """The schema of OpenAI's `response_format` of type `json_schema`, as Anthropic takes it.

    Raises:
        InvalidRequestError: there is no schema in it.
    """
    holder = response_format.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, dict) else None
    if not isinstance(schema, dict):
        raise InvalidRequestError(
            "a response_format of type json_schema needs json_schema.schema, an object",
            param="response_format",
        )
    return _closed(schema)


def _closed(schema: JsonObject) -> JsonObject:
    result: JsonObject = {}
    hints: list[str] = []
    for key, value in schema.items():
        if key in _SCHEMA_MAPS and isinstance(value, dict):
            result[key] = {name: _any_closed(inner) for name, inner in value.items()}
        elif key in _SCHEMA_LISTS and isinstance(value, list):
            result[_SCHEMA_LISTS[key]] = [_any_closed(inner) for inner in value]
        elif key == "items":
            result[key] = _any_closed(value)
        elif _is_kept(key, value):
            result[key] = value
        elif key != "additionalProperties":
            hints.append(f"{key}: {value}")
    if "properties" in schema or schema.get("type") == "object":
        result["additionalProperties"] = False
    if hints:
        said = result.get("description")
        result["description"] = "\n\n".join([*([str(said)] if said else []), ", ".join(hints)])
    return result


def _any_closed(schema: JsonValue) -> JsonValue:
    return _closed(schema) if isinstance(schema, dict) else schema


def _is_kept(key: str, value: JsonValue) -> bool:
    if key == "format":
        return value in _FORMATS
    if key == "minItems":
        return value in (0, 1)
    return key in _KEPT
