"""The workflow definition, version 1: what a YAML or JSON document becomes once it is valid.

The descriptions and examples of the fields are published: the JSON Schema and the reference in
`docs/workflow-reference.md` are made of them.
"""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

JsonScalar: TypeAlias = bool | int | float | str | None
InputType = Literal["string", "integer", "number", "boolean", "array", "object"]
ActionKind = Literal["run", "python", "http", "needs_command"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class InputSpec(_Strict):
    """One typed input of the workflow: a small part of JSON Schema."""

    type: InputType = Field(default="string", description="JSON type of the value.")
    description: str = Field(default="", description="What the input is for.")
    default: JsonScalar | list[object] | dict[str, object] = Field(
        default=None,
        description="Value if the run gives none; without it the input is null.",
        examples=["/var/log"],
    )
    required: bool = Field(default=False, description="Whether the run must give a value.")
    enum: list[JsonScalar] | None = Field(
        default=None, description="The only values allowed.", examples=[["dev", "prod"]]
    )
    minimum: float | None = Field(default=None, description="Least value of a number.")
    maximum: float | None = Field(default=None, description="Greatest value of a number.")
    pattern: str | None = Field(
        default=None,
        description="Regular expression (RE2 syntax) that must match somewhere in a string.",
        examples=["^[a-z0-9-]+$"],
    )


class RetryPolicy(_Strict):
    """When and how often a failed attempt is repeated.

    `limit` counts repeats, so `limit: 2` is at most three attempts. Delays are
    `interval * backoff ** (n - 1)`, at most `max_interval`.
    """

    limit: int = Field(ge=0, le=100, description="Most repeats: 2 means up to 3 attempts.")
    interval: str = Field(default="1s", description="Delay before the first repeat.")
    backoff: float = Field(
        default=2.0, ge=1.0, le=10.0, description="Factor by which each delay grows."
    )
    max_interval: str = Field(default="5m", description="Longest delay.")
    on_exit_codes: list[int] | None = Field(
        default=None,
        description="Repeat only after these exit codes; without it after any failure.",
        examples=[[75, 111]],
    )
    on_worker_lost: bool = Field(
        default=True,
        description="Whether an attempt that a crash interrupted runs again.",
    )


class HttpRequest(_Strict):
    """The request of an `http` step. `body` is text; `json` is written as JSON."""

    url: str = Field(
        description="Absolute http or https URL; may hold `${{ }}`.",
        examples=["https://example.com/health"],
    )
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="GET", description="HTTP method."
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="Request headers; values may hold `${{ }}` and secrets.",
        examples=[{"Authorization": "Bearer ${{ secrets.API_TOKEN }}"}],
    )
    body: str | None = Field(
        default=None, description="Body as text; may hold `${{ }}` and secrets."
    )
    json_body: object = Field(
        default=None,
        alias="json",
        description="Body as a JSON value; its strings may hold `${{ }}` and secrets.",
        examples=[{"text": "${{ steps.report.outputs.stdout }}"}],
    )
    expect_status: list[int] | None = Field(
        default=None,
        description="Statuses that count as success; without it 200 to 399.",
        examples=[[200, 204]],
    )
    follow_redirects: bool = Field(default=False, description="Whether redirects are followed.")


class Step(_Strict):
    """One node of the workflow; exactly one of `run`, `python`, `http`, `needs_command`.

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
        """Which of the four actions the step has."""
        if self.run is not None:
            return "run"
        if self.python is not None:
            return "python"
        if self.http is not None:
            return "http"
        return "needs_command"


class Workflow(_Strict):
    """A whole workflow. `outputs` are expressions over the steps, computed when the run ends."""

    version: Literal[1] = Field(default=1, description="Version of this format.")
    name: str = Field(
        description="Name of the workflow: letters, digits, spaces, `.`, `_`, `-`; 100 at most.",
        examples=["system-health"],
    )
    description: str = Field(default="", description="What the workflow is for.")
    runner: str = Field(default="local", description="Where it runs.")
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
    outputs: dict[str, str] = Field(
        default_factory=dict,
        description="Results of the run by name, each text with `${{ }}`.",
        examples=[{"report": "${{ steps.report.outputs.stdout }}"}],
    )
