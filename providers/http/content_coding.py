"""Bodies that come compressed although nobody asked for it. Pure.

Source: RFC 9110, section 8.4.1: `gzip` (with its old name `x-gzip`) and `deflate`, which is zlib's
format by the standard and bare deflate from some servers.
"""

import zlib

from providers.http.errors import CodingError

MAX_PIECE_BYTES = 256 * 1024

_GZIP_WINDOW, _ZLIB_WINDOW, _BARE_WINDOW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_WINDOWS = {"gzip": _GZIP_WINDOW, "x-gzip": _GZIP_WINDOW, "deflate": _ZLIB_WINDOW}
_ZLIB_METHOD = 8


class Decoder:
    """Unpacks one body, in pieces of `MAX_PIECE_BYTES` at most, whatever they are made from.

    Feed bytes, then take until the answer is b"".
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._window = _WINDOWS[coding]
        self._stream: zlib._Decompress | None = None
        self._waiting = b""

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the body."""
        self._waiting += data

    def take(self) -> bytes:
        """The next unpacked piece, b"" if more bytes are needed for one.

        Raises:
            CodingError: the bytes are not in their coding.
        """
        while self._waiting:
            stream = self._stream or self._start()
            try:
                piece = stream.decompress(self._waiting, MAX_PIECE_BYTES)
            except zlib.error as exc:
                raise CodingError(f"its body is not in its content coding {self._coding}") from exc
            self._waiting = stream.unconsumed_tail
            if stream.eof:
                # Several gzip members may follow each other (RFC 1952, section 2.2).
                self._waiting = stream.unused_data if self._window == _GZIP_WINDOW else b""
                self._stream = None if self._waiting else stream
            if piece:
                return piece
        # What zlib holds back although it has taken in everything.
        if self._stream is not None and not self._stream.eof:
            return self._stream.decompress(b"", MAX_PIECE_BYTES)
        return b""

    def end(self) -> None:
        """Say that the body is over.

        Raises:
            CodingError: it ends in the middle of its coding.
        """
        if self._stream is not None and not self._stream.eof:
            raise CodingError(f"its body ends in the middle of its content coding {self._coding}")

    def _start(self) -> "zlib._Decompress":
        if self._window == _ZLIB_WINDOW and self._waiting[0] & 0x0F != _ZLIB_METHOD:
            self._window = _BARE_WINDOW
        self._stream = zlib.decompressobj(self._window)
        return self._stream


def decoder_for(content_encoding: str) -> Decoder | None:
    """What unpacks a body with this `content-encoding`, None if it is not packed.

    Raises:
        CodingError: a coding that this client does not know.
    """
    coding = content_encoding.strip().lower()
    if coding in {"", "identity"}:
        return None
    if coding not in _WINDOWS:
        known = ", ".join(_WINDOWS)
        raise CodingError(f"its body has a content coding other than identity, {known}")
    return Decoder(coding)
