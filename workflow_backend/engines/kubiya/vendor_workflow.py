"""A workflow of ours as the body of Kubiya's API. Pure.

The names of the fields are those of the importer's table. What the format lacks is refused by name:
half a workflow must not run there.
"""

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from workflow_backend.definition.durations import parse_duration
from workflow_backend.definition.importers.fields import (
    CONTINUE,
    EXECUTOR,
    HANDLERS,
    HTTP,
    RETRY,
    STEP,
    WORKFLOW,
    vendor_name,
)
from workflow_backend.definition.model import ActionKind, Step, Workflow
from workflow_backend.engines.base import EngineUnavailableError
from workflow_backend.engines.kubiya.vendor_texts import (
    UntranslatableError,
    VendorTexts,
    check_script,
)

_KINDS: frozenset[ActionKind] = frozenset({"run", "python", "http", "agent", "container"})
_STEP_LACKS = ("foreach", "matrix", "repeat", "artefacts")
_HANDLER_CONDITIONS = {
    None: "exit",
    "run.status == 'success'": "success",
    "run.status == 'cancelled'": "cancel",
}


class UnsupportedWorkflowError(EngineUnavailableError):
    """The workflow has what Kubiya's format lacks; `lacks` names each, with its place."""

    def __init__(self, lacks: list[str]) -> None:
        self.lacks = lacks
        super().__init__(f"Kubiya cannot run this workflow: {'; '.join(lacks)}")


@dataclass(frozen=True, slots=True)
class VendorWorkflow:
    """The body of a start, without its parameters."""

    fields: Mapping[str, object]

    def body(self, inputs: Mapping[str, object]) -> dict[str, object]:
        """The body with the inputs of a run."""
        given = {name: value for name, value in inputs.items() if value is not None}
        return {**self.fields, "parameters": given}


def translate(workflow: Workflow) -> VendorWorkflow:
    """The workflow in Kubiya's format.

    Raises:
        UnsupportedWorkflowError: It has what the format lacks.
    """
    writer = _Writer(workflow)
    fields = writer.write()
    if writer.lacks:
        raise UnsupportedWorkflowError(list(dict.fromkeys(writer.lacks)))
    return VendorWorkflow(fields)


def lacks_of(workflow: Workflow) -> list[str]:
    """What keeps the workflow from running on Kubiya."""
    try:
        translate(workflow)
    except UnsupportedWorkflowError as error:
        return error.lacks
    return []


