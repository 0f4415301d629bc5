"""The workflows inside a document: their names, and the steps that call them."""

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter

from workflow_backend.definition.expressions import OPEN
from workflow_backend.definition.graph import find_cycles
from workflow_backend.definition.graph_checks import arrows
from workflow_backend.definition.model import Workflow, WorkflowBody
from workflow_backend.definition.patterns import SUB_WORKFLOW_NAME
from workflow_backend.definition.places import bodies_of, steps_of
from workflow_backend.definition.problems import Problem, closest, listed
from workflow_backend.definition.value_checks import slug_of
from workflow_backend.definition.values import example_of, given_fault

MAX_NESTING = 5


def check_sub_workflow_names(workflow: Workflow) -> Iterator[Problem]:
    """The faults of the names in `workflows`."""
    for name in workflow.workflows:
        if not SUB_WORKFLOW_NAME.fullmatch(name):
            slug = slug_of(name, r"[^A-Za-z0-9_-]+")
            yield Problem(
                f"workflows.{name[:64]}",
                "the name is a letter, then letters, digits, `-` and `_`, 64 at most.",
                f"Call it `{slug if SUB_WORKFLOW_NAME.fullmatch(slug) else f'w-{slug}'[:64]}`.",
            )


def check_calls(workflow: Workflow) -> Iterator[Problem]:
    """The faults of the steps that call workflows, and of the calls together."""
    is_whole = True
    for prefix, body in bodies_of(workflow):
        for problem in _check_calls_of(body, prefix, workflow):
            is_whole = is_whole and not problem.path.endswith(".ref")
            yield problem
    if not is_whole:
        return
    calls = called_by(workflow)
    cycles = find_cycles(calls)
    for cycle in cycles:
        shown = arrows(cycle) if len(cycle) > 2 else f"`{cycle[0]}` calls itself"
        yield Problem(
            f"workflows.{cycle[0]}",
            f"these workflows call each other without end: {shown}.",
            f"Remove a call, such as that of `{cycle[1]}` in `{cycle[0]}`.",
        )
    if not cycles and (depth := _nesting(calls)) > MAX_NESTING:
        yield Problem(
            "workflows",
            f"workflows call each other {depth} deep, the limit is {MAX_NESTING}.",
            "Put the steps of one into the workflow that calls it.",
        )


def called_by(workflow: Workflow) -> dict[str, list[str]]:
    """The workflows that each one calls; the document's own has the name ``""``."""
    return {
        prefix.removeprefix("workflows.").removesuffix("."): list(
            dict.fromkeys(
                step.workflow.ref
                for _, step in steps_of(body)
                if step.workflow is not None and step.workflow.ref in workflow.workflows
            )
        )
        for prefix, body in bodies_of(workflow)
    }


def _check_calls_of(body: WorkflowBody, prefix: str, workflow: Workflow) -> Iterator[Problem]:
    for path, step in steps_of(body, prefix):
        call = step.workflow
        if call is None:
            continue
        called = workflow.workflows.get(call.ref)
        if called is None:
            yield _unknown(f"{path}.workflow.ref", call.ref, workflow)
            continue
        yield from _check_inputs(f"{path}.workflow.inputs", call.inputs, called)


def _unknown(path: str, ref: str, workflow: Workflow) -> Problem:
    meant = closest(ref, workflow.workflows)
    if meant:
        fix = f"Did you mean `{meant}`?"
    elif workflow.workflows:
        fix = f"They are {listed(workflow.workflows)}."
    else:
        fix = "Add it at the top level: `workflows: {NAME: {steps: [...]}}`."
    return Problem(path, f"there is no `{ref[:64]}` in `workflows`.", fix)


def _check_inputs(
    path: str, given: Mapping[str, object], called: WorkflowBody
) -> Iterator[Problem]:
    for name, value in given.items():
        spec = called.inputs.get(name)
        if spec is None:
            meant = closest(name, called.inputs)
            yield Problem(
                f"{path}.{name[:64]}",
                "the workflow has no such input.",
                f"Did you mean `{meant}`?"
                if meant
                else f"Leave it out; it has: {listed(called.inputs)}.",
            )
        elif value is None or _is_computed(value):
            continue
        elif fault := given_fault(spec, value):
            yield Problem(f"{path}.{name[:64]}", fault.reason, fault.fix)
    for name, spec in called.inputs.items():
        if spec.required and spec.default is None and given.get(name) is None:
            yield Problem(
                path,
                f"the input `{name[:64]}` is required.",
                f"Add `{name[:64]}: {example_of(spec)}`.",
            )


def _is_computed(value: object) -> bool:
    """Whether the value has expressions, so that it is known when they are."""
    if isinstance(value, str):
        return OPEN in value
    if isinstance(value, Mapping):
        return any(map(_is_computed, value.values()))
    return isinstance(value, list) and any(map(_is_computed, value))


def _nesting(calls: Mapping[str, list[str]]) -> int:
    """How deep workflows stand inside each other; there is no cycle."""
    depths: dict[str, int] = {}
    for name in TopologicalSorter(calls).static_order():
        depths[name] = max((1 + depths[ref] for ref in calls[name]), default=0)
    return depths[""]
