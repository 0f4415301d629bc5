"""Results of tool calls, as text for a model; the words that a tool sent, and no fetching.

Source: Model Context Protocol, "Tools", section "Tool Result", 2025-11-25 and 2026-07-28.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from mcp_bridge.plain_text import clean_text, shorten
from streaming.events import JsonObject, JsonValue

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock

MAX_TEXT: Final = 32_000
MAX_PROGRESS_TEXT: Final = 16 * 1024

_SHOWN_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_MAX_LABEL: Final = 200


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a result: its media type (jpeg, png, gif or webp) and its bytes in base64."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call came to.

    `text` is for the model: at most 32,000 characters and a mark of what was cut, with a
    placeholder for whatever is no text. `structured` is the object that the tool gave besides, as
    it was sent. A failure of the tool itself is a result too: `is_error`.
    """

    text: str
    structured: JsonObject | None = None
    is_error: bool = False
    images: tuple[Image, ...] = ()


def read_result(result: "CallToolResult") -> ToolResult:
    """The result of a call, from the SDK's own type."""
    structured = result.structured_content
    text = "\n".join(_block_text(block) for block in result.content)
    if not result.content and structured is not None:
        text = orjson.dumps(structured).decode()
    images = tuple(
        Image(block.mime_type, block.data)
        for block in result.content
        if block.type == "image" and block.mime_type in _SHOWN_IMAGES
    )
    return ToolResult(
        text=truncate(clean_text(text)),
        structured=structured if isinstance(structured, dict) else None,
        is_error=bool(result.is_error),
        images=images,
    )


def error_result(message: str) -> ToolResult:
    """The result that stands for an error which the server answered instead of one."""
    return ToolResult(text=truncate(clean_text(message)), is_error=True)


def truncate(text: str) -> str:
    """The first 32,000 characters, and how many there are in all if there are more."""
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}\n[truncated, {len(text)} characters in all]"


def progress_event(
    progress: float, total: float | None, message: str | None, is_trusted: bool
) -> JsonObject:
    """The event of a progress notification: `{"type": ..., ...}`.

    A trusted server's JSON object is taken as it is. Any other text becomes the message of a
    `progress` event, so that no foreign server can pretend that a workflow did something.
    """
    if message is None:
        message = f"{progress:g}" if total is None else f"{progress:g} of {total:g}"
    elif is_trusted and message.startswith("{"):
        event = _json_object(message)
        if event is not None:
            return event
    return {"type": "progress", "message": shorten(clean_text(message), MAX_PROGRESS_TEXT)}


def _json_object(text: str) -> JsonObject | None:
    try:
        value: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("type"), str) else None


def _block_text(block: "ContentBlock") -> str:
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            return _placeholder(block.type, block.mime_type, block.data)
        case "resource_link":
            return f"[resource {_label(block.name)}: {_label(str(block.uri))}]"
        case "resource":
            resource = block.resource
            text: str | None = getattr(resource, "text", None)
            if text is not None:
                return text
            return _placeholder("resource", resource.mime_type, getattr(resource, "blob", ""))


def _placeholder(kind: str, media_type: str | None, base64: str) -> str:
    size = len(base64) * 3 // 4 - base64[-2:].count("=")
    return f"[{kind}: {_label(media_type or 'unknown type')}, {size} bytes]"


def _label(text: str) -> str:
    return shorten(clean_text(text).replace("\n", " "), _MAX_LABEL)
