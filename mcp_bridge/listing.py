"""A server's answer to `tools/list`, made valid: one bad tool must not lose the others.

Source: Model Context Protocol, "Tools", section "Data Types", 2025-11-25 and 2026-07-28.
"""

import logging
from dataclasses import dataclass
from typing import Final

from streaming.events import JsonObject, JsonValue

MAX_TOOLS: Final = 256

_LOGGER: Final = logging.getLogger(__name__)
_RESULT_KEYS: Final = frozenset({"resultType", "ttlMs", "cacheScope", "_meta"})
_HINTS: Final = frozenset({"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"})


@dataclass(frozen=True, slots=True)
class ListedTool:
    """A tool as its server lists it, apart from what the bridge does not use.

    `annotations` hold the server's own claims (`readOnlyHint`, ...): hints, no grounds for trust.
    """

    name: str
    description: str
    input_schema: JsonObject
    annotations: JsonObject


def repair_listing(server: str, result: JsonObject) -> JsonObject:
    """The result with every tool reduced to what is valid and used; hopeless tools are left out.

    Output schemas go as well: the SDK would check results against them, and a server that breaks
    its own promise would lose an answer whose effects have happened.
    """
    tools = result.get("tools")
    repaired: JsonObject = {key: value for key, value in result.items() if key in _RESULT_KEYS}
    kept: dict[str, JsonObject] = {}
    for number, tool in enumerate(tools if isinstance(tools, list) else []):
        valid = _repair_tool(tool)
        if valid is not None:
            kept.setdefault(str(valid["name"]), valid)
        else:
            _LOGGER.warning("MCP server %s: tool %d of its listing is invalid", server, number)
    repaired["tools"] = list(kept.values())
    cursor = result.get("nextCursor")
    if isinstance(cursor, str):
        repaired["nextCursor"] = cursor
    return repaired


def _repair_tool(tool: JsonValue) -> JsonObject | None:
    if not isinstance(tool, dict):
        return None
    name, schema = tool.get("name"), tool.get("inputSchema") or {}
    if not isinstance(name, str) or not name or not isinstance(schema, dict):
        return None
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        return None
    schema = {**schema, "type": "object"}
    if not isinstance(schema.get("properties", {}), dict):
        return None
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(item, str) for item in required):
        del schema["required"]
    repaired: JsonObject = {"name": name, "inputSchema": schema}
    annotations = tool.get("annotations")
    if isinstance(annotations, dict):
        hints = {key: value for key, value in annotations.items() if key in _HINTS}
        repaired["annotations"] = {k: v for k, v in hints.items() if isinstance(v, bool)}
    description = tool.get("description") or tool.get("title")
    if isinstance(description, str):
        repaired["description"] = description
    return repaired
