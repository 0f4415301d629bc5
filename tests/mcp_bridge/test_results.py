"""What a model reads of a result."""

from typing import Any

import pytest
from mcp_types import CallToolResult

from mcp_bridge.results import Image, ToolResult, error_result, progress_event, read_result

PNG = {"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}


def read(*content: Any, **fields: Any) -> ToolResult:
    return read_result(CallToolResult.model_validate({"content": list(content), **fields}))


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        (text("words\x1b[0m"), "words"),
        (PNG, "[image: image/png, 5 bytes]"),
        (
            {"type": "audio", "data": "aGVsbA==", "mimeType": "audio/wav"},
            "[audio: audio/wav, 4 bytes]",
        ),
        (
            {"type": "resource_link", "name": "log\nfile", "uri": "http://127.0.0.1/a"},
            "[resource log file: http://127.0.0.1/a]",
        ),
        ({"type": "resource", "resource": {"uri": "x://y", "text": "inside"}}, "inside"),
        (
            {"type": "resource", "resource": {"uri": "x://y", "blob": "aGVsbG8="}},
            "[resource: unknown type, 5 bytes]",
        ),
    ],
)
def test_each_kind_of_content_becomes_text(block: Any, shown: str) -> None:
    assert read(block).text == shown


def test_blocks_are_lines_and_images_are_kept() -> None:
    svg = {**PNG, "mimeType": "image/svg+xml"}
    result = read(text("one"), PNG, svg, text("two"))
    assert result.text.splitlines()[0::3] == ["one", "two"]
    assert result.images == (Image("image/png", "aGVsbG8="),)


def test_structured_content_is_kept_and_stands_in_for_missing_content() -> None:
    assert read(text("t"), structuredContent={"a": 1}) == ToolResult("t", {"a": 1})
    assert read(structuredContent={"a": 1}).text == '{"a":1}'
    assert read(structuredContent=[1]) == ToolResult("[1]")


def test_an_error_of_the_tool_is_marked() -> None:
    assert read(text("no"), isError=True) == ToolResult("no", is_error=True)
    assert error_result("no\x00") == ToolResult("no", is_error=True)


def test_a_long_text_is_cut_and_says_so() -> None:
    assert read(text("x" * 32_000)).text == "x" * 32_000
    long = read(text("x" * 32_001)).text
    assert long == "x" * 32_000 + "\n[truncated, 32001 characters in all]"


@pytest.mark.parametrize(
    ("message", "is_trusted", "event"),
    [
        ('{"type": "step_running", "seq": 1}', True, {"type": "step_running", "seq": 1}),
        ("{broken", True, {"type": "progress", "message": "{broken"}),
        ('{"no": "type"}', True, {"type": "progress", "message": '{"no": "type"}'}),
        ("half\x07way", False, {"type": "progress", "message": "halfway"}),
        (None, False, {"type": "progress", "message": "2 of 5"}),
        (
            '{"type": "workflow_complete"}',
            False,
            {"type": "progress", "message": '{"type": "workflow_complete"}'},
        ),
    ],
)
def test_progress_becomes_an_event(message: str | None, *, is_trusted: bool, event: Any) -> None:
    assert progress_event(2, 5, message, is_trusted) == event


def test_a_huge_progress_message_of_a_foreign_server_is_cut() -> None:
    event = progress_event(1, None, "x" * 100_000, is_trusted=False)
    assert len(str(event["message"])) == 16 * 1024
