"""A step as it will run: its templates filled in from inputs and earlier steps. Pure.

Secrets stay references: what comes out is still a template for `resolve_secrets`, with everything
that came from data escaped. Only the steps that an expression names are handed to it, so that a run
of thousands of steps costs no more for each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from workflow_backend.definition.expressions import (
    OPEN,
    ExpressionError,
    condition_source,
    evaluate_condition,
    expressions_in,
    references,
    render,
    secret_name,
    to_text,
)
from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.rendered_texts import Templates, fill_values, strings_in, texts_of
from workflow_backend.step_state import StepState

T = TypeVar("T")

MAX_ITEMS = 1_000

_WITH_ENVIRONMENT = frozenset({"run", "python", "needs_command"})
_AGENT_TEXTS = ("prompt", "system")

# What only one item of a fanned-out step sees: `item` and `index`.
Extra = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ResolvedStep:
    """What an attempt needs of a step."""

    step: Step
    env: Mapping[str, str]
    secrets: tuple[str, ...]


class Renderer:
    """Fills in the templates of one run."""

    def __init__(self, workflow: Workflow, inputs: Mapping[str, object], run_id: str) -> None:
        self._workflow = workflow
        self._run_id = run_id
        self._graphs: list[StepGraph] = []
        self._base: dict[str, object] = {"inputs": dict(inputs), "run": {"id": run_id}}
        self._workflow_env: dict[str, str] | None = None
        self._working_dir: str | None = None

    def end_main(self, status: str, error: str | None) -> None:
        """From now on handlers are filled in, which see what the run has come to."""
        self._base["run"] = {"id": self._run_id, "status": status, "error": error or ""}

    def condition(
        self, step: Step, states: Mapping[str, StepState], *, succeeded: bool, failed: bool
    ) -> bool:
        """Whether the step runs.

        Raises:
            ExpressionError: Its `if` cannot be computed.
        """
        if step.if_ is None:
            return succeeded
        context = self._context([condition_source(step.if_)], step, states)
        context["env"] = _visible(self._shared_env())
        return evaluate_condition(step.if_, context, succeeded=succeeded, failed=failed)

    def until(
        self, step: Step, states: Mapping[str, StepState], here: StepState, extra: Extra
    ) -> bool:
        """Whether a repeated step is done; `here` is what its last time came to.

        Raises:
            ExpressionError: The condition cannot be computed.
        """
        if step.repeat is None:
            return True
        known = {**states, step.name: here}
        context = self._context([condition_source(step.repeat.until)], step, known)
        context |= {"env": _visible(self._shared_env()), **extra}
        return evaluate_condition(step.repeat.until, context, succeeded=True, failed=False)

    def items(self, step: Step, states: Mapping[str, StepState]) -> list[object]:
        """The items of a fanned-out step, in order.

        Raises:
            ExpressionError: They cannot be computed, are no list, or too many.
        """
        if step.matrix is None:
            return _checked_items(self._list(step.foreach, step, states))
        combined: list[dict[str, object]] = [{}]
        for name, given in step.matrix.items():
            values = self._list(given, step, states)
            combined = [{**one, name: value} for one in combined for value in values]
            _checked_items(combined)
        return list(combined)

    def resolve(
        self, step: Step, states: Mapping[str, StepState], extra: Extra | None = None
    ) -> ResolvedStep:
        """The step with its environment, folder and action filled in.

        Raises:
            ExpressionError: One of its expressions cannot be computed.
        """
        shared = self._shared_env()
        context: dict[str, object] = {}
        templates = Templates()
        texts = [text for text in texts_of(step) if OPEN in text]
        if texts:
            sources = [source for text in texts for source in expressions_in(text)]
            context = self._context(sources, step, states)
            context |= {"env": _visible(shared), **(extra or {})}
        env = {name: templates.fill(text, context) for name, text in step.env.items()}
        env = {**shared, **env} if step.kind in _WITH_ENVIRONMENT else {**env}
        if context:
            context["env"] = _visible({**shared, **env})
        changes: dict[str, object] = {}
        if step.kind in _WITH_ENVIRONMENT:
            changes["working_dir"] = self._folder_of(step, context)
        else:
            env = {}
        if step.http is not None:
            changes["http"] = templates.fill_request(step.http, context)
        elif texts:
            changes |= _filled_action(step, context)
        for text in env.values():
            templates.note(text)
        if any(getattr(step, name) is not value for name, value in changes.items()):
            step = step.model_copy(update=changes)
        return ResolvedStep(step, env, tuple(dict.fromkeys(templates.secrets)))

    def output(self, template: str, states: Mapping[str, StepState]) -> object:
        """The value of one output of the run.

        Raises:
            ExpressionError: It cannot be computed.
        """
        if OPEN not in template:
            return template
        context = self._context(expressions_in(template), None, states)
        context["env"] = _visible(self._shared_env())
        return render(template, context)

    def own_text(self, template: str) -> str:
        """A text of the workflow itself, which sees inputs and the run alone, as a template.

        Raises:
            ExpressionError: It cannot be computed.
        """
        return Templates().fill(template, self._base)

    def _shared_env(self) -> dict[str, str]:
        """The workflow's environment and folder, filled in at the first use."""
        if self._workflow_env is None:
            templates = Templates()
            env = self._workflow.env
            self._workflow_env = {
                name: templates.fill(text, self._base) for name, text in env.items()
            }
            if self._workflow.working_dir is not None:
                self._working_dir = str(render(self._workflow.working_dir, self._base))
        return self._workflow_env

    def _context(
        self, sources: Iterable[str], reader: Step | None, states: Mapping[str, StepState]
    ) -> dict[str, object]:
        """What the expressions may see; of the steps, those that they name."""
        steps: dict[str, object] = {}
        for source in sources:
            for reference in references(source):
                if reference.path[0] != "steps":
                    continue
                names = reference.path[1:2] or self._names_before(reader)
                for name in names:
                    if name in states:
                        steps[name] = states[name].as_context()
        return {**self._base, "steps": steps}

    def _folder_of(self, step: Step, context: Mapping[str, object]) -> str | None:
        if step.working_dir is None:
            return self._working_dir
        return (
            str(render(step.working_dir, context))
            if OPEN in step.working_dir
            else (step.working_dir)
        )

    def _list(
        self, given: list[object] | str | None, step: Step, states: Mapping[str, StepState]
    ) -> list[object]:
        """A list as it stands in the step, or as its expression gives it."""
        sources = [source for text in strings_in(given) for source in expressions_in(text)]
        context = self._context(sources, step, states)
        context["env"] = _visible(self._shared_env())
        value = fill_values(given, context)
        if not isinstance(value, list):
            raise ExpressionError(
                f"the items are no list, but {type(value).__name__}; give a list, or an expression"
                " that gives one",
                str(given)[:80],
            )
        return value

    def _names_before(self, reader: Step | None) -> list[str]:
        """The steps that are settled when the reader begins, whatever the timing."""
        workflow = self._workflow
        parts = (workflow.steps, workflow.on_failure, workflow.finally_)
        if reader is None:
            return [step.name for part in parts for step in part]
        if not self._graphs:
            self._graphs = [StepGraph(part) for part in parts]
        names: list[str] = []
        for part, graph in zip(parts, self._graphs, strict=True):
            if any(step is reader or step.name == reader.name for step in part):
                before = (step.name for step in part if graph.is_before(step.name, reader.name))
                return [*names, *before]
            names += [step.name for step in part]
        return names


