"""The arguments of a tool call, read from what a model wrote and held against the tool's schema."""

import json
from typing import cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from streaming.events import JsonObject

_MAX_REASON_CHARACTERS = 500


class ArgumentsError(Exception):
    """The arguments are no JSON object, or not what the schema says; the text is for the model."""


def read_arguments(text: str, schema: JsonObject) -> JsonObject:
    """The arguments as an object; an empty text means none.

    Raises:
        ArgumentsError: says where and why, so that a model can repair its call.
    """
    try:
        arguments = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as exc:
        raise ArgumentsError(f"The arguments are not valid JSON: {exc}.") from exc
    if not isinstance(arguments, dict):
        raise ArgumentsError("The arguments must be one JSON object.")
    problem = _problem(arguments, schema)
    if problem:
        raise ArgumentsError(problem)
    return cast("JsonObject", arguments)


def _problem(arguments: object, schema: JsonObject) -> str | None:
    try:
        Draft202012Validator.check_schema(schema)
        # The empty registry keeps a "$ref" from being fetched.
        validator = Draft202012Validator(schema, registry=Registry())
        error = best_match(validator.iter_errors(arguments))
    except (SchemaError, Unresolvable, RecursionError):
        # A server that lists a broken schema has to check the arguments itself.
        return None
    if error is None:
        return None
    reason = error.message
    if len(reason) > _MAX_REASON_CHARACTERS:
        reason = reason[:_MAX_REASON_CHARACTERS] + "..."
    return f"The argument at {error.json_path} is wrong: {reason}"
