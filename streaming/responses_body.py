"""The JSON answer of the Responses format: all events of one answer as one `response` object.

Source: OpenAI API reference, "Responses", "The response object", 2026-11.
"""

import time
from collections.abc import Callable

from streaming.encoder import StreamHead
from streaming.events import Event, JsonObject
from streaming.responses_objects import NO_SETTINGS, ResponseSettings
from streaming.responses_sse import ResponsesEncoder


class ResponseBody:
    """Collects the events of one answer; `body()` gives them as the object to send.

    It is the object that ends the stream of the same events: the encoder makes both.
    """

    content_type = "application/json"

    def __init__(
        self,
        head: StreamHead,
        settings: ResponseSettings = NO_SETTINGS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._encoder = ResponsesEncoder(head, settings, clock)

    def add(self, event: Event) -> None:
        """Take the next event."""
        self._encoder.encode(event)

    def body(self) -> JsonObject:
        """The `response` object of what was added."""
        self._encoder.close()
        return self._encoder.response()
