"""What a provider is: a chat request goes in, events come out."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from providers.chat_request import ChatRequest
from streaming.events import Event


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
