"""Checked reading of parsed JSON, for a wire that must not trust what it reads."""

from streaming.events import JsonObject, JsonValue


class MalformedError(Exception):
    """A frame lacks a part of the right type; the text names the part."""


def object_field(holder: JsonObject, name: str) -> JsonObject:
    """The object of that name; raises `MalformedError`."""
    value = holder.get(name)
    if not isinstance(value, dict):
        raise MalformedError(name)
    return value


def list_field(holder: JsonObject, name: str) -> list[JsonValue]:
    """The array of that name; raises `MalformedError`."""
    value = holder.get(name)
    if not isinstance(value, list):
        raise MalformedError(name)
    return value


def text_field(holder: JsonObject, name: str) -> str:
    """The string of that name; raises `MalformedError`."""
    value = holder.get(name)
    if not isinstance(value, str):
        raise MalformedError(name)
    return value


def index_field(holder: JsonObject) -> int:
    """The integer named `index`; raises `MalformedError`."""
    value = holder.get("index")
    if not isinstance(value, int):
        raise MalformedError("index")
    return value
