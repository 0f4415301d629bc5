"""Tool input schemas in the form that every provider takes.

Inlined references and no noise: OpenAI-compatible servers choke on `$ref`, `$defs` and `$schema`,
Anthropic takes both forms. Source: JSON Schema 2020-12, "Applying Subschemas"; OpenAI, "Function
calling"; Anthropic, "Tool use", 2026-10.
"""

from typing import Final

import orjson

from mcp_bridge.plain_text import clean_text, shorten
from streaming.events import JsonObject, JsonValue

MAX_DEPTH: Final = 32
MAX_NODES: Final = 5000
MAX_BYTES: Final = 64 * 1024
MAX_DESCRIPTION: Final = 1024

_DROPPED: Final = frozenset(
    {
        "$schema",
        "$id",
        "$comment",
        "$defs",
        "$anchor",
        "$dynamicAnchor",
        "$vocabulary",
        "definitions",
        "title",
        "x-mcp-header",
    }
)
_SCHEMA: Final = frozenset(
    {
        "items",
        "additionalProperties",
        "not",
        "if",
        "then",
        "else",
        "contains",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
        "additionalItems",
    }
)
# Here an empty schema says what no keyword says as well, and some servers refuse the former.
_OPEN: Final = frozenset({"additionalProperties", "items", "unevaluatedProperties"})
_SCHEMA_LIST: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_SCHEMA_MAP: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})


class SchemaRefusedError(Exception):
    """The schema refers outside itself, or is too deep or too large to be shown to a model."""


def clean_schema(schema: JsonObject) -> JsonObject:
    """The schema of an object, self-contained: references inlined, recursion cut to an object.

    Raises:
        SchemaRefusedError: a reference that is not local or leads nowhere, more than 32 levels,
            5000 nodes or 64 KiB.
    """
    cleaned = _Cleaner(schema).clean(schema, (), 0)
    cleaned["type"] = "object"
    cleaned.setdefault("properties", {})
    if not cleaned.get("required"):
        cleaned.pop("required", None)
    size = len(orjson.dumps(cleaned))
    if size > MAX_BYTES:
        raise SchemaRefusedError(
            f"its schema is {size} bytes long, at most {MAX_BYTES} are allowed"
        )
    return cleaned


class _Cleaner:
    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._nodes = 0

    def clean(self, schema: JsonObject, open_refs: tuple[str, ...], depth: int) -> JsonObject:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise SchemaRefusedError("its schema is nested too deeply or has too many parts")
        ref = schema.get("$ref", schema.get("$dynamicRef"))
        if isinstance(ref, str):
            if ref in open_refs:
                return {"type": "object"}
            beside = {k: v for k, v in schema.items() if k not in {"$ref", "$dynamicRef"}}
            return self.clean({**self._resolve(ref), **beside}, (*open_refs, ref), depth + 1)
        return {
            key: self._clean_keyword(key, value, open_refs, depth)
            for key, value in schema.items()
            if key not in _DROPPED and not (key in _OPEN and value == {})
        }

    def _clean_keyword(
        self, key: str, value: JsonValue, open_refs: tuple[str, ...], depth: int
    ) -> JsonValue:
        if key in _SCHEMA and isinstance(value, dict):
            return self.clean(value, open_refs, depth + 1)
        if key in _SCHEMA_LIST and isinstance(value, list):
            return [self._clean_member(member, open_refs, depth) for member in value]
        if key in _SCHEMA_MAP and isinstance(value, dict):
            return {
                name: self._clean_member(member, open_refs, depth) for name, member in value.items()
            }
        if key == "description" and isinstance(value, str):
            return shorten(clean_text(value), MAX_DESCRIPTION)
        return value

    def _clean_member(self, member: JsonValue, open_refs: tuple[str, ...], depth: int) -> JsonValue:
        return self.clean(member, open_refs, depth + 1) if isinstance(member, dict) else member

    def _resolve(self, ref: str) -> JsonObject:
        """What a JSON Pointer into the schema itself points at; nothing is ever fetched."""
        if ref != "#" and not ref.startswith("#/"):
            raise SchemaRefusedError("its schema refers to another document, which is not fetched")
        target: JsonValue = self._root
        for part in ref.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            raise SchemaRefusedError("its schema has a reference that leads nowhere")
        return target
