"""Asks an upstream's Responses API, and gives its answer as events.

What this module promises: no error of JSON leaves it; an answer that is cut, malformed or in
another format is an error and never a success; closing the generator of `chat` drops the
connection at once; the upstream stores nothing unless the caller asks for it.
"""

from collections.abc import AsyncGenerator
from typing import Final

import structlog

from providers.chat_request import ChatRequest
from providers.json_fields import to_bytes
from providers.responses.answer import AnswerReader, response_to_events
from providers.responses.request import chat_to_responses
from providers.upstream import UpstreamAnswer
from providers.upstream_service import UpstreamService
from streaming.events import Event
from streaming.sse import SSEDecoder

_HEADERS: Final = {"accept": "application/json, text/event-stream"}

_log = structlog.get_logger(__name__)


class ResponsesAdapter:
    """An upstream with `POST {base_url}/responses`, for a provider that also speaks other formats.

    The service belongs to that provider.
    """

    def __init__(self, service: UpstreamService) -> None:
        self._service = service

    async def chat(
        self, request: ChatRequest, path: str = "/responses"
    ) -> AsyncGenerator[Event, None]:
        """The events of one answer; see `Provider.chat`. `path` follows the base URL."""
        provider = self._service.provider
        translated = chat_to_responses(request, provider)
        if translated.dropped:
            request.drop(translated.dropped)
            _log.info(
                "Left out what the provider cannot take",
                provider=provider,
                model=request.model,
                fields=translated.dropped,
            )
        async with await self._service.ask(
            path,
            headers={**_HEADERS, **request.trace},
            body=to_bytes(translated.body),
            deadline=request.deadline,
        ) as answer:
            head = await _head(answer)
            # Not every server between names the content type of a stream; a response is an object.
            if head.lstrip().startswith(b"{"):
                for event in response_to_events(head + await answer.body(), provider):
                    yield event
                return
            decoder = SSEDecoder()
            reader = AnswerReader(provider)
            chunk = head
            while chunk:
                for frame in decoder.feed(chunk):
                    for event in reader.read(frame.data):
                        yield event
                if reader.is_finished:
                    await answer.drain()
                    return
                chunk = await answer.read()
            for frame in decoder.flush():
                for event in reader.read(frame.data):
                    yield event
            reader.close()


async def _head(answer: UpstreamAnswer) -> bytes:
    """The first bytes of an answer, so many that one is no white space, if it has one."""
    head = await answer.read()
    while head.isspace() and (more := await answer.read()):
        head += more
    return head
