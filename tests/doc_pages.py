"""The pages for readers, cut into what the tests hold true: fenced blocks, links, sections.

A comment right above a fence says how the block is held: `<!-- file: NAME -->` puts it into the
folder in which the page's commands run, `<!-- prints -->` is what the block before it printed,
`<!-- fails -->` says that it ends in an error, `<!-- not run: REASON -->` why nothing can run it.
What stands between `<!-- generated: NAME -->` and `<!-- end -->` is written by `doc_sections`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Written from the settings and the schema; the tests of these hold them.
GENERATED = ("docs/configuration.md", "docs/workflow-reference.md")
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>\w*)$")
NOTE = re.compile(r"^ *<!-- (?P<key>[a-z ]+?)(?:: (?P<value>.+))? -->$")
SECTION = re.compile(r"<!-- generated: (?P<name>[a-z-]+) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
HEADING = re.compile(r"(?m)^#{1,6} +(.+)$")
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block; `before` is the block above it on the page."""

    page: str
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(hash=False)
    before: "Block | None" = field(default=None, repr=False, hash=False)

    @property
    def where(self) -> str:
        """Where the block stands, for people."""
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page for readers, by its path in the repository."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    found += sorted((ROOT / "docs").rglob("*.md"))
    return [str(page.relative_to(ROOT)) for page in found]


def text_of(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    lines = text_of(page).splitlines()
    blocks: list[Block] = []
    number = 0
    while number < len(lines):
        opened = FENCE.match(lines[number])
        number += 1
        if opened is None:
            continue
        start = number
        while lines[number].strip() != opened["ticks"]:
            number += 1
        indent = len(opened["indent"])
        text = "".join(f"{line[indent:]}\n" for line in lines[start:number])
        notes = _notes_above(lines, start - 2)
        before = blocks[-1] if blocks else None
        blocks.append(Block(page, start, opened["language"], text, notes, before))
        number += 1
    return blocks


def blocks(*languages: str) -> list[Block]:
    """The blocks of these languages on all pages that people wrote."""
    found = [block for page in pages() if page not in GENERATED for block in blocks_of(page)]
    return [block for block in found if block.language in languages]


def sections_of(page: str) -> dict[str, str]:
    """The generated sections of a page by name."""
    return {found["name"]: found["text"] for found in SECTION.finditer(text_of(page))}


def anchors_of(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"(?ms)^ *```.*?^ *```", "", text_of(page))
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in HEADING.findall(prose)
    }


def _notes_above(lines: list[str], number: int) -> dict[str, str]:
    notes: dict[str, str] = {}
    while number >= 0 and (not lines[number].strip() or NOTE.match(lines[number])):
        if note := NOTE.match(lines[number]):
            notes[note["key"]] = note["value"] or ""
        elif notes:
            break
        number -= 1
    return notes
