"""What an import builds: the drafts of steps, and what all steps of a document share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from workflow_backend.definition.importers.notes import Notes
from workflow_backend.definition.importers.scope import Scope
from workflow_backend.definition.importers.texts import Texts

Format = Literal["kubiya", "dagu"]


@dataclass(slots=True)
class StepDraft:
    """One step of ours being made of one of theirs. `data` are its fields as in a document."""

    name: str
    path: str
    texts: Texts
    data: dict[str, object] = field(default_factory=dict)
    depends: dict[str, None] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The step's own variables."""
        env = self.data.setdefault("env", {})
        assert isinstance(env, dict)  # noqa: S101 - set above alone
        return env

    def in_words(self, text: str) -> None:
        """Say in words what the step should do: nothing here does it."""
        plain = text.replace("\0", "").strip()
        self.data["needs_command"] = plain[:2_000] or "Do what the source's step does"

    def document(self) -> dict[str, object]:
        """The step as it stands in a document."""
        fields = {key: value for key, value in self.data.items() if value not in ({}, None)}
        depends = list(dict.fromkeys([*self.depends, *self.texts.needs]))
        depends = [name for name in depends if name != self.name]
        head: dict[str, object] = {"name": self.name}
        return {**head, **fields, **({"depends": depends} if depends else {})}


@dataclass(slots=True)
class Called:
    """A workflow of the same file that steps may call: its name in `workflows`, its names."""

    ref: str
    scope: Scope


@dataclass(slots=True)
class Context:
    """What the steps of one document share."""

    format: Format
    notes: Notes
    scope: Scope
    called: Mapping[str, Called]
    shell: str = "sh"
    image: str | None = None
    # Whether the file is written in the older, camel case way, where `run` names a workflow.
    is_camel_case: bool = False