class _Writer:
    """Writes one workflow, and gathers what cannot be written."""

    def __init__(self, workflow: Workflow) -> None:
        self.lacks: list[str] = []
        self._workflow = workflow
        self._texts = VendorTexts(workflow)

    def write(self) -> dict[str, object]:
        workflow = self._workflow
        self.lacks += _whole_lacks(workflow)
        fields: dict[str, object] = {
            vendor_name(WORKFLOW, "name"): workflow.name,
            vendor_name(WORKFLOW, "type"): "graph",
            vendor_name(WORKFLOW, "max_parallel"): workflow.max_parallel,
        }
        if workflow.description:
            fields[vendor_name(WORKFLOW, "description")] = workflow.description
        if workflow.timeout is not None:
            fields[vendor_name(WORKFLOW, "timeout")] = _seconds(workflow.timeout)
        if defaults := _defaults(workflow):
            fields[vendor_name(WORKFLOW, "inputs")] = defaults
        if env := self._env(workflow.env, "env"):
            fields[vendor_name(WORKFLOW, "env")] = env
        steps = [self._step(step, f"steps[{index}]") for index, step in enumerate(workflow.steps)]
        handlers = dict(self._handlers())
        for step in steps:
            if (variable := self._texts.outputs.get(str(step["name"]))) is not None:
                step[vendor_name(STEP, "output")] = variable
        fields[vendor_name(WORKFLOW, "steps")] = steps
        if handlers:
            fields[vendor_name(WORKFLOW, "handlers")] = handlers
        return fields

    def _step(self, step: Step, path: str) -> dict[str, object]:
        self.lacks += _step_lacks(step, path)
        fields: dict[str, object] = {vendor_name(STEP, "name"): step.name}
        if step.description:
            fields[vendor_name(STEP, "description")] = step.description
        fields |= self._action(step, path)
        if step.depends:
            fields[vendor_name(STEP, "depends")] = list(step.depends)
        if env := self._env(step.env, f"{path}.env"):
            fields[vendor_name(STEP, "env")] = env
        directory = step.working_dir or self._workflow.working_dir
        if directory is not None:
            text = self._text(directory, f"{path}.working_dir")
            fields[vendor_name(STEP, "working_dir")] = text
        if step.timeout is not None:
            fields[vendor_name(STEP, "timeout")] = _seconds(step.timeout)
        if step.retry is not None and step.retry.limit:
            fields[vendor_name(STEP, "retry")] = _retry(step)
        if step.continue_on_error:
            fields[vendor_name(STEP, "continue_on")] = {
                vendor_name(CONTINUE, "failure"): True,
                "markSuccess": True,
            }
        if step.if_ is not None and path.startswith("steps["):
            try:
                fields[vendor_name(STEP, "preconditions")] = [self._texts.precondition(step.if_)]
            except UntranslatableError as error:
                self.lacks.append(f"{path}.if: {error}")
        return fields

    def _action(self, step: Step, path: str) -> dict[str, object]:
        command, script = vendor_name(STEP, "command"), vendor_name(STEP, "script")
        if step.run is not None or step.python is not None:
            text = step.run if step.run is not None else step.python or ""
            try:
                check_script(text)
            except UntranslatableError as error:
                self.lacks.append(f"{path}.{step.kind}: {error}")
            # As `script`, so that the text reaches the program without being filled in.
            return {command: step.shell if step.run is not None else "python", script: text}
        if step.http is not None:
            return {vendor_name(STEP, "executor"): self._http(step, path)}
        if step.agent is not None:
            return {vendor_name(STEP, "executor"): self._agent(step, path)}
        if step.container is not None:
            config = {"image": step.container.image, "command": shlex.join(step.container.command)}
            return {vendor_name(STEP, "executor"): _executor("docker", config)}
        return {}

    def _http(self, step: Step, path: str) -> dict[str, object]:
        request = step.http
        if request is None:
            return {}
        place = f"{path}.http"
        config: dict[str, object] = {
            vendor_name(HTTP, "url"): self._text(request.url, f"{place}.url"),
            vendor_name(HTTP, "method"): request.method,
        }
        if request.headers:
            config[vendor_name(HTTP, "headers")] = {
                name: self._text(value, f"{place}.headers.{name}")
                for name, value in request.headers.items()
            }
        if request.body is not None:
            config[vendor_name(HTTP, "body")] = self._text(request.body, f"{place}.body")
        elif request.json_body is not None:
            config[vendor_name(HTTP, "body")] = self._value(request.json_body, f"{place}.json")
        for key in ("expect_status", "follow_redirects"):
            if getattr(request, key):
                self.lacks.append(f"{place}.{key}: there is no such setting")
        return _executor("http", config)

    def _agent(self, step: Step, path: str) -> dict[str, object]:
        agent = step.agent
        if agent is None:
            return {}
        place = f"{path}.agent"
        for key in ("tools", "output_schema"):
            if getattr(agent, key):
                self.lacks.append(f"{place}.{key}: agents there have none of this server's")
        if "budget" in agent.model_fields_set:
            self.lacks.append(f"{place}.budget: an agent there has no bound")
        inner: dict[str, object] = {
            "name": step.name,
            "ai_instructions": self._text(agent.system, f"{place}.system"),
        }
        if agent.model is not None:
            inner["llm_model"] = agent.model
        message = self._text(agent.prompt, f"{place}.prompt")
        return _executor("inline_agent", {"message": message, "agent": inner})

    def _handlers(self) -> Iterator[tuple[str, dict[str, object]]]:
        """`on_failure` and `finally`, where each is one step that is not computed."""
        parts = (("on_failure", self._workflow.on_failure), ("finally", self._workflow.finally_))
        taken: set[str] = set()
        for key, steps in parts:
            for index, step in enumerate(steps):
                kind = _handler_kind(key, step)
                if kind is None or kind in taken:
                    self.lacks.append(
                        f"{key}[{index}]: a handler there is one command for each kind of end"
                    )
                    continue
                taken.add(kind)
                yield vendor_name(HANDLERS, kind), self._step(step, f"{key}[{index}]")

    def _env(self, env: Mapping[str, str], path: str) -> dict[str, str]:
        return {name: self._text(value, f"{path}.{name}") for name, value in env.items()}

    def _value(self, value: object, path: str) -> object:
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, Mapping):
            return {key: self._value(item, f"{path}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return value

    def _text(self, template: str, path: str) -> str:
        try:
            return self._texts.text(template)
        except UntranslatableError as error:
            self.lacks.append(f"{path}: {error}")
            return ""


def _whole_lacks(workflow: Workflow) -> Iterator[str]:
    """What a whole workflow may have that there is not."""
    if workflow.concurrency is not None:
        yield "concurrency: runs there are not kept apart"
    if workflow.notify:
        yield "notify: this server is not asked when a run there ends"


def _step_lacks(step: Step, path: str) -> Iterator[str]:
    if step.kind not in _KINDS:
        yield f"{path}.{step.kind}: there is no such step"
    for key in _STEP_LACKS:
        if getattr(step, key):
            yield f"{path}.{key}: there is no such field that this server could follow"
    if step.retry is not None and not step.retry.on_worker_lost:
        yield f"{path}.retry.on_worker_lost: Kubiya decides what it does after a crash"


def _handler_kind(key: str, step: Step) -> str | None:
    """The kind of end that the step is for there, if it can be a handler."""
    if step.kind not in {"run", "python"}:
        return None
    if key == "on_failure":
        return "failure" if step.if_ is None else None
    return _HANDLER_CONDITIONS.get(step.if_)


def _defaults(workflow: Workflow) -> dict[str, object]:
    """The inputs that have a value when none is given."""
    return {
        name: spec.default for name, spec in workflow.inputs.items() if spec.default is not None
    }


def _retry(step: Step) -> dict[str, object]:
    policy = step.retry
    if policy is None:
        return {}
    retry: dict[str, object] = {
        vendor_name(RETRY, "limit"): policy.limit,
        vendor_name(RETRY, "interval"): _seconds(policy.interval),
        vendor_name(RETRY, "backoff"): policy.backoff,
        vendor_name(RETRY, "max_interval"): _seconds(policy.max_interval),
    }
    if policy.on_exit_codes:
        retry[vendor_name(RETRY, "on_exit_codes")] = list(policy.on_exit_codes)
    return retry


def _executor(kind: str, config: Mapping[str, object]) -> dict[str, object]:
    return {vendor_name(EXECUTOR, "type"): kind, vendor_name(EXECUTOR, "config"): dict(config)}


def _seconds(text: str) -> int:
    """A duration in whole seconds, as the format counts, never zero."""
    return max(1, math.ceil(parse_duration(text)))
