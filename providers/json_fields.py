"""Checked reading of parsed JSON, for a wire that must not trust what it reads, and its writing."""

import orjson

from streaming.errors import InvalidRequestError
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


def index_field(holder: JsonObject, name: str = "index") -> int:
    """The integer of that name; raises `MalformedError`."""
    value = holder.get(name)
    if not isinstance(value, int):
        raise MalformedError(name)
    return value


def to_bytes(body: JsonObject) -> bytes:
    """The JSON text of a request; raises `InvalidRequestError` for what JSON cannot say."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as exc:
        raise InvalidRequestError(f"the request cannot be written as JSON: {exc}") from exc
