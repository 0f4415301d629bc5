"""Every text of a workflow that may hold expressions, with its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from workflow_backend.definition.expressions import (
    ExpressionError,
    condition_source,
    expressions_in,
)
from workflow_backend.definition.model import Step, Workflow

PlaceKind = Literal[
    "workflow_env", "workflow_dir", "if", "env", "dir", "url", "header", "body", "output"
]


@dataclass(frozen=True, slots=True)
class Place:
    """One text and where it stands; `step` is None for the workflow's own."""

    path: str
    kind: PlaceKind
    text: str
    step: Step | None = None

    def sources(self) -> list[str]:
        """The CEL of the text's expressions.

        Raises:
            ExpressionError: The text is malformed.
        """
        return [condition_source(self.text)] if self.kind == "if" else expressions_in(self.text)


def places_of(workflow: Workflow) -> Iterator[Place]:
    """The places in the order of the document."""
    for name, text in workflow.env.items():
        yield Place(f"env.{name}", "workflow_env", text)
    if workflow.working_dir is not None:
        yield Place("working_dir", "workflow_dir", workflow.working_dir)
    for index, step in enumerate(workflow.steps):
        yield from places_of_step(step, f"steps[{index}]")
    for name, text in workflow.outputs.items():
        yield Place(f"outputs.{name}", "output", text)


def places_of_step(step: Step, path: str) -> Iterator[Place]:
    """The places of one step, which stands at `path`."""
    if step.if_ is not None:
        yield Place(f"{path}.if", "if", step.if_, step)
    for name, text in step.env.items():
        yield Place(f"{path}.env.{name}", "env", text, step)
    if step.working_dir is not None:
        yield Place(f"{path}.working_dir", "dir", step.working_dir, step)
    request = step.http
    if request is None:
        return
    yield Place(f"{path}.http.url", "url", request.url, step)
    for name, text in request.headers.items():
        yield Place(f"{path}.http.headers.{name}", "header", text, step)
    if request.body is not None:
        yield Place(f"{path}.http.body", "body", request.body, step)
    for place, text in _strings(f"{path}.http.json", request.json_body):
        yield Place(place, "body", text, step)


def sources_of(workflow: Workflow) -> Iterator[str]:
    """The CEL of every expression; texts that are malformed are left out."""
    for place in places_of(workflow):
        try:
            yield from place.sources()
        except ExpressionError:
            continue


def _strings(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _strings(f"{path}.{key}", member)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(f"{path}[{index}]", item)
