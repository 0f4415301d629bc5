"""The catalogue of templates: ready workflows by name, and the one that a request asks for.

`catalogue.yaml` holds title and keywords of each; the workflow stands in a file of its own. Both
are read at the first use.
"""

import functools
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from workflow_backend.definition.documents import read_document
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.parse import parse_workflow
from workflow_backend.definition.plan import PlannedInput

MIN_SCORE = 2.0

_FOLDER = Path(__file__).parent
_WORD = re.compile(r"[a-z0-9]+")
# Words that say nothing about which workflow is wanted.
_COMMON = frozenset({
    "a", "all", "an", "and", "any", "are", "as", "at", "be", "by", "can", "create", "do", "execute",
    "for", "from", "get", "give", "has", "how", "i", "in", "into", "is", "it", "its", "make", "me",
    "my", "of", "on", "or", "our", "please", "run", "show", "some", "start", "step", "steps",
    "task", "tell", "that", "the", "then", "there", "this", "to", "up", "use", "want", "we",
    "what", "which", "with", "workflow", "workflows", "you", "your",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Template:
    """One ready workflow; `text` is its YAML as written, with comments."""

    name: str
    title: str
    keywords: tuple[str, ...]
    workflow: Workflow
    text: str

    @property
    def description(self) -> str:
        """What the workflow does."""
        return self.workflow.description

    @property
    def inputs(self) -> tuple[PlannedInput, ...]:
        """Its inputs with their defaults."""
        return tuple(
            PlannedInput(
                name=name,
                type=spec.type,
                value=spec.default,
                required=spec.required,
                description=spec.description,
            )
            for name, spec in self.workflow.inputs.items()
        )

    @property
    def network(self) -> bool:
        """Whether any of its steps uses the network."""
        return any(step.network or step.http is not None for step in self.workflow.steps)


class TemplateCatalogue:
    """The templates that come with the backend."""

    def all(self) -> list[Template]:
        """Every template, in the order of the catalogue."""
        return list(_load().values())

    def get(self, name: str) -> Template | None:
        """The template of this name."""
        return _load().get(name)

    def match(self, text: str) -> str | None:
        """The name of the template that the words ask for, or None if none is near.

        A keyword of two words counts twice; of equal scores the earlier in the catalogue wins.
        """
        words = _words(text)
        best = max(self.all(), key=lambda template: _score(template, words))
        return best.name if _score(best, words) >= MIN_SCORE else None

    def ranked(self, text: str) -> list[Template]:
        """Every template, the best match first."""
        words = _words(text)
        return sorted(self.all(), key=lambda template: -_score(template, words))


@functools.cache
def _load() -> dict[str, Template]:
    entries = read_document((_FOLDER / "catalogue.yaml").read_text(encoding="utf-8"))
    templates = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise TypeError(f"catalogue.yaml: {name} is no mapping")
        text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        templates[name] = Template(
            name=name,
            title=str(entry["title"]),
            keywords=tuple(str(keyword) for keyword in entry["keywords"]),
            workflow=parse_workflow(text),
            text=text,
        )
    return templates


def _score(template: Template, words: list[str]) -> float:
    """Points for keywords, with two for a phrase in its order, and one for a word of the name."""
    present, pairs = set(words), set(pairwise(words))
    score = 0.0
    for keyword in template.keywords:
        parts = [_stem(part) for part in keyword.split()]
        if len(parts) == 1:
            score += 2.0 * (parts[0] in present)
        elif all(pair in pairs for pair in pairwise(parts)):
            score += 4.0
    return score + sum(1.0 for part in _words(template.name) if part in present)


def _words(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(text.lower()[:10_000]) if word not in _COMMON]


def _stem(word: str) -> str:
    """The word without a plural or verb ending, so that `checks` and `checking` are `check`."""
    for ending in ("ing", "es", "s", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word.removesuffix(ending)
    return word
