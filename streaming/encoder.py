"""What every encoder is: events in, bytes of one stream format out; no IO, no request, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from streaming.errors import AgentServerError
from streaming.events import Event


@dataclass(frozen=True, slots=True)
class StreamHead:
    """What an encoder must be told: ids and clocks are arguments.

    `response_id` and `model` are written into the answer, `created` is in Unix seconds.
    `include_usage` asks for OpenAI's last chunk with `choices: []`. `progress_text` None means
    the format's own default for writing workflow progress into the text. `continues_message` says
    that the answer goes on with the client's last message instead of beginning one.
    `approval_parts` says that the client knows approvals as parts of a message (AI SDK 6 and 7);
    `answered_approvals` are those that its last message has decided.
    """

    response_id: str
    model: str
    created: int
    include_usage: bool = False
    progress_text: bool | None = None
    continues_message: bool = False
    approval_parts: bool = False
    answered_approvals: tuple[str, ...] = ()


class Encoder(Protocol):
    """Turns the events of one answer into the bytes of one stream format.

    The caller writes `open()`, then `encode()` of each event, `keep_alive` in every silence, and
    at the end either `close()` or, after a failure, `fail()`; each of these is a whole number of
    frames, and may be empty.
    """

    content_type: str
    headers: Mapping[str, str]
    keep_alive: bytes

    def open(self) -> bytes:
        """The frames that come before any event."""
        ...

    def encode(self, event: Event) -> bytes:
        """The frames of one event."""
        ...

    def fail(self, error: AgentServerError) -> bytes:
        """Close open parts and write the error as the last frames of the stream."""
        ...

    def close(self) -> bytes:
        """The frames that end a stream in which `Finished` was encoded."""
        ...


class EncoderClass(Protocol):
    """Makes the encoder of one answer; what a head needs is known before."""

    @property
    def content_type(self) -> str:
        """The content type of the stream."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The further headers of the stream."""
        ...

    @property
    def keep_alive(self) -> bytes:
        """The frames for a silence."""
        ...

    def __call__(self, head: StreamHead) -> Encoder:
        """The encoder."""
        ...
