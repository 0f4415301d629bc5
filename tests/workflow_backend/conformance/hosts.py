"""A process that has an engine open, for tests that kill it by its pid.

It is forked from a server process that has imported everything, because a start of Python for each
of many kills would be most of a test's time.
"""

import asyncio
import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import orjson

from tests.workflow_backend.conformance.places import Place
from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import RunEvent

_SECONDS = 20.0
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Task:
    """What a host does: start this workflow as each run, and tell the events after those seen."""

    place: Place
    flow: Workflow
    seen: Mapping[str, int]
    settings: Mapping[str, Any] = field(default_factory=dict)


class Host:
    """A host that runs; `read` its events, `kill` it, or `wait` for the end of its runs."""

    def __init__(self, task: Task) -> None:
        self._receiver, sender = _context.Pipe(duplex=False)
        self._process = _context.Process(target=serve, args=(task, sender), daemon=True)
        self._process.start()
        sender.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def read(self) -> RunEvent | None:
        """The next event, or None once the host has ended and all that it told was read."""
        try:
            if not self._receiver.poll(_SECONDS):
                raise TimeoutError("the host told nothing")
            event: RunEvent = orjson.loads(self._receiver.recv_bytes())
        except (EOFError, OSError):
            return None
        return event

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self._process.join(_SECONDS)

    def close(self) -> int | None:
        """Its exit code, once it has ended by itself."""
        self._process.join(_SECONDS)
        code = self._process.exitcode
        self._receiver.close()
        self._process.close()
        return code


def serve(task: Task, sender: Connection) -> None:
    """The process itself."""
    asyncio.run(_serve(task, sender))


async def _serve(task: Task, sender: Connection) -> None:
    place = task.place
    async with place.engine(**task.settings) as engine:

        async def watch(run_id: str, after_seq: int) -> None:
            await engine.start(run_id, task.flow, {}, place.owner)
            async for event in engine.events(run_id, place.owner, after_seq):
                sender.send_bytes(orjson.dumps(event))

        await asyncio.gather(*(watch(run_id, after) for run_id, after in task.seen.items()))
