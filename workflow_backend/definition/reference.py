"""The reference of the definition for people, made of its schema."""

import json
import sys
from collections.abc import Iterator
from typing import Any

from workflow_backend.definition.durations import MAX_SECONDS
from workflow_backend.definition.patterns import RESERVED_ENV
from workflow_backend.definition.reference_checks import FUNCTIONS, STEP_FIELDS
from workflow_backend.definition.schema import workflow_schema

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
    for title, owner in (
        ("Workflow", schema),
        ("Inputs: `inputs.NAME`", definitions["InputSpec"]),
        ("Steps: `steps[]`", definitions["Step"]),
        ("Repeats: `steps[].retry`", definitions["RetryPolicy"]),
        ("HTTP requests: `steps[].http`", definitions["HttpRequest"]),
    ):
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
    if "enum" in spec:
        return _cell(" or ".join(f"`{value}`" for value in spec["enum"]))
    if "const" in spec:
        return f"`{spec['const']}`"
    if "$ref" in spec:
        return _REFERENCES[spec["$ref"].rsplit("/", 1)[-1]]
    if spec.get("type") == "array":
        return f"list of {_type(spec['items'])}"
    if spec.get("type") == "object" and isinstance(spec.get("additionalProperties"), dict):
        return f"mapping to {_type(spec['additionalProperties'])}"
    return str(spec.get("type", "any JSON value"))


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


_REFERENCES = {
    "InputSpec": "[input](#inputs-inputsname)",
    "Step": "[step](#steps-steps)",
    "RetryPolicy": "[retry](#repeats-stepsretry)",
    "HttpRequest": "[request](#http-requests-stepshttp)",
}
_FIELDS = ", ".join(f"`steps.NAME.{name}`" for name in STEP_FIELDS if name != "outputs")
_EXPRESSIONS = f"""\
## Durations

Whole units, at most {MAX_SECONDS / 86_400:.0f} days: `500ms`, `30s`, `5m`, `1h30m`, `2d`.

## Expressions

`${{{{ }}}}` holds an expression in [CEL](https://cel.dev). A text that is one whole expression
keeps the type of its value; otherwise the value becomes part of the text. A literal `${{{{` is
written `$${{{{`. Expressions are allowed in `env`, `working_dir`, `outputs` and the fields of
`http`, and in `if` without the braces. They are refused inside `run` and `python`, where data would
become code: put the value in `env` and use `"$NAME"` or `os.environ["NAME"]`.

| name | value |
|---|---|
| `inputs.NAME` | the value of an input |
| `steps.NAME.outputs.stdout` | what an earlier step wrote; `steps['NAME']` is the same |
| `steps.NAME.outputs.KEY` | what it wrote to the file `$OUTPUT` as lines `KEY=value` |
| `steps.NAME.outputs.json` | its output as JSON, with `parse: json` |
| `steps.NAME.outputs.status`, `.headers`, `.body` | the answer of an `http` step |
| {_FIELDS} | how the step ended |
| `env.NAME` | a variable of the workflow (in `http` also of the step) |
| `secrets.NAME` | a secret, alone in its braces, in `env`, `http.headers` or the body |
| `run.id` | the id of the run |

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
