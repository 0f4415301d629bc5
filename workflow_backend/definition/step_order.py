"""Which steps of a workflow are settled when another begins: those before it, and earlier lists."""

from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.model import Step, WorkflowBody
from workflow_backend.definition.places import parts_of

HANDLERS = frozenset({"on_failure", "finally"})


class StepOrder:
    """The order of the steps of one workflow, whose graph is without faults."""

    def __init__(self, body: WorkflowBody) -> None:
        self.steps: dict[str, Step] = {}
        self._parts: dict[str, int] = {}
        self._keys: list[str] = []
        self._graphs: list[StepGraph] = []
        for number, (key, steps) in enumerate(parts_of(body)):
            self._keys.append(key)
            self._graphs.append(StepGraph(steps))
            for step in steps:
                self.steps[step.name] = step
                self._parts[step.name] = number

    def part_of(self, name: str) -> str:
        """The list that holds the step: `steps`, `on_failure` or `finally`."""
        return self._keys[self._parts[name]]

    def is_before(self, name: str, reader: str) -> bool:
        """Whether the step `name` is settled whenever `reader` begins."""
        part, own = self._parts[name], self._parts[reader]
        return part < own or (part == own and self._graphs[own].is_before(name, reader))

    def is_later(self, name: str, reader: str) -> bool:
        """Whether the step `name` belongs to a list that runs after that of `reader`."""
        return self._parts[name] > self._parts[reader]
