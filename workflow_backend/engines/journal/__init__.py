"""The embedded engine: runs and events in one SQLite file."""

from workflow_backend.engines.journal.cursor import InvalidCursorError
from workflow_backend.engines.journal.engine import (
    EngineClosedError,
    JournalEngine,
    JournalSettings,
)
from workflow_backend.engines.journal.lock import JournalLockedError
from workflow_backend.engines.journal.retention import Retention
from workflow_backend.engines.journal.schema import JournalVersionError
from workflow_backend.engines.journal.writer import JournalBrokenError

__all__ = [
    "EngineClosedError",
    "InvalidCursorError",
    "JournalBrokenError",
    "JournalEngine",
    "JournalLockedError",
    "JournalSettings",
    "JournalVersionError",
    "Retention",
]
