"""A conversation in Anthropic's format: the system prompt apart, user and assistant in turns.

Source: Messages API, "Create a Message", and "Tool use", section "Formatting tool results",
2026-10, with `anthropic-version: 2023-06-01`.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, cast
from urllib.parse import unquote_to_bytes

import orjson

from providers.chat_request import ImagePart, Message, OpaquePart, Part, TextPart, ToolCall
from providers.responses.reasoning import is_item
from streaming.errors import InvalidRequestError, UnsupportedFieldError
from streaming.events import JsonValue, ReasoningBlock

if TYPE_CHECKING:
    from anthropic.types import (
        ContentBlockParam,
        ImageBlockParam,
        MessageParam,
        TextBlockParam,
        ToolResultBlockParam,
        ToolUseBlockParam,
    )

Blocks: TypeAlias = "list[ContentBlockParam]"

# Said in the place of a user where a conversation begins with the assistant: the API refuses that.
OPENING = "(The conversation begins with the assistant.)"

# Parts of OpenAI's format that have no counterpart.
FOREIGN_PARTS = frozenset({"input_audio", "audio", "video_url", "input_video"})


@dataclass(frozen=True, slots=True)
class Conversation:
    """The `system` and `messages` of a request, and the fields that had no place in them."""

    system: "str | list[TextBlockParam]"
    messages: "list[MessageParam]"
    dropped: tuple[str, ...]


def messages_to_conversation(messages: Sequence[Message]) -> Conversation:
    """Say a conversation in Anthropic's format.

    System messages are taken out and kept in their order, neighbours of one role become one turn,
    and the tool results of a turn come first in it. Text of white space alone is left out, as the
    API refuses it. Arguments of a tool call that are no JSON object are wrapped as
    `{"INVALID_JSON": text}`, as the documentation proposes.

    Raises:
        InvalidRequestError: there is no message, or an image that cannot be read.
        UnsupportedFieldError: a content part that Anthropic's format cannot say.
    """
    system: list[TextBlockParam] = []
    turns: list[_Turn] = []
    dropped: list[str] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.name is not None:
            dropped.append(f"{where}.name")
        if any(not _is_signed(block) for block in message.reasoning):
            dropped.append(f"{where}.reasoning")
        if message.role == "system":
            system.extend(_system_blocks(message, where))
        elif blocks := _cached(_BLOCKS[message.role](message, where), message.extra):
            _append(turns, "assistant" if message.role == "assistant" else "user", blocks)
    if not turns:
        # A system prompt alone is a request that OpenAI's models answer, and Anthropic's refuse.
        turns, system = [_Turn("user", [*system])] if system else [], []
    _arrange(turns)
    return Conversation(_system_prompt(system), [_turn_param(turn) for turn in turns], (*dropped,))


@dataclass(frozen=True, slots=True)
class _Turn:
    role: Literal["user", "assistant"]
    content: Blocks = field(default_factory=list)


def _append(turns: list[_Turn], role: Literal["user", "assistant"], blocks: Blocks) -> None:
    if turns and turns[-1].role == role:
        turns[-1].content.extend(blocks)
    else:
        turns.append(_Turn(role, blocks))


def _arrange(turns: list[_Turn]) -> None:
    """Bring the turns into the order that the API demands."""
    if not turns:
        raise InvalidRequestError(
            "messages holds no text: give at least one message that is not empty", param="messages"
        )
    if turns[0].role == "assistant":
        turns.insert(0, _Turn("user", [{"type": "text", "text": OPENING}]))
    for turn in turns:
        if turn.role == "user":
            turn.content.sort(key=lambda block: block["type"] != "tool_result")
    last = turns[-1].content[-1]
    if turns[-1].role == "assistant" and last["type"] == "text":
        # The API refuses a begun answer that ends with white space.
        last["text"] = last["text"].rstrip()


def _turn_param(turn: _Turn) -> "MessageParam":
    if turn.role == "assistant":
        return {"role": "assistant", "content": turn.content}
    return {"role": "user", "content": turn.content}


def _system_prompt(blocks: "list[TextBlockParam]") -> "str | list[TextBlockParam]":
    if any("cache_control" in block for block in blocks):
        return blocks
    return "\n\n".join(block["text"] for block in blocks)


def _cached(blocks: Blocks, extra: Mapping[str, JsonValue]) -> Blocks:
    """The blocks with a message's own `cache_control` on the last; thinking cannot carry one."""
    mark = extra.get("cache_control")
    if mark is not None and blocks and "thinking" not in blocks[-1]["type"]:
        cast("dict[str, object]", blocks[-1])["cache_control"] = mark
    return blocks


def _system_blocks(message: Message, where: str) -> "list[TextBlockParam]":
    parts = [part for part in message.parts if isinstance(part, TextPart)]
    if len(parts) < len(message.parts):
        raise UnsupportedFieldError(
            "Anthropic takes text alone in system messages; move other content to the user",
            param=f"{where}.content",
        )
    mark = message.extra.get("cache_control")
    if mark is not None and parts:
        parts[-1] = TextPart(parts[-1].text, {"cache_control": mark, **parts[-1].extra})
    if not any("cache_control" in part.extra for part in parts):
        parts = [TextPart(message.text)]
    return [_text_block(part) for part in parts if part.text.strip()]


