"""Engines that know on which machines steps can run: their runners."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class KnowsRunners(Protocol):
    """An engine with runners of its own; `runner` of a workflow names one."""

    async def runners(self, asked: str | None = None) -> tuple[str, ...]:
        """The names of the runners that there are now, the server's own first.

        An engine that cannot list all of them answers at least whether `asked` is one.
        """
        ...