def concurrency_group(workflow: Workflow, inputs: Mapping[str, object], run_id: str) -> str | None:
    """The group that a run of the workflow with these inputs belongs to, if any.

    Raises:
        ExpressionError: Its name cannot be computed.
    """
    if workflow.concurrency is None:
        return None
    context = {"inputs": dict(inputs), "run": {"id": run_id}}
    return to_text(render(workflow.concurrency.group, context))


def _filled_action(step: Step, context: Mapping[str, object]) -> dict[str, object]:
    """The part of a step that says what it does, filled in."""
    if step.approval is not None:
        message = str(render(step.approval.message, context))
        return {"approval": step.approval.model_copy(update={"message": message})}
    if step.agent is not None:
        texts = {name: str(render(getattr(step.agent, name), context)) for name in _AGENT_TEXTS}
        return {"agent": step.agent.model_copy(update=texts)}
    if step.workflow is not None:
        inputs = fill_values(step.workflow.inputs, context)
        return {"workflow": step.workflow.model_copy(update={"inputs": inputs})}
    return {}


def _checked_items(items: list[T]) -> list[T]:
    if len(items) > MAX_ITEMS:
        raise ExpressionError(
            f"there are {len(items)} items, the limit is {MAX_ITEMS}; split them over several runs",
            "",
        )
    return items


def _visible(env: Mapping[str, str]) -> dict[str, str]:
    """The environment as expressions see it: plain text, without what holds a secret."""
    visible = {}
    for name, template in env.items():
        if "{{" not in template:
            visible[name] = template
        elif not any(map(secret_name, expressions_in(template))):
            visible[name] = str(render(template, {}))
    return visible


__all__ = ["ExpressionError", "Renderer", "ResolvedStep", "StepState", "concurrency_group"]
