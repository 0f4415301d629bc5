"""The steps of one workflow together: their names, and what they wait for."""

from collections.abc import Iterator, Mapping

from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.model import Step, WorkflowBody
from workflow_backend.definition.places import parts_of, steps_of
from workflow_backend.definition.problems import Problem, closest, listed

MAX_CYCLE_NAMES = 20

_WHEN = {
    "steps": "runs before the handlers",
    "on_failure": "is a step of `on_failure`, which runs once the steps have failed",
    "finally": "is a step of `finally`, which runs last",
}


def check_graph(body: WorkflowBody, prefix: str) -> Iterator[Problem]:
    """The faults of names and dependencies; a graph without any has no cycle."""
    paths: dict[str, str] = {}
    homes: dict[str, str] = {}
    for path, step in steps_of(body, prefix):
        if (first := paths.setdefault(step.name, path)) != path:
            yield Problem(
                f"{path}.name",
                f"{first} has the name `{step.name[:64]}` already.",
                "Give each step a name of its own.",
            )
    for key, steps in parts_of(body):
        homes |= dict.fromkeys((step.name for step in steps), key)
    for key, steps in parts_of(body):
        here = {step.name for step in steps}
        for index, step in enumerate(steps):
            path = f"{prefix}{key}[{index}]"
            yield from _check_depends(step, path, here, homes)
        if len(here) == len(steps):
            yield from _check_cycles(steps, f"{prefix}{key}")


def _check_depends(
    step: Step, path: str, here: set[str], homes: Mapping[str, str]
) -> Iterator[Problem]:
    for at, name in enumerate(step.depends):
        if name in here and name != step.name:
            continue
        if name == step.name:
            reason, fix = "the step depends on itself.", "Remove it."
        elif (home := homes.get(name)) is not None:
            reason = f"`{name[:64]}` {_WHEN[home]}."
            fix = "Remove it; steps wait for steps of the same list."
            if home == "steps":
                fix = "Remove it; handlers begin when all steps have ended."
        else:
            meant = closest(name, here - {step.name})
            reason = f"there is no step `{name[:64]}`."
            fix = f"Did you mean `{meant}`?" if meant else f"The steps are {_names(here, homes)}."
        yield Problem(f"{path}.depends[{at}]", reason, fix)


def _names(here: set[str], homes: Mapping[str, str]) -> str:
    return listed(name for name in homes if name in here)


def _check_cycles(steps: list[Step], path: str) -> Iterator[Problem]:
    positions = {step.name: index for index, step in enumerate(steps)}
    for cycle in StepGraph(steps).cycles():
        if len(cycle) > 2:
            yield Problem(
                f"{path}[{positions[cycle[0]]}].depends",
                f"these steps wait for each other: {arrows(cycle)}.",
                f"Remove one, such as `{cycle[1]}` from the `depends` of `{cycle[0]}`.",
            )


def arrows(cycle: list[str]) -> str:
    """The cycle as `a -> b -> a`; the middle of a long one is left out."""
    shown = [name[:64] for name in cycle]
    if len(shown) > MAX_CYCLE_NAMES:
        half = MAX_CYCLE_NAMES // 2
        left_out = f"... {len(shown) - 2 * half} more ..."
        shown = [*shown[:half], left_out, *shown[-half:]]
    return " -> ".join(shown)
