"""The store: one database, reached by one worker thread, never from the event loop.

What this module promises:

- no call of the event loop waits for the database unless it awaits `call`, and that is bounded;
- at most `MAX_WAITING` calls wait for the worker, and one connection is open: none is held while
  nothing is read or written;
- a database that is down, or goes away and comes back, is `StoreError` for as long as it is.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from agent_server.accounts.database import TIMEOUT_SECONDS, open_engine
from agent_server.accounts.migrate import is_due, migrate_in_child
from agent_server.accounts.store_errors import StoreError
from agent_server.log_config import get_logger

MAX_WAITING = 256
# What a call may take: its turn, a new connection, its statements.
CALL_SECONDS = 3 * TIMEOUT_SECONDS
# Longer than the child process that migrates may take.
MIGRATE_SECONDS = 150.0

_Result = TypeVar("_Result")
log = get_logger()


class Store:
    """One database. `call` runs a function of a connection in a transaction of its own."""

    def __init__(self, url: str, *, environment: dict[str, str] | None = None) -> None:
        """Prepare the store; nothing is opened yet. `environment` is that of the child process.

        Raises:
            AccountsConfigError: the URL cannot be used.
        """
        self._url = url
        self._environment = environment or {}
        self._engine: Engine = open_engine(url)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._waiting = 0
        self._is_up = True

    @property
    def is_up(self) -> bool:
        """Whether the last call reached the database."""
        return self._is_up

    async def try_start(self) -> bool:
        """Bring the schema up to date; False if the database cannot be reached.

        Raises:
            MigrationError: a step failed.
        """
        try:
            await self._run(self._migrate, MIGRATE_SECONDS)
        except StoreError:
            return False
        return True

    async def stop(self) -> None:
        """Close the connection, once what runs has ended; that is bounded by its own timeouts."""
        closing = asyncio.get_running_loop().run_in_executor(self._worker, self._engine.dispose)
        await asyncio.wait([closing], timeout=CALL_SECONDS)
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def call(
        self, function: Callable[[Connection], _Result], *, timeout_seconds: float = CALL_SECONDS
    ) -> _Result:
        """What a function gives that reads or writes on a connection, in one transaction.

        A call that is cancelled, or waits too long, may still take place.

        Raises:
            StoreError: the database is down, or answers not in time, or too many calls wait.
            IntegrityError: a constraint of the schema was broken.
        """

        def transact() -> _Result:
            with self._engine.begin() as connection:
                return function(connection)

        return await self._run(transact, timeout_seconds)

    async def _run(self, function: Callable[[], _Result], timeout_seconds: float) -> _Result:
        if self._waiting >= MAX_WAITING:
            raise StoreError(f"{MAX_WAITING} calls wait for the store already")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._worker, function)
        future.add_done_callback(self._done)
        try:
            result = await asyncio.wait_for(asyncio.shield(future), timeout_seconds)
        except TimeoutError as exc:
            self._tell_down("no answer in time")
            raise StoreError("the store does not answer in time") from exc
        except IntegrityError:
            raise
        except SQLAlchemyError as exc:
            self._tell_down(str(exc).strip().partition("\n")[0])
            raise StoreError("the store cannot be reached") from exc
        if not self._is_up:
            log.info("Store is back")
        self._is_up = True
        return result

    def _done(self, future: "asyncio.Future[_Result]") -> None:
        self._waiting -= 1
        if not future.cancelled():
            # What nobody waits for any more is told nowhere else.
            future.exception()

    def _tell_down(self, reason: str) -> None:
        if self._is_up:
            log.warning("Store cannot be reached", reason=reason[:300])
        self._is_up = False

    def _migrate(self) -> None:
        if is_due(self._engine):
            migrate_in_child(self._url, self._environment)
            log.info("Schema of the store brought up to date")
