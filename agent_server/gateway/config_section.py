"""A mapping of the gateway's file, read field by field; a fault is noted and stops nothing."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeVar

from agent_server.gateway.config_nodes import Node, Problem

MOST_PROBLEMS: Final = 20

Word = TypeVar("Word", bound=str)


class Section:
    """One mapping and its path. `close` complains of every field that nobody asked for.

    A field that is wrong is noted in `problems` and read as if it were absent. Values are in no
    complaint, since any of them may be a secret at a wrong place.
    """

    def __init__(self, node: Node, path: str, problems: list[Problem]) -> None:
        self.node = node
        self.path = path
        self.problems = problems
        self._members: dict[str, Node] = {}
        self._known: set[str] = set()
        if isinstance(node.value, dict):
            self._members = node.value
        elif node.value is not None:
            self.complain("is no mapping; write `name: value` lines under it")

    def complain(self, reason: str, name: str | None = None) -> None:
        """Note a fault of the section, or of a field of it."""
        node = self._members.get(name, self.node) if name else self.node
        self.complain_at(node.line, self.at(name) if name else self.path, reason)

    def complain_at(self, line: int, path: str, reason: str) -> None:
        """Note a fault anywhere in the file."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(line, path, reason))

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        """Whether the field is there, and not empty."""
        return name in self._members and self._members[name].value is not None

    def text(self, name: str, shape: str = "", pattern: str = r"(?s:.{1,2000})") -> str | None:
        """The text of a field, None if it is absent; `shape` tells people what is taken."""
        node = self._field(name)
        if node is None:
            return None
        if isinstance(node.value, str) and re.fullmatch(pattern, node.value):
            return node.value
        self.complain(f"must be {shape or 'a text'}; put it in quotes if it looks like more", name)
        return None

    def required_text(self, name: str) -> str:
        """The text of a field that must be there."""
        if not self.has(name):
            self._known.add(name)
            self.complain(f"needs `{name}`")
        return self.text(name) or ""

    def choice(self, name: str, words: Collection[Word], default: Word) -> Word:
        """One of the words."""
        text = self.text(name)
        if text is None:
            return default
        for word in words:
            if word == text:
                return word
        self.complain(f"must be one of {', '.join(words)}", name)
        return default

    def number(self, name: str, *, most: float, zero: bool = False) -> float | None:
        """A number over 0 (or 0 where `zero`) and up to `most`, None if it is absent."""
        node = self._field(name)
        if node is None:
            return None
        value = node.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
            is_least = zero and number == 0
            if is_least or 0 < number <= most:
                return number
        least = "from 0" if zero else "over 0"
        self.complain(f"must be a number {least} up to {most:g}", name)
        return None

    def whole(self, name: str, *, most: int, zero: bool = False) -> int | None:
        """A whole number from 1 (or 0 where `zero`) up to `most`, None if it is absent."""
        node = self._field(name)
        if node is None:
            return None
        least = 0 if zero else 1
        if type(node.value) is int and least <= node.value <= most:
            return node.value
        self.complain(f"must be a whole number from {least} to {most}", name)
        return None

    def section(self, name: str) -> "Section":
        """The mapping of a field; an empty one if it is absent."""
        node = self._field(name) or Node({}, self.node.line)
        return Section(node, self.at(name), self.problems)

    def sections(self) -> Iterator[tuple[str, "Section"]]:
        """Every field as a mapping of its own."""
        for name, node in self._members.items():
            self._known.add(name)
            yield name, Section(node, self.at(name), self.problems)

    def items(self, name: str) -> list[Node]:
        """The items of a field that is a list."""
        node = self._field(name)
        if node is None:
            return []
        if isinstance(node.value, list):
            return node.value
        self.complain("must be a list; begin each item with `- `", name)
        return []

    def listed_sections(self, name: str) -> list["Section"]:
        """The items of a field that is a list of mappings."""
        return [
            Section(node, f"{self.at(name)}[{number}]", self.problems)
            for number, node in enumerate(self.items(name))
        ]

    def close(self) -> None:
        """Complain of every field that is none of those that were read."""
        for name in self._members.keys() - self._known:
            near = closest(name, self._known)
            hint = f"did you mean `{near}`?" if near else f"fields are {listed(self._known)}"
            self.complain(f"is no field here; {hint}", name)

    def _field(self, name: str) -> Node | None:
        self._known.add(name)
        node = self._members.get(name)
        return None if node is None or node.value is None else node


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant, or None if none is near."""
    near = difflib.get_close_matches(word[:64], list(known), n=1)
    return near[0] if near else None


def listed(words: Iterable[str], most: int = 30) -> str:
    """The words as one readable list."""
    shown = sorted(words)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more if shown else "none"
