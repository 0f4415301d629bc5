"""The structure of a workflow: which keys stand where, and of what type their values are.

Every fault becomes a `Problem` with a fix. So that meaning can be checked in the same pass, a
document with structural faults is also given back mended, where that cannot mislead.
"""

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from workflow_backend.definition.level_names import LEVELS
from workflow_backend.definition.levels import (
    Location,
    model_keys,
    path_text,
    plain_value,
    unknown_keys,
)
from workflow_backend.definition.model import ACTIONS, Workflow
from workflow_backend.definition.problems import Problem, closest

__all__ = ["MAX_PROBLEMS", "model_keys", "path_text", "read_structure"]

MAX_PROBLEMS = 50


def read_structure(data: Mapping[str, object]) -> tuple[Workflow | None, list[Problem]]:
    """The workflow, and what is wrong with its structure.

    With problems, the workflow is a mended copy for further checks, or None.
    """
    problems: dict[Location, Problem] = {}
    mended = copy.deepcopy(dict(data))
    for location, problem, key in unknown_keys(data):
        problems[location] = problem
        _rename(mended, location, key)
    workflow, errors = _validate(mended)
    for location, problem in errors.items():
        problems.setdefault(location, problem)
    if workflow is None and not any(_misleads(location) for location in errors):
        for location in errors:
            _remove(mended, location)
        workflow, _ = _validate(mended)
    return workflow, list(problems.values())[:MAX_PROBLEMS]


def _validate(data: dict[str, object]) -> tuple[Workflow | None, dict[Location, Problem]]:
    try:
        return Workflow.model_validate(data), {}
    except ValidationError as error:
        problems: dict[Location, Problem] = {}
        for detail in error.errors(include_url=False, include_context=True):
            location = _within(data, detail["loc"], missing=detail["type"] == "missing")
            problems.setdefault(location, _problem(location, dict(detail)))
        return None, problems


def _within(data: object, location: Location, *, missing: bool) -> Location:
    """The location without what pydantic adds for the members of a union."""
    value, known = data, 0
    for name in location:
        try:
            value = value[name]  # type: ignore[index]  # a failure is the answer
        except (KeyError, IndexError, TypeError):
            break
        known += 1
    return location if missing else location[:known]


def _problem(location: Location, detail: Mapping[str, Any]) -> Problem:
    name = str(location[-1]) if location else "workflow"
    kind, value = str(detail["type"]), detail.get("input")
    if name in _UNIONS and kind != "missing":
        kind = _UNIONS[name]
    if kind == "missing":
        return Problem(
            path_text(location[:-1]),
            f"`{name}` is missing.",
            f"Add `{name}: {_example(location)}`.",
        )
    if value is None:
        return Problem(path_text(location), f"`{name}` has no value.", "Give one, or remove it.")
    if kind == "literal_error":
        expected = str(detail["ctx"]["expected"]).replace("True", "true")
        meant = closest(str(value), re.findall(r"'([^']*)'", expected))
        fix = f"Write `{name}: {meant}`." if meant else f"Use one of {expected}."
        return Problem(path_text(location), f"{_shown(value)} is none of {expected}.", fix)
    wanted = _WANTED.get(kind)
    if wanted is None:
        reason = str(detail["msg"])
        return Problem(path_text(location), f"{reason}; it is {_shown(value)}.", f"{reason}.")
    return Problem(
        path_text(location),
        f"`{name}` needs {wanted}, but is {_kind(value)}.",
        _type_fix(kind, name, value),
    )


