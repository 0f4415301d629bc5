"""Import of workflows that were written for Kubiya's platform or for Dagu."""

from workflow_backend.definition.importers.importing import (
    FORMATS,
    FormatChoice,
    Imported,
    import_definition,
)
from workflow_backend.definition.importers.notes import Note

__all__ = ["FORMATS", "FormatChoice", "Imported", "Note", "import_definition"]
