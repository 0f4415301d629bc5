"""The bytes of an answer as events, be it a stream or one JSON body. Pure: no IO."""

from collections.abc import Callable, Iterator
from typing import Final

import orjson

from providers.openai.wire import ChunkDecoder, answer_to_events, new_call_id
from streaming.errors import UpstreamProtocolError
from streaming.events import Event, JsonObject, JsonValue
from streaming.sse import SSEDecoder

MAX_JSON_BYTES: Final = 32 * 1024 * 1024
END_OF_STREAM: Final = b"[DONE]"


def parse_json(data: bytes, provider: str) -> JsonValue:
    """The value of an upstream's JSON text; raises `UpstreamProtocolError` if it is none."""
    try:
        value: JsonValue = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise UpstreamProtocolError(
            f"{provider} sent something that is not JSON", provider=provider
        ) from exc
    return value


class AnswerDecoder:
    """Takes the bytes of one successful answer and gives its events.

    The first byte that is no white space tells JSON from a stream. The content type does not: some
    upstreams stream as `application/json`, or name none; `media_type` is for errors alone.
    """

    def __init__(
        self, provider: str, media_type: str = "", new_call_id: Callable[[], str] = new_call_id
    ) -> None:
        self._provider = provider
        self._media_type = media_type
        self._new_call_id = new_call_id
        self._sse: SSEDecoder | None = None
        self._chunks = ChunkDecoder(provider, new_call_id=new_call_id)
        self._json: list[bytes] = []
        self._json_bytes = 0
        self.is_ended = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that `data` completes; with `[DONE]` they end and `is_ended` is true.

        Raises:
            UpstreamError: the answer is malformed, or reports a failure.
            CallerError: the answer reports a failure that blames the request.
        """
        if self._sse is None and not self._json:
            data = data.lstrip()
            if not data:
                return
            self._begin(data)
        if self._sse is None:
            self._add_json(data)
            return
        for message in self._sse.feed(data):
            if message.data == END_OF_STREAM:
                self.is_ended = True
                yield from self._chunks.finish()
                return
            yield from self._chunks.feed(self._object(message.data))

    def end(self) -> Iterator[Event]:
        """Yield the events that are left when the bytes end without `[DONE]`; raises as `feed`."""
        if self._json:
            body = self._object(b"".join(self._json))
            yield from answer_to_events(body, self._provider, self._new_call_id)
            return
        if self._sse is None:
            raise self._error("answered nothing")
        for message in self._sse.flush():
            if message.data != END_OF_STREAM:
                yield from self._chunks.feed(self._object(message.data))
        yield from self._chunks.finish()

    def _begin(self, data: bytes) -> None:
        if data.startswith(b"<"):
            raise self._error("answered a web page")
        if not data.startswith(b"{"):
            self._sse = SSEDecoder()

    def _add_json(self, data: bytes) -> None:
        self._json_bytes += len(data)
        if self._json_bytes > MAX_JSON_BYTES:
            raise self._error(f"answered more than {MAX_JSON_BYTES} bytes")
        self._json.append(data)

    def _object(self, data: bytes) -> JsonObject:
        value = parse_json(data, self._provider)
        if isinstance(value, dict):
            return value
        raise self._error("sent JSON that is no object")

    def _error(self, text: str) -> UpstreamProtocolError:
        return UpstreamProtocolError(
            f"{self._provider} {text} ({self._media_type or 'no content type'}); "
            "check its base URL",
            provider=self._provider,
        )
