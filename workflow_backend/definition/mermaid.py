"""The graph of a workflow as Mermaid text ("Flowcharts Syntax", mermaid.js.org, version 11)."""

from collections.abc import Iterator, Mapping

from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.model import Step, Workflow, WorkflowBody
from workflow_backend.definition.places import bodies_of, parts_of
from workflow_backend.definition.plain_text import plain_text

MAX_NODES = 200
MAX_EDGES = 400

_COLOURS = {
    "running": "fill:#dbeafe,stroke:#2563eb",
    "waiting": "fill:#ede9fe,stroke:#7c3aed",
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
_HANDLERS = {"on_failure": "on failure", "finally": "finally"}


def to_mermaid(workflow: Workflow, states: Mapping[str, str] | None = None) -> str:
    """The steps and their dependencies, top to bottom, with a frame for each other list of steps.

    `states` colours steps by their status; a step of a workflow inside has the name `ref/step`. A
    very large workflow is cut, and a last node says by how much: Mermaid refuses more edges.
    """
    return _Drawing(workflow, states or {}).text()


class _Drawing:
    def __init__(self, workflow: Workflow, states: Mapping[str, str]) -> None:
        self._workflow = workflow
        self._states = states
        self._used: set[str] = set()
        self._count = 0
        self._frames = {name: f"w{at}" for at, name in enumerate(workflow.workflows)}
        self._nodes: list[str] = []
        self._edges: list[str] = []

    def text(self) -> str:
        for prefix, body in bodies_of(self._workflow):
            ref = prefix.removeprefix("workflows.").removesuffix(".")
            if ref:
                self._nodes += self._framed(self._frames[ref], ref, self._parts(body, ref))
            else:
                self._nodes += self._parts(body, ref)
        lines = ["flowchart TD", *self._nodes, *self._edges[:MAX_EDGES]]
        if self._count > MAX_NODES or len(self._edges) > MAX_EDGES:
            left = max(self._count - MAX_NODES, 0)
            lines.append(f'  more["... and {left} more steps"]')
        lines += [f"  classDef {state} {_COLOURS[state]}" for state in sorted(self._used)]
        return "\n".join(lines) + "\n"

    def _parts(self, body: WorkflowBody, ref: str) -> Iterator[str]:
        for key, steps in parts_of(body):
            nodes = list(self._steps(steps, ref))
            if key in _HANDLERS:
                nodes = list(self._framed(f"{key}{self._frames.get(ref, '')}", key, nodes))
            yield from nodes

    def _framed(self, name: str, title: str, nodes: Iterator[str] | list[str]) -> Iterator[str]:
        inner = list(nodes)
        if inner:
            yield f'  subgraph {name}["{_escape(_HANDLERS.get(title, title))}"]'
            yield from inner
            yield "  end"

    def _steps(self, steps: list[Step], ref: str) -> Iterator[str]:
        by_name = {step.name: step for step in steps}
        ids: dict[str, str] = {}
        for level in StepGraph(steps).levels():
            for name in level:
                ids[name] = f"s{self._count}"
                self._count += 1
                if self._count > MAX_NODES:
                    continue
                yield self._node(by_name[name], ids[name], ref)
                self._edges += self._edges_to(by_name[name], ids)

    def _node(self, step: Step, node: str, ref: str) -> str:
        state = self._states.get(f"{ref}/{step.name}" if ref else step.name, "")
        self._used |= {state} & set(_COLOURS)
        notes = ("each item" if step.is_fanned_out else "", "until done" if step.repeat else "")
        shown = ", ".join(note for note in notes if note)
        label = f'"{_escape(step.name)}{f" #40;{shown}#41;" if shown else ""}"'
        suffix = f":::{state}" if state in _COLOURS else ""
        return f"  {node}{_SHAPES[step.kind].format(label)}{suffix}"

    def _edges_to(self, step: Step, ids: Mapping[str, str]) -> Iterator[str]:
        arrow = "-. if .->" if step.if_ else "-->"
        for name in step.depends:
            yield f"  {ids[name]} {arrow} {ids[step.name]}"
        if step.workflow is not None and step.workflow.ref in self._frames:
            yield f"  {ids[step.name]} -. runs .-> {self._frames[step.workflow.ref]}"


def _escape(text: str) -> str:
    """The text as Mermaid's entity codes wherever it could end the label or be markup."""
    return "".join(
        character if character.isalnum() or character in " _-." else f"#{ord(character)};"
        for character in plain_text(text)
    )
