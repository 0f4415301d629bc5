"""`parse: json`: what a step wrote, read as one JSON value."""

import orjson

from workflow_backend.json_depth import MAX_DEPTH, is_too_deep


class JsonOutputError(ValueError):
    """The text is no JSON; the message says where."""


def parse_json_output(text: str, *, is_truncated: bool) -> object:
    """The value of the text.

    Raises:
        JsonOutputError: The text is no JSON, or was too long to keep whole.
    """
    if is_truncated:
        raise JsonOutputError(
            "`parse: json` needs the whole output, but it is over the limit; write less, or give"
            " the result through $OUTPUT"
        )
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise JsonOutputError(
            f"`parse: json`: the output is no JSON (line {error.lineno}, column {error.colno}:"
            f" {error.msg}); print one JSON value and nothing else"
        ) from error
    if is_too_deep(value):
        raise JsonOutputError(
            f"`parse: json`: the output is nested over {MAX_DEPTH} levels; print a flatter value"
        )
    return value
