"""Lines out of bytes."""

import json

import pytest

from mcp_bridge.lines import LineAssembler, OversizeLine

STREAM = b'{"a": 1}\n\n{"b": "\xc3\xa4"}\r\nlast\nrest without newline'
LINES = [b'{"a": 1}', b"", b'{"b": "\xc3\xa4"}\r', b"last"]


def test_lines_come_out_of_one_chunk() -> None:
    assert LineAssembler(100).feed(STREAM) == LINES


def test_lines_come_out_of_single_bytes() -> None:
    assembler = LineAssembler(100)
    assert [line for byte in STREAM for line in assembler.feed(bytes([byte]))] == LINES


@pytest.mark.parametrize("chunk", [1, 7, 4096, 100_000])
def test_a_line_over_the_cap_is_dropped_and_the_next_one_is_whole(chunk: int) -> None:
    assembler = LineAssembler(10_000)
    data = b"a" * 6000 + b"b" * 6000 + b"\nnext\n"
    pieces = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    oversize, following = [line for piece in pieces for line in assembler.feed(piece)]
    assert oversize == OversizeLine(12_000, b"a" * 4096, b"b" * 4096)
    assert following == b"next"


def test_a_line_of_exactly_the_cap_passes() -> None:
    assert LineAssembler(4).feed(b"1234\n12345\n") == [
        b"1234",
        OversizeLine(5, b"1234" + b"5", b"12345"),
    ]


def test_an_endless_line_is_not_held() -> None:
    assembler = LineAssembler(10_000)
    for _ in range(1000):
        assembler.feed(b"x" * 65536)
    assert len(assembler._line) <= 4096


FILLING = {"content": [{"type": "text", "id": 99, "text": "x" * 10_000}]}


@pytest.mark.parametrize(
    ("message", "request_id"),
    [
        ({"jsonrpc": "2.0", "id": 7, "result": FILLING}, 7),
        ({"jsonrpc": "2.0", "id": "seven", "result": FILLING}, "seven"),
        ({"id": 7, "result": FILLING, "jsonrpc": "2.0"}, 7),
        ({"result": FILLING, "jsonrpc": "2.0", "id": 7}, 7),
        ({"result": FILLING, "id": 7, "jsonrpc": "2.0"}, 7),
        ({"jsonrpc": "2.0", "result": {**FILLING, "id": 5}, "id": 7}, 7),
        ({"jsonrpc": "2.0", "result": {**FILLING, "id": 5}}, None),
        ({"jsonrpc": "2.0", "method": "notifications/progress", "params": FILLING}, None),
        ({"jsonrpc": "2.0", "id": 7, "method": "roots/list", "params": FILLING}, None),
        ({"params": FILLING, "method": "roots/list", "jsonrpc": "2.0", "id": 7}, None),
    ],
    ids=str,
)
def test_the_id_of_a_dropped_answer_is_read_from_its_edges(
    message: dict[str, object], request_id: int | str | None
) -> None:
    line = LineAssembler(5000).feed(json.dumps(message).encode() + b"\n")[0]
    assert isinstance(line, OversizeLine)
    assert line.response_id() == request_id
