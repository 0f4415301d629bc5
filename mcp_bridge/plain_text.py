"""Text of foreign servers, made fit to be read by people and models; secrets, made unreadable."""

import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "***"
_SHORTEST_SECRET: Final = 6

# CSI and OSC sequences first, whole: their tails are printable and would stay behind.
_ANSI: Final = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\\\)|\x1b[@-_]"
)
# C0 without tab and newline, C1, direction marks and overrides, zero-width and tag characters:
# invisible to the person who approves a tool, but not to the model. ZWJ and ZWNJ are part of words.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\U000e0000-\U000e007f]"
)


def clean_text(text: str) -> str:
    """The text without terminal sequences, control, direction and invisible characters."""
    return _INVISIBLE.sub("", _ANSI.sub("", text.replace("\r\n", "\n")))


def shorten(text: str, max_characters: int) -> str:
    """The text, cut to `max_characters` with an ellipsis as its last."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


class Redactor:
    """Masks the given secrets wherever they stand in a text.

    Values of fewer than six characters are left alone: they are settings such as `1` or `debug`,
    and masking them would shred the text.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        # The longest first, so that a secret within another does not leave its rest behind.
        alternatives = "|".join(map(re.escape, sorted(found, key=len, reverse=True)))
        self._pattern = re.compile(alternatives) if alternatives else None

    def __call__(self, text: str) -> str:
        """The text with each secret replaced by `***`."""
        return self._pattern.sub(MASK, text) if self._pattern else text
