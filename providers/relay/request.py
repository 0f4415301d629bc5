"""A request that goes to its upstream in the format in which the client wrote it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streaming.events import JsonObject

WireFormat = Literal["chat", "responses", "messages", "embeddings", "count_tokens"]


# Not frozen: one is made for each call, and freezing makes that three times as dear.
@dataclass(slots=True)
class RelayRequest:
    """One call in the format `wire`. `body` is the client's, parsed, and is never changed.

    `model` is the upstream's id, put in place of the body's. `include_usage` says whether a chat
    client asked for the usage chunk; the upstream is always asked for it. `answer_model` is written
    in place of the upstream's model in the answer, None keeps the upstream's bytes. `headers`,
    their names in lower case, are passed on; those that hold the provider's key win over them. Into
    `dropped` go the harmless fields that the upstream does not take. `deadline`, in seconds of the
    loop's clock, is when the whole answer has to be there, None from now the provider's total time.
    """

    wire: WireFormat
    model: str
    body: JsonObject
    stream: bool
    include_usage: bool = True
    answer_model: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    dropped: dict[str, None] = field(default_factory=dict)
    deadline: float | None = None
