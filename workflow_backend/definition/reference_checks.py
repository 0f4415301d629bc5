"""What the expressions of a workflow refer to, checked against what will be there.

A field sees only what is settled when it is computed: the steps before its own, the workflow's
environment, the declared inputs. A secret stands alone, and only where it does not become visible.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from workflow_backend.definition.expressions import (
    STATUS_FUNCTIONS,
    ExpressionError,
    check,
    expressions_in,
    secret_name,
)
from workflow_backend.definition.model import Step, Workflow, WorkflowBody
from workflow_backend.definition.places import Place, PlaceKind, places_of
from workflow_backend.definition.problems import Problem, closest, listed
from workflow_backend.definition.step_order import HANDLERS, StepOrder
from workflow_backend.definition.step_references import check_step_reference

RUN_FIELDS = ("id",)
HANDLER_RUN_FIELDS = ("id", "status", "error")
FUNCTIONS = frozenset({
    "size", "has", "all", "exists", "exists_one", "filter", "map", "contains", "startsWith",
    "endsWith", "matches", "int", "uint", "double", "string", "bytes", "timestamp", "duration",
    "type", "dyn", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek",
    "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds",
})  # fmt: skip
TYPE_NAMES = frozenset({
    "int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type",
})  # fmt: skip

# Texts that are computed before any step has run, and what they may name but inputs.
_BEFORE_STEPS: dict[PlaceKind, frozenset[str]] = {
    "workflow_env": frozenset({"run", "secrets"}),
    "workflow_dir": frozenset({"run"}),
    "group": frozenset(),
    "notify": frozenset({"run"}),
}
# Computed once for a step, not for each of its items.
_BEFORE_ITEMS: frozenset[PlaceKind] = frozenset({"if", "items"})
_SEES_SHARED_ENV: frozenset[PlaceKind] = frozenset({"if", "until", "items", "env", "output"})
_SEES_SECRETS: frozenset[PlaceKind] = frozenset({"workflow_env", "env", "header", "body"})
_VISIBLE_FIX = "Put `${{ secrets.NAME }}` in `env` of the step (or in headers or body of `http`)."
_VISIBLE_FIXES: dict[PlaceKind, str] = {
    "message": "Say what is asked without it.",
    "group": "Name the group by `${{ inputs }}` alone.",
    "agent": "Let a step before it do what needs the secret, and give the agent what came out.",
    "call": "Name it in the `env` of the step of that workflow that needs it.",
    "notify": "To sign the message, write its name alone: `secret: NAME`.",
}


@dataclass(frozen=True, slots=True)
class _Scope:
    """What an expression at one place may name."""

    body: WorkflowBody
    document: Workflow
    order: StepOrder
    place: Place

    @property
    def reader(self) -> Step | None:
        """The step that the place belongs to."""
        return self.place.step

    @property
    def env(self) -> dict[str, str]:
        """The variables that `env` holds here."""
        if self.place.kind in _BEFORE_STEPS:
            return {}
        if self.reader is None or self.place.kind in _SEES_SHARED_ENV:
            return self.body.env
        return {**self.body.env, **self.reader.env}


def check_references(body: WorkflowBody, prefix: str, document: Workflow) -> Iterator[Problem]:
    """Every fault in the expressions of a workflow whose graph is without faults."""
    order = StepOrder(body)
    for place in places_of(body, prefix):
        try:
            sources = place.sources()
        except ExpressionError as error:
            yield Problem(place.path, f"{error}.", "Mend the `${{ }}`.")
            continue
        scope = _Scope(body, document, order, place)
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
        root, names = reference.path[0], reference.path[1:]
        known = _BEFORE_STEPS.get(scope.place.kind)
        if known is not None and root != "inputs" and root not in known:
            yield _too_early(path, root, scope)
        else:
            yield from _CHECKS[root](path, names, scope)


def _too_early(path: str, root: str, scope: _Scope) -> Problem:
    if root == "steps" and scope.place.kind in {"workflow_env", "workflow_dir"}:
        return Problem(
            path, "no step has run yet when this is computed.", "Move it to the `env` of a step."
        )
    known = ["inputs", *sorted(_BEFORE_STEPS[scope.place.kind] - {"secrets"})]
    return Problem(
        path,
        f"`{root}` is not known here, where nothing has run yet.",
        f"Use {listed(f'`{name}`' for name in known)} alone.",
    )


def _check_secret(path: str, source: str, scope: _Scope) -> Iterator[Problem]:
    if scope.place.kind not in _SEES_SECRETS:
        fix = _VISIBLE_FIXES.get(scope.place.kind, _VISIBLE_FIX)
        yield Problem(path, "a secret would become visible here.", fix)
    elif secret_name(source) is None:
        yield Problem(
            path,
            f"`{source[:80]}` computes with a secret.",
            "Write it alone, such as `Bearer ${{ secrets.NAME }}`, and compute in the step.",
        )


def _check_input(path: str, names: tuple[str, ...], scope: _Scope) -> Iterator[Problem]:
    declared = scope.body.inputs
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
    is_handler = scope.reader is not None and scope.order.part_of(scope.reader.name) in HANDLERS
    fields = HANDLER_RUN_FIELDS if is_handler else RUN_FIELDS
    if not names or names[0] in fields:
        return
    fix = f"Use {listed(f'`run.{name}`' for name in fields)}."
    if names[0] in HANDLER_RUN_FIELDS:
        fix = "Move it to a step of `on_failure` or `finally`."
    yield Problem(path, f"a run has no `{names[0][:64]}` here.", fix)


def _check_steps(path: str, names: tuple[str, ...], scope: _Scope) -> Iterator[Problem]:
    yield from check_step_reference(scope.place, path, names, scope.order, scope.document)


def _check_item(path: str, names: tuple[str, ...], scope: _Scope) -> Iterator[Problem]:
    step = scope.reader
    if step is None or not step.is_fanned_out:
        yield Problem(
            path,
            "`item` is known in a step with `foreach` or `matrix` alone.",
            "Add `foreach: [...]` to the step, or use another name.",
        )
    elif scope.place.kind in _BEFORE_ITEMS:
        yield Problem(
            path,
            "`item` is not known yet: this is computed once, before the items.",
            "Take items out of the list: `foreach: ${{ inputs.list.filter(x, x != '') }}`.",
        )
    elif step.matrix and names and names[0] not in step.matrix:
        meant = closest(names[0], step.matrix)
        yield Problem(
            path,
            f"the `matrix` has no row `{names[0][:64]}`.",
            f"Did you mean `item.{meant}`?" if meant else f"It has {listed(step.matrix)}.",
        )


def _check_index(path: str, names: tuple[str, ...], scope: _Scope) -> Iterator[Problem]:
    for problem in _check_item(path, (), scope):
        reason = problem.reason.replace("`item`", "`index`")
        yield Problem(path, reason, problem.fix)
    if names:
        yield Problem(path, f"`index` is a number, without `{names[0][:64]}`.", "Use `index`.")


def _unknown_function(path: str, name: str) -> Problem:
    known = FUNCTIONS | STATUS_FUNCTIONS
    meant = closest(name, known)
    fix = f"Did you mean `{meant}()`?" if meant else "Compute it in a `python` step."
    return Problem(path, f"there is no function `{name[:64]}()`.", fix)


def _unknown_name(path: str, name: str) -> Problem:
    other = {
        "params": "inputs", "parameters": "inputs", "needs": "steps", "jobs": "steps",
        "matrix": "item", "each": "item", "loop": "index",
    }  # fmt: skip
    roots = ("inputs", "steps", "env", "secrets", "run", "item", "index")
    meant = other.get(name) or closest(name, roots)
    fix = f"Did you mean `{meant}`?" if meant else f"The names are {listed(roots)}."
    return Problem(path, f"`{name[:64]}` is no name of an expression.", f"{fix} Quote text: 'x'.")


_CHECKS: dict[str, Callable[[str, tuple[str, ...], _Scope], Iterator[Problem]]] = {
    "inputs": _check_input,
    "env": _check_env,
    "run": _check_run,
    "steps": _check_steps,
    "item": _check_item,
    "index": _check_index,
}
