"""Asks an upstream's Responses API, and gives its answer as events.

What this module promises: no error of JSON leaves it; an answer that is cut, malformed or in
another format is an error and never a success; closing the generator of `chat` drops the
connection at once; the upstream stores nothing unless the caller asks for it.
"""

import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

import structlog

from providers.answer_events import answer_events
from providers.chat_request import ChatRequest
from providers.json_fields import to_bytes
from providers.responses.answer import AnswerReader, response_to_events
from providers.responses.request import chat_to_responses
from providers.upstream_service import UpstreamService
from streaming.events import Event

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
            read_body = partial(response_to_events, provider=provider)
            events = answer_events(answer, AnswerReader(provider), read_body)
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event
