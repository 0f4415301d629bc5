"""Bodies that come compressed."""

import gzip
import zlib

import pytest

from providers.http import CodingError, Decoder, decoder_for
from providers.http.content_coding import MAX_PIECE_BYTES

TEXT = b"".join(b'data: {"number":%d}\n\n' % number for number in range(500))
BARE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
PACKED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "GZip ": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
    "deflate": zlib.compress(TEXT),
    "Deflate": BARE.compress(TEXT) + BARE.flush(),
}


def decoder(coding: str) -> Decoder:
    found = decoder_for(coding)
    assert found is not None
    return found


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_body_is_the_same_however_it_is_cut(coding: str, step: int) -> None:
    packed, unpacked, unpacking = PACKED[coding], b"", decoder(coding)
    for start in range(0, len(packed), step):
        unpacking.feed(packed[start : start + step])
        while piece := unpacking.take():
            unpacked += piece
    unpacking.end()
    assert unpacked == TEXT


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
def test_a_plain_body_needs_no_decoder(coding: str) -> None:
    assert decoder_for(coding) is None


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "\x00<script>"])
def test_an_unknown_coding_is_an_error_that_does_not_quote_it(coding: str) -> None:
    with pytest.raises(CodingError, match="other than identity, gzip"):
        decoder_for(coding)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bytes_in_no_coding_are_an_error(coding: str) -> None:
    unpacking = decoder(coding)
    unpacking.feed(b"\x08\xffnot packed at all")
    with pytest.raises(CodingError, match=f"not in its content coding {coding}"):
        unpacking.take()


@pytest.mark.parametrize("coding", PACKED)
def test_a_body_that_ends_in_the_middle_is_an_error(coding: str) -> None:
    unpacking = decoder(coding)
    unpacking.feed(PACKED[coding][:-9])
    while unpacking.take():
        pass
    with pytest.raises(CodingError, match="in the middle"):
        unpacking.end()


def test_a_bomb_comes_in_pieces_of_bounded_size() -> None:
    unpacking = decoder("gzip")
    unpacking.feed(gzip.compress(bytes(20 * MAX_PIECE_BYTES)))
    sizes = []
    while piece := unpacking.take():
        sizes.append(len(piece))
    assert max(sizes) <= MAX_PIECE_BYTES
    assert sum(sizes) == 20 * MAX_PIECE_BYTES


def test_events_of_a_packed_stream_come_when_they_were_flushed() -> None:
    packing = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    unpacking = decoder("gzip")
    for number in range(3):
        event = b"data: %d\n\n" % number
        unpacking.feed(packing.compress(event) + packing.flush(zlib.Z_SYNC_FLUSH))
        assert unpacking.take() == event
        assert unpacking.take() == b""
