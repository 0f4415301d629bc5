"""Engines that know on which machines steps can run: their runners."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class KnowsRunners(Protocol):
    """An engine with runners of its own; `runner` of a workflow names one."""

    async def runners(self, asked: str | None = None) -> tuple[str, ...]:
        """The names of the runners that there are now, the server's own first.

        An engine that cannot list all of them answers at least whether `asked` is one.
        """
        ...


@dataclass(frozen=True, slots=True)
class RunnerDetail:
    """One runner; `is_healthy` is None where nobody says."""

    name: str
    description: str = ""
    is_healthy: bool | None = None


@runtime_checkable
class DescribesRunners(Protocol):
    """An engine that can say more of its runners than their names."""

    async def runner_details(self) -> Sequence[RunnerDetail]:
        """The runners that there are now, the one of a workflow that names none first."""
        ...
