"""Readers of single fields, from which the readers of whole bodies are put together.

A reader takes a JSON value and gives what it means, or raises `FieldError`. The name of the field
is added on the way out, level by level, so that a body without faults pays nothing for it.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue

T = TypeVar("T")
Reader: TypeAlias = Callable[[JsonValue], T]
# The field of the JSON object -> the field of ours, and how its value is read.
FieldTable: TypeAlias = Mapping[str, tuple[str, Reader[Any]]]


class FieldError(Exception):
    """A value is not what its field takes; `message` goes on from the field's name."""

    def __init__(self, message: str, path: str | int = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = ""
        if path != "":
            self.under(path)

    def under(self, parent: str | int) -> "FieldError":
        """The same error, seen from one level further out."""
        step = f"[{parent}]" if isinstance(parent, int) else parent
        joint = "." if self.path and not self.path.startswith("[") else ""
        self.path = f"{step}{joint}{self.path}"
        return self

    def to_request_error(self) -> InvalidRequestError:
        """The error for the caller; `param` is the whole path of the field."""
        return InvalidRequestError(f"`{self.path}` {self.message}", param=self.path)


def read_fields(data: JsonObject, table: FieldTable) -> tuple[dict[str, Any], JsonObject]:
    """The values of the fields that the table knows, by our names, and all other fields.

    A null counts as a field that is not there: clients post back what they got, nulls included.
    """
    values: dict[str, Any] = {}
    others: JsonObject = {}
    for key, value in data.items():
        if value is None:
            continue
        field = table.get(key)
        if field is None:
            others[key] = value
            continue
        try:
            values[field[0]] = field[1](value)
        except FieldError as exc:
            raise exc.under(key) from None
    return values, others


def read_member(data: JsonObject, key: str, reader: Reader[T]) -> T:
    """The value of a field that must be there."""
    value = data.get(key)
    if value is None:
        raise FieldError("is missing", key)
    try:
        return reader(value)
    except FieldError as exc:
        raise exc.under(key) from None


def require(values: Mapping[str, Any], field: str, path: str, hint: str) -> None:
    """Refuse an object that came without this field; `hint` says what it must be."""
    if field not in values:
        raise FieldError(f"is missing; {hint}", path)


def read_items(value: JsonValue, reader: Reader[T], most: int) -> list[T]:
    """The items of a list of at most `most`."""
    if not isinstance(value, list):
        raise FieldError(f"must be a list, not {kind(value)}")
    if len(value) > most:
        raise FieldError(f"has {len(value)} items; the server takes at most {most}")
    items: list[T] = []
    for index, item in enumerate(value):
        try:
            items.append(reader(item))
        except FieldError as exc:
            raise exc.under(index) from None
    return items


def json_object(value: JsonValue) -> JsonObject:
    """An object as it is."""
    if isinstance(value, dict):
        return value
    raise FieldError(f"must be an object, not {kind(value)}")


def string(value: JsonValue) -> str:
    """Any string."""
    if isinstance(value, str):
        return value
    raise FieldError(f"must be a string, not {kind(value)}")


def name(value: JsonValue) -> str:
    """A string that is not empty."""
    if string(value):
        return str(value)
    raise FieldError("must not be empty")


def boolean(value: JsonValue) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise FieldError(f"must be true or false, not {kind(value)}")


def integer(lowest: int | None = None, highest: int | None = None) -> Reader[int]:
    """A reader of integers between these bounds, both included."""

    def read(value: JsonValue) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise FieldError(f"must be an integer, not {kind(value)}")
        _check_range(value, lowest, highest)
        return value

    return read


def number(lowest: float, highest: float) -> Reader[float]:
    """A reader of numbers between these bounds, both included."""

    def read(value: JsonValue) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FieldError(f"must be a number, not {kind(value)}")
        _check_range(value, lowest, highest)
        return value

    return read


def replaced(by: str) -> Reader[None]:
    """A reader that refuses a field of the past and names the one of today."""

    def read(_value: JsonValue) -> None:
        raise FieldError(f"was replaced in OpenAI's API; use `{by}`")

    return read


def kind(value: JsonValue) -> str:
    """What sort of JSON value this is, for a message."""
    return _KINDS[type(value)]


def _check_range(value: float, lowest: float | None, highest: float | None) -> None:
    if lowest is not None and value < lowest:
        raise FieldError(f"must be at least {lowest}, not {value}")
    if highest is not None and value > highest:
        raise FieldError(f"must be at most {highest}, not {value}")


_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}
