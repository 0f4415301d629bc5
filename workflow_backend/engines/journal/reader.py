"""Reading runs and their events: from the store, and while they go on from their feeds."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import Page, Run, RunEvent, RunFilter, RunNotFoundError
from workflow_backend.engines.journal.cursor import decode_cursor, encode_cursor
from workflow_backend.engines.journal.definitions import Definitions
from workflow_backend.engines.journal.feed import LiveFeed, LiveFeeds
from workflow_backend.engines.journal.rows import RunRow
from workflow_backend.engines.journal.store import JournalStore
from workflow_backend.run_steps import steps_of

MAX_PAGE_RUNS = 200


class RunReader:
    """What an engine on a journal answers about its runs; `engine` is its name."""

    def __init__(
        self, store: JournalStore, feeds: LiveFeeds, definitions: Definitions, engine: str
    ) -> None:
        self._store = store
        self._feeds = feeds
        self._definitions = definitions
        self._engine = engine

    async def find(self, run_id: str, owner: str) -> RunRow:
        """The row of a run.

        Raises:
            RunNotFoundError: The owner has no run of this id.
        """
        row = await self._store.find(run_id, owner)
        if row is None:
            raise RunNotFoundError(f"there is no run {run_id!r}")
        return row

    async def get(self, run_id: str, owner: str) -> Run:
        """The run with its steps."""
        row = await self.find(run_id, owner)
        workflow = await self._definitions.get(row.definition)
        names = [step.name for step in workflow.all_steps()]
        return self.run_of(row, steps_of(names, await self._store.step_events(row.id)))

    async def workflow(self, run_id: str, owner: str) -> Workflow:
        """The definition that the run was started with."""
        return await self._definitions.get((await self.find(run_id, owner)).definition)

    async def page(self, run_filter: RunFilter, cursor: str | None) -> Page:
        """Runs of the owner, newest first, without their inputs, outputs and steps.

        Raises:
            InvalidCursorError: The cursor is none of ours.
        """
        before = decode_cursor(cursor) if cursor else None
        limit = max(1, min(run_filter.limit, MAX_PAGE_RUNS))
        rows = await self._store.page(run_filter, before, limit + 1)
        has_more = len(rows) > limit
        rows = rows[:limit]
        return Page(
            tuple(self.run_of(row, brief=True) for row in rows),
            encode_cursor(rows[-1].id) if has_more else None,
        )

    async def events(
        self, run_id: str, owner: str, after_seq: int
    ) -> AsyncGenerator[RunEvent, None]:
        """The events after `after_seq`, in order, without gaps, until the run has ended."""
        row = await self.find(run_id, owner)
        feed = await self._feed_of(row)
        while True:
            found = await self._events_after(row.id, feed, after_seq)
            for event in found:
                yield event
                after_seq = int(str(event["seq"]))
                if event["type"] == "workflow_complete":
                    return
            if not found:
                if feed is None or feed.has_ended:
                    return
                await feed.wait(after_seq)

    def run_of(
        self, row: RunRow, steps: Sequence[dict[str, object]] = (), *, brief: bool = False
    ) -> Run:
        """The run of a row as a client sees it."""
        return replace(row.to_run(steps, brief=brief), engine=self._engine)

    async def _feed_of(self, row: RunRow) -> LiveFeed | None:
        """The feed of a run, None if it has ended; its start may still be under way."""
        if row.finished_at is not None:
            return None
        feed = self._feeds.get(row.id)
        if feed is None:
            feed = self._feeds.open(row.id, row.last_seq)
            if (await self._store.by_id(row.id)).finished_at is not None:
                self._feeds.discard(row.id)
                return None
        return feed

    async def _events_after(
        self, run: int, feed: LiveFeed | None, after_seq: int
    ) -> Sequence[RunEvent]:
        """The next events: from memory if they are there, else from the store."""
        recent = feed.after(after_seq) if feed is not None else None
        return await self._store.events(run, after_seq) if recent is None else recent
