"""The header that tells a client which fields of its request were left out.

What this module promises: whatever a client named its fields, and however many there are, the
header is printable ASCII, and short enough for every client to read.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final, TypeAlias

DROPPED_HEADER: Final = b"x-dropped-fields"
MOST_NAMES: Final = 32
LONGEST_NAME: Final = 64

RawHeader: TypeAlias = tuple[bytes, bytes]


def dropped_headers(names: Iterable[str]) -> tuple[RawHeader, ...]:
    """The header with each of the names once, nothing where there are none."""
    told = ", ".join(_readable(name) for name in islice(dict.fromkeys(names), MOST_NAMES))
    return ((DROPPED_HEADER, told.encode()),) if told else ()


def _readable(name: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name[:LONGEST_NAME])
