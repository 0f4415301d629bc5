"""The reference of the definition for people, made of its schema."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from workflow_backend.definition.durations import MAX_SECONDS
from workflow_backend.definition.patterns import RESERVED_ENV
from workflow_backend.definition.reference_checks import FUNCTIONS
from workflow_backend.definition.schema import workflow_schema
from workflow_backend.definition.step_references import STEP_FIELDS

EXAMPLE = """\
name: disk-report
description: Report how full a file system is
inputs:
  target: {type: string, default: /}
steps:
  - name: measure
    run: df -h "$TARGET"
    env: {TARGET: "${{ inputs.target }}"}
    timeout: 30s
  - name: report
    depends: [measure]
    run: printf 'Disk usage:\\n%s\\n' "$USAGE"
    env: {USAGE: "${{ steps.measure.outputs.stdout }}"}
    timeout: 30s
outputs:
  report: ${{ steps.report.outputs.stdout }}
"""


def reference_markdown() -> str:
    """The reference of the definition in Markdown: the page `docs/workflow-reference.md`."""
    schema: dict[str, Any] = workflow_schema()
    definitions = schema["$defs"]
    lines = [
        "# Workflow reference",
        "",
        "A workflow is one YAML 1.2 or JSON document. This page is made of the schema that the",
        "server checks it with; the tool `get_workflow_schema` gives the same as JSON Schema.",
        "",
        "```yaml",
        EXAMPLE.rstrip(),
        "```",
        "",
    ]
    for name, (title, _) in _TABLES.items():
        owner = schema if name == "Workflow" else definitions[name]
        lines += [f"## {title}", "", owner["description"], "", *_table(owner), ""]
    return "\n".join([*lines, _EXPRESSIONS.rstrip(), ""])


def _table(owner: dict[str, Any]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    required = owner.get("required", [])
    for name, spec in owner["properties"].items():
        default = "required" if name in required else _default(spec)
        meaning = " ".join([spec.get("description", ""), _bounds(spec), _examples(spec)])
        yield f"| `{name}` | {_type(spec)} | {default} | {_cell(' '.join(meaning.split()))} |"


def _type(spec: dict[str, Any]) -> str:
    """The type in words; that a key may be null instead of left out is not said each time."""
    if "enum" in spec:
        return _cell(" or ".join(f"`{value}`" for value in spec["enum"]))
    if "const" in spec:
        return f"`{json.dumps(spec['const'])}`"
    if "$ref" in spec:
        return _REFERENCES[spec["$ref"].rsplit("/", 1)[-1]]
    choices = [choice for choice in spec.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) > _MOST_CHOICES:
        return "any JSON value"
    if choices:
        return " or ".join(map(_type, choices))
    kinds = spec.get("type", "any JSON value")
    kind = next((name for name in kinds if name != "null"), "null") if _is_list(kinds) else kinds
    if kind == "array":
        return f"list of {_type(spec['items'])}" if spec["items"] else "list"
    if kind == "object" and isinstance(spec.get("additionalProperties"), dict):
        return f"mapping to {_type(spec['additionalProperties'])}"
    return str(kind)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _default(spec: dict[str, Any]) -> str:
    if spec.get("default") in (None, ""):
        return ""
    return f"`{json.dumps(spec['default'])}`"


def _bounds(spec: dict[str, Any]) -> str:
    words = {"minimum": "at least", "maximum": "at most", "minItems": "at least"}
    found = [f"{word} {spec[key]}" for key, word in words.items() if key in spec]
    return f"({', '.join(found)})" if found else ""


def _examples(spec: dict[str, Any]) -> str:
    examples = [
        value if isinstance(value, str) else json.dumps(value) for value in spec.get("examples", [])
    ]
    return "Example: " + ", ".join(f"`{text}`" for text in examples) if examples else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "; ")


# The tables by model: their titles, and what a reference to one is called.
_TABLES = {
    "Workflow": ("Workflow", "workflow"),
    "InputSpec": ("Inputs: `inputs.NAME`", "input"),
    "Step": ("Steps: `steps[]`", "step"),
    "RetryPolicy": ("Retries: `steps[].retry`", "retry"),
    "Repeat": ("Repeats: `steps[].repeat`", "repeat"),
    "HttpRequest": ("HTTP requests: `steps[].http`", "request"),
    "Approval": ("Approvals: `steps[].approval`", "approval"),
    "Wait": ("Waits: `steps[].wait`", "wait"),
    "AgentTask": ("Agents: `steps[].agent`", "agent"),
    "AgentBudget": ("Budgets: `steps[].agent.budget`", "budget"),
    "WorkflowCall": ("Calls: `steps[].workflow`", "call"),
    "Container": ("Containers: `steps[].container`", "container"),
    "SubWorkflow": ("Workflows inside: `workflows.NAME`", "workflow"),
    "Schedule": ("Schedules: `schedule`", "schedule"),
    "Concurrency": ("Groups: `concurrency`", "group"),
    "Notification": ("Messages: `notify[]`", "message"),
}
_MOST_CHOICES = 3
_REFERENCES = {
    name: f"[{word}](#{re.sub(r'[^a-z0-9_ -]', '', title.lower()).replace(' ', '-')})"
    for name, (title, word) in _TABLES.items()
}
_FIELDS = ", ".join(f"`steps.NAME.{name}`" for name in STEP_FIELDS if name != "outputs")
_EXPRESSIONS = f"""\
## Durations

