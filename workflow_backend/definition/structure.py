"""The structure of a workflow: which keys stand where, and of what type their values are.

Every fault becomes a `Problem` with a fix. So that meaning can be checked in the same pass, a
document with structural faults is also given back mended, where that cannot mislead.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from workflow_backend.definition.actions import HttpRequest
from workflow_backend.definition.control import RetryPolicy
from workflow_backend.definition.input_spec import InputSpec
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.definition.problems import Problem, closest, listed

Location = tuple[str | int, ...]

MAX_PROBLEMS = 50


def read_structure(data: Mapping[str, object]) -> tuple[Workflow | None, list[Problem]]:
    """The workflow, and what is wrong with its structure.

    With problems, the workflow is a mended copy for further checks, or None.
    """
    faults = dict(_unknown_keys(data))
    renames = {location: key for location, (_, key) in faults.items()}
    mended = copy.deepcopy(dict(data))
    for location, key in renames.items():
        _rename(mended, location, key)
    problems = {location: problem for location, (problem, _) in faults.items()}
    workflow, errors = _validate(mended)
    for location, problem in errors.items():
        problems.setdefault(location, problem)
    if workflow is None and not any(_misleads(location) for location in errors):
        for location in errors:
            _remove(mended, location)
        workflow, _ = _validate(mended)
    return workflow, list(problems.values())[:MAX_PROBLEMS]


def path_text(location: Location) -> str:
    """A place as it is read in YAML: `steps[1].retry.limit`."""
    text = ""
    for name in location:
        if isinstance(name, int):
            text += f"[{name}]"
        else:
            text += ("." if text else "") + re.sub(r"[^\x20-\x7e]", "?", name)[:64]
    return text


def model_keys(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a mapping as they are written, such as `if` rather than `if_`."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


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
    if kind == "missing":
        return Problem(
            path_text(location[:-1]),
            f"`{name}` is missing.",
            f"Add `{name}: {_example(location)}`.",
        )
    if value is None:
        return Problem(path_text(location), f"`{name}` has no value.", "Give one, or remove it.")
    if kind == "literal_error":
        expected = str(detail["ctx"]["expected"])
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
        return f"Put it in quotes: `{name}: {json.dumps(str(_plain(value)))}`."
    if kind == "string_type" and isinstance(value, dict) and name in {"run", "python"}:
        return f"Write the script as a block: `{name}: |` and the lines indented below."
    if kind == "list_type" and is_scalar:
        return f"Write `{name}: [{_plain(value)}]`."
    if kind == "model_type" and name == "retry" and isinstance(value, int):
        return f"Write `retry: {{limit: {_plain(value)}}}`."
    if kind == "model_type" and name == "http" and isinstance(value, str):
        return f'Write `http: {{url: "{value[:80]}"}}`.'
    if kind == "model_type" and isinstance(value, str) and name in {"string", "number", "integer"}:
        return f"Write `{{type: {name}}}`."
    if kind == "bool_type":
        return f"Write `{name}: true` or `{name}: false`."
    return f"Write {_WANTED[kind]}."


def _unknown_keys(data: object) -> Iterator[tuple[Location, tuple[Problem, str | None]]]:
    """Each key that has no meaning where it stands, and the key that it is renamed to, if any."""
    for location, level, mapping in _mappings(data):
        known = model_keys(_LEVELS[level])
        for key in mapping:
            if key in known:
                continue
            place = (*location, key)
            reason, fix, meant = _explain_key(key, mapping, level, known)
            yield place, (Problem(path_text(place), reason, fix), meant)


def _explain_key(
    key: str, mapping: Mapping[str, object], level: str, known: tuple[str, ...]
) -> tuple[str, str, str | None]:
    reason = f"`{key[:64]}` is no key of {_PLACES[level]}."
    meant = _OTHER_NAMES.get(level, {}).get(key.lower().replace("_", "").replace("-", ""))
    if meant is not None:
        fix = f"`{meant}` is there already; remove this." if meant in mapping else f"Use `{meant}`."
        return reason, fix, meant
    for other, model in _LEVELS.items():
        if key not in model_keys(model) or (level, other) not in _MOVES:
            continue
        shown = f"`{_MOVES[level, other].format(key=key, value=_plain(mapping[key]))}`"
        return (
            f"`{key}` belongs to {_PLACES[other]}, not {_PLACES[level]}.",
            f"Write {shown}.",
            None,
        )
    other_names = _OTHER_NAMES.get(level, {})
    near = closest(key, [*known, *other_names])
    if near is not None:
        meant = other_names.get(near, near)
        return reason, f"Did you mean `{meant}`?", meant
    return reason, f"Remove it; the keys here are {listed(known, 20)}.", None


def _mappings(data: object) -> Iterator[tuple[Location, str, Mapping[str, object]]]:
    """Every mapping of the document whose keys are fixed, with its place and level."""
    if not isinstance(data, dict):
        return
    yield (), "workflow", data
    inputs = data.get("inputs")
    for name, spec in inputs.items() if isinstance(inputs, dict) else ():
        if isinstance(spec, dict):
            yield ("inputs", name), "input", spec
    steps = data.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        if not isinstance(step, dict):
            continue
        yield ("steps", index), "step", step
        for key in ("retry", "http"):
            if isinstance(step.get(key), dict):
                yield ("steps", index, key), key, step[key]


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
    names = {name for name in location if isinstance(name, str)}
    return bool(names & {"name", "depends", "run", "python", "http", "needs_command"}) or (
        len(location) <= 2 and bool(names & {"steps", "inputs", "env"})
    )


def _example(location: Location) -> str:
    for model in _LEVELS.values():
        field = model.model_fields.get(str(location[-1]))
        if field is not None and field.examples:
            return _plain(field.examples[0])
    return "..."


def _plain(value: object) -> str:
    """The value as one would write it in YAML's flow style, cut."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_./:-]{1,80}", value):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)[:80]
    except (TypeError, ValueError):
        return "..."


