"""Files of other formats: their documents, and which format they are in."""

import re
from collections.abc import Iterator, Mapping

from workflow_backend.definition.documents import read_document
from workflow_backend.definition.importers.draft import Format
from workflow_backend.definition.importers.notes import snake
from workflow_backend.definition.problems import InvalidWorkflowError, Problem

MAX_DOCUMENTS = 50

# A line of `---` begins a document wherever it stands (YAML 1.2.2, section 9.1.2).
_BOUNDARY = re.compile(r"^---(?:[ \t].*)?$\n?", re.MULTILINE)
_KUBIYA_EXECUTORS = frozenset({"tool", "inline_agent", "agent", "kubiya", "llm_completion"})
_KUBIYA_KEYS = frozenset({"runner", "files"})


def read_documents(text: str) -> list[dict[str, object]]:
    """The documents of a file, the first of which is the workflow itself.

    Raises:
        InvalidWorkflowError: One of them cannot be read, or there are too many.
    """
    if text.lstrip().startswith("{"):
        return [read_document(text)]
    parts = [part for part in _BOUNDARY.split(text) if part.strip()]
    if len(parts) > MAX_DOCUMENTS:
        reason = f"the file has {len(parts)} documents, the limit is {MAX_DOCUMENTS}."
        raise InvalidWorkflowError([Problem("", reason, "Split it.")])
    return [read_document(part) for part in parts] or [read_document(text)]


def format_of(documents: list[dict[str, object]]) -> Format:
    """The format that the documents are in, by what only Kubiya's workflows have."""
    for document in documents:
        if _KUBIYA_KEYS & {snake(key) for key in document}:
            return "kubiya"
        for step in _steps(document):
            executor = step.get("executor")
            kind = executor.get("type") if isinstance(executor, Mapping) else executor
            is_known = isinstance(kind, str) and kind in _KUBIYA_EXECUTORS
            if is_known or step.get("type") == "get_secret":
                return "kubiya"
            if "depends_on" in step or "approval_required" in step:
                return "kubiya"
    return "dagu"


def _steps(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    steps = document.get("steps")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping):
            yield step