def _type_fix(kind: str, name: str, value: object) -> str:
    is_scalar = isinstance(value, (str, int, float, bool))
    if kind == "string_type" and name in _DURATIONS and type(value) in {int, float}:
        return f'Write it with its unit: `{name}: "{value}s"`.'
    if kind == "string_type" and is_scalar:
        return f"Put it in quotes: `{name}: {json.dumps(str(plain_value(value)))}`."
    if kind == "string_type" and isinstance(value, dict) and name in {"run", "python"}:
        return f"Write the script as a block: `{name}: |` and the lines indented below."
    if kind == "list_type" and is_scalar:
        return f"Write `{name}: [{plain_value(value)}]`."
    if name == "concurrency" and type(value) is int:
        return f"To bound the steps at the same time, write `max_parallel: {value}`."
    if kind == "model_type" and name in _SHORT_FORMS:
        key, wanted = _SHORT_FORMS[name]
        if type(value) is wanted:
            shown = json.dumps(value, ensure_ascii=False)
            return f"Write `{name}: {{{key}: {shown if len(shown) < 100 else '...'}}}`."
    if kind == "model_type" and isinstance(value, str) and name in {"string", "number", "integer"}:
        return f"Write `{{type: {name}}}`."
    if kind == "bool_type":
        return f"Write `{name}: true` or `{name}: false`."
    return f"Write {_WANTED[kind]}."


def _rename(data: dict[str, object], location: Location, key: str | None) -> None:
    """Give the unknown key its meant name in the mended copy, or take it out."""
    holder = _holder(data, location)
    value = holder.pop(str(location[-1]))
    if key is not None and key not in holder:
        holder[key] = [value] if key == "depends" and isinstance(value, str) else value


def _remove(data: dict[str, object], location: Location) -> None:
    """Take the faulty value out of the mended copy, with the list that it stands in."""
    while location and isinstance(location[-1], int):
        location = location[:-1]
    if location:
        _holder(data, location).pop(str(location[-1]), None)


def _holder(data: dict[str, object], location: Location) -> dict[str, object]:
    value: Any = data
    for name in location[:-1]:
        value = value[name]
    return value if isinstance(value, dict) else {}


def _misleads(location: Location) -> bool:
    """Whether checks of meaning without this value would blame something else."""
    if location[:1] == ("workflows",):
        location = location[2:]
    names = [name for name in location if isinstance(name, str)]
    if not names or names[-1] in _MISLEADING:
        return True
    return len(location) <= 2 and names[0] in _NAMED_ELSEWHERE


def _example(location: Location) -> str:
    for model in LEVELS.values():
        field = model.model_fields.get(str(location[-1]))
        if field is not None and field.examples:
            return plain_value(field.examples[0])
    return "..."


def _shown(value: object) -> str:
    return f"`{plain_value(value)}`"


def _kind(value: object) -> str:
    for kind, word in _KINDS.items():
        if isinstance(value, kind):
            return f"{word} {_shown(value)}" if kind not in {dict, list} else word
    return "another type"


_DURATIONS = {"timeout", "interval", "max_interval", "for", "catch_up"}
# Keys whose values may be of two types.
_UNIONS = {"foreach": "items_type", "matrix": "dict_type"}
# What a mapping that was written as a single value most likely means.
_SHORT_FORMS: dict[str, tuple[str, type]] = {
    "retry": ("limit", int),
    "http": ("url", str),
    "approval": ("message", str),
    "wait": ("for", str),
    "agent": ("prompt", str),
    "workflow": ("ref", str),
    "container": ("image", str),
    "repeat": ("until", str),
    "schedule": ("cron", str),
    "concurrency": ("group", str),
}
_NAMED_ELSEWHERE = {"steps", "on_failure", "finally", "inputs", "env"}
_MISLEADING = {
    "name", "depends", "foreach", "matrix", "form", "output_schema", "ref", "inputs", "type",
    "for", "signal", "webhook", *ACTIONS,
}  # fmt: skip
_WANTED = {
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "items_type": "a list, or a whole `${{ }}` that gives one",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
_KINDS: dict[type, str] = {
    bool: "the boolean",
    str: "the text",
    int: "the number",
    float: "the number",
    dict: "a mapping",
    list: "a list",
}
