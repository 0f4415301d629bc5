"""The body of `POST /v1/embeddings`, checked before it is relayed.

Source: OpenAI API reference, "Embeddings", "Create embeddings", 2026-10. No other format asks for
embeddings, so the body goes on as it is to upstreams that speak OpenAI's; what is checked here is
what all of them would refuse, so that it is told by its field.
"""

from collections.abc import Callable
from typing import Final

from agent_server.requests.fields import (
    FieldError,
    FieldTable,
    integer,
    kind,
    name,
    read_fields,
    require,
    string,
)
from streaming.events import JsonObject, JsonValue

# OpenAI's own limit; servers that take fewer say so themselves.
MAX_INPUTS: Final = 2048
ENCODING_FORMATS: Final = ("float", "base64")


def check_embeddings(body: JsonObject) -> None:
    """Refuse a body that no upstream can answer; fields that we do not know are theirs to judge.

    Raises:
        InvalidRequestError: a field is missing or wrong; `param` is its path, such as `input[3]`.
    """
    try:
        values, _ = read_fields(body, _FIELDS)
        require(values, "model", "model", "name the model that embeds, such as provider/model")
        require(values, "input", "input", "it is the text to embed, or a list of texts")
    except FieldError as exc:
        raise exc.to_request_error() from None


def _input(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise FieldError(f"must be a string or a list, not {kind(value)}")
    if not value:
        raise FieldError("must hold at least one text")
    first = value[0]
    if _is_token(first):
        # One text, as tokens.
        _check_each(value, _is_token, "a token, a number from 0")
        return value
    if len(value) > MAX_INPUTS:
        raise FieldError(f"has {len(value)} texts; the server takes at most {MAX_INPUTS}")
    if isinstance(first, list):
        _check_each(value, _is_tokens, "a list of tokens, which has at least one")
    else:
        _check_each(value, _is_text, "a string")
    return value


def _check_each(values: list[JsonValue], is_right: Callable[[JsonValue], bool], what: str) -> None:
    for index, value in enumerate(values):
        if not is_right(value):
            given = "an empty one" if value == [] else kind(value)
            raise FieldError(f"must be {what}, not {given}", index)


def _is_text(value: JsonValue) -> bool:
    return isinstance(value, str)


def _is_token(value: JsonValue) -> bool:
    return type(value) is int and value >= 0


def _is_tokens(value: JsonValue) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_token, value))


def _encoding_format(value: JsonValue) -> str:
    given = string(value)
    if given not in ENCODING_FORMATS:
        raise FieldError(f"must be {' or '.join(ENCODING_FORMATS)}, not {given[:80]!r}")
    return given


_FIELDS: FieldTable = {
    "model": ("model", name),
    "input": ("input", _input),
    "encoding_format": ("encoding_format", _encoding_format),
    "dimensions": ("dimensions", integer(1)),
    "user": ("user", string),
}
