"""Ends the work for a client that has gone away.

What this module promises: when the client's connection is lost, the task that answers is cancelled
at once, in whatever it waits for, and so is all that it has begun; `ClientDisconnect` tells whoever
stands outside why.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

# Where the server tells an application of the loss of a connection, without a task that waits.
CLIENT_GONE_EXTENSION: Final = "agent_server.client_gone"


class ClientWatch:
    """A context around the work of one answer, entered when its request was read wholly."""

    __slots__ = ("_is_gone", "_receive", "_register", "_task", "_watcher")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        extension = (scope.get("extensions") or {}).get(CLIENT_GONE_EXTENSION)
        self._register = extension["watch"] if extension else None
        self._receive = receive
        self._is_gone = False
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._register is not None:
            self._register(self.end)
        else:
            # Another server than ours: it tells the loss as the next thing that it receives.
            self._watcher = asyncio.create_task(self._wait())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._register is not None:
            self._register(None)
        if self._watcher is not None:
            self._watcher.cancel()
        if self._is_gone and self._task is not None:
            self._task.uncancel()
            if kind is asyncio.CancelledError:
                raise ClientDisconnect from error

    def end(self) -> None:
        """Cancel the work, as for a client that has gone."""
        if self._task is not None and not self._is_gone:
            self._is_gone = True
            self._task.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.end()
