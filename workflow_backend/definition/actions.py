"""What a step does, but for scripts: requests, approvals, waits, agents, other workflows."""

from typing import Literal

from pydantic import Field

from workflow_backend.definition.input_spec import InputSpec, Strict


class HttpRequest(Strict):
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


class Approval(Strict):
    """A question to a person; the run goes on when it is decided."""

    message: str = Field(
        description="What is asked; may hold `${{ }}`.",
        examples=["Deploy ${{ inputs.version }} to production?"],
    )
    form: dict[str, InputSpec] = Field(
        default_factory=dict,
        description="Values that the decision may carry, by name; read as"
        " `steps.NAME.outputs.values.FIELD`.",
        examples=[{"reason": {"type": "string", "required": True}}],
    )
    timeout: str | None = Field(default=None, description="How long is waited.", examples=["24h"])
    on_timeout: Literal["fail", "skip", "approve"] = Field(
        default="fail",
        description="What becomes of the step when nobody decides in time.",
    )


class Wait(Strict):
    """Something that is waited for; exactly one of `for`, `signal`, `webhook`."""

    for_: str | None = Field(
        default=None, alias="for", description="A length of time.", examples=["10m"]
    )
    signal: str | None = Field(
        default=None,
        description="Name of a signal, sent through the API; its data are `outputs.payload`.",
        examples=["deployed"],
    )
    webhook: Literal[True] | None = Field(
        default=None,
        description="A POST to the address that `wait_started` tells; its body is"
        " `outputs.payload`.",
    )
    timeout: str | None = Field(
        default=None, description="How long a signal or webhook is waited for.", examples=["1h"]
    )
    on_timeout: Literal["fail", "skip"] = Field(
        default="fail", description="What becomes of the step when nothing comes in time."
    )


class AgentBudget(Strict):
    """What one agent may use."""

    tokens: int = Field(
        default=50_000, ge=1, le=10_000_000, description="Most tokens of all its model turns."
    )
    turns: int = Field(default=8, ge=1, le=100, description="Most model turns.")


class AgentTask(Strict):
    """A task for a model with tools, asked through this server."""

    prompt: str = Field(
        description="What is to be done; may hold `${{ }}`. Data in it may try to instruct the"
        " model: give it few tools.",
        examples=["Sum up this log: ${{ steps.read.outputs.stdout }}"],
    )
    system: str = Field(default="", description="What the model is told first; may hold `${{ }}`.")
    model: str | None = Field(
        default=None,
        description="`provider/model` or a name of the gateway; without it the server's own.",
        examples=["openai/gpt-5.4-mini"],
    )
    tools: list[str] = Field(
        default_factory=list,
        description="Names of the server's tools that it may call; without it none.",
        examples=[["list_runs"]],
    )
    output_schema: dict[str, object] | None = Field(
        default=None,
        description="JSON Schema of the answer, which is then `outputs.json`.",
        examples=[{"type": "object", "required": ["summary"]}],
    )
    budget: AgentBudget = Field(
        default_factory=AgentBudget, description="What it may use before it has failed."
    )


class WorkflowCall(Strict):
    """A run of a workflow of this document, as a step."""

    ref: str = Field(description="Its name in `workflows`.", examples=["deploy"])
    inputs: dict[str, object] = Field(
        default_factory=dict,
        description="Values of its inputs; texts may hold `${{ }}`.",
        examples=[{"host": "${{ item }}"}],
    )


class Container(Strict):
    """A container. It is part of the format, but not run by this server yet."""

    image: str = Field(description="The image.", examples=["alpine:3.22"])
    command: list[str] = Field(default_factory=list, description="What runs in it.")
