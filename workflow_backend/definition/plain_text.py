"""Texts made fit for a person's screen: no control characters, no more than a given size."""

import re
from collections.abc import Mapping

# ECMA-48 sequences (CSI, OSC and other string commands, two-byte escapes), then what is left of
# C0, C1 and the bidirectional and zero-width controls that can make a text show what it is not.
_SEQUENCES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|\Z)|[ -/]*[0-~])"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff]"
)


def plain_text(text: str, max_characters: int | None = None) -> str:
    """The text without terminal sequences and controls but line breaks and tabs.

    Over `max_characters`, head and tail are kept with a note of how much is between them.
    """
    if not text.isascii() or _CONTROLS.search(text):
        text = text.replace("\r\n", "\n")
        text = _CONTROLS.sub("", _SEQUENCES.sub("", text))
    if max_characters is None or len(text) <= max_characters:
        return text
    half = max_characters // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[... {left_out} characters left out ...]\n{text[-half:]}"


def plain_json(value: object, max_characters: int | None = None) -> object:
    """A copy of a JSON value with every text in it made plain."""
    if isinstance(value, str):
        return plain_text(value, max_characters)
    if isinstance(value, Mapping):
        return {
            plain_text(str(key), max_characters): plain_json(member, max_characters)
            for key, member in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain_json(item, max_characters) for item in value]
    return value