def _user_blocks(message: Message, where: str) -> Blocks:
    return _part_blocks(message.parts, where)


def _assistant_blocks(message: Message, where: str) -> Blocks:
    blocks = _thinking_blocks(message.reasoning)
    blocks.extend(_part_blocks(message.parts, where))
    if message.refusal and message.refusal.strip():
        blocks.append({"type": "text", "text": message.refusal})
    blocks.extend(_tool_use_block(call) for call in message.tool_calls)
    return blocks


def _tool_blocks(message: Message, where: str) -> Blocks:
    if message.tool_call_id is None:
        raise InvalidRequestError(
            "a tool message must name the call it answers", param=f"{where}.tool_call_id"
        )
    block: ToolResultBlockParam = {
        "type": "tool_result",
        "tool_use_id": _plain_id(message.tool_call_id),
    }
    if any(not isinstance(part, TextPart) or part.extra for part in message.parts):
        # Fewer kinds of blocks are taken here; the API itself says which one it refuses.
        block["content"] = cast("list[TextBlockParam]", _part_blocks(message.parts, where))
    elif message.text:
        block["content"] = message.text
    if message.is_error:
        block["is_error"] = True
    return [block]


def _thinking_blocks(reasoning: Iterable[ReasoningBlock]) -> Blocks:
    """The blocks as they came; thinking that is another provider's is left out."""
    blocks: Blocks = []
    for block in filter(_is_signed, reasoning):
        if block.redacted_data is not None:
            blocks.append({"type": "redacted_thinking", "data": block.redacted_data})
        elif block.signature is not None:
            signature = block.signature
            blocks.append({"type": "thinking", "thinking": block.text, "signature": signature})
    return blocks


def _is_signed(block: ReasoningBlock) -> bool:
    """Whether Anthropic made a block: it refuses any other."""
    return bool(block.signature or block.redacted_data) and not is_item(block)


def _tool_use_block(call: ToolCall) -> "ToolUseBlockParam":
    return {
        "type": "tool_use",
        "id": _plain_id(call.call_id),
        "name": call.name,
        "input": _arguments_object(call.arguments),
    }


def _arguments_object(arguments: str) -> dict[str, object]:
    if not arguments.strip():
        return {}
    try:
        parsed = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": arguments}


def _plain_id(call_id: str) -> str:
    """The id in the letters that Anthropic takes; ids of other providers may hold more."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", call_id)


def _part_blocks(parts: Iterable[Part], where: str) -> Blocks:
    blocks: Blocks = []
    for part in parts:
        match part:
            case TextPart():
                if part.text.strip():
                    blocks.append(_text_block(part))
            case ImagePart():
                blocks.append(_image_block(part, where))
            case OpaquePart():
                blocks.append(_opaque_block(part, where))
    return blocks


def _text_block(part: TextPart) -> "TextBlockParam":
    block: dict[str, object] = {"type": "text", "text": part.text}
    block |= {key: part.extra[key] for key in ("cache_control", "citations") if key in part.extra}
    return cast("TextBlockParam", block)


def _image_block(part: ImagePart, where: str) -> "ImageBlockParam":
    if part.url.startswith(("http://", "https://")):
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    source = _base64_source(part.url, f"{where}.content")
    return cast("ImageBlockParam", {"type": "image", "source": source})


def _opaque_block(part: OpaquePart, where: str) -> "ContentBlockParam":
    """Anthropic's own blocks, such as `document`, as they are; OpenAI's where there is a way."""
    kind = part.data.get("type")
    if kind in FOREIGN_PARTS:
        raise UnsupportedFieldError(
            f"Anthropic's models take no content part of type {kind}", param=f"{where}.content"
        )
    if kind == "file":
        return _document_block(part.data.get("file"), where)
    if kind == "refusal":
        return {"type": "text", "text": str(part.data.get("refusal"))}
    return cast("ContentBlockParam", dict(part.data))


def _document_block(file: JsonValue, where: str) -> "ContentBlockParam":
    """OpenAI's `file` part as a document; a file id means a file at OpenAI, which we cannot say."""
    data_url = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(file, dict) or not isinstance(data_url, str):
        raise UnsupportedFieldError(
            "Anthropic takes a file as file_data with a data: URL, not by an id of OpenAI",
            param=f"{where}.content",
        )
    source = _base64_source(data_url, f"{where}.content")
    block: dict[str, object] = {"type": "document", "source": source}
    if "filename" in file:
        block["title"] = file["filename"]
    return cast("ContentBlockParam", block)


def _base64_source(url: str, param: str) -> dict[str, str]:
    """The content of a `data:` URL (RFC 2397)."""
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not comma:
        raise InvalidRequestError("give an http(s) URL or a data: URL", param=param)
    media_type, *options = head.removeprefix("data:").split(";")
    if "base64" not in options:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return {"type": "base64", "media_type": media_type, "data": data}


_BLOCKS = {"user": _user_blocks, "assistant": _assistant_blocks, "tool": _tool_blocks}
