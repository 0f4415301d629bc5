"""Which runs are interpreted now, and which wait for one of them to end.

Guarantees: every run that was submitted gets its turn, in order; a run that was cancelled while it
waited ends at once; a run whose interpretation fails for a reason of ours ends as failed, and one
that cannot be recorded is left as it is in the journal.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from workflow_backend.engines.base import Executor
from workflow_backend.engines.journal.definitions import Definitions
from workflow_backend.engines.journal.feed import LiveFeeds
from workflow_backend.engines.journal.rows import RunRow
from workflow_backend.engines.journal.runtime import JournalRuntime
from workflow_backend.engines.journal.store import JournalStore
from workflow_backend.engines.journal.writer import JournalBrokenError
from workflow_backend.interpreter import INTERPRETER_VERSION, interpret

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Active:
    """A run that is being interpreted."""

    runtime: JournalRuntime
    task: asyncio.Task[None]


class RunScheduler:
    """Interprets the submitted runs, so many at a time."""

    def __init__(
        self,
        store: JournalStore,
        executor: Executor,
        definitions: Definitions,
        feeds: LiveFeeds,
        *,
        max_runs: int,
        max_attempts: int,
        on_finished: Callable[[], None],
    ) -> None:
        self._store = store
        self._executor = executor
        self._definitions = definitions
        self._feeds = feeds
        self._max_runs = max_runs
        self._attempts = asyncio.Semaphore(max_attempts)
        self._on_finished = on_finished
        self._waiting: OrderedDict[int, RunRow] = OrderedDict()
        self._active: dict[int, _Active] = {}
        self._is_closing = False

    @property
    def waiting_count(self) -> int:
        """How many runs wait."""
        return len(self._waiting)

    def submit(self, row: RunRow) -> None:
        """Interpret the run when its turn comes; its events can be followed from now on."""
        self._feeds.open(row.id, row.last_seq)
        if row.cancel_reason is not None:
            self._start(row)
            return
        self._waiting[row.id] = row
        self._start_waiting()

    def cancel(self, run: int, reason: str) -> asyncio.Task[None] | None:
        """Cancel the run; the task that ends when the run has, None if it is not here."""
        row = self._waiting.pop(run, None)
        if row is not None:
            self._start(replace(row, cancel_reason=reason))
        active = self._active.get(run)
        if active is None:
            return None
        active.runtime.request_cancel(reason)
        return active.task

    async def close(self) -> None:
        """Stop interpreting: steps that run are ended, and their runs stay unfinished."""
        self._is_closing = True
        self._waiting.clear()
        tasks = [active.task for active in self._active.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._active) < self._max_runs and not self._is_closing:
            _, row = self._waiting.popitem(last=False)
            self._start(row)

    def _start(self, row: RunRow) -> None:
        runtime = JournalRuntime(
            row, self._store, self._executor, self._attempts, lambda: self._is_closing
        )
        task = asyncio.create_task(self._run(row, runtime), name=f"run {row.run_id}")
        self._active[row.id] = _Active(runtime, task)
        task.add_done_callback(lambda _: self._ended(row.id))

    def _ended(self, run: int) -> None:
        del self._active[run]
        self._on_finished()
        self._start_waiting()

    async def _run(self, row: RunRow, runtime: JournalRuntime) -> None:
        """Interpret one run to its end, whatever happens."""
        try:
            await self._interpret(row, runtime)
        except JournalBrokenError as error:
            _logger.error("run %s stopped where it was: %s", row.run_id, error)  # noqa: TRY400
            self._feeds.close(row.id, error)
        except Exception as error:
            _logger.exception("run %s failed inside the engine", row.run_id)
            await self._fail(row, runtime, error)

    async def _interpret(self, row: RunRow, runtime: JournalRuntime) -> None:
        await runtime.load()
        if row.interpreter != INTERPRETER_VERSION:
            await runtime.fail(
                f"the run began with version {row.interpreter} of the interpreter, which this"
                f" program (version {INTERPRETER_VERSION}) cannot continue; start it again"
            )
            return
        workflow = await self._definitions.get(row.definition)
        await interpret(workflow, orjson.loads(row.inputs), runtime, run_id=row.run_id)

    async def _fail(self, row: RunRow, runtime: JournalRuntime, error: Exception) -> None:
        try:
            await runtime.fail(f"the engine failed: {type(error).__name__}; see the server's log")
        except JournalBrokenError as broken:
            self._feeds.close(row.id, broken)
