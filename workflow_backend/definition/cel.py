"""One CEL expression: what it refers to, and its value.

CEL (Common Expression Language, cel.dev) is total and has no side effects. The Rust library is
used behind this module alone.

Guarantee: an expression is short, shallow and bounded in the work that it can ask for, whatever
the data.

Call `evaluate` and `check` on the main thread: the parser recurses on the machine stack, and the
length cap is measured against the main thread's.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from operator import itemgetter
from types import ModuleType
from typing import Protocol

from workflow_backend.definition.expression_tokens import (
    ROOTS,
    ExpressionError,
    Reference,
    Shape,
    normalise,
    read_shape,
)

MAX_WORK = 100_000_000
MAX_VALUE_DEPTH = 64
MATCH_WORK_PER_CHARACTER = 1_000
COSTLY_MATCH_WORK = 5_000_000
STATUS_FUNCTIONS = frozenset({"success", "failure", "always"})

_MATCHES = re.compile(r"""\bmatches\s*\(\s*(?:[rR]?(?P<pattern>'[^']*'|"[^"]*")\s*\))?""")
_COSTLY = re.compile(r"\\[0-9A-Za-z]|\{.*\{|\{[^}]*[0-9]{3}", re.DOTALL)

Context = Mapping[str, object]
Functions = Mapping[str, Callable[[], bool]]


def evaluate(
    expression: str,
    context: Context,
    functions: Functions | None = None,
    roots: frozenset[str] = ROOTS,
) -> object:
    """The value of one CEL expression, as JSON types.

    `context` maps the roots (`inputs`, `steps`, ...) to plain JSON values; `roots` are the names
    that it may have.

    Raises:
        ExpressionError: It does not parse, is over a cap, names something that is not there, or
            its operand types do not fit. The message says which.
    """
    source = normalise(expression)
    shape = read_shape(source, roots)
    _bound_work(shape, context)
    named = {reference.path[0] for reference in shape.references}
    variables = {root: context[root] for root in named if root in context}
    cel = _cel()
    try:
        value = _compile(source).execute(cel.Context(variables, dict(functions or {})))
    except KeyError as error:
        raise ExpressionError(_missing_key(error, shape, context), expression) from error
    except (ValueError, TypeError, RuntimeError, ArithmeticError, IndexError) as error:
        raise ExpressionError(_first_sentences(error), expression) from error
    return _to_json(value, expression)


def references(expression: str) -> tuple[Reference, ...]:
    """What one CEL expression refers to, such as `steps.check.outputs.stdout`.

    Raises:
        ExpressionError: It is over a cap.
    """
    return read_shape(normalise(expression)).references


def check(
    expression: str, functions: frozenset[str] = frozenset(), roots: frozenset[str] = ROOTS
) -> Shape:
    """The shape of an expression that parses; what it refers to is not checked.

    Raises:
        ExpressionError: It does not parse, is over a cap, or calls an unknown function.
    """
    source = normalise(expression)
    shape = read_shape(source, roots)
    for name in sorted(STATUS_FUNCTIONS & set(shape.functions) - functions):
        raise ExpressionError(f"{name}() is known in `if` alone", expression)
    try:
        _compile(source)
    except ValueError as error:
        raise ExpressionError(_first_sentences(error), expression) from error
    return shape


def _bound_work(shape: Shape, context: Context) -> None:
    """Refuse an expression whose macros over this data could take too long or too much memory."""
    items, size = 0, 0
    for reference in shape.references:
        found_items, found_size = _measure(_reach(reference, context), shape.source)
        items, size = max(items, found_items), max(size, found_size)
    repeats = max(items, shape.literal_items, 1) ** shape.macro_depth
    work = repeats * (size + len(shape.source)) * (1 + shape.additions)
    work += repeats * _match_work(shape.source)
    if work > MAX_WORK:
        raise ExpressionError(
            f"it could take {work:.0e} operations over data of {items} items; the limit is"
            f" {MAX_WORK:.0e}: do this in a `python` step",
            shape.source,
        )


def _match_work(source: str) -> int:
    """What the library's regular expressions may cost: it compiles them anew at each call.

    Most take less than 0.1 ms; one of Unicode classes or large counts takes up to 60 ms.
    """
    return sum(
        COSTLY_MATCH_WORK
        if call["pattern"] is None or _COSTLY.search(call["pattern"])
        else MATCH_WORK_PER_CHARACTER * len(source)
        for call in _MATCHES.finditer(source)
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
        # The library's maps have no order, and the same data must give the same text each time.
        items = sorted(((str(key), item) for key, item in value.items()), key=itemgetter(0))
        return {key: _to_json(item, expression, depth + 1) for key, item in items}
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
