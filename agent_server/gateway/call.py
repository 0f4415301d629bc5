"""One request to a model, from the door that took it to the answer that it got."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from agent_server.access import Caller
from agent_server.accounts.limits import Admission
from agent_server.doors.door import Door, ReadRequest
from agent_server.gateway.failover import Trail
from agent_server.stream_formats import StreamChoice
from providers.chat_request import ChatRequest
from streaming.errors import UnsupportedFieldError
from streaming.events import FinishReason, JsonObject, Usage


class OpenAnswer(Protocol):
    """An answer that has proved itself, as bytes of its door's format.

    `usage`, `model`, `response_id` and `finish_reason` are known when it has been read to its end.
    """

    @property
    def is_stream(self) -> bool:
        """Whether there are frames; else one JSON body."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What the answer cost, as the upstream told it."""
        ...

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended."""
        ...

    @property
    def response_id(self) -> str | None:
        """The upstream's id of the answer."""
        ...

    @property
    def model(self) -> str | None:
        """The upstream's model."""
        ...

    async def read(self) -> bytes:
        """The next whole frames (of a JSON answer: the body), b"" at the end.

        Raises:
            AgentServerError: the answer failed, or was cut.
        """
        ...

    async def aclose(self) -> None:
        """End whatever gives the answer, at once."""
        ...


if TYPE_CHECKING:
    from agent_server.telemetry.spans import CallSpan
    from agent_server.toolbox import AgentCaller

TRACE_HEADERS: Final = ("traceparent", "tracestate")
# What one call of an upstream used: its provider, its model, its tokens.
Charge: TypeAlias = tuple[str, str, Usage]


@dataclass(slots=True)
class ModelCall:
    """What a client asked of which door, what was tried to answer it, and how it ended.

    `model` is the name that the client gave, None where it gave none; `raw` is the body as it came;
    `forwarded` are the headers that go on to an upstream; `began` is in seconds of
    `time.perf_counter`. `answer` is there once it has content, `failure` is what ended the call
    early, `admission` is what it may use, `charges` are what the agent's own calls used; `dropped`
    are the fields that were left out of the request; `agent_caller` is whom the agent works for;
    `cache` says whether the response cache had the answer, None where it was not asked;
    `log_fields` go into the request's line of the log; `span` is there where calls are traced.
    """

    door: Door
    caller: Caller
    raw: bytes
    body: JsonObject
    choice: StreamChoice
    model: str | None
    request_id: str = ""
    forwarded: Mapping[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    trail: Trail = field(default_factory=Trail)
    answer: OpenAnswer | None = None
    failure: BaseException | None = None
    admission: Admission | None = None
    charges: list[Charge] = field(default_factory=list)
    bytes_out: int = 0
    cache: Literal["hit", "miss"] | None = None
    agent_caller: "AgentCaller | None" = None
    log_fields: dict[str, object] = field(default_factory=dict)
    dropped: dict[str, None] = field(default_factory=dict)
    span: "CallSpan | None" = None
    _read: ReadRequest | None = None

    @property
    def is_stream(self) -> bool:
        """Whether the client gets a stream."""
        return self.choice.format is not None

    @property
    def trace(self) -> Mapping[str, str]:
        """The headers of the call's trace context, which go on to an upstream of any format."""
        return {name: self.forwarded[name] for name in TRACE_HEADERS if name in self.forwarded}

    @property
    def chat(self) -> ChatRequest:
        """The request as providers take it; read once, and only where something translates it.

        Raises:
            InvalidRequestError: a field is missing or wrong.
            UnsupportedFieldError: the model's provider does not speak the format of this door,
                which nothing can be translated to.
        """
        if self.door.read is None:
            raise UnsupportedFieldError(
                f"No provider of the model '{self.model}' takes {self.door.name}; name a model of "
                "one that does.",
                param="model",
            )
        if self._read is None:
            self._read = self.door.read(self.body, self.forwarded)
            self.dropped.update(dict.fromkeys(self._read.dropped))
        return self._read.request

    def chat_elsewhere(self, model: str) -> ChatRequest:
        """The request as providers take it that do not speak the door's format; raises as `chat`.

        `model` is the upstream's, by which a door may say a thing or not. What the upstream cannot
        be told, and is harmless, is left out and noted in `dropped`.
        """
        said = self.door.say_elsewhere(replace(self.chat, model=model))
        self.dropped.update(dict.fromkeys(said.dropped))
        return said.request
