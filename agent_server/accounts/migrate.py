"""Bring the schema of a store up to date, as a process of its own.

    python -m agent_server.accounts.migrate < file with the URL

What this module promises: all steps that are due run in one transaction under one lock, so that two
servers may start at once, and one that is killed leaves the schema as it was. It is a process of
its own because Alembic takes memory that the server would keep. Exit code 0: up to date; 1: not,
with the reason on stderr.
"""

import subprocess
import sys

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from agent_server.accounts.database import open_engine
from agent_server.accounts.migrations import HEAD
from agent_server.accounts.store_errors import AccountsConfigError, MigrationError

TIMEOUT_SECONDS = 120.0
VERSION_TABLE = "alembic_version"
# Any number will do, as long as every version of this program takes the same.
LOCK_NUMBER = 7_305_118_243


def is_due(engine: Engine) -> bool:
    """Whether steps are missing. A schema that is newer than this program is left as it is."""
    with engine.begin() as connection:
        return _version(connection) < HEAD


def migrate_in_child(url: str, environment: dict[str, str]) -> None:
    """Run all steps in a child process.

    Raises:
        MigrationError: a step failed, or took longer than `TIMEOUT_SECONDS`.
    """
    command = [sys.executable, "-m", "agent_server.accounts.migrate"]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command,
            input=url,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS + 10,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise MigrationError("the store's schema could not be changed in time") from None
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2][:500] or f"exit code {done.returncode}"
        raise MigrationError(reason)


def migrate(engine: Engine) -> None:
    """Run every step that is due."""
    # Alembic is heavy, and only the child process needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(
                text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER}
            )
        if _version(connection) >= HEAD:
            return
        config = Config()
        config.set_main_option("script_location", "agent_server.accounts:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)


def _version(connection: Connection) -> str:
    if not inspect(connection).has_table(VERSION_TABLE):
        return ""
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return str(found or "")


def main() -> int:
    """Migrate the store whose URL stands on stdin."""
    try:
        engine = open_engine(sys.stdin.read().strip(), timeout_seconds=TIMEOUT_SECONDS)
        migrate(engine)
    except (SQLAlchemyError, AccountsConfigError) as exc:
        first = str(exc).strip().partition("\n")[0]
        sys.stderr.write(f"{first}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
