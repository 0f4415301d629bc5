"""The tables of the journal, and how an older file becomes a newer one."""

import sqlite3
from collections.abc import Callable

_VERSION_1 = """
CREATE TABLE definitions (
  sha256 TEXT PRIMARY KEY,
  body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL UNIQUE,
  owner TEXT NOT NULL,
  workflow TEXT NOT NULL,
  definition TEXT NOT NULL REFERENCES definitions (sha256),
  interpreter INTEGER NOT NULL,
  status TEXT NOT NULL,
  inputs BLOB NOT NULL,
  outputs BLOB NOT NULL DEFAULT '{}',
  error TEXT,
  cancel_reason TEXT,
  created_at TEXT NOT NULL,
  started_at TEXT,
  finished_at TEXT
);
CREATE INDEX runs_by_owner ON runs (owner, id);
CREATE INDEX runs_by_status ON runs (owner, status, id);
CREATE INDEX runs_by_workflow ON runs (owner, workflow, id);
CREATE INDEX runs_by_workflow_and_status ON runs (owner, workflow, status, id);
CREATE INDEX runs_by_definition ON runs (definition);
CREATE INDEX runs_unfinished ON runs (id) WHERE finished_at IS NULL;
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;
CREATE TABLE events (
  run INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  type TEXT NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (run, seq)
) WITHOUT ROWID;
CREATE TABLE records (
  run INTEGER NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE process_groups (
  mark TEXT PRIMARY KEY,
  pgid INTEGER NOT NULL,
  birth TEXT
) WITHOUT ROWID;
"""

_VERSION_TABLE = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"


class JournalVersionError(Exception):
    """The file was written by a later version of this program."""


def prepare(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest version; each step is one transaction.

    Raises:
        JournalVersionError: The file is newer than this program.
    """
    connection.execute(_VERSION_TABLE)
    row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    version = row[0] or 0
    if version > len(_MIGRATIONS):
        raise JournalVersionError(
            f"the journal has the format {version}, this program knows up to {len(_MIGRATIONS)};"
            " use the version of the program that wrote it, or a later one"
        )
    for number, migrate in enumerate(_MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            migrate(connection)
            connection.execute("INSERT INTO schema_version VALUES (?)", (number,))
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _create(connection: sqlite3.Connection) -> None:
    # Not executescript: it would commit the transaction.
    for statement in _VERSION_1.split(";"):
        if statement.strip():
            connection.execute(statement)


_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create,)
