"""References in texts of other formats: `$NAME`, `${NAME}`, `${a.b}`, `{{x}}`, `${{ x }}`. Pure.

Dagu's documentation, "Variable Substitution", and the vendor's, "Parameters, outputs, and data
flow" (2026-11): parameters as `${NAME}`, values of earlier steps as `{{NAME}}` or `${NAME}`, parts
of JSON values as `${NAME.a.b}`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_REFERENCES = 300

# `{{.x}}` is a template of the program that a script calls, such as `docker ps --format`.
_TOKEN = re.compile(
    r"\$\{\{(?P<github>[^{}]*)\}\}"
    r"|\{\{(?P<braces>\s*[^.{}\s][^{}]*)\}\}"
    r"|\$\{(?P<brace>[^{}$`]*)\}"
    r"|\$(?P<plain>[A-Za-z_][A-Za-z0-9_]*|[0-9])"
)
_PATH = re.compile(r"\.?(?P<head>[A-Za-z_][\w-]*|\d+)(?P<rest>(?:\.[\w-]+|\[\d+\])*)")
_EXPANSION = re.compile(r"(?P<name>[A-Za-z_]\w*):?[-=](?P<default>.*)", re.DOTALL)
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*")
_PART = re.compile(r"\.([\w-]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference: where it stands, what it names, and its form.

    `path` is empty where the text between the brackets is no name, such as a function of a template
    language. `is_native`: a shell reads it as it is, as it does `$NAME` and `${NAME}`.
    """

    start: int
    end: int
    raw: str
    path: tuple[str, ...]
    default: str | None = None
    is_native: bool = False

    @property
    def is_positional(self) -> bool:
        """Whether it is `$1` or `${1}`."""
        return len(self.path) == 1 and self.path[0].isdigit()


def references_in(text: str, start: int = 0, end: int | None = None) -> Iterator[Reference]:
    """The references of a text, in order; those after a backslash are none."""
    at = start
    stop = len(text) if end is None else end
    for _ in range(MAX_REFERENCES):
        match = _TOKEN.search(text, at, stop)
        if match is None:
            return
        at = match.end()
        if not _is_escaped(text, match.start()):
            yield reference_of(match)


def reference_at(text: str, at: int) -> Reference | None:
    """The reference that begins here, if there is one."""
    match = _TOKEN.match(text, at)
    return None if match is None else reference_of(match)


def reference_of(match: re.Match[str]) -> Reference:
    """What a match of the token is."""
    place = (match.start(), match.end(), match.group())
    if (plain := match.group("plain")) is not None:
        return Reference(*place, (plain,), is_native=True)
    if (inner := match.group("brace")) is not None:
        if expansion := _EXPANSION.fullmatch(inner):
            name, default = expansion.group("name"), expansion.group("default")
            return Reference(*place, (name,), default, is_native=True)
        path = _path_of(inner)
        native = len(path) == 1 and bool(_PLAIN_NAME.fullmatch(inner) or path[0].isdigit())
        return Reference(*place, path, is_native=native or not path)
    return Reference(*place, _path_of(match.group("github") or match.group("braces") or ""))


def is_fully_literal(text: str) -> bool:
    """Whether the text refers to nothing, and runs no command when it is read."""
    is_computed = "`" in text or "$(" in text or "${" in text
    return not is_computed and next(references_in(text), None) is None


def _path_of(inner: str) -> tuple[str, ...]:
    match = _PATH.fullmatch(inner.strip())
    if match is None:
        return ()
    rest = [name or index for name, index in _PART.findall(match.group("rest"))]
    return (match.group("head"), *rest)


def _is_escaped(text: str, at: int) -> bool:
    before = text[max(0, at - 40) : at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1
