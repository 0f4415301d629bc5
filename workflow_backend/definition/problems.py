"""What is wrong with a workflow, said so that a person or a model can mend it."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: where (`steps[1].retry.limit`), what, and what to write instead."""

    path: str
    reason: str
    fix: str

    @override
    def __str__(self) -> str:
        """The fault on one line."""
        return f"{self.path or 'workflow'}: {self.reason} Fix: {self.fix}"


class InvalidWorkflowError(Exception):
    """The definition or its inputs are not valid; `problems` holds every fault found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant, or None if none is near."""
    by_lower = {candidate.lower().replace("-", "_"): candidate for candidate in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_")[:64], by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None


def listed(words: Iterable[str], limit: int = 12) -> str:
    """The words as one readable list, cut after `limit`."""
    shown = list(words)
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more if shown else "none"
