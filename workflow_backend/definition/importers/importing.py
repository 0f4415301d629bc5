"""From a workflow of Kubiya's or Dagu's to one of ours, with notes of what has no counterpart.

Pure. What comes out is valid, whatever goes in: a step that would not be is put in words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from workflow_backend.definition.importers.document import Reading, reference_name
from workflow_backend.definition.importers.draft import Called, Format
from workflow_backend.definition.importers.notes import Note, Notes
from workflow_backend.definition.importers.repair import valid_workflow
from workflow_backend.definition.importers.source import format_of, read_documents
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.normal_form import to_yaml
from workflow_backend.definition.problems import InvalidWorkflowError, Problem

FORMATS: tuple[Format, ...] = ("kubiya", "dagu")

FormatChoice = Literal["auto", "kubiya", "dagu"]


@dataclass(frozen=True, slots=True)
class Imported:
    """A workflow of ours as YAML, the format that it came from, and the notes."""

    workflow: Workflow
    yaml: str
    format: Format
    notes: tuple[Note, ...]


def import_definition(text: str, format: FormatChoice = "auto", name: str = "") -> Imported:
    """The workflow of a file in another format; `name` is for one that has none.

    Raises:
        InvalidWorkflowError: It cannot be read, has no steps, or does not fit into a workflow.
    """
    documents = read_documents(text)
    chosen = format_of(documents) if format == "auto" else format
    notes = Notes()
    documents[0].setdefault("name", name or "imported")
    readings = [
        Reading(document, f"documents[{index}]" if index else "", chosen, notes)
        for index, document in enumerate(documents)
    ]
    called: dict[str, Called] = {}
    refs: dict[str, Called] = {}
    for reading in readings[1:]:
        one = Called(reference_name(reading.name, refs), reading.scope)
        refs[one.ref] = one
        called.setdefault(reading.name, one)
    bodies = [reading.body(called) for reading in readings]
    document = {**readings[0].head(), **bodies[0]}
    if not document["steps"]:
        raise InvalidWorkflowError(
            [Problem("steps", "there are no steps.", "Give the file a list `steps`.")]
        )
    if refs:
        document["workflows"] = _used(dict(zip(refs, bodies[1:], strict=True)))
    for reading in readings:
        reading.finish()
    workflow = valid_workflow(document, notes)
    return Imported(workflow, to_yaml(workflow), chosen, notes.told())


def _used(bodies: Mapping[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """The workflows inside the document that have steps."""
    return {ref: body for ref, body in bodies.items() if body["steps"]}
