"""Texts of a foreign document that are no scripts, as templates of ours."""

import re
from collections.abc import Mapping

from workflow_backend.definition.importers.notes import scalar_text
from workflow_backend.definition.importers.references import (
    Reference,
    is_fully_literal,
    references_in,
)
from workflow_backend.definition.importers.scope import Scope, Value, escaped, variable_of

_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL|(_|^)KEY$", re.IGNORECASE
)
_COMMAND = re.compile(r"`[^`]*`|(?<!\\)\$\([^)]*\)")


class Texts:
    """Turns the texts of one step (None: of the workflow itself) into templates.

    `needs` gathers the steps whose outputs the texts read.
    """

    def __init__(self, scope: Scope, step: str | None) -> None:
        self.scope = scope
        self.step = step
        self.needs: dict[str, None] = {}

    def template(self, text: str, path: str, *, in_one_line: bool = False) -> str:
        """The text with each reference as `${{ }}`; what has no meaning here is noted.

        `in_one_line`: a line break in a value would do harm.
        """
        if _COMMAND.search(text):
            self.scope.notes.add(
                path,
                "commands inside a text are not run.",
                "The text stays as it is; compute it in a `run` step.",
            )
        result, at = "", 0
        for reference in references_in(text):
            value = self._value(reference, path)
            if value is None:
                continue
            self.use(value)
            if value.is_output and in_one_line:
                self.scope.notes.add(
                    path,
                    f"`{reference.raw}` is what step `{value.producer}` prints, line break and"
                    " all.",
                    "Let that step print without one: `printf '%s'`.",
                )
            before = _unescaped(text[at : reference.start])
            result += escaped(before, before_expression=True) + value.template
            at = reference.end
        return result + escaped(_unescaped(text[at:]))

    def value(self, value: object, path: str) -> object:
        """A JSON value with its texts as templates."""
        if isinstance(value, str):
            return self.template(value, path)
        if isinstance(value, Mapping):
            return {str(key): self.value(item, f"{path}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return value

    def variables(self, given: object, path: str) -> dict[str, str]:
        """An `env` in any of its forms as variables of ours."""
        found: dict[str, str] = {}
        for name, value in pairs_of(given):
            place = f"{path}.{name}"
            ours = variable_of(name)
            if ours != name:
                self.scope.notes.add(
                    place, "the name cannot be used here.", f"It is called `{ours}`."
                )
            found[ours] = self.template(scalar_text(value), place)
        return found

    def use(self, value: Value) -> None:
        """Note which step must have ended before."""
        if value.producer is not None and value.producer != self.step:
            self.needs[value.producer] = None

    def _value(self, reference: Reference, path: str) -> Value | None:
        """What the reference stands for; None if it stays as text."""
        if not self.scope.reads(reference):
            return None
        if not reference.path:
            if not reference.is_native:
                self.scope.notes.add(
                    path,
                    f"`{reference.raw[:80]}` is no plain name.",
                    "It stays as text; write it as `${{ }}` with CEL.",
                )
            return None
        found = self.scope.resolve(reference.path, self.step)
        if found is None and reference.is_positional:
            return None
        if found is None:
            return self.unknown(reference, path)
        self._give_default(reference)
        return found

    def unknown(self, reference: Reference, path: str) -> Value | None:
        """A value for what nothing in the document sets: a secret by its name, else an input."""
        name = reference.path[-1] if reference.path[0] == "env" else "_".join(reference.path)
        if reference.default is None and _SECRET.search(name):
            secret = variable_of(name)
            self.scope.secrets.setdefault(name, secret)
            self.scope.notes.add(
                path,
                f"nothing here sets `{reference.raw[:80]}`, which looks like a secret.",
                f"It is the secret `{secret}`, which the server must have.",
            )
            return Value(f"${{{{ secrets.{secret} }}}}")
        spec = {"required": True}
        if reference.default is not None and is_fully_literal(reference.default):
            spec = {"default": reference.default}  # type: ignore[dict-item]  # a text
        ours = self.scope.declare_input(name, spec)
        if ours is None:
            return None
        self.scope.notes.add(
            path, f"nothing here sets `{reference.raw[:80]}`.", f"It is the input `{ours}` now."
        )
        return self.scope.resolve((name,), self.step)

    def _give_default(self, reference: Reference) -> None:
        """`${NAME:-text}`: an input without a default has this one."""
        ours = self.scope.input_names.get(reference.path[0])
        if ours is None or reference.default is None or not is_fully_literal(reference.default):
            return
        spec = self.scope.inputs[ours]
        if "default" not in spec and spec.get("type", "string") == "string":
            spec["default"] = reference.default
            spec.pop("required", None)


def pairs_of(given: object) -> list[tuple[str, object]]:
    """Names and values: of a mapping, of a list of mappings, or of texts `NAME=value`."""
    if isinstance(given, Mapping):
        return [(str(name), value) for name, value in given.items()]
    if isinstance(given, str):
        name, equals, value = given.partition("=")
        return [(name.strip(), value)] if equals else []
    if isinstance(given, list):
        return [pair for item in given for pair in pairs_of(item)]
    return []


def _unescaped(text: str) -> str:
    r"""The text with `\$` as `$`."""
    return text.replace("\\$", "$")
