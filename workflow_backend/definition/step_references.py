"""Expressions that read what a step has come to: `steps.NAME.outputs.KEY`."""

from collections.abc import Iterator, Sequence

from workflow_backend.definition.model import Step, Workflow
from workflow_backend.definition.places import Place
from workflow_backend.definition.problems import Problem, closest, listed
from workflow_backend.definition.step_order import StepOrder

STEP_FIELDS = ("status", "outputs", "error", "exit_code", "attempts")


def check_step_reference(
    place: Place, path: str, names: tuple[str, ...], order: StepOrder, document: Workflow
) -> Iterator[Problem]:
    """The faults of a reference to `steps`; `names` are what stands after that."""
    if not names:
        return
    name, reader = names[0], place.step
    shown = name[:64]
    is_own = reader is not None and name == reader.name
    if name not in order.steps:
        meant = closest(name, order.steps)
        fix = f"Did you mean `{meant}`?" if meant else f"The steps are {listed(order.steps)}."
        yield Problem(path, f"there is no step `{shown}`.", fix)
    elif is_own and place.kind != "until":
        yield Problem(path, "the step refers to itself.", "Refer to a step before it.")
    elif reader is not None and not is_own and order.is_later(name, reader.name):
        yield Problem(
            path,
            f"step `{shown}` runs after this one: it is a step of `{order.part_of(name)}`.",
            "Refer to a step before it.",
        )
    elif reader is not None and not is_own and not order.is_before(name, reader.name):
        depends = ", ".join([*reader.depends, name])
        yield Problem(
            path,
            f"step `{shown}` need not have ended when `{reader.name}` starts.",
            f"Add it to the step: `depends: [{depends}]`.",
        )
    elif len(names) > 1 and names[1] not in STEP_FIELDS:
        yield Problem(
            path,
            f"a step has no `{names[1][:64]}`; it has {listed(STEP_FIELDS)}.",
            f"Write `steps.{shown}.outputs.{_output_name(names)}`.",
        )
    elif len(names) > 2 and names[1] == "outputs":
        step = order.steps[name]
        yield from _check_output(path, names, step, document, is_whole=not is_own)


def outputs_of(step: Step, document: Workflow, *, is_whole: bool = True) -> Sequence[str] | None:
    """The outputs that a step of this kind has; None if what it writes decides.

    `is_whole`: of a fanned-out step as others see it, not of one item.
    """
    if step.is_fanned_out and is_whole:
        return ("items", "statuses")
    if step.approval is not None:
        return ("approved", "by", "reason", "values")
    if step.http is not None:
        body = ("json", "body") if step.parse == "json" else ("body",)
        return ("status", "headers", *body, "stdout")
    if step.wait is not None:
        return () if step.wait.for_ is not None else ("payload",)
    if step.agent is not None:
        answer = ("json", "text") if step.agent.output_schema is not None else ("text",)
        return (*answer, "stdout", "usage")
    if step.workflow is not None:
        called = document.workflows.get(step.workflow.ref)
        return None if called is None else (*called.outputs, "run_id")
    return None


def _check_output(
    path: str, names: tuple[str, ...], step: Step, document: Workflow, *, is_whole: bool
) -> Iterator[Problem]:
    known, name = outputs_of(step, document, is_whole=is_whole), names[2]
    if known is not None and name not in known:
        yield _unknown_output(path, name, step, known)
    elif name == "values" and step.approval is not None and len(names) > 3:
        form = step.approval.form
        if names[3] not in form:
            meant = closest(names[3], form)
            fix = f"Did you mean `{meant}`?" if meant else f"The form has {listed(form)}."
            yield Problem(path, f"the form has no field `{names[3][:64]}`.", fix)


def _unknown_output(path: str, name: str, step: Step, known: Sequence[str]) -> Problem:
    shown = f"steps.{step.name}.outputs"
    if step.is_fanned_out and "items" in known:
        reason = f"step `{step.name}` is done for several items, each with outputs of its own."
        fix = f"Read them as a list: `{shown}.items.map(one, one.{name[:64]})`."
        return Problem(path, reason, fix)
    if step.http is not None and name == "json":
        return Problem(
            path,
            f"step `{step.name}` keeps the body as text.",
            "Add `parse: json` to the step, or read `outputs.body`.",
        )
    if step.agent is not None and name == "json":
        return Problem(
            path,
            f"the agent `{step.name}` answers with text.",
            f"Give it an `output_schema`, or read `{shown}.text`.",
        )
    meant = closest(name, known)
    if step.agent is not None and name in {"output", "answer", "result"}:
        meant = "text"
    has = listed(known) if known else "none"
    fix = f"Did you mean `{shown}.{meant}`?" if meant else f"Its outputs are {has}."
    if not known:
        fix = "Remove it; a timer has no outputs."
    return Problem(path, f"step `{step.name}` has no output `{name[:64]}`.", fix)


def _output_name(names: tuple[str, ...]) -> str:
    """The output that `steps.x.output` or `steps.x.stdout` is meant to name."""
    if closest(names[1], ["output", "outputs", "result"]):
        return names[2][:64] if len(names) > 2 else "stdout"
    return names[1][:64]
