"""What an agent answers when its step has an `output_schema`: asked for, read, judged. Pure.

Source: OpenAI API reference, "Create chat completion", `response_format`, and the guide "Structured
model outputs", section "Supported schemas", 2026-11.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import islice

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from workflow_backend.definition.json_schemas import JsonSchemaError, check_json_schema
from workflow_backend.json_depth import MAX_DEPTH, is_too_deep
from workflow_backend.steps.run_folder import StepSetupError

MAX_FAULTS = 8
MAX_FAULT_CHARACTERS = 300

# Keywords that the strict mode takes of every model; not so `oneOf` or `minLength`.
_STRICT_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"}
) | {"$defs", "$ref", "description", "title"}
_FENCE = "```"


class AnswerFaultsError(Exception):
    """The answer does not fit the schema; the message has a line for each fault."""


def check_schema(schema: Mapping[str, object]) -> None:
    """Refuse a schema that is none, or that leads to something outside: nothing is ever fetched.

    Raises:
        StepSetupError: It is one.
    """
    try:
        check_json_schema(schema)
    except JsonSchemaError as error:
        raise StepSetupError(f"`output_schema`: {error} {error.fix}") from None


def response_format(name: str, schema: Mapping[str, object]) -> dict[str, object]:
    """The schema as a request asks for it, strictly where every model can be held to it."""
    is_strict = schema.get("type") == "object" and _is_strict(schema)
    described = {"name": name, "schema": schema, "strict": is_strict}
    return {"type": "json_schema", "json_schema": described}


def instruction(schema: Mapping[str, object]) -> str:
    """The schema in words, for a model that cannot be asked in any other way."""
    text = json.dumps(schema, ensure_ascii=False)
    return (
        "Answer with one JSON value and nothing else: no prose, no code fence. It must fit this"
        f" JSON Schema:\n{text}"
    )


def read_answer(text: str, schema: Mapping[str, object]) -> object:
    """The JSON value of an answer; a code fence around all of it is taken off.

    The schema is one that `check_schema` takes.

    Raises:
        AnswerFaultsError: It is no JSON, or does not fit.
    """
    try:
        value: object = orjson.loads(_without_fence(text))
    except orjson.JSONDecodeError as error:
        raise AnswerFaultsError(
            f"- the answer is no JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        ) from None
    if is_too_deep(value):
        raise AnswerFaultsError(f"- the answer is nested over {MAX_DEPTH} levels")
    errors = Draft202012Validator(schema).iter_errors(value)
    faults = [_fault(error) for error in islice(errors, MAX_FAULTS)]
    if faults:
        raise AnswerFaultsError("\n".join(faults))
    return value


def repair_request(faults: str, schema: Mapping[str, object]) -> str:
    """What a model is told whose answer does not fit."""
    return f"Your answer does not fit:\n{faults}\n\n{instruction(schema)}"


def _without_fence(text: str) -> str:
    text = text.strip()
    first, _, rest = text.partition("\n")
    if first.startswith(_FENCE) and rest.rstrip().endswith(_FENCE):
        return rest.rstrip().removesuffix(_FENCE)
    return text


def _fault(error: ValidationError) -> str:
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    )
    message = error.message
    if len(message) > MAX_FAULT_CHARACTERS:
        message = f"{message[:MAX_FAULT_CHARACTERS]} ..."
    return f"- at {place.removeprefix('.') or 'the top'}: {message}"


def _is_strict(schema: object) -> bool:
    """Whether the schema is in the part that the strict mode takes."""
    if not isinstance(schema, Mapping) or not _STRICT_KEYWORDS.issuperset(schema):
        return False
    properties = schema.get("properties", {})
    if schema.get("type") == "object" or "properties" in schema:
        required = schema.get("required", [])
        if schema.get("additionalProperties") is not False or set(properties) != set(required):
            return False
    return all(map(_is_strict, _parts(schema)))


def _parts(schema: Mapping[str, object]) -> Iterator[object]:
    for name in ("properties", "$defs"):
        members = schema.get(name, {})
        if isinstance(members, Mapping):
            yield from members.values()
    if "items" in schema:
        yield schema["items"]
    choices = schema.get("anyOf", [])
    if isinstance(choices, list):
        yield from choices
