"""The result of a tool as the model reads it: text of a bounded length."""

import json

from streaming.events import JsonObject, JsonValue

_SHORTEST_LEAF = 100
_ARROW = " ... "


def result_text(text: str, structured: JsonObject | None, max_characters: int) -> str:
    """The result's text; what is too long says so.

    An object stays one: its longest strings lose their middle until it fits, so that a model - or
    a program - can still read all its fields.
    """
    if structured is not None and (not text or len(text) > max_characters):
        text = _shortened_object(structured, max_characters)
    if len(text) <= max_characters:
        return text
    return f"{text[:max_characters]}\n[truncated, {len(text)} characters in all]"


def _shortened_object(value: JsonObject, max_characters: int) -> str:
    text = json.dumps(value, ensure_ascii=False)
    longest = max_characters // 2
    while len(text) > max_characters and longest >= _SHORTEST_LEAF:
        text = json.dumps(_shortened(value, longest), ensure_ascii=False)
        longest //= 2
    return text


def _shortened(value: JsonValue, longest: int) -> JsonValue:
    if isinstance(value, str):
        return _without_middle(value, longest)
    if isinstance(value, list):
        return [_shortened(item, longest) for item in value]
    if isinstance(value, dict):
        return {key: _shortened(item, longest) for key, item in value.items()}
    return value


def _without_middle(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    note = f"{_ARROW}[truncated, {len(text)} characters in all]{_ARROW}"
    half = max(0, longest - len(note)) // 2
    return f"{text[:half]}{note}{text[len(text) - half :]}"
