"""Checks that several parts of a definition share: durations, variables, declared values."""

import re
from collections.abc import Iterator, Mapping

from workflow_backend.definition.durations import DurationError, parse_duration
from workflow_backend.definition.input_spec import InputSpec
from workflow_backend.definition.patterns import RESERVED_ENV, VARIABLE_NAME
from workflow_backend.definition.problems import Problem
from workflow_backend.definition.values import MAX_PATTERNS, check_input


def check_duration(path: str, text: str | None) -> Iterator[Problem]:
    """The fault of a duration, if it has one."""
    if text is None:
        return
    try:
        parse_duration(text)
    except DurationError as error:
        yield Problem(path, f"{text[:40]!r} is no duration.", f"{str(error).capitalize()}.")


def check_env(path: str, env: Mapping[str, str]) -> Iterator[Problem]:
    """The faults of an environment."""
    for name, value in env.items():
        if not VARIABLE_NAME.fullmatch(name):
            slug = slug_of(name, r"\W+").replace("-", "_").upper() or "VALUE"
            yield Problem(
                f"{path}.{name[:64]}",
                "a variable's name is a letter or `_`, then letters, digits, `_`.",
                f"Call it `{slug}`.",
            )
        elif name in RESERVED_ENV:
            yield Problem(f"{path}.{name}", f"`{name}` is set by the engine.", "Use another name.")
        if "\0" in value:
            yield Problem(f"{path}.{name[:64]}", "the value has a NUL character.", "Remove it.")


def check_specs(path: str, specs: Mapping[str, InputSpec], what: str) -> Iterator[Problem]:
    """The faults of declared values: inputs of a workflow, or fields of a form."""
    patterns = sum(spec.pattern is not None for spec in specs.values())
    if patterns > MAX_PATTERNS:
        yield Problem(
            path,
            f"{patterns} {what}s have a `pattern`, the limit is {MAX_PATTERNS}.",
            "Check the others in a step.",
        )
        return
    for name, spec in specs.items():
        yield from check_variable(f"{path}.{name[:64]}", name, what)
        yield from check_input(f"{path}.{name[:64]}", spec)


def check_variable(path: str, name: str, what: str) -> Iterator[Problem]:
    """The fault of a name that expressions read."""
    if not VARIABLE_NAME.fullmatch(name):
        slug = slug_of(name, r"\W+").replace("-", "_")
        article = "an" if what[0] in "aeiou" else "a"
        yield Problem(
            path,
            f"{article} {what}'s name is a letter or `_`, then letters, digits, `_`.",
            f"Call it `{slug or 'value'}`.",
        )


def slug_of(text: str, refused: str) -> str:
    """The text with what is not allowed as single dashes, cut to 64."""
    return re.sub(refused, "-", text.encode("ascii", "ignore").decode()).strip("- ")[:64]
