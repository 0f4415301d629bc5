"""The body of a request as a JSON object, or an error that says where it is not one."""

import orjson

from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue

MAX_DEPTH = 64
# Each object and list becomes one of Python's: a body of nothing else ("[],[],[]") holds all
# other requests up for seconds. Brackets within texts count too, since telling them apart costs as
# much as parsing; no context window has room for a text with so many.
MAX_BRACKETS = 500_000


def read_json_object(body: bytes) -> JsonObject:
    """The object that the body holds, nested `MAX_DEPTH` deep at most.

    Of a key that occurs twice the last value counts, here and in all that is sent on: the body
    itself is never passed to anybody.

    Raises:
        InvalidRequestError: no JSON (RFC 8259), no object, nested too deeply, or with too many
            objects and lists.
    """
    value = read_json(body)
    if not isinstance(value, dict):
        raise InvalidRequestError(
            'The body must be a JSON object, such as {"messages": [...]}.', code="invalid_json"
        )
    return value


def read_json(body: bytes) -> JsonValue:
    """Any value that the body holds; raises as `read_json_object` but for what is no object."""
    brackets = body.count(b"{") + body.count(b"[")
    if brackets > MAX_BRACKETS:
        raise InvalidRequestError(
            f"The body has {brackets} opening brackets; the server reads at most {MAX_BRACKETS}.",
            code="invalid_json",
        )
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise _malformed(body, exc) from exc
    # Fewer brackets than that cannot nest deeper, and most bodies have fewer.
    if brackets > MAX_DEPTH and isinstance(value, dict | list):
        _check_depth(value)
    return value


def _malformed(body: bytes, exc: orjson.JSONDecodeError) -> InvalidRequestError:
    if not body.strip():
        message = "The body is empty; send a JSON object."
    elif (position := _first_bad_byte(body)) is not None:
        message = f"The body is not UTF-8 (byte {position}); send the JSON in UTF-8."
    elif "depth limit" in exc.msg:
        return _too_deep()
    else:
        message = (
            f"The body is not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno} "
            f"(character {exc.pos})."
        )
    return InvalidRequestError(message, code="invalid_json")


def _first_bad_byte(body: bytes) -> int | None:
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        return exc.start
    return None


def _check_depth(value: JsonObject | list[JsonValue]) -> None:
    level: list[JsonObject | list[JsonValue]] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> InvalidRequestError:
    return InvalidRequestError(
        f"The body is nested more than {MAX_DEPTH} levels deep; send a flatter one.",
        code="invalid_json",
    )
