"""Templates and conditions of ours as texts of Kubiya's: the inverse of what the importer reads.

Only what names a value can be written there: `${NAME}` for an input, a variable, or the output of a
step, which then gets a variable of its own. What computes cannot.
"""

import re
from dataclasses import dataclass, field

from workflow_backend.definition.expressions import (
    Expression,
    ExpressionError,
    condition_source,
    parse_template,
)
from workflow_backend.definition.importers.references import references_in
from workflow_backend.definition.importers.scope import variable_of
from workflow_backend.definition.model import Workflow

_PATH = re.compile(r"(inputs|env)\.(\w+)")
_OUTPUT = re.compile(r"steps(?:\.([\w-]+)|\['([\w-]+)'\])\.outputs\.(?:stdout|text)")
_EQUALITY = re.compile(r"(?P<left>[^=!'\"]+?)\s*==\s*'(?P<right>[^'\\\n]*)'")


class UntranslatableError(ValueError):
    """A text has no counterpart; the message says why."""


@dataclass(slots=True)
class VendorTexts:
    """Writes texts, and keeps which steps need a variable for their output."""

    workflow: Workflow
    outputs: dict[str, str] = field(default_factory=dict)

    def text(self, template: str) -> str:
        """A template as a text of Kubiya's.

        Raises:
            UntranslatableError: It computes, names a secret, or has signs of the format as text.
        """
        try:
            parts = parse_template(template)
        except ExpressionError as error:
            raise UntranslatableError(str(error)) from error
        return "".join(
            self._reference(part.source) if isinstance(part, Expression) else _plain(part.text)
            for part in parts
        )

    def precondition(self, condition: str) -> dict[str, str]:
        """An `if` that compares one value with a text.

        Raises:
            UntranslatableError: It is anything else.
        """
        source = condition_source(condition)
        match = _EQUALITY.fullmatch(source)
        if match is None or match.group("right").startswith("re:") or not match.group("right"):
            raise UntranslatableError(
                "a condition there compares one value with a text, such as `inputs.env == 'prod'`"
            )
        return {
            "condition": self._reference(match.group("left").strip()),
            "expected": match.group("right"),
        }

    def _reference(self, source: str) -> str:
        if match := _PATH.fullmatch(source):
            return f"${{{match.group(2)}}}"
        if match := _OUTPUT.fullmatch(source):
            return f"${{{self._variable(match.group(1) or match.group(2))}}}"
        if source.startswith("secrets."):
            raise UntranslatableError(f"the secret `{source}` would leave this server")
        raise UntranslatableError(f"`{source[:80]}` is more than the name of a value")

    def _variable(self, step: str) -> str:
        """The variable that holds what the step prints."""
        if step not in self.outputs:
            taken = {*self.workflow.inputs, *self.workflow.env, *self.outputs.values()}
            name = variable_of(f"{step}_OUTPUT".upper())
            while name in taken:
                name += "_"
            self.outputs[step] = name
        return self.outputs[step]


def check_script(script: str) -> None:
    """Whether a script means the same there.

    Raises:
        UntranslatableError: It holds what Kubiya would fill in.
    """
    found = next((one for one in references_in(script) if not one.is_native), None)
    if found is not None:
        raise UntranslatableError(f"Kubiya would fill in `{found.raw[:80]}`")


def _plain(text: str) -> str:
    check_script(text)
    return text.replace("$", "\\$")
