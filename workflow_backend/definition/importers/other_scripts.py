"""Scripts in other languages: references become `os.environ` in Python, and are noted elsewhere."""

import re

from workflow_backend.definition.importers.references import Reference, references_in
from workflow_backend.definition.importers.shell_scripts import (
    NameOf,
    Rewritten,
    without_braces,
)


def rewrite_python(text: str, name_of: NameOf) -> Rewritten:
    """A Python script in which a text that is one reference reads the variable instead.

    A reference inside a longer text stays: what stands around it cannot be known to be safe.
    """
    kept: list[str] = []
    result, at, is_changed = "", 0, False
    for reference in references_in(text):
        name = name_of(reference)
        quotes = _whole_literal(text, reference)
        if name is None or quotes is None:
            if name is not None or not reference.is_native:
                kept.append(reference.raw)
            continue
        result += text[at : reference.start - 1] + f'os.environ["{name}"]'
        at = reference.end + 1
        is_changed = True
    script = result + text[at:]
    if is_changed and not re.search(r"^import os\b|^from os import", script, re.MULTILINE):
        script = f"import os\n{script}"
    return Rewritten(without_braces(script), kept)


def rewrite_foreign(text: str, name_of: NameOf) -> Rewritten:
    """A script of a language that is not read here: what the formats would have put in is noted."""
    kept = [
        reference.raw
        for reference in references_in(text)
        if name_of(reference) is not None or not reference.is_native
    ]
    return Rewritten(without_braces(text), kept)


def _whole_literal(text: str, reference: Reference) -> str | None:
    """The quote around the reference, if it is the whole of a plain text literal."""
    before = text[max(0, reference.start - 3) : reference.start]
    after = text[reference.end : reference.end + 2]
    if before[-1:] not in {"'", '"'} or after[:1] != before[-1:]:
        return None
    is_part_of_word = len(before) > 1 and (before[-2].isalnum() or before[-2] in "\"'_\\")
    return None if is_part_of_word or after[1:2] == before[-1:] else before[-1]
