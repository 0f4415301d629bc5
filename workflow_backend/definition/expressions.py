"""Expressions: `${{ CEL }}` in texts, and bare CEL in `if`.

The names known in an expression are `inputs`, `steps`, `env`, `secrets` and `run`, for the items of
a step also `item` and `index`; in `if` also the functions `success()`, `failure()` and `always()`.

Guarantee: a value that was put into a text is never read as an expression again, also where
secrets are put in later: what `render` leaves for `resolve_secrets` is escaped.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from workflow_backend.definition.cel import (
    STATUS_FUNCTIONS,
    Context,
    Functions,
    check,
    evaluate,
    references,
)
from workflow_backend.definition.expression_tokens import (
    MAX_EXPRESSION_CHARACTERS,
    ExpressionError,
    Reference,
    normalise,
    read_shape,
)

__all__ = [
    "CLOSE",
    "OPEN",
    "STATUS_FUNCTIONS",
    "Context",
    "Expression",
    "ExpressionError",
    "Literal",
    "Reference",
    "check",
    "condition_source",
    "evaluate",
    "evaluate_condition",
    "expressions_in",
    "functions_in",
    "parse_template",
    "references",
    "render",
    "resolve_secrets",
    "secret_name",
    "to_text",
    "whole_expression",
]

MAX_TEMPLATE_PARTS = 400
OPEN, CLOSE = "${{", "}}"

# The look-behind keeps a long row of `$` from being read anew at each of them.
_OPENING = re.compile(r"(?<!\$)(\$+)\{\{")


@dataclass(frozen=True, slots=True)
class Literal:
    """A part of a template that is text."""

    text: str


@dataclass(frozen=True, slots=True)
class Expression:
    """A part of a template that is computed: the CEL between `${{` and `}}`."""

    source: str


def evaluate_condition(text: str, context: Context, *, succeeded: bool, failed: bool) -> bool:
    """Whether a step with this `if` runs; the text is bare CEL or one whole `${{ }}`.

    `succeeded`: every step that it depends on succeeded; `failed`: at least one failed. Without a
    call of a status function the condition counts only if `succeeded`, as if it began with
    `success() &&`.

    Raises:
        ExpressionError: As `evaluate`, or the value is no boolean.
    """
    source = condition_source(text)
    if not succeeded and not STATUS_FUNCTIONS & set(functions_in(source)):
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


def functions_in(expression: str) -> tuple[str, ...]:
    """The functions that one CEL expression calls.

    Raises:
        ExpressionError: It is over a cap.
    """
    return read_shape(normalise(expression)).functions


def render(template: str, context: Context, *, keep_secrets: bool = False) -> object:
    """The template with its expressions replaced by their values.

    A template that is one whole `${{ }}` keeps the type of its value; any other becomes text. With
    `keep_secrets` the answer is text and a template again: `${{ secrets.NAME }}` stays, and all
    else in it is escaped, so that `resolve_secrets` can never take data for a reference.

    Raises:
        ExpressionError: As `evaluate`, or the template is malformed.
    """
    parts = parse_template(template)
    whole = _whole_part(parts)
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


def whole_expression(template: str) -> str | None:
    """The CEL of a text that is one `${{ }}` with nothing around it, whose value keeps its type.

    Raises:
        ExpressionError: As `parse_template`.
    """
    return _whole_part(parse_template(template))


def secret_name(expression: str) -> str | None:
    """NAME, if the expression is exactly `secrets.NAME`."""
    root, dot, name = expression.strip().partition(".")
    if root == "secrets" and dot and name.isidentifier() and name.isascii():
        return name
    return None


def to_text(value: object) -> str:
    """A value as it stands in a text: JSON, but strings as they are and null as nothing."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _whole_part(parts: list[Literal | Expression]) -> str | None:
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
