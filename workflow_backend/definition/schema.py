"""The published schema of the definition: JSON Schema, draft 2020-12."""

import functools
from typing import Any

from workflow_backend.definition.loop_checks import MAX_ITEMS
from workflow_backend.definition.model import ACTIONS, Workflow
from workflow_backend.definition.patterns import (
    HEADER_NAME,
    MODEL_NAME,
    RESERVED_ENV,
    SIGNAL_NAME,
    STEP_NAME,
    SUB_WORKFLOW_NAME,
    TOOL_NAME,
    VARIABLE_NAME,
    WORKFLOW_NAME,
)

SCHEMA_ID = "urn:agent-server:workflow:1"
_DURATION = r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?([0-9]+ms)?$"
_WHOLE_EXPRESSION = r"^\s*\$\{\{[\s\S]*\}\}\s*$"


@functools.cache
def workflow_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of a definition, made of the model that reads it.

    It says what JSON Schema can say; cycles, references and expressions are checked on reading.
    """
    schema: dict[str, Any] = Workflow.model_json_schema(by_alias=True)
    _tidy(schema)
    models: dict[str, Any] = {"Workflow": schema, **schema["$defs"]}
    for place, pattern in _PATTERNS.items():
        model, _, name = place.partition(".")
        models[model]["properties"][name]["pattern"] = pattern
    for place, pattern in _NAMES.items():
        model, _, name = place.partition(".")
        models[model]["properties"][name]["propertyNames"] = {"pattern": pattern}
    for model in ("Workflow", "SubWorkflow", "Step"):
        models[model]["properties"]["env"]["propertyNames"]["not"] = {"enum": sorted(RESERVED_ENV)}
    step, agent = models["Step"]["properties"], models["AgentTask"]["properties"]
    models["Step"]["oneOf"] = [_has(name, step) for name in ACTIONS]
    wait = models["Wait"]
    wait["oneOf"] = [_has(name, wait["properties"]) for name in ("for", "signal", "webhook")]
    agent["tools"]["items"]["pattern"] = _anchored(TOOL_NAME.pattern)
    step["matrix"]["minProperties"] = 1
    for choice in (step["foreach"], step["matrix"]["additionalProperties"]):
        _bound_items(choice)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
    }


def _tidy(node: object) -> None:
    """Take out what pydantic adds for nobody: titles, and the default of what may be left out.

    A key that may be left out may also be null, which says the same.
    """
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    if not isinstance(node, dict):
        return
    node.pop("title", None)
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices and "default" in node:
        if node["default"] is None:
            node.pop("default")
        others = [choice for choice in choices if choice != {"type": "null"}]
        if len(others) == 1 and "const" not in others[0] and "type" in others[0]:
            node.pop("anyOf")
            node.update({**others[0], "type": [others[0]["type"], "null"], **node})
    for value in node.values():
        _tidy(value)


def _has(name: str, properties: dict[str, Any]) -> dict[str, object]:
    """A schema of objects that have the property, and not null there."""
    choices = properties[name].get("anyOf", [properties[name]])
    kind = choices[0].get("type", "object")
    return {
        "required": [name],
        "properties": {name: {"type": kind[0] if isinstance(kind, list) else kind}},
    }


def _bound_items(schema: dict[str, Any]) -> None:
    """Say of a choice of list and text what the checks demand."""
    for choice in schema["anyOf"]:
        if choice["type"] == "array":
            choice.update(minItems=1, maxItems=MAX_ITEMS)
        elif choice["type"] == "string":
            choice["pattern"] = _WHOLE_EXPRESSION


def _anchored(pattern: str) -> str:
    return f"^{pattern}$"


_PATTERNS = {
    "Workflow.name": _anchored(WORKFLOW_NAME.pattern),
    "Workflow.timeout": _DURATION,
    "SubWorkflow.timeout": _DURATION,
    "Step.name": _anchored(STEP_NAME.pattern),
    "Step.timeout": _DURATION,
    "RetryPolicy.interval": _DURATION,
    "RetryPolicy.max_interval": _DURATION,
    "Repeat.interval": _DURATION,
    "Approval.timeout": _DURATION,
    "Wait.for": _DURATION,
    "Wait.timeout": _DURATION,
    "Wait.signal": _anchored(SIGNAL_NAME.pattern),
    "AgentTask.model": _anchored(MODEL_NAME.pattern),
    "Schedule.catch_up": _DURATION,
    "Notification.secret": _anchored(VARIABLE_NAME.pattern),
}
_NAMES = {
    "Workflow.env": _anchored(VARIABLE_NAME.pattern),
    "Workflow.inputs": _anchored(VARIABLE_NAME.pattern),
    "Workflow.outputs": _anchored(VARIABLE_NAME.pattern),
    "Workflow.workflows": _anchored(SUB_WORKFLOW_NAME.pattern),
    "SubWorkflow.env": _anchored(VARIABLE_NAME.pattern),
    "SubWorkflow.inputs": _anchored(VARIABLE_NAME.pattern),
    "SubWorkflow.outputs": _anchored(VARIABLE_NAME.pattern),
    "Step.env": _anchored(VARIABLE_NAME.pattern),
    "Step.matrix": _anchored(VARIABLE_NAME.pattern),
    "Approval.form": _anchored(VARIABLE_NAME.pattern),
    "HttpRequest.headers": _anchored(HEADER_NAME.pattern),
}
