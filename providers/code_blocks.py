"""The prose of a Markdown text apart from its fenced code blocks.

Source: CommonMark 0.31.2, section 4.5 "Fenced code blocks"; any indentation is taken, since a block
in a list item is indented.
"""

import re
from dataclasses import dataclass

_OPENING = re.compile(r"(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")


@dataclass(frozen=True, slots=True)
class Prose:
    """Lines between code blocks."""

    text: str


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block; `language` is the first word of its info string, in lower case."""

    language: str
    text: str


def split_code_blocks(text: str) -> list[Prose | CodeBlock]:
    """The parts of a text in their order; a block that is never closed runs to the end."""
    parts: list[Prose | CodeBlock] = []
    lines: list[str] = []
    opening: re.Match[str] | None = None
    for line in text.splitlines():
        if opening is None:
            opening = _OPENING.match(line)
            if opening is None:
                lines.append(line)
            else:
                _add_prose(parts, lines)
                lines = []
        elif _closes(line, opening["fence"]):
            parts.append(_block(opening, lines))
            lines, opening = [], None
        else:
            lines.append(line)
    if opening is None:
        _add_prose(parts, lines)
    else:
        parts.append(_block(opening, lines))
    return parts


def prose_of(text: str) -> str:
    """The text without its code blocks."""
    return "\n".join(part.text for part in split_code_blocks(text) if isinstance(part, Prose))


def fenced(text: str, language: str = "") -> str:
    """The text as a code block that nothing in it can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _closes(line: str, fence: str) -> bool:
    rest = line.strip()
    return len(rest) >= len(fence) and not rest.strip(fence[0])


def _block(opening: re.Match[str], lines: list[str]) -> CodeBlock:
    indent = opening["indent"]
    info = opening["info"].split()
    return CodeBlock(
        info[0].lower() if info else "",
        "\n".join(line.removeprefix(indent) for line in lines),
    )


def _add_prose(parts: list[Prose | CodeBlock], lines: list[str]) -> None:
    if lines:
        parts.append(Prose("\n".join(lines)))
