"""The values of inputs: whether they fit, and what they become."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from workflow_backend.definition.expression_tokens import ExpressionError
from workflow_backend.definition.expressions import evaluate
from workflow_backend.definition.input_spec import InputSpec
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.problems import InvalidWorkflowError, Problem, closest, listed

MAX_INPUT_BYTES = 256 * 1024
MAX_PATTERN_CHARACTERS = 500
MAX_PATTERNS = 20

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_EXAMPLES = {
    "string": '"text"',
    "integer": "3",
    "number": "1.5",
    "boolean": "true",
    "array": '["a", "b"]',
    "object": '{"key": "value"}',
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a value does not fit, and what would."""

    reason: str
    fix: str


def validate_inputs(workflow: Workflow, given: Mapping[str, object]) -> dict[str, object]:
    """Every declared input with its value: given, default or None.

    Text that a command line gave for a number, boolean, list or object is read as JSON; nothing
    else is converted.

    Raises:
        InvalidWorkflowError: With a problem for each unknown, missing or unfit input.
    """
    resolved, problems = resolve_inputs(workflow, given)
    if problems:
        raise InvalidWorkflowError(problems)
    return resolved


def resolve_inputs(
    workflow: Workflow, given: Mapping[str, object]
) -> tuple[dict[str, object], list[Problem]]:
    """As `validate_inputs`, but with the problems beside what could be resolved."""
    return resolve_values(workflow.inputs, given, "inputs", "the workflow has no such input.")


def resolve_values(
    specs: Mapping[str, InputSpec], given: Mapping[str, object], place: str, unknown: str
) -> tuple[dict[str, object], list[Problem]]:
    """The value of each spec, and what is wrong; `place` is where they are given.

    `unknown` is said of a name that no spec has.
    """
    problems = [_unknown_value(name, specs, place, unknown) for name in given if name not in specs]
    resolved: dict[str, object] = {}
    for name, spec in specs.items():
        path = f"{place}.{name}"
        if given.get(name) is None:
            if spec.required and spec.default is None:
                reason = f"this {place.removesuffix('s')} is required."
                problems.append(Problem(path, reason, f"Give {_EXAMPLES[spec.type]}."))
            resolved[name] = spec.default
            continue
        value = converted(spec, given[name])
        if fault := value_fault(spec, value):
            problems.append(Problem(path, fault.reason, fault.fix))
        resolved[name] = value
    if not problems and len(json.dumps(resolved, ensure_ascii=False)) > MAX_INPUT_BYTES:
        size = f"{MAX_INPUT_BYTES // 1024} KiB"
        problems.append(Problem(place, f"the values are over {size}.", "Pass a file's path."))
    return resolved, problems


def value_fault(spec: InputSpec, value: object) -> Fault | None:
    """Why the value does not fit the input, or None if it does."""
    is_number_like_bool = isinstance(value, bool) and spec.type != "boolean"
    if not isinstance(value, _TYPES[spec.type]) or is_number_like_bool:
        shown = json.dumps(value, default=str)[:60]
        return Fault(f"{shown} is no {spec.type}.", f"Give {_EXAMPLES[spec.type]}.")
    if spec.enum is not None and not any(_same(value, allowed) for allowed in spec.enum):
        allowed = listed(json.dumps(item) for item in spec.enum)
        return Fault(f"{json.dumps(value)[:60]} is not allowed.", f"Use one of {allowed}.")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _bound_fault(spec, value)
    if isinstance(value, str) and spec.pattern is not None and not _matches(spec.pattern, value):
        return Fault(
            f"{json.dumps(value)[:60]} does not match the pattern.",
            f"Give a text that matches {spec.pattern!r}.",
        )
    return None


def given_fault(spec: InputSpec, value: object) -> Fault | None:
    """Why a value that is given for the input, and converted as such, does not fit."""
    return value_fault(spec, converted(spec, value))


def example_of(spec: InputSpec) -> str:
    """A value of the input's type, as it is written."""
    return _EXAMPLES[spec.type]


