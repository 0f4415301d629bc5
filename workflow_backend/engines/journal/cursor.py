"""The cursor of a list of runs: opaque to clients, the id of the last row they saw."""

import base64
import binascii

_MAX_CHARACTERS = 19


class InvalidCursorError(ValueError):
    """The cursor was not made by this engine."""


def encode_cursor(row_id: int) -> str:
    """The cursor that continues after this row."""
    return base64.urlsafe_b64encode(f"r{row_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> int:
    """The row after which the list continues.

    Raises:
        InvalidCursorError: It was not made by `encode_cursor`.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        text = base64.b64decode(padded.encode("ascii"), b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    if text[:1] != "r" or not text[1:].isdecimal() or len(text) > _MAX_CHARACTERS:
        raise InvalidCursorError(
            "the cursor is not one that this server gave; leave it out to begin with the newest"
        )
    return int(text[1:])
