"""A chat request as every provider takes it, whichever route and body it came from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from streaming.events import JsonObject, JsonValue, ReasoningBlock

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of a message. `extra` keeps keys such as `cache_control` for who knows them.

    `is_typed` is false for what was not written by who sends the message: the text of a file.
    """

    text: str
    extra: Mapping[str, JsonValue] = field(default_factory=dict)
    is_typed: bool = True


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image: `url` is an http(s) URL or a `data:` URL with base64 content."""

    url: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class OpaquePart:
    """A content part of OpenAI's format that we pass on untouched (`input_audio`, `file`, ...)."""

    data: JsonObject


Part: TypeAlias = TextPart | ImagePart | OpaquePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model made; `arguments` is the JSON text exactly as the model wrote it."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation. OpenAI's `developer` role is `system` here.

    `tool_calls` and `reasoning` belong to `assistant`; `tool_call_id` and `is_error` to `tool`.
    `extra` holds further fields of the message that a provider may take.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: tuple[ReasoningBlock, ...] = ()
    tool_call_id: str | None = None
    is_error: bool = False
    refusal: str | None = None
    extra: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text parts joined, those of files too; other parts are left out."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def typed_text(self) -> str:
        """The text without that of files: all in which an order may be looked for."""
        texts = (part for part in self.parts if isinstance(part, TextPart))
        return "".join(part.text for part in texts if part.is_typed)

    @property
    def is_typed(self) -> bool:
        """Whether the message is nothing but text that was typed."""
        return all(isinstance(part, TextPart) and part.is_typed for part in self.parts)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it; `parameters` is a JSON Schema object.

    `extra` keeps keys of Anthropic's format, such as `cache_control`, for who knows them.
    """

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None
    extra: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """How the model may use tools; `name` is set for mode `function` alone."""

    mode: Literal["auto", "none", "required", "function"]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One model call. Fields that are None were not given by the caller and are not sent.

    `stream` says how the upstream is asked; a provider yields the same events either way.
    `extra` holds top-level fields that we do not interpret; they are passed on as they are.
    `trace` are the headers of the trace context of W3C, which an HTTP upstream gets. Into `dropped`
    a provider writes the harmless fields that it could not send on, for the caller to be told.
    `deadline`, in seconds of the loop's clock, is when the whole answer has to be there; None is
    the provider's own total time from now.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    n: int | None = None
    seed: int | None = None
    response_format: JsonObject | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    stream: bool = True
    extra: Mapping[str, JsonValue] = field(default_factory=dict)
    trace: Mapping[str, str] = field(default_factory=dict)
    deadline: float | None = None
    dropped: dict[str, None] = field(default_factory=dict, compare=False)

    def drop(self, fields: Iterable[str]) -> None:
        """Say that fields were left out."""
        self.dropped.update(dict.fromkeys(fields))
