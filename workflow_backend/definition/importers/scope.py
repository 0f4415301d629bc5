"""What the names of a foreign document mean here: inputs, variables, secrets, outputs of steps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from workflow_backend.definition.expressions import Expression, ExpressionError, parse_template
from workflow_backend.definition.importers.notes import Notes
from workflow_backend.definition.importers.references import Reference
from workflow_backend.definition.patterns import RESERVED_ENV, VARIABLE_NAME

MAX_INPUTS = 200

_OPENING = re.compile(r"(?<!\$)(\$+)\{\{")
_WORD = re.compile(r"[A-Za-z_]\w*")
_STEP_PARTS = frozenset({"outputs", "output", "stdout", "exit_code", "exitCode", "status"})


@dataclass(frozen=True, slots=True)
class Value:
    """What a reference stands for: a template of ours, and the step that must end before.

    `is_output`: what a step printed, which ends with a line break there.
    """

    template: str
    producer: str | None = None
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """Where a variable gets its value: a step of ours, and what to read of it."""

    step: str
    field: str = "outputs.stdout"


@dataclass(slots=True)
class Scope:
    """The names of one document. Keys are the foreign names, values ours."""

    notes: Notes
    workflow_name: str = ""
    # Whether `{{x}}` is a reference: Kubiya's is, in Dagu's files it belongs to other programs.
    has_braces: bool = True
    inputs: dict[str, dict[str, object]] = field(default_factory=dict)
    input_names: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    env_names: dict[str, str] = field(default_factory=dict)
    consts: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, list[Output]] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    order: dict[str, int] = field(default_factory=dict)
    json_steps: set[str] = field(default_factory=set)

    def reads(self, reference: Reference) -> bool:
        """Whether the format means something by this form."""
        return self.has_braces or not reference.raw.startswith("{{")

    def resolve(self, path: tuple[str, ...], reader: str | None) -> Value | None:
        """What the path means to a step of ours, or None if nothing here has that name."""
        if not path:
            return None
        if len(path) > 1 and path[0] in _ROOTS:
            return self._rooted(path, reader)
        head, rest = path[0], path[1:]
        if head in {"ITEM", "item"}:
            return Value(expression_of("item", *rest))
        if head in self.outputs and (found := self._output(head, reader)):
            return self._of_step(found.step, found.field, rest)
        if rest:
            is_step = head in self.steps and rest[0] in _STEP_PARTS
            return self._step_value(path, reader) if is_step else None
        if head in self.secrets:
            return Value(f"${{{{ secrets.{self.secrets[head]} }}}}")
        if head in self.input_names:
            return Value(expression_of("inputs", self.input_names[head]))
        if head in self.env_names:
            return Value(self.env[self.env_names[head]])
        return self._special(head)

    def declare_input(self, name: str, spec: Mapping[str, object] | None = None) -> str | None:
        """Make an input of this name, if there is room; its name here."""
        if name in self.input_names:
            return self.input_names[name]
        if len(self.inputs) >= MAX_INPUTS:
            return None
        ours = free_name(variable_of(name), self.inputs)
        self.inputs[ours] = dict(spec or {})
        self.input_names[name] = ours
        return ours

    def _rooted(self, path: tuple[str, ...], reader: str | None) -> Value | None:
        root, name = _ROOTS[path[0]], path[1]
        if root == "inputs" and name in self.input_names and len(path) == 2:
            return Value(expression_of("inputs", self.input_names[name]))
        if root == "env" and len(path) == 2:
            return self.resolve((name,), reader)
        if root == "consts" and name in self.consts:
            return Value(escaped(self.consts[name]))
        if root == "secrets" and len(path) == 2:
            secret = self.secrets.get(name, name)
            return Value(f"${{{{ secrets.{variable_of(secret)} }}}}")
        if root == "steps":
            return self._step_value(path[1:], reader)
        if root == "item":
            return Value(expression_of("index" if name == "index" else "item", *path[2:]))
        return None

    def _step_value(self, path: tuple[str, ...], reader: str | None) -> Value | None:
        step = self.steps.get(path[0])
        if step is None or step == reader:
            return None
        rest = path[1:]
        if rest and rest[0] in {"exit_code", "exitCode", "status"}:
            key = "status" if rest[0] == "status" else "exit_code"
            return Value(expression_of("steps", step, key), step)
        if len(rest) > 1 and rest[0] == "outputs":
            return Value(expression_of("steps", step, "outputs", *rest[1:]), step)
        return self._of_step(step, "outputs.stdout", rest[1:])

    def _of_step(self, step: str, of: str, rest: tuple[str, ...]) -> Value:
        if not rest:
            names = of.split(".")
            is_output = of == "outputs.stdout"
            return Value(expression_of("steps", step, *names), step, is_output)
        self.json_steps.add(step)
        return Value(expression_of("steps", step, "outputs", "json", *rest), step)

    def _output(self, name: str, reader: str | None) -> Output | None:
        """The step that gives the variable its value for this reader: the last one before it."""
        found = [output for output in self.outputs[name] if output.step != reader]
        place = self.order.get(reader or "", len(self.order))
        before = [output for output in found if self.order.get(output.step, 0) < place]
        candidates = before or found
        return candidates[-1] if candidates else None

    def _special(self, name: str) -> Value | None:
        if name in {"DAG_RUN_ID", "WORKFLOW_ID"}:
            return Value("${{ run.id }}")
        return Value(escaped(self.workflow_name)) if name == "DAG_NAME" else None


def expression_of(root: str, *names: str) -> str:
    """A whole `${{ }}` that reads this path; what is no plain name is put in brackets."""
    source = root
    for name in names:
        if name.isdigit():
            source += f"[{name}]"
        elif _WORD.fullmatch(name) or (root == "steps" and source == "steps"):
            source += f".{name}"
        else:
            source += f"[{quoted(name)}]"
    return f"${{{{ {source} }}}}"


def quoted(text: str) -> str:
    """The text as a string of CEL."""
    body = text.replace("\\", "\\\\").replace("'", "\\'")
    for character, escape in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        body = body.replace(character, escape)
    return f"'{body}'"


def escaped(text: str, *, before_expression: bool = False) -> str:
    """The text as a template that renders to itself, also if an expression follows."""
    result = _OPENING.sub(r"\1\1{{", text)
    if before_expression:
        result += "$" * (len(result) - len(result.rstrip("$")))
    return result


def cel_of(template: str) -> str | None:
    """The template as one CEL expression that gives text; None if it is malformed."""
    try:
        parts = parse_template(template)
    except ExpressionError:
        return None
    if len(parts) == 1 and isinstance(parts[0], Expression):
        return parts[0].source
    return (
        " + ".join(
            f"string({part.source})" if isinstance(part, Expression) else quoted(part.text)
            for part in parts
        )
        or "''"
    )


def variable_of(name: str) -> str:
    """The nearest name of a variable or input."""
    found = re.sub(r"\W+", "_", name.encode("ascii", "ignore").decode())[:100]
    if found.isdigit():
        return f"PARAM_{found}"
    if not VARIABLE_NAME.fullmatch(found):
        found = f"VALUE_{found}".rstrip("_")
    return f"{found}_VALUE" if found in RESERVED_ENV else found


def variable_for(reference: Reference) -> str:
    """The variable by which a script gets what the reference stands for."""
    if reference.is_positional:
        return f"PARAM_{reference.path[0]}"
    path = reference.path
    if len(path) > 1 and path[0] in _ROOTS:
        path = path[1:]
    name = "_".join(path)
    return variable_of(name.upper() if len(path) > 1 else name)


def free_name(name: str, taken: Mapping[str, object], limit: int = 120) -> str:
    """The name, or the first of its numbered forms that is not taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name[: limit - 5]}_{number}" in taken:
        number += 1
    return f"{name[: limit - 5]}_{number}"


_ROOTS = {
    "params": "inputs", "param": "inputs", "inputs": "inputs", "parameters": "inputs",
    "env": "env", "consts": "consts", "secrets": "secrets", "secret": "secrets",
    "steps": "steps", "foreach": "item",
}  # fmt: skip
