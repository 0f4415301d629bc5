"""Reasoning items in the middle: the whole item travels in a block, and goes back as it came.

The API wants its items back unchanged, and refuses one whose `encrypted_content` or neighbours do
not fit. So the JSON text of the item is what a block keeps where Anthropic's keep a signature, or
hidden data if there is nothing to read: whoever hands the block back needs not know what it holds.

Source: OpenAI API reference, "Responses", "The response object" (`output`), and the guide
"Reasoning", section "Encrypted reasoning items", 2026-10.
"""

from typing import Final

import orjson

from streaming.events import JsonObject, JsonValue, ReasoningBlock

PART_BREAK: Final = "\n\n"
# A signature of Anthropic's is base64, which never begins so.
_OPENING: Final = "{"


def item_to_block(item: JsonObject, text: str) -> ReasoningBlock:
    """The block of a finished item, `text` being what was shown of it.

    An item without content, encrypted or plain, is a mere reference to what the upstream stored:
    it cannot go back, so its block is the text alone.
    """
    if not (item.get("encrypted_content") or item.get("content")):
        return ReasoningBlock(text)
    data = orjson.dumps(item).decode()
    return ReasoningBlock(text, signature=data) if text else ReasoningBlock("", redacted_data=data)


def block_to_item(block: ReasoningBlock) -> JsonObject | None:
    """The item that a block was made of; None for any other block.

    What a client sends may be made up. A reference to something stored, which may be of another
    client, is none of ours.
    """
    if not is_item(block):
        return None
    try:
        item = orjson.loads(block.signature or block.redacted_data or "")
    except orjson.JSONDecodeError:
        return None
    is_whole = item.get("type") == "reasoning" and (
        isinstance(item.get("encrypted_content"), str) or isinstance(item.get("content"), list)
    )
    return item if is_whole else None


def is_item(block: ReasoningBlock) -> bool:
    """Whether a block holds an item of this format, which no other format takes."""
    return (block.signature or block.redacted_data or "").startswith(_OPENING)


def item_text(item: JsonObject) -> str:
    """What can be read of an item, by paragraphs: its content, or else the summary of it."""
    return next((text for name in _PARTS if (text := PART_BREAK.join(_texts(item.get(name))))), "")


def _texts(parts: JsonValue) -> list[str]:
    if not isinstance(parts, list):
        return []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return [text for text in texts if isinstance(text, str) and text]


_PARTS: Final = ("content", "summary")
