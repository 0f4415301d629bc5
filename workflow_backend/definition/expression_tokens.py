"""What an expression is made of, read without evaluating it: references, calls, nesting.

A small tokenizer for CEL's lexical grammar (Language Definition of CEL, section "Syntax"). It
exists because the library neither says which fields an expression reads nor bounds its work.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from typing_extensions import override

MAX_EXPRESSION_CHARACTERS = 1_000
MAX_NESTING = 32
MAX_MACRO_DEPTH = 2

ROOTS = frozenset({"inputs", "steps", "env", "secrets", "run", "item", "index"})

_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
_KEYWORDS = frozenset({"true", "false", "null", "in"})
_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
    | (?P<string>[rRbB]{0,2}(?:'{3}.*?'{3}|"{3}.*?"{3}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>\d[\w.]*)
    | (?P<mark>&&|\|\||[<>=!]=|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_DASHED_STEP = re.compile(r"\bsteps\s*\.\s*([A-Za-z0-9_]+(?:-+[A-Za-z0-9_]+)+)")


class ExpressionError(ValueError):
    """An expression cannot be read or computed; `expression` is its text."""

    def __init__(self, reason: str, expression: str) -> None:
        super().__init__(reason)
        self.expression = expression


@dataclass(frozen=True, slots=True)
class Reference:
    """A path that an expression reads, such as `("steps", "check", "outputs", "stdout")`."""

    path: tuple[str, ...]

    @override
    def __str__(self) -> str:
        """The path as it is written."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Shape:
    """What can be said of an expression without evaluating it.

    `names` are the free names that are no root; `macro_depth` counts macros inside macros.
    """

    source: str
    references: tuple[Reference, ...]
    names: tuple[str, ...]
    functions: tuple[str, ...]
    macro_depth: int
    additions: int
    literal_items: int


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def normalise(expression: str) -> str:
    """The expression with `steps.check-disk` written as CEL reads it: `steps['check-disk']`.

    Raises:
        ExpressionError: It is empty or too long.
    """
    source = expression.strip()
    if not source:
        raise ExpressionError("the expression is empty", expression)
    if len(source) > MAX_EXPRESSION_CHARACTERS:
        raise ExpressionError(
            f"the expression has {len(source)} characters, the limit is"
            f" {MAX_EXPRESSION_CHARACTERS}",
            expression[:80],
        )
    if not _DASHED_STEP.search(source):
        return source
    rewritten, plain = "", ""
    for match in _TOKEN.finditer(source):
        if match.lastgroup != "string":
            plain += match.group()
            continue
        rewritten += _DASHED_STEP.sub(r"steps['\1']", plain) + match.group()
        plain = ""
    return rewritten + _DASHED_STEP.sub(r"steps['\1']", plain)


@functools.lru_cache(maxsize=512)
def read_shape(source: str, roots: frozenset[str] = ROOTS) -> Shape:
    """The shape of a normalised expression; references begin with one of the `roots`.

    Raises:
        ExpressionError: It is nested too deeply.
    """
    tokens = [
        _Token(str(match.lastgroup), match.group())
        for match in _TOKEN.finditer(source)
        if match.lastgroup != "space"
    ]
    nesting, macro_depth, literal_items = _depths(tokens)
    if nesting > MAX_NESTING:
        raise ExpressionError(f"brackets are nested over {MAX_NESTING} levels", source)
    if macro_depth > MAX_MACRO_DEPTH:
        raise ExpressionError(
            f"macros such as map() stand inside each other {macro_depth} deep, the limit is"
            f" {MAX_MACRO_DEPTH}; use a `python` step",
            source,
        )
    bound = set(_bound_names(tokens))
    names = [name for name in _free_names(tokens) if name not in bound]
    return Shape(
        source=source,
        references=tuple(dict.fromkeys(_references(tokens, bound, roots))),
        names=tuple(dict.fromkeys(name for name in names if name not in roots)),
        functions=tuple(dict.fromkeys(_functions(tokens))),
        macro_depth=macro_depth,
        additions=sum(token.text == "+" for token in tokens),
        literal_items=literal_items,
    )


def _depths(tokens: list[_Token]) -> tuple[int, int, int]:
    """The deepest bracket, the deepest macro, and the most commas in one bracket."""
    is_macro: list[bool] = []
    commas: list[int] = []
    nesting = macros = items = 0
    for index, token in enumerate(tokens):
        if token.text in {"(", "[", "{"}:
            is_macro.append(token.text == "(" and _is_macro_call(tokens, index))
            commas.append(0)
            nesting, macros = max(nesting, len(is_macro)), max(macros, sum(is_macro))
        elif token.text in {")", "]", "}"} and is_macro:
            is_macro.pop()
            items = max(items, commas.pop() + 1)
        elif token.text == "," and commas:
            commas[-1] += 1
    return nesting, macros, items


def _is_macro_call(tokens: list[_Token], index: int) -> bool:
    return index >= 2 and tokens[index - 1].text in _MACROS and tokens[index - 2].text == "."


def _bound_names(tokens: list[_Token]) -> Iterator[str]:
    """The variables of macros: `x` in `list.map(x, ...)`."""
    for index, token in enumerate(tokens[:-1]):
        if token.text == "(" and _is_macro_call(tokens, index):
            yield tokens[index + 1].text


def _free_names(tokens: list[_Token]) -> Iterator[str]:
    for index, token in enumerate(tokens):
        if token.kind != "name" or token.text in _KEYWORDS or _text(tokens, index - 1) == ".":
            continue
        if _text(tokens, index + 1) != "(":
            yield token.text


def _functions(tokens: list[_Token]) -> Iterator[str]:
    for index, token in enumerate(tokens):
        if token.kind == "name" and _text(tokens, index + 1) == "(":
            yield token.text


def _references(
    tokens: list[_Token], bound: set[str], roots: frozenset[str]
) -> Iterator[Reference]:
    for index, token in enumerate(tokens):
        is_root = token.kind == "name" and token.text in roots and token.text not in bound
        if not is_root or _text(tokens, index - 1) == ".":
            continue
        path = [token.text]
        at = index + 1
        while found := _next_name(tokens, at):
            name, at = found
            path.append(name)
        yield Reference(tuple(path))


def _next_name(tokens: list[_Token], at: int) -> tuple[str, int] | None:
    """The name selected at this token by `.name` or `['name']`, and where it ends."""
    if _text(tokens, at) == "." and at + 1 < len(tokens) and tokens[at + 1].kind == "name":
        if _text(tokens, at + 2) == "(":
            return None
        return tokens[at + 1].text, at + 2
    if [_text(tokens, at), _text(tokens, at + 2)] == ["[", "]"] and tokens[at + 1].kind == "string":
        return tokens[at + 1].text.lstrip("rRbB")[1:-1], at + 3
    return None


def _text(tokens: list[_Token], index: int) -> str:
    return tokens[index].text if 0 <= index < len(tokens) else ""
