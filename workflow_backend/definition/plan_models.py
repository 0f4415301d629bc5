"""The shape of a plan: what a run would do, for people, models and policies."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workflow_backend.definition.model import ActionKind

Part = Literal["steps", "on_failure", "finally"]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlannedStep(_Result):
    """One step as it would run; those of a workflow inside the document are named `ref/step`."""

    name: str
    kind: ActionKind
    action: str = Field(
        description="Script, method and URL, message or prompt, without control characters."
    )
    depends: list[str]
    part: Part = Field(default="steps", description="The list that holds the step.")
    condition: str | None = None
    timeout: str | None = None
    attempts: int = Field(default=1, description="Most attempts.")
    items: int = Field(
        default=1,
        description="How many items it is done for; 1,000 where data of the run decides.",
    )
    max_parallel: int | None = Field(default=None, description="Most items at the same time.")
    repeats: int = Field(default=1, description="Most times that it is done for one item.")
    network: bool = False
    hosts: list[str] = Field(
        default=[], description="Hosts that it names, or the text by which the run decides one."
    )
    has_unknown_hosts: bool = Field(
        default=False, description="Whether data of the run decides which host is asked."
    )
    follows_redirects: bool = Field(
        default=False, description="Whether the hosts that it asks may send it to others."
    )
    paths: list[str] = Field(
        default=[],
        description="Absolute paths that it names, or the text by which the run decides one.",
    )
    has_unknown_paths: bool = Field(
        default=False, description="Whether data of the run decides the folder that it runs in."
    )
    cut: list[str] = Field(
        default=[], description="Which of `action`, `hosts`, `paths` are not told whole."
    )
    secrets: list[str] = []
    tools: list[str] = Field(default=[], description="Tools that the model of an agent may call.")
    tokens: int = Field(default=0, description="Most tokens of an agent.")
    turns: int = Field(default=0, description="Most turns of an agent.")
    calls: str | None = Field(default=None, description="The workflow that it runs.")
    artefacts: list[str] = []
    approvals: list[str] = Field(
        default=[],
        description="Approval steps without whose consent it does not run; 20 at most are named.",
    )
    risks: list[str] = []


class PlannedInput(_Result):
    """One input with the value that the run would get."""

    name: str
    type: str
    value: object = None
    required: bool = False
    description: str = ""


class PlannedSecret(_Result):
    """One secret that the workflow names."""

    name: str
    available: bool
    steps: list[str]


class PlannedSchedule(_Result):
    """When runs would begin by themselves."""

    cron: str
    timezone: str
    overlap: str
    catch_up: str | None = None


class PlannedGroup(_Result):
    """The group that the run would belong to."""

    group: str
    policy: str


class PlannedMessage(_Result):
    """A message that would be sent; `on` says at which events."""

    url: str
    host: str | None = Field(default=None, description="Its host; none where the run decides it.")
    on: list[str]
    secret: str | None = None


class Violation(_Result):
    """A rule of the policy that the workflow breaks; `steps` are those that break it."""

    rule: str
    message: str
    steps: list[str] = []


class Plan(_Result):
    """What a run would do, and what keeps it from running."""

    workflow: str
    description: str
    can_run: bool
    blockers: list[str] = Field(description="What must be mended before it can run.")
    levels: list[list[str]] = Field(description="Steps in order; those of one list run together.")
    steps: list[PlannedStep]
    inputs: list[PlannedInput]
    missing_inputs: list[str]
    secrets: list[PlannedSecret]
    hosts: list[str]
    network: bool
    isolation: str
    runner: str
    schedule: PlannedSchedule | None = None
    concurrency: PlannedGroup | None = None
    notify: list[PlannedMessage] = []
    needs_command: list[str] = Field(description="Steps that nobody has turned into commands.")
    policy: list[Violation] = Field(default=[], description="Rules of the server that it breaks.")
    risks: list[str]
    warnings: list[str]
    mermaid: str
