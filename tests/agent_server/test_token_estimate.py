"""Estimates of tokens: what is counted, and how near the recorded counts are."""

import base64
import json
import statistics
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from agent_server.image_size import image_size
from agent_server.token_estimate import (
    ANTHROPIC,
    MOST_IMAGE_TOKENS,
    PAGE_TOKENS,
    estimate_text,
    estimate_tokens,
)
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue
from tests.recordings import WIRE, needs_recordings


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02"


def jpeg(width: int, height: int) -> bytes:
    comment = b"\xff\xfe" + struct.pack(">H", 402) + b"c" * 400
    return b"\xff\xd8" + comment + b"\xff\xc2\0\x11\x08" + struct.pack(">HH", height, width)


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + b"\0\0\0\0" + body


SIZES = [
    pytest.param(png(640, 480), id="png"),
    pytest.param(b"GIF89a" + struct.pack("<HH", 640, 480), id="gif"),
    pytest.param(jpeg(640, 480), id="jpeg"),
    pytest.param(webp(b"VP8 ", b"\0" * 6 + struct.pack("<HH", 640, 480)), id="webp"),
    pytest.param(webp(b"VP8L", b"\x2f" + struct.pack("<I", 479 << 14 | 639)), id="lossless webp"),
    pytest.param(
        webp(b"VP8X", b"\0" * 4 + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")),
        id="extended webp",
    ),
]


@pytest.mark.parametrize("image", SIZES)
def test_the_head_of_an_image_tells_its_size(image: bytes) -> None:
    assert image_size(image) == (640, 480)


@pytest.mark.parametrize(
    "data", [b"", b"text", png(1, 1)[:12], jpeg(1, 1)[:4], jpeg(1, 1)[:100], b"RIFF....WEBPxxxx"]
)
def test_what_is_no_image_has_no_size(data: bytes) -> None:
    assert image_size(data) is None


def user(*blocks: JsonValue) -> JsonObject:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def image(data: bytes) -> JsonObject:
    source: JsonObject = {"type": "base64", "data": base64.b64encode(data).decode()}
    return {"type": "image", "source": source}


EMPTY = estimate_tokens(user())


@pytest.mark.parametrize(
    ("block", "tokens"),
    [
        (image(png(750, 100)), 100),
        (image(png(3136, 784)), 820),
        (image(png(9999, 9999)), MOST_IMAGE_TOKENS),
        (image(b"no image"), MOST_IMAGE_TOKENS),
        ({"type": "image", "source": {"type": "base64", "data": "???"}}, MOST_IMAGE_TOKENS),
        ({"type": "image", "source": {"type": "url", "url": "https://x"}}, MOST_IMAGE_TOKENS),
        ({"type": "document", "source": {"type": "url", "url": "https://x"}}, PAGE_TOKENS),
        (
            {"type": "document", "source": {"type": "base64", "data": "A" * 100_000}},
            2 * PAGE_TOKENS,
        ),
        ({"type": "redacted_thinking", "data": "x" * 9000}, 0),
        ({"type": "thinking", "thinking": "", "signature": "x" * 9000}, 0),
        ({"type": "tool_result", "tool_use_id": "t", "content": [image(png(750, 100))]}, 100),
    ],
)
def test_what_is_no_text_counts_by_its_own_rule(block: JsonObject, tokens: int) -> None:
    assert estimate_tokens(user(block)) == pytest.approx(EMPTY + tokens, abs=1)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "title": "T", "source": {"type": "text", "data": "word " * 100}},
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "text", "text": "word " * 100}]},
        },
        {"type": "tool_result", "tool_use_id": "t", "content": "word " * 100},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"words": "word " * 100}},
        {"type": "search_result", "source": "s", "content": [{"type": "text", "text": "w " * 130}]},
        {"type": "thinking", "thinking": "word " * 100, "signature": "x"},
    ],
)
def test_text_counts_wherever_it_stands(block: JsonObject) -> None:
    assert 90 < estimate_tokens(user(block)) - EMPTY < 130


def test_every_part_of_a_request_counts() -> None:
    body = user({"type": "text", "text": "hi"})
    bare = estimate_tokens(body)
    tool: JsonObject = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
    schema: JsonObject = {"type": "json_schema", "schema": {"type": "object"}}
    for more in (
        {"system": "Be brief."},
        {"system": [{"type": "text", "text": "Be brief."}]},
        {"tools": [tool]},
        {"output_config": {"format": schema}},
        {"output_format": schema},
    ):
        assert estimate_tokens({**body, **more}) > bare
    thinking: JsonObject = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert estimate_tokens({**body, **thinking}, ANTHROPIC) > estimate_tokens(body, ANTHROPIC)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("The quick brown fox jumps over the lazy dog. " * 20, 170, 220),
        ('{"id":1234,"name":"x","tags":["a","b"]}' * 20, 220, 440),
        (
            "\u6771\u4eac\u306e\u5929\u6c17\u306f\u3068\u3066\u3082\u826f\u3044\u3067\u3059" * 20,
            180,
            400,
        ),
        ("\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! " * 20, 70, 200),
    ],
    ids=["prose", "json", "japanese", "russian"],
)
def test_a_text_counts_by_its_script(text: str, least: int, most: int) -> None:
    assert least <= estimate_text(text) <= most


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": "hi"}])
def test_a_body_without_messages_is_refused(body: JsonObject) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        estimate_tokens(body)
    assert refused.value.param == "messages"


def recorded() -> Iterator[tuple[str, dict[str, Any], int]]:
    """Requests of text and tools alone, with what Anthropic counted."""
    for meta in sorted(WIRE.glob("anthropic/*/response.meta.json")):
        told = json.loads(meta.read_text("utf-8"))
        if told["status"] != 200 or told["stream"] or told["endpoint"] == "models":
            continue
        body = json.loads((meta.parent / "request.json").read_text("utf-8"))["body"]
        answer = json.loads((meta.parent / "response.body").read_text("utf-8"))
        usage = answer.get("usage", answer)
        counted = sum(usage.get(name) or 0 for name in USAGE)
        if not NOT_COUNTED & {*_types(body)} and not set(body) & {"mcp_servers", "container"}:
            yield meta.parent.name, body, counted


USAGE = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
# What is only an address or a file's id here, or is told to the model by Anthropic itself.
NOT_COUNTED = {"url", "file", "container_upload", "own tool"}


def _types(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _types(item)
    elif isinstance(value, dict):
        if "input_schema" not in value and "name" in value and "input" not in value:
            yield "own tool"
        yield str(value.get("type"))
        for key, item in value.items():
            if key != "input_schema":
                yield from _types(item)


@needs_recordings
def test_estimates_are_near_what_was_counted() -> None:
    found = [(estimate_tokens(b, ANTHROPIC), counted) for _, b, counted in recorded()]
    off = sorted(abs(estimate / counted - 1) for estimate, counted in found)
    assert len(off) >= 50
    assert statistics.median(off) < 0.15
    assert off[int(len(off) * 0.9)] < 0.35
