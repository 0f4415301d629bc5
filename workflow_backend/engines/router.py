"""Several engines as one: new runs go to the default one, and a run stays where it began.

Guarantees: a run id means one run over all engines, whoever owns it, because its files lie in one
folder; a list holds the runs of all engines, newest first, each once, also while new ones begin;
another engine that is away leaves its own runs out and nothing else.
"""

import base64
import binascii
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import orjson
from typing_extensions import override

from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import (
    Engine,
    EngineUnavailableError,
    Page,
    Run,
    RunEvent,
    RunFilter,
    RunNotFoundError,
    RunOptions,
    Signalled,
)
from workflow_backend.engines.limits import HasLimits
from workflow_backend.engines.runners import DescribesRunners, KnowsRunners, RunnerDetail
from workflow_backend.schedules.base import KeepsSchedules, PrepareRun, Schedules
from workflow_backend.step_state import StepState

MAX_PAGE_RUNS = 200

_logger = logging.getLogger(__name__)


class InvalidCursorError(ValueError):
    """The cursor was not made by the router."""


@runtime_checkable
class KnowsIds(Protocol):
    """An engine that knows which ids are taken, whoever has them."""

    async def has(self, run_id: str) -> bool:
        """Whether a run has this id; an engine that is away answers for this machine."""
        ...


