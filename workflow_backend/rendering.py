"""A step as it will run: its templates filled in from inputs and earlier steps. Pure.

Secrets stay references: what comes out is still a template for `resolve_secrets`, with everything
that came from data escaped. Only the steps that an expression names are handed to it, so that a run
of thousands of steps costs no more for each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workflow_backend.definition.actions import HttpRequest
from workflow_backend.definition.expressions import (
    OPEN,
    ExpressionError,
    condition_source,
    evaluate_condition,
    expressions_in,
    references,
    render,
    secret_name,
)
from workflow_backend.definition.graph import StepGraph
from workflow_backend.definition.model import Step, Workflow
from workflow_backend.step_state import StepState

_ESCAPED = "${{ inputs.text }}"


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
        self._graph: StepGraph | None = None
        self._base: dict[str, object] = {"inputs": dict(inputs), "run": {"id": run_id}}
        self._workflow_env: dict[str, str] | None = None
        self._working_dir: str | None = None

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

    def resolve(self, step: Step, states: Mapping[str, StepState]) -> ResolvedStep:
        """The step with its environment, folder and request filled in.

        Raises:
            ExpressionError: One of its expressions cannot be computed.
        """
        shared = self._shared_env()
        context: dict[str, object] = {}
        templates = _Templates()
        if any(OPEN in text for text in _texts(step)):
            sources = [source for text in _texts(step) for source in expressions_in(text)]
            context = self._context(sources, step, states)
            context["env"] = _visible(shared)
        env = {name: templates.fill(text, context) for name, text in step.env.items()}
        env = {**shared, **env}
        if context:
            context["env"] = _visible(env)
        working_dir = step.working_dir
        if working_dir is not None:
            working_dir = str(render(working_dir, context))
        elif self._working_dir is not None:
            working_dir = self._working_dir
        request = step.http
        if request is not None:
            env = {}
            request = templates.fill_request(request, context)
        for text in env.values():
            templates.note(text)
        if working_dir != step.working_dir or request is not step.http:
            step = step.model_copy(update={"working_dir": working_dir, "http": request})
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

    def _shared_env(self) -> dict[str, str]:
        """The workflow's environment and folder, filled in at the first use."""
        if self._workflow_env is None:
            templates = _Templates()
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

    def _names_before(self, reader: Step | None) -> list[str]:
        """The steps that are settled when the reader begins, whatever the timing."""
        names = [step.name for step in self._workflow.steps]
        if reader is None:
            return names
        if self._graph is None:
            self._graph = StepGraph(self._workflow.steps)
        graph = self._graph
        return [name for name in names if graph.is_before(name, reader.name)]


class _Templates:
    """Fills templates and notes the secrets that they refer to."""

    def __init__(self) -> None:
        self.secrets: list[str] = []

    def note(self, text: str) -> None:
        """Note the secrets of a filled template."""
        if OPEN in text:
            self.secrets += [name for name in map(secret_name, expressions_in(text)) if name]

    def fill(self, text: str, context: Mapping[str, object]) -> str:
        """The text, filled in but for its secrets."""
        return str(render(text, context, keep_secrets=True)) if "{{" in text else text

    def fill_request(self, request: HttpRequest, context: Mapping[str, object]) -> HttpRequest:
        """The request, filled in but for its secrets."""
        headers = {name: self.fill(text, context) for name, text in request.headers.items()}
        body = None if request.body is None else self.fill(request.body, context)
        for text in (*headers.values(), body or ""):
            self.note(text)
        return request.model_copy(
            update={
                "url": self.fill(request.url, context),
                "headers": headers,
                "body": body,
                "json_body": self._fill_json(request.json_body, context),
            }
        )

    def _fill_json(self, value: object, context: Mapping[str, object]) -> object:
        if isinstance(value, str):
            if OPEN not in value:
                return value
            if any(map(secret_name, expressions_in(value))):
                filled = self.fill(value, context)
                self.note(filled)
                return filled
            return _escape_json(render(value, context))
        if isinstance(value, Mapping):
            return {key: self._fill_json(item, context) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill_json(item, context) for item in value]
        return value


def _texts(step: Step) -> list[str]:
    """The texts of a step that may hold expressions, but for `if`."""
    texts = list(step.env.values())
    if step.working_dir is not None:
        texts.append(step.working_dir)
    if step.http is not None:
        texts += [step.http.url, *step.http.headers.values(), step.http.body or ""]
        texts += _strings(step.http.json_body)
    return texts


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for item in value for text in _strings(item)] if isinstance(value, list) else []


def _visible(env: Mapping[str, str]) -> dict[str, str]:
    """The environment as expressions see it: plain text, without what holds a secret."""
    visible = {}
    for name, template in env.items():
        if "{{" not in template:
            visible[name] = template
        elif not any(map(secret_name, expressions_in(template))):
            visible[name] = str(render(template, {}))
    return visible


def _escape_json(value: object) -> object:
    """Data as templates that give the data again."""
    if isinstance(value, str):
        if "{{" not in value:
            return value
        return render(_ESCAPED, {"inputs": {"text": value}}, keep_secrets=True)
    if isinstance(value, Mapping):
        return {key: _escape_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape_json(item) for item in value]
    return value


__all__ = ["ExpressionError", "Renderer", "ResolvedStep", "StepState"]
