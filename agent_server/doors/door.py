"""What a door is: a format of requests and answers, as data and pure functions."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent_server.gateway.translate import AnswerBody
from agent_server.stream_formats import StreamChoice
from providers.chat_request import ChatRequest
from providers.relay.request import WireFormat
from streaming.encoder import EncoderClass, StreamHead
from streaming.events import JsonObject


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A request as providers take it, and the harmless fields that were left out of it."""

    request: ChatRequest
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Door:
    """One format in which clients ask.

    `choose` tells how to answer a path with these headers and this body; `read` gives a body, sent
    with those of its headers that are passed on, as providers take it, None where it can only be
    relayed; `say_elsewhere` says such a request to providers of other formats; `formats` are the
    stream formats by name; `make_body` collects a JSON answer. An upstream that speaks `wire` can
    be relayed where `may_relay` says so.
    """

    name: str
    wire: WireFormat
    id_prefix: str
    choose: Callable[[str, Mapping[str, str], JsonObject], StreamChoice]
    read: Callable[[JsonObject, Mapping[str, str]], ReadRequest] | None
    formats: Mapping[str, EncoderClass]
    make_body: Callable[[StreamHead], AnswerBody]
    may_relay: Callable[[StreamChoice, JsonObject], bool]
    say_elsewhere: Callable[[ChatRequest], ReadRequest] = ReadRequest

    def head(self, model: str, choice: StreamChoice, response_id: str | None = None) -> StreamHead:
        """The head of an answer of this door, with a new id unless one is given or chosen."""
        return StreamHead(
            response_id=response_id or choice.response_id or self.new_id(),
            model=model,
            created=int(time.time()),
            include_usage=choice.include_usage,
            progress_text=choice.progress_text,
            continues_message=choice.continues_message,
            approval_parts=choice.approval_parts,
            answered_approvals=choice.answered_approvals,
        )

    def new_id(self) -> str:
        """An id for an answer."""
        return f"{self.id_prefix}{uuid.uuid4().hex}"
