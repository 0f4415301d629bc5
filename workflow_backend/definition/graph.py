"""The graph of the steps: cycles, order in levels, who comes before whom."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from workflow_backend.definition.model import Step

_MAX_CYCLES = 5


class StepGraph:
    """Steps and what they depend on. Unknown names in `depends` are left out."""

    def __init__(self, steps: Iterable[Step]) -> None:
        steps = list(steps)
        names = {step.name for step in steps}
        self._depends = {
            step.name: [name for name in dict.fromkeys(step.depends) if name in names]
            for step in steps
        }
        self._before: dict[str, int] = {}
        self._bits = {name: 1 << index for index, name in enumerate(self._depends)}

    def cycles(self) -> list[list[str]]:
        """The cycles, as `find_cycles` gives them."""
        return find_cycles(self._depends)

    def levels(self) -> list[list[str]]:
        """The steps in groups: each step depends on earlier groups alone.

        Raises:
            graphlib.CycleError: There is a cycle.
        """
        sorter = TopologicalSorter(self._depends)
        sorter.prepare()
        levels = []
        while sorter.is_active():
            ready = set(sorter.get_ready())
            levels.append([name for name in self._depends if name in ready])
            sorter.done(*ready)
        return levels

    def is_before(self, name: str, later: str) -> bool:
        """Whether the step `later` waits for `name`, directly or not; the graph has no cycle."""
        if not self._before:
            for step in TopologicalSorter(self._depends).static_order():
                self._before[step] = _union(
                    self._bits[other] | self._before[other] for other in self._depends[step]
                )
        return bool(self._before.get(later, 0) & self._bits.get(name, 0))


def find_cycles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The cycles, each as `[a, b, a]`: a leads to b, b leads to a; a few at most."""
    leads = {name: list(others) for name, others in graph.items()}
    found: list[list[str]] = []
    while len(found) < _MAX_CYCLES:
        cycle = _find_cycle(leads)
        if cycle is None:
            break
        found.append(cycle)
        leads[cycle[0]].remove(cycle[1])
    return found


def _union(masks: Iterable[int]) -> int:
    whole = 0
    for mask in masks:
        whole |= mask
    return whole


def _find_cycle(depends: Mapping[str, list[str]]) -> list[str] | None:
    try:
        TopologicalSorter(depends).prepare()
    except CycleError as error:
        # graphlib gives predecessors first; reversed, each name depends on the next.
        cycle: list[str] = list(reversed(error.args[1]))
        return cycle
    return None
