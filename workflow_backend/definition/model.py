"""The workflow definition, version 1: what a YAML or JSON document becomes once it is valid.

The descriptions and examples of the fields are published: the JSON Schema and the reference in
`docs/workflow-reference.md` are made of them.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from workflow_backend.definition.actions import (
    AgentTask,
    Approval,
    Container,
    HttpRequest,
    Wait,
    WorkflowCall,
)
from workflow_backend.definition.control import (
    Concurrency,
    Notification,
    Repeat,
    RetryPolicy,
    Schedule,
)
from workflow_backend.definition.input_spec import InputSpec, Strict

ActionKind = Literal[
    "run", "python", "http", "approval", "wait", "agent", "workflow", "container", "needs_command"
]
ACTIONS: tuple[ActionKind, ...] = (
    "run", "python", "http", "approval", "wait", "agent", "workflow", "container", "needs_command",
)  # fmt: skip


class Step(Strict):
    """One node of the workflow, with exactly one action, such as `run`, `http` or `approval`.

    `needs_command` says in words what nobody has turned into a command yet: such a workflow can be
    shown and planned, never run.
    """

    name: str = Field(
        description="Unique name: a letter, then letters, digits, `-` and `_`; 64 at most.",
        examples=["check-disk"],
    )
    description: str = Field(default="", description="What the step does, for people.")
    run: str | None = Field(
        default=None,
        description="Shell script. It holds no `${{ }}`: pass values by `env` and use `$NAME`.",
        examples=['df -h "$TARGET"'],
    )
    shell: Literal["sh", "bash"] = Field(default="sh", description="Shell of `run`.")
    python: str | None = Field(
        default=None,
        description="Python script. It holds no `${{ }}`: pass values by `env` and read"
        ' `os.environ["NAME"]`.',
        examples=["import platform\nprint(platform.platform())"],
    )
    http: HttpRequest | None = Field(default=None, description="HTTP request.")
    approval: Approval | None = Field(default=None, description="A person's decision.")
    wait: Wait | None = Field(default=None, description="A timer, a signal or a webhook.")
    agent: AgentTask | None = Field(default=None, description="A task for a model.")
    workflow: WorkflowCall | None = Field(
        default=None, description="A run of a workflow of this document."
    )
    container: Container | None = Field(
        default=None, description="A container; known, but not run yet: the plan refuses it."
    )
    needs_command: str | None = Field(
        default=None,
        description="In words, what should be done here; a workflow with it is never run.",
        examples=["Back up all databases"],
    )
    depends: list[str] = Field(
        default_factory=list,
        description="Steps that must end before; without it the step starts at once.",
        examples=[["check-disk", "check-memory"]],
    )
    if_: str | None = Field(
        default=None,
        alias="if",
        description="CEL condition; `success()` is implied unless it calls `success()`,"
        " `failure()` or `always()`.",
        examples=["steps.check.outputs.stdout.contains('ready')", "failure()"],
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Environment of the step; values may hold `${{ }}` and secrets.",
        examples=[{"TARGET": "${{ inputs.target }}", "TOKEN": "${{ secrets.API_TOKEN }}"}],
    )
    working_dir: str | None = Field(
        default=None,
        description="Working directory, below the run's folder or absolute; may hold `${{ }}`.",
    )
    timeout: str | None = Field(
        default=None, description="Longest time of one attempt.", examples=["30s"]
    )
    retry: RetryPolicy | None = Field(default=None, description="Repeats after a failure.")
    foreach: list[object] | str | None = Field(
        default=None,
        description="The step once for each item of a list, or of a whole `${{ }}` that gives one;"
        " expressions see `item` and `index`. 1,000 items at most.",
        examples=["${{ inputs.hosts }}", ["a", "b"]],
    )
    matrix: dict[str, list[object] | str] | None = Field(
        default=None,
        description="The step once for each combination; expressions see `item.NAME`.",
        examples=[{"os": ["linux", "macos"], "python": ["3.11", "3.14"]}],
    )
    max_parallel: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Most items of `foreach` or `matrix` at the same time.",
    )
    repeat: Repeat | None = Field(
        default=None, description="Do the step again until a condition holds."
    )
    artefacts: list[str] = Field(
        default_factory=list,
        description="Files below the run's folder to keep once the step has ended; globs.",
        examples=[["report.html", "logs/*.txt"]],
    )
    continue_on_error: bool = Field(
        default=False, description="Whether the run goes on as if a failed step had succeeded."
    )
    parse: Literal["text", "json"] = Field(
        default="text",
        description="`json`: the standard output or the HTTP body is one JSON value, kept as"
        " `outputs.json`.",
    )
    network: bool = Field(
        default=False, description="Whether a `run` or `python` step may use the network."
    )

    @property
    def kind(self) -> ActionKind:
        """Which of the actions the step has."""
        return next((name for name in ACTIONS if getattr(self, name) is not None), "needs_command")

    @property
    def is_fanned_out(self) -> bool:
        """Whether the step is done once for each of several items."""
        return self.foreach is not None or self.matrix is not None


class WorkflowBody(Strict):
    """What a workflow and the workflows inside its document have in common."""

    inputs: dict[str, InputSpec] = Field(
        default_factory=dict,
        description="Typed inputs by name; read as `${{ inputs.NAME }}`.",
        examples=[{"target": {"type": "string", "default": "/"}}],
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Environment of every `run` and `python` step; values may hold `${{ inputs }}`"
        " and secrets.",
    )
    working_dir: str | None = Field(
        default=None, description="Working directory of every step; may hold `${{ inputs }}`."
    )
    timeout: str | None = Field(
        default=None, description="Longest time of the whole run.", examples=["10m"]
    )
    max_parallel: int = Field(
        default=8, ge=1, le=256, description="Most steps that run at the same time."
    )
    steps: list[Step] = Field(
        min_length=1, max_length=5000, description="The steps; their order has no meaning."
    )
    on_failure: list[Step] = Field(
        default_factory=list,
        max_length=100,
        description="Steps that run after the others if the run has failed or timed out; they see"
        " `run.status` and `run.error`.",
    )
    finally_: list[Step] = Field(
        default_factory=list,
        max_length=100,
        alias="finally",
        description="Steps that run last, whatever the run has come to, a cancelled one too.",
    )
    outputs: dict[str, str] = Field(
        default_factory=dict,
        description="Results of the run by name, each text with `${{ }}`; computed when it ends.",
        examples=[{"report": "${{ steps.report.outputs.stdout }}"}],
    )

    def all_steps(self) -> Iterator[Step]:
        """The steps, then those of `on_failure` and `finally`."""
        yield from self.steps
        yield from self.on_failure
        yield from self.finally_


class SubWorkflow(WorkflowBody):
    """A workflow inside the document, which steps run by its name."""

    description: str = Field(default="", description="What it is for.")


class WorkflowHead(Strict):
    """What names a document."""

    version: Literal[1] = Field(default=1, description="Version of this format.")
    name: str = Field(
        description="Name of the workflow: letters, digits, spaces, `.`, `_`, `-`; 100 at most.",
        examples=["system-health"],
    )
    description: str = Field(default="", description="What the workflow is for.")
    runner: str = Field(default="local", description="Where it runs.")


class Workflow(WorkflowBody, WorkflowHead):
    """A whole workflow."""

    workflows: dict[str, SubWorkflow] = Field(
        default_factory=dict,
        description="Workflows that steps of this document run, by name.",
    )
    schedule: Schedule | None = Field(
        default=None, description="When it runs by itself, once it is registered."
    )
    concurrency: Concurrency | None = Field(
        default=None, description="Which other runs it must not run beside."
    )
    notify: list[Notification] = Field(
        default_factory=list, max_length=10, description="Who is told what the run comes to."
    )

    def called(self, ref: str) -> "Workflow":
        """The workflow that a step of this document calls, as a document of its own."""
        body = self.workflows[ref]
        fields = {name: getattr(body, name) for name in type(body).model_fields}
        return Workflow(name=ref, runner=self.runner, workflows=self.workflows, **fields)
