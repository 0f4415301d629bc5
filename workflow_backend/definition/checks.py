"""The meaning of a workflow whose structure is right: names, actions, values, graph.

Workflows inside the document are held to the same checks, under paths of their own.
"""

from collections.abc import Iterator
from itertools import islice

from workflow_backend.definition.call_checks import check_calls, check_sub_workflow_names
from workflow_backend.definition.graph_checks import check_graph
from workflow_backend.definition.model import Workflow, WorkflowBody
from workflow_backend.definition.patterns import WORKFLOW_NAME
from workflow_backend.definition.places import bodies_of, steps_of
from workflow_backend.definition.problems import Problem
from workflow_backend.definition.reference_checks import check_references
from workflow_backend.definition.step_checks import check_step
from workflow_backend.definition.trigger_checks import check_triggers
from workflow_backend.definition.value_checks import (
    check_duration,
    check_env,
    check_specs,
    check_variable,
    slug_of,
)


def check_workflow(workflow: Workflow, max_problems: int) -> list[Problem]:
    """The faults in the meaning of the workflow, in the order of the document.

    No more are looked for than wanted: to name what was meant takes long among thousands of steps.
    """
    return list(islice(_check(workflow), max_problems))


def _check(workflow: Workflow) -> Iterator[Problem]:
    yield from _check_name(workflow)
    yield from check_sub_workflow_names(workflow)
    whole = []
    for prefix, body in bodies_of(workflow):
        yield from _check_values(body, prefix)
        for path, step in steps_of(body, prefix):
            yield from check_step(step, path)
        has_graph = True
        for problem in check_graph(body, prefix):
            has_graph = False
            yield problem
        if has_graph:
            whole.append((prefix, body))
    yield from check_triggers(workflow)
    yield from check_calls(workflow)
    for prefix, body in whole:
        yield from check_references(body, prefix, workflow)


def _check_name(workflow: Workflow) -> Iterator[Problem]:
    if not WORKFLOW_NAME.fullmatch(workflow.name):
        slug = slug_of(workflow.name, r"[^A-Za-z0-9 ._-]+") or "my-workflow"
        yield Problem(
            "name",
            "the name has characters that are not allowed, or over 100.",
            f"Use letters, digits, spaces, `.`, `_`, `-`: `name: {slug}`.",
        )


def _check_values(body: WorkflowBody, prefix: str) -> Iterator[Problem]:
    yield from check_duration(f"{prefix}timeout", body.timeout)
    yield from check_env(f"{prefix}env", body.env)
    yield from check_specs(f"{prefix}inputs", body.inputs, "input")
    for name in body.outputs:
        yield from check_variable(f"{prefix}outputs.{name[:64]}", name, "output")
