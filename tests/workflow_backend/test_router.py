"""Several engines as one: where runs begin, where they are found, and lists of all of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.workflow_backend.journals import OWNER, Gated, journal, step, workflow
from workflow_backend.engines.base import (
    Engine,
    EngineUnavailableError,
    Run,
    RunConflictError,
    RunFilter,
    RunNotFoundError,
)
from workflow_backend.engines.journal import JournalEngine
from workflow_backend.engines.router import EngineRouter, InvalidCursorError
from workflow_backend.events import time_text

FLOW = workflow(step("a"))


class Named(JournalEngine):
    """A journal of another name, which may be away."""

    is_away = False

    @property
    def name(self) -> str:
        return "other"

    async def workflow(self, run_id: str, owner: str) -> Any:
        if self.is_away:
            raise EngineUnavailableError("the other engine is away")
        return await super().workflow(run_id, owner)

    async def list(self, run_filter: RunFilter, cursor: str | None = None) -> Any:
        if self.is_away:
            raise EngineUnavailableError("the other engine is away")
        return await super().list(run_filter, cursor)


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[tuple[JournalEngine, Named, EngineRouter]]:
    """A journal that new runs go to, another one, and both as one engine."""
    first = journal(tmp_path / "first", Gated())
    settings = journal(tmp_path / "second", Gated())._settings
    second = Named(settings, Gated())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(first)
        await stack.enter_async_context(second)
        yield first, second, EngineRouter(first, [second])


async def run(engine: Engine, run_id: str, owner: str = OWNER) -> Run:
    """A run from its beginning to its end."""
    await engine.start(run_id, FLOW, {}, owner)
    async for _ in engine.events(run_id, owner):
        continue
    return await engine.get(run_id, owner)


async def test_a_run_begins_on_the_default_and_stays_where_it_began(engines: Any) -> None:
    first, second, router = engines
    await run(second, "old")
    await run(router, "new")
    assert (await first.get("new", OWNER)).status == "success"
    with pytest.raises(RunNotFoundError):
        await second.get("new", OWNER)
    for run_id in ("old", "new"):
        assert (await router.get(run_id, OWNER)).run_id == run_id
        assert (await router.states(run_id, OWNER))["a"].status == "success"
        assert await router.workflow(run_id, OWNER) == FLOW
        assert (await router.cancel(run_id, OWNER, "late")).status == "success"
    again = await router.start("old", FLOW, {}, OWNER)
    assert again.status == "success"
    with pytest.raises(RunNotFoundError):
        await first.get("old", OWNER)
    with pytest.raises(RunNotFoundError):
        await router.get("nobody", OWNER)


async def test_an_id_of_another_owner_is_taken_on_every_engine(engines: Any) -> None:
    _, second, router = engines
    await run(second, "old", "somebody")
    with pytest.raises(RunConflictError):
        await router.start("old", FLOW, {}, OWNER)


async def test_a_list_holds_the_runs_of_all_engines_each_once(engines: Any) -> None:
    first, second, router = engines
    expected: list[str] = []
    for number in range(9):
        engine = (first, second, second)[number % 3]
        begun = await run(engine, f"r{number}")
        expected.insert(0, f"r{number}")
        # Runs of two engines in one millisecond have no order.
        while time_text(time.time()) == begun.created_at:  # noqa: ASYNC110 - the clock itself
            await asyncio.sleep(0)
    for limit in (1, 2, 4, 9, 50):
        found, cursor, pages = [], None, 0
        while True:
            page = await router.list(RunFilter(OWNER, limit=limit), cursor)
            found += [one.run_id for one in page.runs]
            pages += 1
            if pages == 1:
                # What begins meanwhile is not on a later page.
                await run(first, f"meanwhile-{limit}")
            cursor = page.next_cursor
            if cursor is None:
                break
            assert len(page.runs) == limit
            assert len(cursor) < 500
        assert [name for name in found if name.startswith("r")] == expected
        assert len(found) == len(set(found))
        assert f"meanwhile-{limit}" not in found
    with pytest.raises(InvalidCursorError):
        await router.list(RunFilter(OWNER), "nonsense")


async def test_another_engine_that_is_away_hides_its_own_runs_alone(engines: Any) -> None:
    _, second, router = engines
    await run(second, "old")
    await run(router, "new")
    second.is_away = True
    assert (await router.get("new", OWNER)).status == "success"
    page = await router.list(RunFilter(OWNER))
    assert [one.run_id for one in page.runs] == ["new"]
    with pytest.raises(EngineUnavailableError):
        await router.get("old", OWNER)
    away_by_default = EngineRouter(second, [engines[0]])
    assert (await away_by_default.get("new", OWNER)).status == "success"
    with pytest.raises(EngineUnavailableError):
        await away_by_default.list(RunFilter(OWNER))


async def test_one_engine_alone_is_asked_as_it_is(engines: Any) -> None:
    first, _, _ = engines
    router = EngineRouter(first)
    await run(router, "only")
    page = await router.list(RunFilter(OWNER, limit=1))
    assert (router.name, [one.run_id for one in page.runs]) == ("journal", ["only"])
    assert await router.runners() == ()
