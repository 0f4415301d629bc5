"""Engines that cannot run every workflow."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from workflow_backend.definition.model import Workflow


@runtime_checkable
class HasLimits(Protocol):
    """An engine that lacks some of what a workflow may have; plans tell it before."""

    def lacks(self, workflow: Workflow) -> Sequence[str]:
        """What keeps the workflow from running there, each with its place."""
        ...
