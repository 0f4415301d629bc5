"""Kubiya's runners: their names and health, asked now and then and kept in between."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol
from urllib.parse import quote

from workflow_backend.engines.kubiya.errors import KubiyaError
from workflow_backend.engines.runners import RunnerDetail

DEFAULT_RUNNER = "kubiya-hosted"
KEPT_SECONDS = 60.0
MAX_RUNNERS = 500
MAX_AT_ONCE = 8
# Of all runners together; of those that have not answered by then nothing is known.
HEALTH_SECONDS = 10.0

_HEALTHY = {"true": True, "false": False, "healthy": True, "unhealthy": False}


class Asks(Protocol):
    """What is needed of the client."""

    async def get(self, what: str, path: str) -> object:
        """The JSON of a short answer."""
        ...


class Runners:
    """The runners, at most a minute old."""

    def __init__(self, client: Asks, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._kept: tuple[RunnerDetail, ...] = ()
        self._until = float("-inf")
        self._asking = asyncio.Lock()

    async def all(self) -> tuple[RunnerDetail, ...]:
        """The runners with their health.

        Raises:
            KubiyaError: They cannot be asked for, and none are known from before.
        """
        async with self._asking:
            if self._clock() >= self._until:
                try:
                    self._kept = await self._ask()
                except KubiyaError:
                    if not self._kept:
                        raise
                self._until = self._clock() + KEPT_SECONDS
            return self._kept

    async def default(self) -> str:
        """The runner of a workflow that names none: the hosted one, else a healthy one.

        Where the runners cannot be asked for it is the hosted one; the start then says what is
        wrong.
        """
        try:
            runners = await self.all()
        except KubiyaError:
            return DEFAULT_RUNNER
        names = [runner.name for runner in runners]
        if DEFAULT_RUNNER in names or not names:
            return DEFAULT_RUNNER
        return next((runner.name for runner in runners if runner.is_healthy), names[0])

    async def _ask(self) -> tuple[RunnerDetail, ...]:
        found = read_runners(await self._client.get("list the runners", "api/v3/runners"))
        places = asyncio.Semaphore(MAX_AT_ONCE)
        health: dict[str, bool | None] = {}

        async def ask(name: str) -> None:
            path = f"api/v3/runners/{quote(name, safe='')}/health"
            async with places:
                health[name] = read_health(await self._client.get(f"ask how {name!r} is", path))

        tasks = [asyncio.create_task(ask(runner.name)) for runner in found]
        if tasks:
            await asyncio.wait(tasks, timeout=HEALTH_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return tuple(replace(one, is_healthy=health.get(one.name)) for one in found)


def read_runners(answer: object) -> list[RunnerDetail]:
    """The runners of an answer: a map by name or a list, bare or as `runners`."""
    if isinstance(answer, Mapping) and isinstance(answer.get("runners"), (Mapping, list)):
        answer = answer["runners"]
    if isinstance(answer, Mapping):
        pairs = [(str(name), item) for name, item in answer.items() if isinstance(item, Mapping)]
    elif isinstance(answer, list):
        pairs = [(_name_of(item), item) for item in answer]
    else:
        pairs = []
    runners = {}
    for name, fields in pairs[:MAX_RUNNERS]:
        if name:
            runners[name] = RunnerDetail(name, _description_of(fields))
    return list(runners.values())


def read_health(answer: object) -> bool | None:
    """The health of an answer: `health` is the text `true` or `false`."""
    if not isinstance(answer, Mapping):
        return None
    health = answer.get("health", answer.get("status"))
    return _HEALTHY.get(str(health).strip().lower())


def _name_of(item: object) -> str:
    if isinstance(item, str):
        return item
    name = item.get("name") or item.get("id") if isinstance(item, Mapping) else ""
    return name if isinstance(name, str) else ""


def _description_of(fields: object) -> str:
    text = fields.get("description") if isinstance(fields, Mapping) else ""
    return text if isinstance(text, str) else ""
