"""The graph of a workflow as Mermaid text ("Flowcharts Syntax", mermaid.js.org, version 11)."""

from collections.abc import Mapping

from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.plain_text import plain_text

MAX_NODES = 200
MAX_EDGES = 400

_COLOURS = {
    "running": "fill:#dbeafe,stroke:#2563eb",
    "success": "fill:#dcfce7,stroke:#16a34a",
    "failed": "fill:#fee2e2,stroke:#dc2626",
    "timed_out": "fill:#fee2e2,stroke:#dc2626",
    "skipped": "fill:#f3f4f6,stroke:#9ca3af",
    "cancelled": "fill:#fef3c7,stroke:#d97706",
}
_SHAPES = {
    "run": "[{}]",
    "python": "[{}]",
    "container": "[{}]",
    "http": "([{}])",
    "approval": "{{{}}}",
    "wait": "(({}))",
    "agent": "[/{}/]",
    "workflow": "[[{}]]",
    "needs_command": "{{{{{}}}}}",
}


def to_mermaid(workflow: Workflow, states: Mapping[str, str] | None = None) -> str:
    """The steps and their dependencies, top to bottom; `states` colours steps by their status.

    A very large workflow is cut, and a last node says by how much: Mermaid refuses more edges.
    """
    order = [name for level in StepGraph(workflow.steps).levels() for name in level]
    shown = set(order[:MAX_NODES])
    ids = {name: f"s{index}" for index, name in enumerate(order)}
    lines, edges, used = ["flowchart TD"], [], set()
    for step in sorted(workflow.steps, key=lambda step: int(ids[step.name][1:])):
        if step.name not in shown:
            continue
        label = f'"{_escape(step.name)}"'
        state = (states or {}).get(step.name, "")
        suffix = f":::{state}" if state in _COLOURS else ""
        used.update({state} & set(_COLOURS))
        lines.append(f"  {ids[step.name]}{_SHAPES[step.kind].format(label)}{suffix}")
        arrow = "-. if .->" if step.if_ else "-->"
        edges += [f"  {ids[name]} {arrow} {ids[step.name]}" for name in step.depends]
    lines += edges[:MAX_EDGES]
    if len(order) > MAX_NODES or len(edges) > MAX_EDGES:
        left = max(len(order) - MAX_NODES, 0)
        lines.append(f'  more["... and {left} more steps"]')
    lines += [f"  classDef {state} {_COLOURS[state]}" for state in sorted(used)]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """The text as Mermaid's entity codes wherever it could end the label or be markup."""
    return "".join(
        character if character.isalnum() or character in " _-." else f"#{ord(character)};"
        for character in plain_text(text)
    )
