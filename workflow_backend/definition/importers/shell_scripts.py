"""Shell scripts of other formats: references that no shell reads become variables of `env`.

A scanner of the POSIX shell's quotes (Shell Command Language, section 2.2), here-documents (2.7.4)
and comments, so that a reference is put as `"$NAME"` where the text stands in no quotes, and never
as text that the shell reads again.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from workflow_backend.definition.importers.references import Reference, reference_at

_HEREDOC = re.compile(r"<<-?[ \t]*(?P<quote>['\"\\]?)(?P<word>[A-Za-z_][A-Za-z0-9_.-]*)['\"]?")
# What stands before a `#` that begins a comment.
_WORD_BREAKS = frozenset(" \t\n;&|(")

# Gives the name of the variable for a reference; None: the text stays as it is.
NameOf = Callable[[Reference], str | None]


@dataclass(slots=True)
class Rewritten:
    """A script of ours, and the references that had to stay text."""

    text: str
    kept: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Scanner:
    """Where in the shell's grammar a place of the text is. `levels` are the open `$(`."""

    text: str
    name_of: NameOf
    at: int = 0
    out: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    levels: list[str] = field(default_factory=lambda: [""])
    heredocs: list[tuple[str, bool]] = field(default_factory=list)

    def run(self) -> Rewritten:
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "\n" and self.heredocs and self.levels[-1] == "":
                self._copy(1)
                self._heredoc_bodies()
            elif character in "${" and (reference := reference_at(self.text, self.at)):
                self._reference(reference)
            elif self.levels[-1] == "'":
                self._in_single_quotes(character)
            else:
                self._step(character)
        return Rewritten("".join(self.out), self.kept)

    def _step(self, character: str) -> None:
        """One character outside single quotes."""
        is_bare = self.levels[-1] == ""
        if character == "\\":
            self._copy(2)
        elif character == '"':
            self.levels[-1] = "" if self.levels[-1] == '"' else '"'
            self._copy(1)
        elif character == "'" and is_bare:
            self.levels[-1] = "'"
            self._copy(1)
        elif self.text.startswith("$(", self.at):
            self.levels.append("")
            self._copy(2)
        elif character == "(" and is_bare and len(self.levels) > 1:
            self.levels.append("")
            self._copy(1)
        elif character == ")" and is_bare and len(self.levels) > 1:
            self.levels.pop()
            self._copy(1)
        elif character == "#" and is_bare and self._begins_word():
            self._comment()
        elif is_bare and (match := self._heredoc_at()):
            self.heredocs.append((match.group("word"), bool(match.group("quote"))))
            self._copy(len(match.group()))
        else:
            self._copy(1)

    def _in_single_quotes(self, character: str) -> None:
        if character == "'":
            self.levels[-1] = ""
        self._copy(1)

    def _comment(self) -> None:
        end = self.text.find("\n", self.at)
        length = (end if end != -1 else len(self.text)) - self.at
        self.out.append(without_braces(self.text[self.at : self.at + length]))
        self.at += length

    def _heredoc_at(self) -> re.Match[str] | None:
        before = self.text[self.at - 1] if self.at else " "
        if not self.text.startswith("<<", self.at) or before.isalnum() or before == "<":
            return None
        return _HEREDOC.match(self.text, self.at)

    def _heredoc_bodies(self) -> None:
        """The lines of the here-documents that the last line opened."""
        for word, is_quoted in self.heredocs:
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                line_end = len(self.text) if end == -1 else end + 1
                line = self.text[self.at : line_end]
                self._heredoc_line(line, is_quoted=is_quoted)
                if line.strip() == word:
                    break
        self.heredocs.clear()

    def _heredoc_line(self, line: str, *, is_quoted: bool) -> None:
        stop = self.at + len(line)
        while self.at < stop:
            character = self.text[self.at]
            reference = reference_at(self.text, self.at) if character in "${" else None
            if reference is None or reference.end > stop:
                self._copy(2 if character == "\\" and not is_quoted else 1, stop)
            elif is_quoted:
                self._keep(reference)
            else:
                self._write(reference, "", "")

    def _reference(self, reference: Reference) -> None:
        quote = self.levels[-1]
        if quote == "'":
            # A shell reads nothing in single quotes, the other formats do.
            self._write(reference, "'\"", "\"'", is_native=False)
        else:
            self._write(reference, *('"', '"') if quote == "" else ("", ""))

    def _write(
        self, reference: Reference, before: str, after: str, *, is_native: bool = True
    ) -> None:
        """The reference as a variable; one that the shell reads itself keeps its form."""
        if reference.is_native and not is_native:
            self._copy(len(reference.raw))
            return
        name = self.name_of(reference)
        if name is None:
            if reference.is_native:
                self._copy(len(reference.raw))
            else:
                self._keep(reference)
            return
        if not reference.is_native:
            self.out.append(f"{before}${{{name}}}{after}")
        elif reference.path[0] == name:
            self.out.append(reference.raw)
        else:
            self.out.append(renamed(reference, name))
        self.at = reference.end

    def _keep(self, reference: Reference) -> None:
        if not reference.is_native:
            self.kept.append(reference.raw)
        self.out.append(without_braces(reference.raw))
        self.at = reference.end

    def _begins_word(self) -> bool:
        return self.at == 0 or self.text[self.at - 1] in _WORD_BREAKS

    def _copy(self, length: int, stop: int | None = None) -> None:
        end = min(self.at + length, len(self.text) if stop is None else stop)
        self.out.append(self.text[self.at : end])
        self.at = end


def rewrite_shell(text: str, name_of: NameOf) -> Rewritten:
    """The script with every reference that is no shell's own as a variable."""
    result = _Scanner(text, name_of).run()
    return Rewritten(without_braces(result.text), result.kept)


def without_braces(text: str) -> str:
    """The text without `${{`, which no script of ours may hold."""
    return re.sub(r"\$+(?=\{\{)", "", text)


def renamed(reference: Reference, name: str) -> str:
    """A reference of the shell's own form with another name."""
    if not reference.raw.startswith("${"):
        return f"${{{name}}}"
    return reference.raw.replace(reference.path[0], name, 1)
