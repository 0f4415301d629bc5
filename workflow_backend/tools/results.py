"""The shapes of what the tools answer; each is the output schema of its tool."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workflow_backend.definition.model import ActionKind
from workflow_backend.definition.plan import PlannedInput
from workflow_backend.definition.problems import Problem
from workflow_backend.engines.base import RunStatus, StepStatus


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProblemItem(_Result):
    """One fault of a definition: where, what, and what to write instead."""

    path: str
    reason: str
    fix: str

    @classmethod
    def of(cls, problem: Problem) -> "ProblemItem":
        """The fault as a result."""
        return cls(path=problem.path, reason=problem.reason, fix=problem.fix)


class CompileResult(_Result):
    """Whether a definition is valid, and its normal form if it is."""

    valid: bool
    problems: list[ProblemItem] = Field(description="Repair each at its path.")
    warnings: list[ProblemItem]
    name: str | None = None
    workflow: str | None = Field(default=None, description="The valid workflow as YAML.")
    steps: list[str] = []
    inputs: list[PlannedInput] = []
    mermaid: str | None = None


class StepResult(_Result):
    """How one step ended."""

    name: str
    status: StepStatus
    output: str = Field(default="", description="Standard output; head and tail if it is long.")
    error: str | None = None
    duration: str | None = None
    attempts: int = 0


class RunSummary(_Result):
    """One run. Times are RFC 3339 in UTC."""

    run_id: str
    workflow: str
    status: RunStatus
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    duration: str | None = None
    error: str | None = None
    last_seq: int = Field(default=0, description="Number of the last event.")
    parent_run_id: str | None = Field(default=None, description="The run that made this one.")
    rerun_of: str | None = Field(default=None, description="The run that this one does again.")
    scheduled_by: str | None = Field(default=None, description="The schedule that began it.")
    engine: str = "journal"


class OpenApproval(_Result):
    """A decision that a person has to take; no tool of a model takes it."""

    approval_id: str = Field(description="`<run>/<step>`, as people write it after `approve`.")
    run_id: str
    step: str
    message: str
    form: dict[str, object] = Field(default={}, description="Values that it may carry, by name.")
    requested_at: str | None = None
    expires: str | None = None


class OpenWait(_Result):
    """A signal or webhook that a run waits for."""

    run_id: str
    step: str
    kind: Literal["signal", "webhook"]
    signal: str | None = None
    expires: str | None = None


class RunResult(RunSummary):
    """One run with its steps and outputs.

    `is_waiting`: nothing of it goes on before somebody decides or sends what it waits for.
    """

    inputs: dict[str, object] = {}
    outputs: dict[str, object] = {}
    steps: list[StepResult] = []
    is_waiting: bool = False
    approvals: list[OpenApproval] = []
    waits: list[OpenWait] = []


class GraphResult(_Result):
    """A drawing of a run."""

    run_id: str
    mermaid: str = Field(description="A Mermaid flowchart.")


class StepCheckResult(_Result):
    """Whether one step is valid by itself; paths begin at the step."""

    valid: bool
    problems: list[ProblemItem] = Field(description="Repair each at its path.")
    warnings: list[ProblemItem]


class StartedRun(RunSummary):
    """A run that was started, or had been by the same call before."""

    is_new: bool


class ApprovalsResult(_Result):
    """The open approvals, the oldest run's last; `is_whole` tells whether these are all."""

    approvals: list[OpenApproval]
    is_whole: bool


class Decision(_Result):
    """What is recorded of an approval; `is_first` if this call decided it.

    The events of the run after `after_seq` tell of the decision and what comes of it.
    """

    run_id: str
    step: str
    approved: bool
    by: str
    reason: str = ""
    values: dict[str, object] = {}
    time: str | None = None
    is_first: bool
    after_seq: int
    parent_run_id: str | None = None


class SignalResult(_Result):
    """What is recorded of a signal or webhook; `is_first` if it is what this call sent."""

    run_id: str
    name: str
    is_first: bool
    time: str | None = None


class RunPage(_Result):
    """Some runs, newest first; `next_cursor` leads to older ones."""

    runs: list[RunSummary]
    next_cursor: str | None = None


class Runner(_Result):
    """A place where workflows run."""

    name: str
    description: str
    available: bool
    engine: str
    isolation: str
    step_kinds: list[str]


class RunnersResult(_Result):
    """The runners; `runner:` of a workflow names one."""

    runners: list[Runner]
    default: str


class Integration(_Result):
    """A program that steps may call."""

    name: str
    kind: str
    available: bool
    path: str | None = None
    needs_network: bool = False


class StepKind(_Result):
    """A kind of step, and how it runs here."""

    name: ActionKind
    description: str
    isolation: str
    network: str


class IntegrationsResult(_Result):
    """What steps can use on this machine."""

    integrations: list[Integration]
    step_kinds: list[StepKind]


class SecretItem(_Result):
    """A secret that steps may name."""

    name: str
    hosts: list[str] = Field(
        default=[],
        description="Where an `http` step may send it, `*.x` being all below x; empty: anywhere.",
    )


class SecretsResult(_Result):
    """The secrets of the caller; values are given to steps alone."""

    secrets: list[SecretItem]
    usage: str


class SchemaResult(_Result):
    """How a workflow is written."""

    json_schema: dict[str, object]
    example: str
    reference: str = Field(description="The same in words, with the names in expressions.")


class TemplateSummary(_Result):
    """A ready workflow."""

    name: str
    title: str
    description: str
    keywords: list[str]
    inputs: list[PlannedInput]
    network: bool


class TemplatesResult(_Result):
    """The templates; with a query, the best match first."""

    templates: list[TemplateSummary]
    best: str | None = Field(default=None, description="The template that the query asks for.")


class TemplateResult(TemplateSummary):
    """One template with its workflow as YAML."""

    workflow: str
