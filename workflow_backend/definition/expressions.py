"""Expressions: `${{ CEL }}` in texts, and bare CEL in `if`.

CEL (Common Expression Language, cel.dev) is total and has no side effects. The names known in an
expression are `inputs`, `steps`, `env`, `secrets` and `run`; in `if` also the functions
`success()`, `failure()` and `always()`. The Rust library is used behind this module alone.

Guarantees: an expression is short, shallow and bounded in the work that it can ask for, whatever
the data; a value that was put into a text is never read as an expression again.

Call `evaluate` and `render` on the main thread: the parser recurses on the machine stack, and the
length cap is measured against the main thread's.
"""

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Protocol

from workflow_backend.definition.expression_tokens import (
    MAX_EXPRESSION_CHARACTERS,
    ExpressionError,
    Reference,
    Shape,
    normalise,
    read_shape,
)

MAX_TEMPLATE_PARTS = 400
MAX_WORK = 100_000_000
MAX_VALUE_DEPTH = 64
OPEN, CLOSE = "${{", "}}"
STATUS_FUNCTIONS = frozenset({"success", "failure", "always"})

_OPENING = re.compile(r"(\$+)\{\{")

Context = Mapping[str, object]
Functions = Mapping[str, Callable[[], bool]]


@dataclass(frozen=True, slots=True)
class Literal:
    """A part of a template that is text."""

    text: str


@dataclass(frozen=True, slots=True)
class Expression:
    """A part of a template that is computed: the CEL between `${{` and `}}`."""

    source: str


def evaluate(expression: str, context: Context, functions: Functions | None = None) -> object:
    """The value of one CEL expression, as JSON types.

    `context` maps the roots (`inputs`, `steps`, ...) to plain JSON values.

    Raises:
        ExpressionError: It does not parse, is over a cap, names something that is not there, or
            its operand types do not fit. The message says which.
    """
    source = normalise(expression)
    shape = read_shape(source)
    _bound_work(shape, context)
    roots = {reference.path[0] for reference in shape.references}
    variables = {root: context[root] for root in roots if root in context}
    cel = _cel()
    try:
        value = _compile(source).execute(cel.Context(variables, dict(functions or {})))
    except KeyError as error:
        raise ExpressionError(_missing_key(error, shape, context), expression) from error
    except (ValueError, TypeError, RuntimeError, ArithmeticError, IndexError) as error:
        raise ExpressionError(_first_sentences(error), expression) from error
    return _to_json(value, expression)


def evaluate_condition(text: str, context: Context, *, succeeded: bool, failed: bool) -> bool:
    """Whether a step with this `if` runs; the text is bare CEL or one whole `${{ }}`.

    `succeeded`: every step that it depends on succeeded; `failed`: at least one failed. Without a
    call of a status function the condition counts only if `succeeded`, as if it began with
    `success() &&`.

    Raises:
        ExpressionError: As `evaluate`, or the value is no boolean.
    """
    source = condition_source(text)
    if not succeeded and not STATUS_FUNCTIONS & set(read_shape(normalise(source)).functions):
        return False
    functions: Functions = {
        "success": lambda: succeeded,
        "failure": lambda: failed,
        "always": lambda: True,
    }
    value = evaluate(source, context, functions)
    if not isinstance(value, bool):
        raise ExpressionError(
            f"`if` needs true or false, but the value is {to_text(value)[:80]!r}; compare it,"
            " such as `... == 'yes'`",
            source,
        )
    return value


def condition_source(text: str) -> str:
    """The CEL of an `if`, whether or not it is written inside `${{ }}`."""
    stripped = text.strip()
    if stripped.startswith(OPEN) and stripped.endswith(CLOSE) and stripped.count(OPEN) == 1:
        return stripped[len(OPEN) : -len(CLOSE)].strip()
    return stripped


