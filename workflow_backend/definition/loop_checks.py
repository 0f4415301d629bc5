"""How often a step is done: once for each item, or until a condition holds."""

import math
from collections.abc import Iterator

from workflow_backend.definition.expressions import ExpressionError, whole_expression
from workflow_backend.definition.model import Step
from workflow_backend.definition.problems import Problem
from workflow_backend.definition.value_checks import check_duration, check_variable

MAX_ITEMS = 1_000


def check_loops(step: Step, path: str) -> Iterator[Problem]:
    """The faults of `foreach`, `matrix`, `max_parallel` and `repeat`."""
    if step.foreach is not None and step.matrix is not None:
        yield Problem(
            path,
            "the step has `foreach` and `matrix`.",
            "Keep one; a further list can be a row of `matrix`.",
        )
    if step.foreach is not None:
        yield from _check_items(f"{path}.foreach", step.foreach)
    if step.matrix is not None:
        yield from _check_matrix(f"{path}.matrix", step.matrix)
    if step.max_parallel is not None and not step.is_fanned_out:
        yield Problem(
            f"{path}.max_parallel",
            "the step has no `foreach` or `matrix` whose items it could bound.",
            "Remove it; that of the workflow stands at the top level, outside `steps`.",
        )
    if step.repeat is not None:
        yield from check_duration(f"{path}.repeat.interval", step.repeat.interval)
        if step.wait is not None and step.wait.signal is not None:
            yield Problem(
                f"{path}.repeat",
                "a signal is the same each time: it is sent once.",
                "Remove it, or wait for a `webhook`, which takes a message each time.",
            )


def _check_items(path: str, items: list[object] | str) -> Iterator[Problem]:
    if isinstance(items, list):
        if not items:
            yield Problem(path, "there is no item.", "List the items, or remove it.")
        elif len(items) > MAX_ITEMS:
            yield Problem(
                path,
                f"there are {len(items)} items, the limit is {MAX_ITEMS}.",
                "Split them over several steps, or let one step do several.",
            )
        return
    try:
        is_whole = whole_expression(items) is not None
    except ExpressionError:
        return
    if not is_whole:
        yield Problem(
            path,
            "a text here is one whole `${{ }}` that gives a list.",
            "Write a list, such as `[a, b]`, or `${{ inputs.NAME }}`.",
        )


def _check_matrix(path: str, matrix: dict[str, list[object] | str]) -> Iterator[Problem]:
    if not matrix:
        yield Problem(path, "there is no row.", "Write `{NAME: [a, b]}`, or remove it.")
    for name, items in matrix.items():
        yield from check_variable(f"{path}.{name[:64]}", name, "row")
        yield from _check_items(f"{path}.{name[:64]}", items)
    known = [items for items in matrix.values() if isinstance(items, list)]
    count = math.prod(len(items) for items in known)
    if count > MAX_ITEMS and all(len(items) <= MAX_ITEMS for items in known):
        yield Problem(
            path,
            f"these are {count} combinations, the limit is {MAX_ITEMS}.",
            "Take values out, or split them over several steps.",
        )
