"""What can be told of a workflow's texts before it runs: from inputs and plain variables alone."""

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from typing import TypeAlias

from workflow_backend.definition.call_checks import called_by
from workflow_backend.definition.expressions import (
    CLOSE,
    OPEN,
    Expression,
    ExpressionError,
    Literal,
    expressions_in,
    parse_template,
    references,
    render,
    to_text,
)
from workflow_backend.definition.model import Step, Workflow, WorkflowBody
from workflow_backend.definition.places import steps_of
from workflow_backend.definition.values import converted

_UNKNOWN = object()

# What is known, by the roots of expressions.
_Known: TypeAlias = Mapping[str, Mapping[str, object]]


class KnownValues:
    """One workflow and the values of its inputs that are known; `ref` is its name inside."""

    def __init__(self, body: WorkflowBody, inputs: Mapping[str, object], ref: str = "") -> None:
        self.body = body
        self.ref = ref
        self.inputs = inputs
        env = {name: text for name, text in body.env.items() if OPEN not in text}
        self._context: _Known = {"inputs": inputs, "env": env}

    def name_of(self, step: str) -> str:
        """The name of a step of this workflow in the plan of the whole document."""
        return f"{self.ref}/{step}" if self.ref else step

    def text(self, template: str, step: Step | None = None) -> str:
        """The text, with the expressions in it computed for which what is known suffices.

        A text of the action or the folder of a step sees the step's `env` over the workflow's.
        """
        if OPEN not in template:
            return template
        try:
            parts = parse_template(template)
        except ExpressionError:
            return template
        context = self._seen_by(step) if step is not None and step.env else self._context
        return "".join(_part(part, context) for part in parts)

    def value(self, template: str) -> object:
        """The value of a text, `_UNKNOWN` if the run decides it."""
        return _value(template, self._context)

    def items(self, given: list[object] | str | None) -> list[object] | None:
        """The items of a list, None if the run decides how many there are."""
        found = self.value(given) if isinstance(given, str) else given
        return found if isinstance(found, list) else None

    def inputs_of_call(self, step: Step, called: WorkflowBody) -> dict[str, object]:
        """What is known of the inputs that the step gives to the workflow that it calls."""
        given = step.workflow.inputs if step.workflow is not None else {}
        known: dict[str, object] = {}
        for name, spec in called.inputs.items():
            value = given.get(name)
            found = self._nested(value)
            if value is None:
                known[name] = spec.default
            elif found is not _UNKNOWN:
                known[name] = converted(spec, found)
        return known

    def _seen_by(self, step: Step) -> _Known:
        """What a text of the step sees; its `env` itself sees that of the workflow alone."""
        env = dict(self._context["env"])
        for name, text in step.env.items():
            value = self.value(text)
            if value is _UNKNOWN:
                env.pop(name, None)
            else:
                env[name] = to_text(value)
        return {**self._context, "env": env}

    def _nested(self, value: object) -> object:
        if isinstance(value, str):
            return self.value(value)
        if isinstance(value, Mapping):
            members = {name: self._nested(member) for name, member in value.items()}
            return _UNKNOWN if _UNKNOWN in members.values() else members
        if isinstance(value, list):
            items = [self._nested(item) for item in value]
            return _UNKNOWN if any(item is _UNKNOWN for item in items) else items
        return value


def known_workflows(workflow: Workflow, inputs: Mapping[str, object]) -> list[KnownValues]:
    """The document's workflow and those that it calls, callers first.

    An input of a called workflow is known if every call gives it the same known value.
    """
    given: dict[str, list[dict[str, object]]] = {"": [dict(inputs)]}
    known = []
    for name in reversed(list(TopologicalSorter(called_by(workflow)).static_order())):
        if name not in given:
            continue
        body = workflow.workflows[name] if name else workflow
        known.append(KnownValues(body, _agreed(given[name]), name))
        for step in calls_of(known[-1]):
            ref = step.workflow.ref if step.workflow is not None else ""
            passed = known[-1].inputs_of_call(step, workflow.workflows[ref])
            given.setdefault(ref, []).append(passed)
    return known


def calls_of(known: KnownValues) -> Iterator[Step]:
    """The steps of a workflow that call others."""
    for _, step in steps_of(known.body):
        if step.workflow is not None:
            yield step


def _agreed(given: list[dict[str, object]]) -> dict[str, object]:
    first, *others = given
    return {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }


def _part(part: Literal | Expression, context: _Known) -> str:
    if isinstance(part, Literal):
        return part.text
    whole = f"{OPEN} {part.source} {CLOSE}"
    value = _value(whole, context)
    return whole if value is _UNKNOWN else to_text(value)


def _value(template: str, context: _Known) -> object:
    if OPEN not in template:
        return template
    try:
        sources = expressions_in(template)
        if all(_is_known(source, context) for source in sources):
            return render(template, context)
    except ExpressionError:
        pass
    return _UNKNOWN


def _is_known(source: str, context: _Known) -> bool:
    return all(
        len(reference.path) > 1 and reference.path[1] in context.get(reference.path[0], ())
        for reference in references(source)
    )
