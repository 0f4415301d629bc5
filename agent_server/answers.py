"""The two ways an answer goes out: as a stream of frames, or as one JSON body.

What this module promises:

- a client that goes away ends the events' generator, and so the model call, tools and run behind;
- no silence in a stream is longer than the keep-alive time, and every write is bounded;
- a failure before the first byte is an HTTP error, one after it the encoder's last frame: never a
  silent end.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent_server.error_responses import INTERNAL_ERROR, log_error
from agent_server.log_config import get_logger
from streaming.chat_completion import ChatCompletionBody
from streaming.encoder import Encoder
from streaming.errors import AgentServerError, UpstreamError
from streaming.events import Event, Started

WRITE_TIMEOUT_SECONDS = 60.0

log = get_logger()


class StreamedAnswer:
    """An ASGI answer that writes events as they come.

    `make_encoder` gets the model's name from the first event, or None where none has come. With
    `grace_seconds` the status is held back that long, so that an upstream's error keeps its own;
    without, head and opening frames go out at once.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        make_encoder: Callable[[str | None], Encoder],
        *,
        keep_alive_seconds: float,
        grace_seconds: float | None = None,
        write_timeout_seconds: float = WRITE_TIMEOUT_SECONDS,
    ) -> None:
        self._events = events
        self._make_encoder = make_encoder
        self._keep_alive_seconds = keep_alive_seconds
        self._grace_seconds = grace_seconds
        self._write_timeout_seconds = write_timeout_seconds
        self._encoder: Encoder | None = None
        self._last_write = time.monotonic()
        self._is_writing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the answer until its end, or until the client has gone."""
        await _first_of(self._write(send), self._keep_alive(send), until_gone(receive))

    async def _write(self, send: Send) -> None:
        async with contextlib.aclosing(self._events) as events:
            try:
                if self._grace_seconds is None:
                    await self._begin(None, send)
                async for event in events:
                    if self._encoder is None:
                        model = event.model if isinstance(event, Started) else None
                        await self._begin(model, send)
                    if data := self._begun.encode(event):
                        await self._send(data, send)
                last = self._begun.close()
            except AgentServerError as exc:
                if self._encoder is None:
                    raise
                log_error(exc)
                last = self._encoder.fail(exc)
            except Exception as exc:
                if self._encoder is None:
                    raise
                log.exception("Stream failed", error_type=type(exc).__name__)
                last = self._encoder.fail(AgentServerError(INTERNAL_ERROR, code="internal_error"))
        await self._send(last, send, more=False)

    @property
    def _begun(self) -> Encoder:
        if self._encoder is None:
            raise UpstreamError("The upstream ended its answer before it began one.")
        return self._encoder

    async def _begin(self, model: str | None, send: Send) -> None:
        self._encoder = encoder = self._make_encoder(model)
        headers = {
            "content-type": encoder.content_type,
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
            "vary": "X-Streaming-Format",
            **encoder.headers,
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await self._send(encoder.open(), send)

    async def _keep_alive(self, send: Send) -> None:
        if self._grace_seconds is not None:
            await asyncio.sleep(self._grace_seconds)
            if self._encoder is None:
                await self._begin(None, send)
        while True:
            silent = time.monotonic() - self._last_write
            if silent < self._keep_alive_seconds:
                await asyncio.sleep(self._keep_alive_seconds - silent)
            elif not self._is_writing:
                await self._send(self._begun.keep_alive, send)
            elif silent < self._write_timeout_seconds:
                await asyncio.sleep(self._write_timeout_seconds - silent)
            else:
                log.warning("Client reads nothing, answer given up", code="client_stalled")
                return

    async def _send(self, data: bytes, send: Send, *, more: bool = True) -> None:
        # The keep-alive task looks after the time, so that no event pays for a timer of its own.
        self._last_write = time.monotonic()
        self._is_writing = True
        await send({"type": "http.response.body", "body": data, "more_body": more})
        self._is_writing = False


class CollectedAnswer:
    """An ASGI answer that collects all events into one JSON body."""

    def __init__(self, events: AsyncGenerator[Event, None], body: ChatCompletionBody) -> None:
        self._events = events
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer when the last event has come; do nothing more once the client has gone."""
        await _first_of(self._answer(scope, receive, send), until_gone(receive))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._events) as events:
            async for event in events:
                self._body.add(event)
        await JsonResponse(self._body.body())(scope, receive, send)


class JsonResponse(Response):
    """A JSON body, written by orjson."""

    media_type = "application/json"

    def __init__(
        self, content: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(orjson.dumps(content), status, headers)


async def until_gone(receive: Receive) -> None:
    """Return when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first_of(*parts: Coroutine[None, None, None]) -> None:
    """Run the parts side by side until one ends, end the others, and raise what the one raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
