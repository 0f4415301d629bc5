"""What engines have in common that are opened and closed: `async with`."""

from abc import abstractmethod
from types import TracebackType
from typing import Self

from workflow_backend.engines.base import Engine


class OpenedEngine(Engine):
    """An engine that is used between `open` and `close`, or within `async with`."""

    @abstractmethod
    async def open(self) -> None:
        """Get ready, and go on with the runs that have not ended."""

    @abstractmethod
    async def close(self) -> None:
        """Stop, and leave unfinished runs to the next `open`."""

    async def __aenter__(self) -> Self:
        """The open engine."""
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()