def render(template: str, context: Context, *, keep_secrets: bool = False) -> object:
    """The template with its expressions replaced by their values.

    A template that is one whole `${{ }}` keeps the type of its value; any other becomes text. With
    `keep_secrets` the answer is text and a template again: `${{ secrets.NAME }}` stays, and all
    else in it is escaped, so that `resolve_secrets` can never take data for a reference.

    Raises:
        ExpressionError: As `evaluate`, or the template is malformed.
    """
    parts = parse_template(template)
    whole = _whole_expression(parts)
    if whole is not None and not keep_secrets:
        return evaluate(whole, context)
    rendered, text = "", ""
    for part in parts if whole is None else [Expression(whole)]:
        if isinstance(part, Literal):
            text += part.text
        elif keep_secrets and secret_name(part.source):
            rendered += _escape(text, before_expression=True) + f"{OPEN} {part.source} {CLOSE}"
            text = ""
        else:
            text += to_text(evaluate(part.source, context))
    return rendered + _escape(text) if keep_secrets else text


def resolve_secrets(template: str, secrets: Mapping[str, str]) -> str:
    """The text of what `render(..., keep_secrets=True)` gave, with the secrets put in.

    Raises:
        ExpressionError: A secret is not in `secrets`; the message names it, never a value.
    """
    rendered = []
    for part in parse_template(template):
        if isinstance(part, Literal):
            rendered.append(part.text)
            continue
        name = secret_name(part.source)
        if name is None or name not in secrets:
            raise ExpressionError(f"there is no secret {name or part.source!r}", part.source)
        rendered.append(secrets[name])
    return "".join(rendered)


