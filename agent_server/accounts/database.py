"""Connections to the store's database: SQLite (one file) or PostgreSQL, with bounds on every wait.

What this module promises: a connection that is refused, a lock that is held and a statement that
hangs are errors after `timeout_seconds`; a transaction holds SQLite's write lock from its begin, so
that no two ever deadlock; no error message holds the URL's password.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from agent_server.accounts.store_errors import AccountsConfigError

TIMEOUT_SECONDS = 5.0


def open_engine(url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Engine:
    """An engine with one connection at most, not yet connected.

    Raises:
        AccountsConfigError: the URL is none of SQLite's or PostgreSQL's, or the driver is missing.
    """
    parsed = _parse(url)
    arguments: dict[str, Any]
    if parsed.get_backend_name() == "sqlite":
        arguments = {"timeout": timeout_seconds, "check_same_thread": False}
    else:
        milliseconds = int(timeout_seconds * 1000)
        arguments = {
            "connect_timeout": max(2, int(timeout_seconds)),
            "tcp_user_timeout": milliseconds,
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
            "application_name": "agent-server",
        }
    try:
        engine = create_engine(
            parsed,
            connect_args=arguments,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_timeout=timeout_seconds,
            pool_pre_ping=True,
            hide_parameters=True,
        )
    except ImportError as exc:
        raise AccountsConfigError(
            "The store's driver is not installed: PostgreSQL needs the extra [postgres] "
            "(pip install 'agent-server[postgres]')."
        ) from exc
    if parsed.get_backend_name() == "sqlite":
        _prepare_sqlite(engine)
    return engine


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise AccountsConfigError(_NO_URL) from None
    backend = parsed.get_backend_name()
    if backend in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg")
    # A path that is spelt as a URI would be another file than the one that is made and hidden.
    is_uri = str(parsed.database).startswith("file:") or "uri" in parsed.query
    if backend == "sqlite" and not is_uri and parsed.database not in {None, "", ":memory:"}:
        path = Path(str(parsed.database))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite would let every user of the machine read it.
        path.touch(mode=0o600)
        return parsed.set(drivername="sqlite+pysqlite")
    raise AccountsConfigError(_NO_URL)


def _prepare_sqlite(engine: Engine) -> None:
    """Let us begin transactions, not the driver, which would leave DDL outside of them."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA cache_size=-1024")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


_NO_URL = (
    "The store is 'sqlite' (a file in the data folder), sqlite:////<path of a file>, or "
    "postgresql://<user>:<password>@<host>/<database>."
)
