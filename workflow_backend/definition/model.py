"""The workflow definition, version 1: what a YAML or JSON document becomes once it is valid."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

JsonScalar: TypeAlias = bool | int | float | str | None
InputType = Literal["string", "integer", "number", "boolean", "array", "object"]
ActionKind = Literal["run", "python", "http", "needs_command"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class InputSpec(_Strict):
    """One typed input of the workflow: a small part of JSON Schema."""

    type: InputType = "string"
    description: str = ""
    default: JsonScalar | list[object] | dict[str, object] = None
    required: bool = False
    enum: list[JsonScalar] | None = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None


class RetryPolicy(_Strict):
    """When and how often a failed attempt is repeated.

    `limit` counts repeats, so `limit: 2` is at most three attempts. Delays are
    `interval * backoff ** (n - 1)`, at most `max_interval`.
    """

    limit: int = Field(ge=0, le=100)
    interval: str = "1s"
    backoff: float = Field(default=2.0, ge=1.0, le=10.0)
    max_interval: str = "5m"
    on_exit_codes: list[int] | None = None
    on_worker_lost: bool = True


class HttpRequest(_Strict):
    """The request of an `http` step. `body` is text; `json` is written as JSON."""

    url: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = None
    json_body: object = Field(default=None, alias="json")
    expect_status: list[int] | None = None
    follow_redirects: bool = False


class Step(_Strict):
    """One node of the workflow; exactly one of `run`, `python`, `http`, `needs_command`.

    `needs_command` says in words what nobody has turned into a command yet: such a workflow can be
    shown and planned, never run.
    """

    name: str
    description: str = ""
    run: str | None = None
    shell: Literal["sh", "bash"] = "sh"
    python: str | None = None
    http: HttpRequest | None = None
    needs_command: str | None = None
    depends: list[str] = Field(default_factory=list)
    if_: str | None = Field(default=None, alias="if")
    env: dict[str, str] = Field(default_factory=dict)
    working_dir: str | None = None
    timeout: str | None = None
    retry: RetryPolicy | None = None
    continue_on_error: bool = False
    parse: Literal["text", "json"] = "text"
    network: bool = False

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

    version: Literal[1] = 1
    name: str
    description: str = ""
    runner: str = "local"
    inputs: dict[str, InputSpec] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    working_dir: str | None = None
    timeout: str | None = None
    max_parallel: int = Field(default=8, ge=1, le=256)
    steps: list[Step] = Field(min_length=1, max_length=5000)
    outputs: dict[str, str] = Field(default_factory=dict)
