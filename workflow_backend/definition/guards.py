"""The approvals without which a step does not run.

To wait for an approval is not enough: a step with `if: always()` runs though it was refused, and an
approval that approves itself, that may be asked for no item, or whose refusal counts as success
guards nothing.
"""

from collections.abc import Iterator, Sequence

from workflow_backend.definition.expressions import (
    STATUS_FUNCTIONS,
    condition_source,
    functions_in,
)
from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.known_values import KnownValues, calls_of
from workflow_backend.definition.model import Step
from workflow_backend.definition.places import parts_of


class Guards:
    """The approvals before each step of a document, those before calls of its workflow included."""

    def __init__(self, workflows: Sequence[KnownValues]) -> None:
        """`workflows` are callers first."""
        self._names: list[str] = []
        self._by_step: dict[str, int] = {}
        before: dict[str, int] = {"": 0}
        for known in workflows:
            outer = before.get(known.ref, 0)
            for _, steps in parts_of(known.body):
                self._add(known, steps, outer)
            for step in calls_of(known):
                ref = step.workflow.ref if step.workflow else ""
                own = self._by_step[known.name_of(step.name)]
                before[ref] = before[ref] & own if ref in before else own

    def of(self, name: str, most: int) -> list[str]:
        """The approvals of a step, by its name in the plan; so many of them at most."""
        mask = self._by_step.get(name, 0)
        return list(_first(mask, self._names, most))

    def _add(self, known: KnownValues, steps: Sequence[Step], outer: int) -> None:
        """Note the guards of one list of steps; `outer` are those of the whole workflow."""
        by_name = {step.name: step for step in steps}
        # What holds once a step has succeeded, or counts as if it had.
        after: dict[str, int] = {}
        for level in StepGraph(steps).levels():
            for name in level:
                step = by_name[name]
                mask = outer
                if not _runs_regardless(step):
                    for other in step.depends:
                        mask |= after[other]
                self._by_step[known.name_of(name)] = mask
                after[name] = mask
                if _is_guard(step):
                    after[name] |= 1 << len(self._names)
                    self._names.append(known.name_of(name))


def _is_guard(step: Step) -> bool:
    """Whether the step succeeds only if a person has said yes."""
    approval = step.approval
    if approval is None or approval.on_timeout == "approve":
        return False
    return not step.continue_on_error and not step.is_fanned_out


def _runs_regardless(step: Step) -> bool:
    """Whether the step may run though one that it depends on has not succeeded."""
    if step.if_ is None:
        return False
    return bool(STATUS_FUNCTIONS & set(functions_in(condition_source(step.if_))))


def _first(mask: int, names: Sequence[str], most: int) -> Iterator[str]:
    while mask and most:
        bit = mask & -mask
        yield names[bit.bit_length() - 1]
        mask ^= bit
        most -= 1
