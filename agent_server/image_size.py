"""The width and height that the first bytes of an image tell.

Source: PNG (RFC 2083), section 4.1.1; GIF89a, section 18; JPEG (ITU-T T.81), section B.2.2; WebP
(RFC 9649), sections 2.5 to 2.7.
"""

import struct
from typing import Final

# Metadata before the size of a JPEG may be long; what comes later is not looked at.
HEAD_BYTES: Final = 96 * 1024
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels; None for what is no image that we know, or is cut too early."""
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", head, 16)
        elif head.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack_from("<HH", head, 6)
        elif head.startswith(b"\xff\xd8"):
            return _jpeg_size(head)
        elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp_size(head)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return width, height


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while head[at] == 0xFF:
        marker = head[at + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", head, at + 5)
            return width, height
        at += 2 + int(struct.unpack_from(">H", head, at + 2)[0])
    return None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(head[24:27], "little") + 1
        return width, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int(struct.unpack_from("<I", head, 21)[0])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
