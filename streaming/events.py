"""The one event type in the middle: providers and the agent loop yield it, encoders consume it.

A well-formed sequence is: at most one `Started`; any number of deltas, tool calls and workflow
events; then one `Finished` per choice, of which the last carries the usage. A failure is no event:
it is an exception of `streaming.errors`, raised out of the iterator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, in OpenAI's sense: `prompt_tokens` includes cached ones.

    `total_tokens` is what the upstream reported, which need not be the sum.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_creation_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """The usage of two turns together."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_creation_tokens + other.cache_creation_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class ReasoningBlock:
    """One finished block of thinking, kept so that it can go back unchanged with tool results.

    Anthropic signs its blocks (`signature`) and may hide them (`redacted_data`, then `text` is "").
    Source: Messages API, "Extended thinking", section "Preserving thinking blocks", 2026-10.
    """

    text: str
    signature: str | None = None
    redacted_data: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The upstream accepted the request: its own id of the answer and the model that answers."""

    response_id: str
    model: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A further part of the answer's text."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A further part of the model's visible thinking."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningEnded:
    """A block of thinking is complete; its text was already sent as deltas."""

    block: ReasoningBlock
    choice: int = 0


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """A further part of the text with which the model refuses."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The model begins a tool call; `index` counts the tool calls of its choice from 0."""

    index: int
    call_id: str
    name: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A further part of a tool call's arguments, which together are one JSON text."""

    index: int
    arguments: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallEnded:
    """A tool call is complete; `arguments` is the whole JSON text ("{}" if the model sent none)."""

    index: int
    call_id: str
    name: str
    arguments: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class AgentToolCalled:
    """The agent calls one of its own tools: shown to people, never answered by the client."""

    call_id: str
    name: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class AgentToolReturned:
    """The result of the agent's own tool, as text and, where the tool gave it, as an object."""

    call_id: str
    name: str
    text: str
    structured: JsonObject | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class WorkflowEvent:
    """One event of a workflow run, ready to be written: the product's JSON object.

    `data` always holds `type`, `run_id`, `seq` (from 1, without gaps) and `time` (RFC 3339), and
    the fields of its type: `step`, `message`, `output`, `error`, `will_retry`, `attempt`,
    `workflow`, `status`, `duration`, `text`, `reason`.
    """

    data: Mapping[str, JsonValue]

    @property
    def type(self) -> str:
        """The kind of event, such as `step_complete`."""
        return str(self.data.get("type", ""))

    @property
    def step(self) -> str | None:
        """The step that the event is about, or None for the run as a whole."""
        step = self.data.get("step")
        return step if isinstance(step, str) else None


@dataclass(frozen=True, slots=True)
class Finished:
    """The choice is complete. The last `Finished` of an answer carries its usage, if known."""

    reason: FinishReason
    choice: int = 0
    usage: Usage | None = None


Event: TypeAlias = (
    Started
    | TextDelta
    | ReasoningDelta
    | ReasoningEnded
    | RefusalDelta
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallEnded
    | AgentToolCalled
    | AgentToolReturned
    | WorkflowEvent
    | Finished
)
