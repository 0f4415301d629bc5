"""The published schema of the definition: JSON Schema, draft 2020-12."""

import functools
from typing import Any

from workflow_backend.definition.model import Workflow
from workflow_backend.definition.patterns import (
    HEADER_NAME,
    RESERVED_ENV,
    STEP_NAME,
    VARIABLE_NAME,
    WORKFLOW_NAME,
)

SCHEMA_ID = "urn:agent-server:workflow:1"
_DURATION = r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?([0-9]+ms)?$"
_ACTIONS = ("run", "python", "http", "needs_command")


@functools.cache
def workflow_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of a definition, made of the model that reads it.

    It says what JSON Schema can say; cycles, references and expressions are checked on reading.
    """
    schema: dict[str, Any] = Workflow.model_json_schema(by_alias=True)
    _tidy(schema)
    definitions = schema["$defs"]
    step, retry = definitions["Step"], definitions["RetryPolicy"]
    step["oneOf"] = [{"required": [action]} for action in _ACTIONS]
    step["properties"]["name"]["pattern"] = _anchored(STEP_NAME.pattern)
    schema["properties"]["name"]["pattern"] = _anchored(WORKFLOW_NAME.pattern)
    for owner in (schema, step):
        owner["properties"]["env"]["propertyNames"] = {
            "pattern": _anchored(VARIABLE_NAME.pattern),
            "not": {"enum": sorted(RESERVED_ENV)},
        }
    for name in ("inputs", "outputs"):
        schema["properties"][name]["propertyNames"] = {"pattern": _anchored(VARIABLE_NAME.pattern)}
    headers = definitions["HttpRequest"]["properties"]["headers"]
    headers["propertyNames"] = {"pattern": _anchored(HEADER_NAME.pattern)}
    for owner, name in ((schema, "timeout"), (step, "timeout")):
        owner["properties"][name] = {**owner["properties"][name], "pattern": _DURATION}
    for name in ("interval", "max_interval"):
        retry["properties"][name]["pattern"] = _DURATION
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
    }


def _tidy(node: object) -> None:
    """Take out what pydantic adds for nobody: titles, and `null` where a key may be left out."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    if not isinstance(node, dict):
        return
    node.pop("title", None)
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices and "default" in node:
        others = [choice for choice in choices if choice != {"type": "null"}]
        if len(others) == 1 and node["default"] is None:
            node.pop("anyOf")
            node.pop("default")
            node.update({**others[0], **node})
    for value in node.values():
        _tidy(value)


def _anchored(pattern: str) -> str:
    return f"^{pattern}$"