Whole units, at most {MAX_SECONDS / 86_400:.0f} days: `500ms`, `30s`, `5m`, `1h30m`, `2d`.

## Expressions

`${{{{ }}}}` holds an expression in [CEL](https://cel.dev). A text that is one whole expression
keeps the type of its value; otherwise the value becomes part of the text. A literal `${{{{` is
written `$${{{{`. Expressions are allowed in `env`, `working_dir`, `outputs`, the fields of `http`,
the `message` of an approval, `prompt` and `system` of an agent, the `inputs` of a call, `foreach`
and `matrix`, and in `if` and `until` without the braces; in `concurrency.group` and `notify[].url`
they see inputs alone (the URL also `run.id`). They are refused inside `run` and `python`, where
data would become code: put the value in `env` and use `"$NAME"` or `os.environ["NAME"]`.

| name | value |
|---|---|
| `inputs.NAME` | the value of an input |
| `steps.NAME.outputs.stdout` | what an earlier step wrote; `steps['NAME']` is the same |
| `steps.NAME.outputs.KEY` | what it wrote to the file `$OUTPUT` as lines `KEY=value` |
| `steps.NAME.outputs.json` | its output as JSON, with `parse: json` |
| `steps.NAME.outputs.status`, `.headers`, `.body` | the answer of an `http` step |
| `steps.NAME.outputs.approved`, `.by`, `.reason`, `.values.FIELD` | the decision of an `approval` |
| `steps.NAME.outputs.payload` | what a `signal` or `webhook` brought |
| `steps.NAME.outputs.text`, `.json`, `.usage` | the answer of an `agent`; `json` by its schema |
| `steps.NAME.outputs.KEY`, `.run_id` | the outputs of the workflow that a step called |
| `steps.NAME.outputs.items`, `.statuses` | of a step with `foreach` or `matrix`, for each item |
| {_FIELDS} | how the step ended |
| `env.NAME` | a variable of the workflow (in `http` also of the step) |
| `secrets.NAME` | a secret, alone in its braces, in `env`, `http.headers` or the body |
| `run.id` | the id of the run |
| `run.status`, `run.error` | what the run has come to, in steps of `on_failure` and `finally` |
| `item`, `index` | the item and its number from 0, in a step with `foreach` or `matrix` |

Functions: {", ".join(f"`{name}`" for name in sorted(FUNCTIONS))}.

In `if` also `success()` (every
step in `depends` succeeded), `failure()` (one failed) and `always()`.

An expression has at most 1,000 characters, and macros such as `map` stand at most two deep.

## What a step gets

Its environment holds `PATH`, `HOME` (the folder of the run), `TMPDIR`, `LANG`, the variables of the
workflow and its own, and {", ".join(f"`{name}`" for name in sorted(RESERVED_ENV))}. Lines
`KEY=value` that it writes to the file `$OUTPUT` become its outputs.
"""


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
