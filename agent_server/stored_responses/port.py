"""What the Responses door asks of those that reach models: the port that `create_app` fills."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent_server.access import Caller
from agent_server.requests.responses import ResponseRequest, read_responses
from agent_server.requests.responses_items import input_items
from agent_server.stored_responses.record import StoredResponse
from streaming.encoder import StreamHead
from streaming.errors import AgentServerError
from streaming.events import JsonObject, JsonValue


@dataclass(slots=True)
class ResponseCall:
    """One call of a model through the Responses door.

    `body` is the client's, with references to our items resolved; `history` are the items of the
    conversation that it continues. `provider` is the one that keeps that conversation, and has to
    answer; None leaves the choice to the model's name, `model`, which is None where the client gave
    none. The answer is named `head.response_id` unless a provider keeps it. `is_background`: the
    caller may be gone before the end, and only a provider that keeps responses may be relayed.
    `is_cancelled`: the owner wants what it began to end with it.
    `raw` is the body as it came; `log_fields` go into the request's line of the log.
    """

    caller: Caller
    head: StreamHead
    body: JsonObject
    model: str | None
    stream: bool
    history: Sequence[JsonValue] = ()
    provider: str | None = None
    is_background: bool = False
    droppable_tools: frozenset[str] = frozenset()
    forwarded: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""
    request_id: str = ""
    log_fields: dict[str, object] = field(default_factory=dict)
    is_cancelled: bool = False
    _request: ResponseRequest | None = None

    @property
    def request(self) -> ResponseRequest:
        """The request as providers of other formats take it; read once, and only where needed.

        Raises:
            InvalidRequestError: a field is missing or wrong.
        """
        if self._request is None:
            self._request = read_responses(
                self.body, history=self.history, droppable_tools=self.droppable_tools
            )
        return self._request

    @property
    def dropped(self) -> tuple[str, ...]:
        """The fields that were left out, of a request that was translated."""
        return () if self._request is None else self._request.options.dropped

    @property
    def relay_body(self) -> JsonObject:
        """The body for an upstream of the same format: the conversation goes with it.

        A provider that keeps the conversation gets the reference to it instead.
        """
        if self.provider is not None or not self.history:
            return self.body
        body = {key: value for key, value in self.body.items() if key != "previous_response_id"}
        own = self.body.get("input")
        body["input"] = [*self.history, *(input_items(own) if own is not None else ())]
        return body


class OpenedResponse(Protocol):
    """An answer that has proved itself, as bytes of the Responses format.

    `stored_by` names the provider that keeps it under its own id; None leaves that to us.
    """

    @property
    def stored_by(self) -> str | None:
        """The provider that keeps the response."""
        ...

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Headers that tell who answered."""
        ...

    async def read(self) -> bytes:
        """The next whole frames (of a JSON answer: the body), b"" at the end.

        Raises:
            AgentServerError: the answer failed, or was cut.
        """
        ...

    def fail(self, error: AgentServerError) -> bytes:
        """The last frames of a stream that fails."""
        ...

    async def aclose(self) -> None:
        """End whatever gives the answer, at once."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """What a provider answered about a response that it keeps; close `body` in any case."""

    status: int
    content_type: str
    body: AsyncGenerator[bytes, None]


class ResponseModels(Protocol):
    """Those that reach models."""

    async def open(self, call: ResponseCall) -> OpenedResponse:
        """The answer to a call, once it has content.

        Raises:
            AgentServerError: the call failed.
        """
        ...

    def kept_by(self, call: ResponseCall) -> str | None:
        """The provider that the call would be relayed to, if it keeps responses itself."""
        ...

    async def ask_provider(
        self, record: StoredResponse, method: str, path: str, query: str = ""
    ) -> ProviderAnswer:
        """What the provider that keeps a response answers at a path below it, such as `/cancel`.

        Raises:
            AgentServerError: the provider is not configured any more, or cannot be reached.
        """
        ...