def _shown(value: object) -> str:
    return f"`{_plain(value)}`"


def _kind(value: object) -> str:
    for kind, word in _KINDS.items():
        if isinstance(value, kind):
            return f"{word} {_shown(value)}" if kind not in {dict, list} else word
    return "another type"


_LEVELS: dict[str, type[BaseModel]] = {
    "workflow": Workflow,
    "input": InputSpec,
    "step": Step,
    "retry": RetryPolicy,
    "http": HttpRequest,
}
_PLACES = {
    "workflow": "the top level",
    "input": "an input",
    "step": "a step",
    "retry": "`retry` of a step",
    "http": "`http` of a step",
}
# From the level where a key was found to the level it belongs to: how it is written there.
_MOVES = {
    ("step", "retry"): "retry: {{{key}: {value}}}",
    ("step", "http"): "http: {{{key}: {value}}}",
    ("step", "workflow"): "{key}: {value}` at the top level, outside `steps",
    ("workflow", "step"): "steps: [{{name: first, {key}: {value}}}]",
    ("workflow", "retry"): "retry: {{{key}: {value}}}` in the step that it is for, not `{key}",
    ("retry", "step"): "{key}: {value}` beside `retry",
    ("http", "step"): "{key}: {value}` beside `http",
    ("http", "retry"): "retry: {{{key}: {value}}}` beside `http",
}
# What other workflow formats call the same thing.
_OTHER_NAMES = {
    "workflow": {
        "params": "inputs", "parameters": "inputs", "jobs": "steps", "tasks": "steps",
        "environment": "env", "variables": "env", "concurrency": "max_parallel",
        "title": "name", "cwd": "working_dir",
    },
    "step": {
        "id": "name", "title": "name", "needs": "depends", "dependson": "depends",
        "dependencies": "depends", "after": "depends", "command": "run", "cmd": "run",
        "script": "run", "bash": "run", "sh": "run", "commands": "run", "when": "if",
        "condition": "if", "preconditions": "if", "environment": "env", "cwd": "working_dir",
        "workdir": "working_dir", "dir": "working_dir", "workingdirectory": "working_dir",
        "timeoutseconds": "timeout", "timeoutminutes": "timeout", "timeoutsec": "timeout",
        "retries": "retry", "retrypolicy": "retry", "continueon": "continue_on_error",
        "continueonfailure": "continue_on_error", "ignoreerrors": "continue_on_error",
        "allowfailure": "continue_on_error", "request": "http",
    },
    "retry": {
        "attempts": "limit", "maxattempts": "limit", "count": "limit", "max": "limit",
        "retries": "limit", "times": "limit", "maxretries": "limit", "delay": "interval",
        "intervalsec": "interval", "wait": "interval", "multiplier": "backoff",
        "factor": "backoff", "maxdelay": "max_interval", "exitcodes": "on_exit_codes",
        "exitcode": "on_exit_codes",
    },
    "http": {
        "uri": "url", "endpoint": "url", "verb": "method", "data": "body", "payload": "json",
        "status": "expect_status", "expectedstatus": "expect_status",
        "redirects": "follow_redirects",
    },
    "input": {
        "value": "default", "options": "enum", "choices": "enum", "values": "enum",
        "min": "minimum", "max": "maximum", "regex": "pattern",
    },
}  # fmt: skip
_DURATIONS = {"timeout", "interval", "max_interval"}
_WANTED = {
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
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
