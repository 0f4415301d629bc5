"""What an import could not take over as it was: one note for each field, with what was done."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from typing_extensions import override

from workflow_backend.definition.plain_text import plain_text

MAX_NOTES = 300
MAX_NOTE_CHARACTERS = 400

_SPLIT = "Import the file in parts to see them."
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Note:
    """One field of the source: where it stood, why it has no counterpart, and what was done."""

    path: str
    reason: str
    instead: str

    @override
    def __str__(self) -> str:
        """The note on one line."""
        return f"{self.path or 'document'}: {self.reason} {self.instead}"


@dataclass(slots=True)
class Notes:
    """The notes in the order in which they were made, each once, so many at most."""

    all: list[Note] = field(default_factory=list)
    dropped: int = 0

    def add(self, path: str, reason: str, instead: str = "It was left out.") -> None:
        """Note something about a field."""
        note = Note(path[:200], _short(reason), _short(instead))
        if len(self.all) >= MAX_NOTES:
            self.dropped += 1
        elif note not in self.all:
            self.all.append(note)

    def told(self) -> tuple[Note, ...]:
        """The notes, the last of which says how many more there would be."""
        if not self.dropped:
            return tuple(self.all)
        more = Note("", f"{self.dropped} more fields were not taken over as they are.", _SPLIT)
        return (*self.all, more)


class Fields:
    """A mapping of the source whose fields are taken one by one; those that are left are noted.

    Names are written in camel case and in snake case by different versions of the formats.
    """

    def __init__(self, data: Mapping[str, object], path: str, notes: Notes) -> None:
        self.path = path
        self.notes = notes
        self._data = data
        self._names: dict[str, str] = {}
        for name in data:
            self._names.setdefault(snake(name), name)
        self._left = dict.fromkeys(self._names)

    def has(self, *names: str) -> bool:
        """Whether one of these fields is there and says something."""
        return any(self.peek(name) not in (None, "", [], {}) for name in names)

    def peek(self, *names: str) -> object:
        """The first of these fields that is there, which stays to be taken."""
        found = [self._names[snake(name)] for name in names if snake(name) in self._names]
        return self._data[found[0]] if found else None

    def take(self, *names: str) -> object:
        """The first of these fields that is there; it counts as taken over."""
        for name in names:
            if snake(name) in self._names:
                self._left.pop(snake(name), None)
                return self._data[self._names[snake(name)]]
        return None

    def at(self, *names: str) -> str:
        """The path of the first of these fields that is there."""
        found = [self._names[snake(name)] for name in names if snake(name) in self._names]
        name = found[0] if found else names[0]
        return f"{self.path}.{name}" if self.path else name

    def note(self, name: str | tuple[str, ...], reason: str, instead: str = "") -> None:
        """Note something about one of the fields."""
        names = (name,) if isinstance(name, str) else name
        self.notes.add(self.at(*names), reason, instead or "It was left out.")

    def mapping(self, *names: str) -> "Fields | None":
        """A field that is a mapping, if it is one; another is noted."""
        value = self.take(*names)
        if isinstance(value, Mapping):
            return Fields(value, self.at(*names), self.notes)
        if value is not None:
            self.note(names, "this is no mapping.")
        return None

    def text(self, *names: str) -> str:
        """A field as text; anything but text and numbers is noted and empty."""
        value = self.take(*names)
        if value is None:
            return ""
        if isinstance(value, (str, int, float)):
            return scalar_text(value)
        self.note(names, "this is no text.")
        return ""

    def finish(self, reasons: Mapping[str, tuple[str, str]] | None = None) -> None:
        """Note every field that nobody took, unless it is empty."""
        for name in self._left:
            if self._data[self._names[name]] in (None, "", [], {}, False):
                continue
            why, instead = (reasons or {}).get(name, ("", ""))
            self.note(name, why or "this has no counterpart.", instead)


def snake(name: str) -> str:
    """A field's name in snake case."""
    return _HUMP.sub("_", name).lower().replace("-", "_")


def scalar_text(value: object) -> str:
    """A scalar as the formats turn it into text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _short(text: str) -> str:
    line = " ".join(plain_text(text[: 4 * MAX_NOTE_CHARACTERS]).split())
    return line if len(line) <= MAX_NOTE_CHARACTERS else f"{line[:MAX_NOTE_CHARACTERS]}..."
