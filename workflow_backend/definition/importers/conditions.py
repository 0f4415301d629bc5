"""Preconditions and conditions of repeats, as CEL.

Dagu, "Preconditions": with `expected` the text is compared, line by line, or by `re:` as a regular
expression; without it the text is a command whose exit code counts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from workflow_backend.definition.expressions import Expression, ExpressionError, parse_template
from workflow_backend.definition.importers.notes import Fields, Notes, scalar_text
from workflow_backend.definition.importers.scope import cel_of, quoted
from workflow_backend.definition.importers.texts import Texts

MAX_CONDITIONS = 20

_COMMAND = re.compile(r"\s*(?:`(?P<ticks>[^`]+)`|\$\((?P<dollar>.+)\))\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Check:
    """A command that must run first: a step of its own, and what its end must fulfil.

    `expected` None: its exit code is zero; else what it prints.
    """

    command: str
    expected: str | None
    is_negated: bool


@dataclass(slots=True)
class Conditions:
    """What must hold: CEL that can be computed at once, and commands."""

    sources: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


def read_conditions(value: object, path: str, texts: Texts, notes: Notes) -> Conditions:
    """The preconditions in any of their forms."""
    found = Conditions()
    items = value if isinstance(value, list) else [] if value in (None, "") else [value]
    for index, item in enumerate(items[:MAX_CONDITIONS]):
        place = f"{path}[{index}]" if isinstance(value, list) else path
        if isinstance(item, Mapping):
            _read_one(Fields(item, place, notes), found, texts)
        elif isinstance(item, (str, bool, int, float)):
            _read_one(Fields({"condition": scalar_text(item)}, place, notes), found, texts)
        else:
            notes.add(place, "this is no condition.")
    if len(items) > MAX_CONDITIONS:
        notes.add(path, f"there are over {MAX_CONDITIONS} conditions.", "The rest was left out.")
    return found


def comparison(condition: str, expected: str, path: str, texts: Texts) -> str | None:
    """CEL that compares a text with what is expected of it; None if it cannot be written."""
    template = texts.template(condition, path)
    source = cel_of(template)
    if source is None:
        return None
    regex = expected.startswith("re:")
    if not regex and not _reads_steps(template):
        return f"{source} == {quoted(expected)}"
    pattern = expected[3:] if regex else rf"^{_escaped(expected)}\s*$"
    return f"{_as_text(template, source)}.matches({quoted('(?m)' + pattern)})"


def check_source(step: str, check: Check) -> str:
    """CEL that is true when the command, which ran as this step, came to what is expected."""
    if check.expected is None:
        source = f"steps.{step}.exit_code == 0"
    elif check.expected.startswith("re:"):
        pattern = "(?m)" + check.expected[3:]
        source = f"steps.{step}.outputs.stdout.matches({quoted(pattern)})"
    else:
        pattern = rf"(?m)^{_escaped(check.expected)}\s*$"
        source = f"steps.{step}.outputs.stdout.matches({quoted(pattern)})"
    return f"!({source})" if check.is_negated else source


def all_of(sources: list[str]) -> str | None:
    """One condition of several."""
    if not sources:
        return None
    return sources[0] if len(sources) == 1 else " && ".join(f"({source})" for source in sources)


def _read_one(fields: Fields, found: Conditions, texts: Texts) -> None:
    condition = fields.text("condition", "command")
    expected = fields.take("expected")
    is_negated = fields.take("negate") is True
    fields.finish()
    if not condition.strip():
        fields.note("condition", "the condition is empty.")
        return
    wanted = None if expected in (None, "") else scalar_text(expected)
    command = _COMMAND.fullmatch(condition)
    if wanted is None or command is not None:
        text = command.group("ticks") or command.group("dollar") if command else condition
        found.checks.append(Check(text, wanted, is_negated))
        return
    source = comparison(condition, wanted, fields.at("condition"), texts)
    if source is None:
        fields.note("condition", "the condition cannot be written as CEL.")
        return
    found.sources.append(f"!({source})" if is_negated else source)


def _reads_steps(template: str) -> bool:
    """Whether the text depends on what a step printed, whose last line has an end."""
    return any("steps." in part.source for part in _expressions(template))


def _as_text(template: str, source: str) -> str:
    parts = _expressions(template)
    is_single = len(parts) == 1 and parts[0].source == source
    plain = is_single and "outputs.stdout" in source
    return source if plain else f"string({source})" if is_single else f"({source})"


def _expressions(template: str) -> list[Expression]:
    try:
        return [part for part in parse_template(template) if isinstance(part, Expression)]
    except ExpressionError:
        return []


def _escaped(text: str) -> str:
    """The text as a regular expression of RE2."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)
