"""What the expressions of a workflow refer to, checked against what will be there.

A field sees only what is settled when it is computed: the steps before its own, the workflow's
environment, the declared inputs. A secret stands alone, and only where it does not become visible.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from workflow_backend.definition.expressions import (
    STATUS_FUNCTIONS,
    ExpressionError,
    check,
    expressions_in,
    secret_name,
)
from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.definition.places import Place, places_of
from workflow_backend.definition.problems import Problem, closest, listed

STEP_FIELDS = ("status", "outputs", "error", "exit_code", "attempts")
RUN_FIELDS = ("id",)
FUNCTIONS = frozenset({
    "size", "has", "all", "exists", "exists_one", "filter", "map", "contains", "startsWith",
    "endsWith", "matches", "int", "uint", "double", "string", "bytes", "timestamp", "duration",
    "type", "dyn", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek",
    "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds",
})  # fmt: skip
TYPE_NAMES = frozenset({
    "int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type",
})  # fmt: skip

_BEFORE_STEPS = frozenset({"workflow_env", "workflow_dir"})
_SEES_SECRETS = frozenset({"workflow_env", "env", "header", "body"})
_VISIBLE_FIX = "Put `${{ secrets.NAME }}` in `env` of the step (or in headers or body of `http`)."


@dataclass(frozen=True, slots=True)
class _Scope:
    """What an expression at one place may name."""

    workflow: Workflow
    steps: Mapping[str, Step]
    graph: StepGraph
    place: Place

    @property
    def reader(self) -> Step | None:
        """The step that the place belongs to."""
        return self.place.step

    @property
    def env(self) -> dict[str, str]:
        """The variables that `env` holds here."""
        if self.place.kind in {"workflow_env", "workflow_dir"}:
            return {}
        if self.reader is None or self.place.kind in {"if", "env"}:
            return self.workflow.env
        return {**self.workflow.env, **self.reader.env}


def check_references(workflow: Workflow) -> Iterator[Problem]:
    """Every fault in the workflow's expressions; its graph is without faults."""
    steps = {step.name: step for step in workflow.steps}
    graph = StepGraph(workflow.steps)
    for place in places_of(workflow):
        try:
            sources = place.sources()
        except ExpressionError as error:
            yield Problem(place.path, f"{error}.", "Mend the `${{ }}`.")
            continue
        scope = _Scope(workflow, steps, graph, place)
        for source in sources:
            yield from _check_expression(place.path, source, scope)


def _check_expression(path: str, source: str, scope: _Scope) -> Iterator[Problem]:
    try:
        shape = check(source, STATUS_FUNCTIONS if scope.place.kind == "if" else frozenset())
    except ExpressionError as error:
        fix = "Mend the expression; it is CEL, such as `inputs.count > 3 && inputs.name != ''`."
        yield Problem(path, f"`{source[:80]}`: {error}.", fix)
        return
    for name in shape.functions:
        if name not in FUNCTIONS | STATUS_FUNCTIONS:
            yield _unknown_function(path, name)
    for name in shape.names:
        if name not in TYPE_NAMES:
            yield _unknown_name(path, name)
    if any(reference.path[0] == "secrets" for reference in shape.references):
        yield from _check_secret(path, source, scope)
        return
    for reference in shape.references:
        yield from _CHECKS[reference.path[0]](path, reference.path[1:], scope)


def _check_secret(path: str, source: str, scope: _Scope) -> Iterator[Problem]:
    if scope.place.kind not in _SEES_SECRETS:
        yield Problem(path, "a secret would become visible here.", _VISIBLE_FIX)
    elif secret_name(source) is None:
        yield Problem(
            path,
            f"`{source[:80]}` computes with a secret.",
            "Write it alone, such as `Bearer ${{ secrets.NAME }}`, and compute in the step.",
        )


def _check_input(path: str, names: tuple[str, ...], scope: _Scope) -> Iterator[Problem]:
    declared = scope.workflow.inputs
    if not names or names[0] in declared:
        return
    meant = closest(names[0], declared)
    yield Problem(
        path,
        f"there is no input `{names[0][:64]}`.",
        f"Did you mean `inputs.{meant}`?"
        if meant
        else f"Declare it: `inputs: {{{names[0][:64]}: {{type: string}}}}`.",
    )


