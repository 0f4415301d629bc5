"""Every text of a workflow that may hold expressions, with its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from workflow_backend.definition.expressions import (
    ExpressionError,
    condition_source,
    expressions_in,
)
from workflow_backend.definition.model import Step, Workflow, WorkflowBody

PlaceKind = Literal[
    "workflow_env", "workflow_dir", "if", "until", "items", "env", "dir", "url", "header", "body",
    "message", "agent", "call", "output", "group", "notify",
]  # fmt: skip
# Texts that are bare CEL.
CONDITIONS = frozenset({"if", "until"})


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
        if self.kind in CONDITIONS:
            return [condition_source(self.text)]
        return expressions_in(self.text)


def bodies_of(workflow: Workflow) -> Iterator[tuple[str, WorkflowBody]]:
    """The workflow and those inside its document, each with what its paths begin with."""
    yield "", workflow
    for name, body in workflow.workflows.items():
        yield f"workflows.{name[:64]}.", body


def steps_of(body: WorkflowBody, prefix: str = "") -> Iterator[tuple[str, Step]]:
    """The steps with those of the handlers, each with its path."""
    for key, steps in parts_of(body):
        for index, step in enumerate(steps):
            yield f"{prefix}{key}[{index}]", step


def parts_of(body: WorkflowBody) -> tuple[tuple[str, list[Step]], ...]:
    """The lists of steps by their keys, in the order in which they run."""
    return ("steps", body.steps), ("on_failure", body.on_failure), ("finally", body.finally_)


def places_of(body: WorkflowBody, prefix: str = "") -> Iterator[Place]:
    """The places in the order of the document, without those of workflows inside it."""
    for name, text in body.env.items():
        yield Place(f"{prefix}env.{name}", "workflow_env", text)
    if body.working_dir is not None:
        yield Place(f"{prefix}working_dir", "workflow_dir", body.working_dir)
    for path, step in steps_of(body, prefix):
        yield from places_of_step(step, path)
    for name, text in body.outputs.items():
        yield Place(f"{prefix}outputs.{name}", "output", text)
    if not isinstance(body, Workflow):
        return
    if body.concurrency is not None:
        yield Place("concurrency.group", "group", body.concurrency.group)
    for index, notification in enumerate(body.notify):
        yield Place(f"notify[{index}].url", "notify", notification.url)


def places_of_step(step: Step, path: str) -> Iterator[Place]:
    """The places of one step, which stands at `path`."""
    if step.if_ is not None:
        yield Place(f"{path}.if", "if", step.if_, step)
    for place, text in _strings(f"{path}.foreach", step.foreach):
        yield Place(place, "items", text, step)
    for place, text in _strings(f"{path}.matrix", step.matrix):
        yield Place(place, "items", text, step)
    for name, text in step.env.items():
        yield Place(f"{path}.env.{name}", "env", text, step)
    if step.working_dir is not None:
        yield Place(f"{path}.working_dir", "dir", step.working_dir, step)
    yield from _places_of_action(step, path)
    if step.repeat is not None:
        yield Place(f"{path}.repeat.until", "until", step.repeat.until, step)


def sources_of(body: WorkflowBody) -> Iterator[str]:
    """The CEL of every expression; texts that are malformed are left out."""
    for place in places_of(body):
        try:
            yield from place.sources()
        except ExpressionError:
            continue


def _places_of_action(step: Step, path: str) -> Iterator[Place]:
    yield from _places_of_request(step, f"{path}.http")
    if step.approval is not None:
        yield Place(f"{path}.approval.message", "message", step.approval.message, step)
    if step.agent is not None:
        yield Place(f"{path}.agent.prompt", "agent", step.agent.prompt, step)
        yield Place(f"{path}.agent.system", "agent", step.agent.system, step)
    if step.workflow is not None:
        for place, text in _strings(f"{path}.workflow.inputs", step.workflow.inputs):
            yield Place(place, "call", text, step)


def _places_of_request(step: Step, path: str) -> Iterator[Place]:
    request = step.http
    if request is None:
        return
    yield Place(f"{path}.url", "url", request.url, step)
    for name, text in request.headers.items():
        yield Place(f"{path}.headers.{name}", "header", text, step)
    if request.body is not None:
        yield Place(f"{path}.body", "body", request.body, step)
    for place, text in _strings(f"{path}.json", request.json_body):
        yield Place(place, "body", text, step)


def _strings(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _strings(f"{path}.{key}", member)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(f"{path}[{index}]", item)
