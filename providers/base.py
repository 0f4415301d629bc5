"""What a provider is: a chat request goes in, events come out."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from providers.chat_request import ChatRequest
from providers.relay.request import RelayRequest, WireFormat
from streaming.events import Event

if TYPE_CHECKING:
    from providers.relay.answer import RelayedAnswer


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that an upstream lists; `created` is in Unix seconds, 0 where it does not say."""

    model_id: str
    owned_by: str
    created: int = 0


class Provider(Protocol):
    """An upstream, or something that answers like one.

    `name` is the left side of `provider/model`; `default_model` is used where no model was named.
    """

    name: str
    default_model: str

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of one answer; the last is a `Finished`.

        Closing the generator ends the upstream's request at once.

        Raises:
            UpstreamError: the upstream failed; before the first event it was retried.
            CallerError: the request cannot be said in this provider's format, or it refused it.
        """
        ...

    async def models(self) -> list[ModelInfo]:
        """The models that the upstream lists; raises `UpstreamError`."""
        ...

    async def aclose(self) -> None:
        """Release what the provider holds."""
        ...


class RelayingProvider(Provider, Protocol):
    """A provider whose upstream also takes requests as clients write them.

    `relays` are the formats that its upstream speaks, of which a model may know but some.
    """

    relays: frozenset[WireFormat]

    def relays_for(self, model: str) -> frozenset[WireFormat]:
        """The formats that can be relayed to a model; a chat in another one is translated."""
        ...

    async def relay(self, request: RelayRequest) -> "RelayedAnswer":
        """The answer, once it has proved itself; to be read to its end, or closed.

        A JSON answer has then come whole; of a stream the first content has come.

        Raises:
            UpstreamError: the upstream failed, or does not speak this format.
            CallerError: the upstream does not take a field of the request, or refused it.
        """
        ...