def parse_template(template: str) -> list[Literal | Expression]:
    """The parts of a template. `$$` directly before `{{` is one literal `$`.

    Raises:
        ExpressionError: An expression is empty or not closed, or there are too many.
    """
    parts: list[Literal | Expression] = []
    text, at = "", 0
    while opening := _OPENING.search(template, at):
        dollars = len(opening.group(1))
        text += template[at : opening.start()] + "$" * (dollars // 2)
        if dollars % 2 == 0:
            text, at = text + "{{", opening.end()
            continue
        at = _closing(template, opening.end())
        if text:
            parts.append(Literal(text))
        parts.append(Expression(template[opening.end() : at].strip()))
        text, at = "", at + len(CLOSE)
        if len(parts) > MAX_TEMPLATE_PARTS:
            raise ExpressionError("too many expressions in one text; compute it in a step", "")
    if text := text + template[at:]:
        parts.append(Literal(text))
    return parts


def expressions_in(template: str) -> list[str]:
    """The CEL of each expression in the template.

    Raises:
        ExpressionError: As `parse_template`.
    """
    return [part.source for part in parse_template(template) if isinstance(part, Expression)]


def references(expression: str) -> tuple[Reference, ...]:
    """What one CEL expression refers to, such as `steps.check.outputs.stdout`.

    Raises:
        ExpressionError: It is over a cap.
    """
    return read_shape(normalise(expression)).references


def secret_name(expression: str) -> str | None:
    """NAME, if the expression is exactly `secrets.NAME`."""
    root, dot, name = expression.strip().partition(".")
    if root == "secrets" and dot and name.isidentifier() and name.isascii():
        return name
    return None


def check(expression: str, functions: frozenset[str] = frozenset()) -> Shape:
    """The shape of an expression that parses; what it refers to is not checked.

    Raises:
        ExpressionError: It does not parse, is over a cap, or calls an unknown function.
    """
    source = normalise(expression)
    shape = read_shape(source)
    for name in sorted(STATUS_FUNCTIONS & set(shape.functions) - functions):
        raise ExpressionError(f"{name}() is known in `if` alone", expression)
    try:
        _compile(source)
    except ValueError as error:
        raise ExpressionError(_first_sentences(error), expression) from error
    return shape


def to_text(value: object) -> str:
    """A value as it stands in a text: JSON, but strings as they are and null as nothing."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _whole_expression(parts: list[Literal | Expression]) -> str | None:
    """The CEL of a template that is one expression with nothing but white space around it."""
    full = [part for part in parts if isinstance(part, Expression) or part.text.strip()]
    return full[0].source if len(full) == 1 and isinstance(full[0], Expression) else None


def _escape(text: str, *, before_expression: bool = False) -> str:
    """The text as a template that renders to itself, also if an expression follows."""
    escaped = _OPENING.sub(r"\1\1{{", text)
    if before_expression:
        escaped += "$" * (len(escaped) - len(escaped.rstrip("$")))
    return escaped


def _closing(template: str, at: int) -> int:
    """Where the `}}` of the expression that begins at `at` stands; not inside a string or map."""
    quote, depth = "", 0
    limit = min(len(template), at + MAX_EXPRESSION_CHARACTERS + 8)
    index = at
    while index < limit:
        character = template[index]
        if quote:
            if character == "\\":
                index += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}" and depth:
            depth -= 1
        elif template.startswith(CLOSE, index):
            return index
        index += 1
    shown = template[at : at + 40].strip()
    if limit < len(template):
        raise ExpressionError(
            f"`${{{{ {shown} ...` does not end within {MAX_EXPRESSION_CHARACTERS} characters", shown
        )
    raise ExpressionError(
        f"`${{{{ {shown}` is not closed; end it with `}}}}`, or write `$${{{{` for a literal", shown
    )


def _bound_work(shape: Shape, context: Context) -> None:
    """Refuse an expression whose macros over this data could take too long or too much memory."""
    items, size = 0, 0
    for reference in shape.references:
        found_items, found_size = _measure(_reach(reference, context), shape.source)
        items, size = max(items, found_items), max(size, found_size)
    repeats = max(items, shape.literal_items, 1) ** shape.macro_depth
    work = repeats * (size + len(shape.source)) * (1 + shape.additions)
    if work > MAX_WORK:
        raise ExpressionError(
            f"it could take {work:.0e} operations over data of {items} items; the limit is"
            f" {MAX_WORK:.0e}: do this in a `python` step",
            shape.source,
        )


def _reach(reference: Reference, context: Context) -> object:
    """The value that the reference names, or as much of the way to it as is there."""
    value: object = context
    for name in reference.path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def _measure(value: object, source: str) -> tuple[int, int]:
    """The most items in one list or map inside the value, and the value's size in bytes."""
    items, size = 0, 0
    pending = [(value, 0)]
    while pending:
        current, depth = pending.pop()
        if depth > MAX_VALUE_DEPTH:
            raise ExpressionError(f"the data is nested over {MAX_VALUE_DEPTH} levels", source)
        if isinstance(current, str):
            size += len(current)
        elif isinstance(current, (Mapping, list, tuple)):
            items, size = max(items, len(current)), size + 16 * len(current)
            values = current.values() if isinstance(current, Mapping) else current
            pending.extend((inner, depth + 1) for inner in values)
    return items, size


def _missing_key(error: KeyError, shape: Shape, context: Context) -> str:
    """Say which name of which reference is not there, and which names are."""
    for reference in shape.references:
        value: object = context
        for index, name in enumerate(reference.path):
            if not isinstance(value, Mapping):
                break
            if name not in value:
                there = ", ".join(sorted(map(str, value))[:12]) or "nothing"
                where = ".".join(reference.path[:index]) or "the expression's names"
                return f"`{reference}` has no value: {where} holds {there}"
            value = value[name]
    return f"there is no key {error.args[0] if error.args else error}"


def _first_sentences(error: Exception) -> str:
    """The library's message, without the drawing that follows a syntax error, bounded."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith("|")]
    return " ".join(lines)[:400] if lines else type(error).__name__


def _to_json(value: object, expression: str, depth: int = 0) -> object:
    """A CEL value as JSON types; times become RFC 3339 text, durations seconds."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError("the value is not a finite number", expression)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth > MAX_VALUE_DEPTH:
        raise ExpressionError(f"the value is nested over {MAX_VALUE_DEPTH} levels", expression)
    if isinstance(value, Mapping):
        return {str(key): _to_json(item, expression, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item, expression, depth + 1) for item in value]
    return _scalar_to_json(value, expression)


def _scalar_to_json(value: object, expression: str) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise ExpressionError(f"the value is of the type {type(value).__name__}", expression)


class _Program(Protocol):
    """What is used of the library's compiled expression."""

    def execute(self, context: object) -> object: ...


@functools.lru_cache(maxsize=512)
def _compile(source: str) -> _Program:
    program: _Program = _cel().compile(source)
    return program


@functools.cache
def _cel() -> ModuleType:
    """The library's extension module alone, at the first use.

    The package's `__init__` imports its command line as well (typer, rich, prompt_toolkit): 0.2 s
    and 24 MB that nobody here uses.
    """
    package = find_spec("cel")
    spec = PathFinder.find_spec("cel.cel", package.submodule_search_locations) if package else None
    if spec is None or spec.loader is None:
        raise RuntimeError("the package common-expression-language is not installed")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
