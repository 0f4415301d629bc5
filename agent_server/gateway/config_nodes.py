"""The text of the gateway's file as nodes that know their line. Pure.

Scalars follow YAML 1.2's core schema (YAML 1.2.2, section 10.3.2): only `true` and `false` are
booleans, dates are text. Refused is what makes a document mean something else than it shows, or
costly to read: duplicate keys, anchors, aliases, tags, merge keys, 1 MiB, 12 levels.
"""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

import yaml
from typing_extensions import override

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 12

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = Scalar | dict[str, "Node"] | list["Node"]

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,2})?")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file, and its line (from 1): that of its name, where it has one."""

    value: Value
    line: int

    def plain(self) -> object:
        """The value as dict, list and scalars alone."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: on which line, at which field (`models.smart.routes[0].weight`), and the mend."""

    line: int
    path: str
    reason: str

    @override
    def __str__(self) -> str:
        """The fault on one line."""
        where = f"line {self.line}" if self.line else "the file"
        return f"{where}: {self.path}: {self.reason}" if self.path else f"{where}: {self.reason}"


class ConfigFileError(Exception):
    """The gateway's file cannot be used; `problems` are its faults, none of which shows a value."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


def read_nodes(data: bytes) -> Node:
    """The root of the document.

    Raises:
        ConfigFileError: with one problem; nothing of the text is quoted but names of keys.
    """
    if len(data) > MAX_BYTES:
        raise _refused(0, f"it is over {MAX_BYTES // 1024} KiB")
    builder = _Builder()
    try:
        for event in yaml.parse(data, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise _refused(mark.line + 1 if mark else 0, f"this is not YAML: {what[:200]}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError):
        raise _refused(0, "this is not UTF-8 text in YAML") from None
    if builder.root is None or builder.root.value is None:
        raise _refused(0, "it is empty; write at least `models: {}`")
    return builder.root


class _Builder:
    """Builds nodes from the parser's events, without recursion."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[dict[str, Node] | list[Node]] = []
        self._keys: list[tuple[str, int] | None] = []

    def take(self, event: yaml.Event) -> None:
        """Take the parser's next event."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refused(line, "anchors and aliases (`&x`, `*x`) are not read; repeat the value")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _refused(line, "tags (`!!type`) are not read; write plain values")
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise _refused(line, "there is a second document; write one")
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event.value) if event.implicit[0] else event.value
            self._add(Node(value, line), event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._begin(Node({}, line), event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._begin(Node([], line), event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._open.pop()
            self._keys.pop()

    def _begin(self, node: Node, event: yaml.Event) -> None:
        node = self._add(node, event)
        if len(self._open) >= MAX_DEPTH:
            raise _refused(node.line, f"it is nested over {MAX_DEPTH} levels")
        if isinstance(node.value, dict | list):
            self._open.append(node.value)
            self._keys.append(None)

    def _add(self, node: Node, event: yaml.Event) -> Node:
        if not self._open:
            self.root = node
            return node
        container = self._open[-1]
        if isinstance(container, list):
            container.append(node)
            return node
        if (named := self._keys[-1]) is not None:
            key, line = named
            container[key] = node = Node(node.value, line)
            self._keys[-1] = None
            return node
        if not isinstance(event, yaml.ScalarEvent) or event.value == "<<":
            raise _refused(node.line, "a key is no plain text; write keys as words")
        if event.value in container:
            raise _refused(node.line, f"the key `{event.value[:80]}` is there twice; keep one")
        self._keys[-1] = (event.value, node.line)
        return node


def _scalar(text: str) -> Scalar:
    """What an unquoted scalar means in the core schema."""
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _refused(line: int, reason: str) -> ConfigFileError:
    return ConfigFileError([Problem(line, "", reason)])