def check_input(path: str, spec: InputSpec) -> Iterator[Problem]:
    """What is wrong with the declaration of one input, which stands at `path`.

    An `enum` has no `pattern`: a thousand values would each compile it again.
    """
    if fault := _pattern_fault(spec):
        yield Problem(f"{path}.pattern", fault.reason, fault.fix)
        return
    yield from _check_bounds(path, spec)
    if spec.enum is not None and spec.pattern is not None:
        yield Problem(f"{path}.pattern", "`enum` says all already.", "Remove one of the two.")
        return
    if spec.enum is not None and not spec.enum:
        yield Problem(f"{path}.enum", "no value is allowed.", "List the values, or remove it.")
    without_enum = spec.model_copy(update={"enum": None})
    for index, value in enumerate(spec.enum or ()):
        if fault := value_fault(without_enum, value):
            yield Problem(f"{path}.enum[{index}]", fault.reason, fault.fix)
    if spec.default is not None and (fault := value_fault(spec, spec.default)):
        yield Problem(f"{path}.default", f"the default is not valid: {fault.reason}", fault.fix)


def _check_bounds(path: str, spec: InputSpec) -> Iterator[Problem]:
    for key in ("minimum", "maximum"):
        bound: float | None = getattr(spec, key)
        if bound is None:
            continue
        if spec.type not in {"integer", "number"}:
            yield Problem(f"{path}.{key}", f"the type {spec.type} has no {key}.", "Remove it.")
        elif not math.isfinite(bound):
            yield Problem(f"{path}.{key}", "the bound is not finite.", "Remove it.")
    if spec.minimum is not None and spec.maximum is not None and spec.minimum > spec.maximum:
        yield Problem(f"{path}.minimum", "the minimum is over the maximum.", "Swap them.")


def _pattern_fault(spec: InputSpec) -> Fault | None:
    """What is wrong with the input's regular expression.

    It is CEL's (RE2 syntax), whose time is linear in the text: a pattern may come from a model.
    """
    if spec.pattern is None:
        return None
    if spec.type != "string":
        return Fault(f"the type {spec.type} has no pattern.", "Remove it.")
    if len(spec.pattern) > MAX_PATTERN_CHARACTERS:
        return Fault(f"the pattern is over {MAX_PATTERN_CHARACTERS} characters.", "Shorten it.")
    try:
        _matches(spec.pattern, "")
    except ExpressionError as error:
        reason = f"the regular expression is not valid: {str(error)[:200]}"
        return Fault(reason, "Mend it; the syntax is RE2's: no look-around, no back-references.")
    return None


def _bound_fault(spec: InputSpec, value: float) -> Fault | None:
    if not math.isfinite(value):
        return Fault("the number is not finite.", f"Give {_EXAMPLES[spec.type]}.")
    if spec.minimum is not None and value < spec.minimum:
        return Fault(f"{value} is under the minimum.", f"Give {spec.minimum:g} or more.")
    if spec.maximum is not None and value > spec.maximum:
        return Fault(f"{value} is over the maximum.", f"Give {spec.maximum:g} or less.")
    return None


def converted(spec: InputSpec, value: object) -> object:
    """A given value as the input takes it.

    Text is read as JSON where no text is wanted; a whole float becomes an integer.
    """
    if isinstance(value, str) and spec.type != "string" and len(value) <= MAX_INPUT_BYTES:
        try:
            value = json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return value
    if spec.type == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _unknown_value(name: str, specs: Mapping[str, InputSpec], place: str, unknown: str) -> Problem:
    meant = closest(name, specs)
    fix = f"Did you mean `{meant}`?" if meant else f"Leave it out; it has: {listed(specs)}."
    return Problem(f"{place}.{name[:64]}", unknown, fix)


def _same(value: object, allowed: object) -> bool:
    return value == allowed and isinstance(value, bool) == isinstance(allowed, bool)


def _matches(pattern: str, text: str) -> bool:
    context = {"inputs": {"text": text, "pattern": pattern}}
    return evaluate("inputs.text.matches(inputs.pattern)", context) is True
