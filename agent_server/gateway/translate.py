"""An answer that is translated: events of a provider or of the agent, as frames of a format.

What this module promises: `prove` returns when the answer has content, and until then every failure
is raised out of it, so that another route may be asked; closing an answer ends the events'
generator, and so whatever is behind.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol

import orjson

from streaming.encoder import Encoder
from streaming.errors import AgentServerError, UpstreamError
from streaming.events import (
    AgentToolCalled,
    AgentToolReturned,
    Event,
    Finished,
    FinishReason,
    JsonObject,
    ReasoningEnded,
    Started,
    Usage,
    WorkflowEvent,
)

# What an upstream sends before it has proved that it answers.
_NO_CONTENT: Final = (Started, AgentToolCalled, AgentToolReturned, WorkflowEvent, ReasoningEnded)


def has_content(event: Event) -> bool:
    """Whether an upstream that sent this has begun to answer."""
    return not isinstance(event, _NO_CONTENT)


class AnswerBody(Protocol):
    """Collects the events of one answer into the JSON object of a format."""

    content_type: str

    def add(self, event: Event) -> None:
        """Take the next event."""
        ...

    def body(self) -> JsonObject:
        """The object of what was added."""
        ...


class _Translated:
    """What streams and bodies have in common: events, and what they tell about the answer."""

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._events = events
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.response_id: str | None = None
        self.model: str | None = None

    async def aclose(self) -> None:
        """End what gives the events."""
        await self._events.aclose()

    def _note(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.finish_reason = event.reason
            self.usage = event.usage or self.usage
        elif isinstance(event, Started):
            self.response_id, self.model = event.response_id, event.model


class TranslatedStream(_Translated):
    """A stream. `make_encoder` gets the model's name from the first event, None where none came."""

    is_stream = True

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        make_encoder: Callable[[str | None], Encoder],
    ) -> None:
        super().__init__(events)
        self._make_encoder = make_encoder
        self._encoder: Encoder | None = None
        self._ready = b""
        self._is_over = False

    def open(self) -> None:
        """Begin at once, before any event: what the agent answers needs no proof."""
        self._begin(None)

    async def prove(self) -> None:
        """Wait for content; raises what the provider raises."""
        async for event in self._events:
            self._take(event)
            if has_content(event):
                return
        self._end()

    async def read(self) -> bytes:
        """The next frames, b"" at the end; raises what the provider raises."""
        if ready := self._ready:
            self._ready = b""
            return ready
        if self._is_over:
            return b""
        async for event in self._events:
            if type(event) is Finished:
                self._note(event)
            if self._encoder is None:
                self._take(event)
            elif data := self._encoder.encode(event):
                return data
        self._end()
        ready, self._ready = self._ready, b""
        return ready

    def fail(self, error: AgentServerError) -> bytes:
        """The last frames of a stream that fails: what is open is closed, then the error."""
        if self._encoder is None:
            self._begin(None)
        ready, self._ready = self._ready, b""
        return ready + (self._encoder.fail(error) if self._encoder else b"")

    def _take(self, event: Event) -> None:
        self._note(event)
        if self._encoder is None:
            self._begin(self.model)
        if self._encoder is not None:
            self._ready += self._encoder.encode(event)

    def _begin(self, model: str | None) -> None:
        self._encoder = self._make_encoder(model)
        self._ready += self._encoder.open()

    def _end(self) -> None:
        if self._encoder is None:
            raise UpstreamError("The upstream ended its answer before it began one.")
        self._is_over = True
        self._ready += self._encoder.close()


class TranslatedBody(_Translated):
    """One JSON body of all events."""

    is_stream = False

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        make_body: Callable[[str | None], AnswerBody],
    ) -> None:
        super().__init__(events)
        self._make_body = make_body
        self._body: AnswerBody | None = None

    async def prove(self) -> None:
        """Wait for the whole answer; raises what the provider raises."""
        async for event in self._events:
            self._note(event)
            if self._body is None:
                self._body = self._make_body(self.model)
            self._body.add(event)

    async def read(self) -> bytes:
        """The whole body, then b""."""
        body, self._body = self._body, None
        return b"" if body is None else orjson.dumps(body.body())