def _check_env(path: str, names: tuple[str, ...], scope: _Scope) -> Iterator[Problem]:
    if not names:
        return
    name = names[0][:64]
    if name not in scope.env:
        meant = closest(name, scope.env)
        yield Problem(
            path,
            f"there is no variable `{name}` here.",
            f"Did you mean `env.{meant}`?" if meant else f"Declare it in `env`: `{name}: ...`.",
        )
        return
    try:
        holds_secret = any(secret_name(source) for source in expressions_in(scope.env[name]))
    except ExpressionError:
        return
    if holds_secret:
        yield Problem(
            path,
            f"`env.{name}` holds a secret, which expressions do not see.",
            "Write `${{ secrets.NAME }}` itself in `env`, headers or body.",
        )


def _check_run(path: str, names: tuple[str, ...], scope: _Scope) -> Iterator[Problem]:
    if names and names[0] not in RUN_FIELDS:
        yield Problem(path, f"a run has no `{names[0][:64]}` here.", "Use `run.id`.")


def _check_step_reference(path: str, names: tuple[str, ...], scope: _Scope) -> Iterator[Problem]:
    if not names:
        if scope.place.kind in _BEFORE_STEPS:
            yield _too_early(path)
        return
    name = names[0]
    shown = name[:64]
    if scope.place.kind in _BEFORE_STEPS:
        yield _too_early(path)
    elif name not in scope.steps:
        meant = closest(name, scope.steps)
        fix = f"Did you mean `{meant}`?" if meant else f"The steps are {listed(scope.steps)}."
        yield Problem(path, f"there is no step `{shown}`.", fix)
    elif scope.reader is not None and name == scope.reader.name:
        yield Problem(path, "the step refers to itself.", "Refer to a step before it.")
    elif scope.reader is not None and not scope.graph.is_before(name, scope.reader.name):
        depends = ", ".join([*scope.reader.depends, name])
        yield Problem(
            path,
            f"step `{shown}` need not have ended when `{scope.reader.name}` starts.",
            f"Add it to the step: `depends: [{depends}]`.",
        )
    elif len(names) > 1 and names[1] not in STEP_FIELDS:
        yield Problem(
            path,
            f"a step has no `{names[1][:64]}`; it has {listed(STEP_FIELDS)}.",
            f"Write `steps.{shown}.outputs.{_output_name(names)}`.",
        )


def _output_name(names: tuple[str, ...]) -> str:
    """The output that `steps.x.output` or `steps.x.stdout` is meant to name."""
    if closest(names[1], ["output", "outputs", "result"]):
        return names[2][:64] if len(names) > 2 else "stdout"
    return names[1][:64]


def _too_early(path: str) -> Problem:
    return Problem(
        path, "no step has run yet when this is computed.", "Move it to the `env` of a step."
    )


def _unknown_function(path: str, name: str) -> Problem:
    known = FUNCTIONS | STATUS_FUNCTIONS
    meant = closest(name, known)
    fix = f"Did you mean `{meant}()`?" if meant else "Compute it in a `python` step."
    return Problem(path, f"there is no function `{name[:64]}()`.", fix)


def _unknown_name(path: str, name: str) -> Problem:
    other = {"params": "inputs", "parameters": "inputs", "needs": "steps", "jobs": "steps"}
    roots = ("inputs", "steps", "env", "secrets", "run")
    meant = other.get(name) or closest(name, roots)
    fix = f"Did you mean `{meant}.`?" if meant else f"The names are {listed(roots)}."
    return Problem(path, f"`{name[:64]}` is no name of an expression.", f"{fix} Quote text: 'x'.")


_CHECKS: dict[str, Callable[[str, tuple[str, ...], _Scope], Iterator[Problem]]] = {
    "inputs": _check_input,
    "env": _check_env,
    "run": _check_run,
    "steps": _check_step_reference,
}