class EngineRouter(Engine):
    """The default engine, and others that have runs from before."""

    def __init__(self, default: Engine, others: Sequence[Engine] = ()) -> None:
        self._default = default
        self._others = tuple(others)
        self._engines = (default, *others)

    @property
    @override
    def name(self) -> str:
        return self._default.name

    @override
    async def start(
        self,
        run_id: str,
        workflow: Workflow,
        inputs: Mapping[str, object],
        owner: str,
        options: RunOptions | None = None,
    ) -> Run:
        for engine in self._others:
            if isinstance(engine, KnowsIds) and await engine.has(run_id):
                # It began there: the engine gives the run, or says that the id is taken.
                return await engine.start(run_id, workflow, inputs, owner, options)
        return await self._default.start(run_id, workflow, inputs, owner, options)

    @override
    async def cancel(self, run_id: str, owner: str, reason: str) -> Run:
        engine = await self._find(run_id, owner)
        return await engine.cancel(run_id, owner, reason)

    @override
    async def signal(
        self, run_id: str, owner: str, key: str, payload: Mapping[str, object]
    ) -> Signalled:
        engine = await self._find(run_id, owner)
        return await engine.signal(run_id, owner, key, payload)

    @override
    async def get(self, run_id: str, owner: str) -> Run:
        engine = await self._find(run_id, owner)
        return await engine.get(run_id, owner)

    @override
    async def workflow(self, run_id: str, owner: str) -> Workflow:
        engine = await self._find(run_id, owner)
        return await engine.workflow(run_id, owner)

    @override
    async def states(self, run_id: str, owner: str) -> Mapping[str, StepState]:
        engine = await self._find(run_id, owner)
        return await engine.states(run_id, owner)

    @override
    async def events(
        self, run_id: str, owner: str, after_seq: int = 0
    ) -> AsyncGenerator[RunEvent, None]:
        engine = await self._find(run_id, owner)
        async with aclosing(engine.events(run_id, owner, after_seq)) as events:
            async for event in events:
                yield event

    @override
    async def list(self, run_filter: RunFilter, cursor: str | None = None) -> Page:
        if not self._others:
            return await self._default.list(run_filter, cursor)
        before, marks = _decode(cursor) if cursor else (None, {})
        sources = [
            _Source(engine, run_filter, before, marks.get(engine.name, _Mark()))
            for engine in self._engines
            if not cursor or engine.name in marks
        ]
        limit = max(1, min(run_filter.limit, MAX_PAGE_RUNS))
        runs: list[Run] = []
        while sources := [source for source in sources if await self._has_more(source)]:
            if len(runs) == limit:
                left = {source.engine.name: source.mark for source in sources}
                return Page(tuple(runs), _encode(runs[-1].created_at, left))
            runs.append(max(sources, key=lambda source: source.first.created_at).take())
        return Page(tuple(runs))

    async def _has_more(self, source: "_Source") -> bool:
        try:
            return await source.has_more()
        except EngineUnavailableError as error:
            if source.engine is self._default:
                raise
            _logger.warning("the list is without runs of %s: %s", source.engine.name, error)
            return False

    def lacks(self, workflow: Workflow) -> Sequence[str]:
        """What keeps the workflow from running on the default engine."""
        engine = self._default
        return engine.lacks(workflow) if isinstance(engine, HasLimits) else ()

    async def runner_details(self) -> Sequence[RunnerDetail]:
        """What the default engine says of its runners."""
        engine = self._default
        return await engine.runner_details() if isinstance(engine, DescribesRunners) else ()

    async def runners(self, asked: str | None = None) -> tuple[str, ...]:
        """The runners of the default engine, where new runs go."""
        if isinstance(self._default, KnowsRunners):
            return await self._default.runners(asked)
        return ()

    def schedules(self, prepare: PrepareRun) -> Schedules | None:
        """The schedules of the default engine, where new runs go, if it keeps any."""
        engine = self._default
        return engine.schedules(prepare) if isinstance(engine, KeepsSchedules) else None

    async def _find(self, run_id: str, owner: str) -> Engine:
        """The engine that has the run.

        Raises:
            RunNotFoundError: None has.
            EngineUnavailableError: None of those that are there has.
        """
        if not self._others:
            return self._default
        away: EngineUnavailableError | None = None
        for engine in self._engines:
            try:
                await engine.workflow(run_id, owner)
            except RunNotFoundError:
                continue
            except EngineUnavailableError as error:
                away = away or error
            else:
                return engine
        raise away or RunNotFoundError(f"there is no run {run_id!r}")


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the runs of one engine were taken: the page, and the last one that was."""

    page: str | None = None
    run: str = ""
    created_at: str = ""


class _Source:
    """The runs of one engine, newest first, one at a time."""

    def __init__(
        self, engine: Engine, run_filter: RunFilter, before: str | None, mark: _Mark
    ) -> None:
        self.engine = engine
        self.mark = mark
        self._page = mark.page
        self._runs = self._all(run_filter, before)
        self._first: Run | None = None

    @property
    def first(self) -> Run:
        """The newest that was not taken; ask `has_more` before."""
        if self._first is None:
            raise RuntimeError("there is no run; call has_more() first")
        return self._first

    async def has_more(self) -> bool:
        """Whether there is a run that was not taken."""
        if self._first is None:
            self._first = await anext(self._runs, None)
        return self._first is not None

    def take(self) -> Run:
        """Take it."""
        run, self._first = self.first, None
        self.mark = _Mark(self._page, _short(run), run.created_at)
        return run

    async def _all(self, run_filter: RunFilter, before: str | None) -> AsyncIterator[Run]:
        last = self.mark
        is_behind = not last.run
        while True:
            page = await self.engine.list(run_filter, self._page)
            for run in page.runs:
                if not is_behind and run.created_at >= last.created_at:
                    is_behind = _short(run) == last.run
                    continue
                is_behind = True
                # What began since the list was begun stands before all of it.
                if before is None or run.created_at <= before:
                    yield run
            if page.next_cursor is None:
                return
            self._page = page.next_cursor


def _short(run: Run) -> str:
    """A run's id in few letters, which may be long itself."""
    return hashlib.sha256(run.run_id.encode()).hexdigest()[:16]


def _encode(before: str, marks: Mapping[str, _Mark]) -> str:
    plain = {name: [mark.page, mark.run, mark.created_at] for name, mark in marks.items()}
    return base64.urlsafe_b64encode(orjson.dumps([before, plain])).decode().rstrip("=")


def _decode(cursor: str) -> tuple[str, dict[str, _Mark]]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        before, marks = orjson.loads(base64.b64decode(padded, b"-_", validate=True))
        return str(before), {name: _Mark(*mark) for name, mark in marks.items()}
    except (ValueError, TypeError, AttributeError, binascii.Error):
        raise InvalidCursorError(
            "the cursor is not one that this server gave; leave it out to begin with the newest"
        ) from None
