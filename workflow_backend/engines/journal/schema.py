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

# Runs inside others, what a run takes over, groups; a run is closed once nothing of it goes on.
# The records that answer a run have a turn: a resumed run is answered in the same order.
_VERSION_2 = """
ALTER TABLE runs ADD COLUMN parent TEXT;
ALTER TABLE runs ADD COLUMN rerun_of TEXT;
ALTER TABLE runs ADD COLUMN scheduled_by TEXT;
ALTER TABLE runs ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN run_group TEXT;
ALTER TABLE runs ADD COLUMN group_policy TEXT NOT NULL DEFAULT 'queue';
ALTER TABLE runs ADD COLUMN closed_at TEXT;
ALTER TABLE runs ADD COLUMN trace BLOB NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN kept BLOB NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN states BLOB NOT NULL DEFAULT '{}';
ALTER TABLE records ADD COLUMN turn INTEGER;
UPDATE runs SET closed_at = finished_at;
DROP INDEX runs_by_owner;
DROP INDEX runs_by_status;
DROP INDEX runs_by_workflow;
DROP INDEX runs_by_workflow_and_status;
DROP INDEX runs_unfinished;
DROP INDEX runs_finished;
CREATE INDEX runs_by_owner ON runs (owner, id) WHERE parent IS NULL;
CREATE INDEX runs_by_status ON runs (owner, status, id) WHERE parent IS NULL;
CREATE INDEX runs_by_workflow ON runs (owner, workflow, id) WHERE parent IS NULL;
CREATE INDEX runs_by_workflow_and_status ON runs (owner, workflow, status, id)
  WHERE parent IS NULL;
CREATE INDEX runs_by_parent ON runs (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX runs_open ON runs (id) WHERE closed_at IS NULL;
CREATE INDEX runs_closed ON runs (closed_at) WHERE closed_at IS NOT NULL AND parent IS NULL;
CREATE INDEX runs_in_group ON runs (owner, run_group)
  WHERE run_group IS NOT NULL AND closed_at IS NULL;
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


def _statements(script: str) -> Callable[[sqlite3.Connection], None]:
    def migrate(connection: sqlite3.Connection) -> None:
        # Not executescript: it would commit the transaction.
        for statement in script.split(";"):
            if statement.strip():
                connection.execute(statement)

    return migrate


_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _statements(_VERSION_1),
    _statements(_VERSION_2),
)
