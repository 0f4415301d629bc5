"""Anthropic's Messages API as a provider: sends requests, gives events.

Source: Anthropic API documentation, "Create a Message", "Streaming messages" and "List Models",
2026-10, with `anthropic-version: 2023-06-01`.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Final
from urllib.parse import urlencode

import orjson
import structlog
from typing_extensions import override

from providers.answer_events import answer_events
from providers.anthropic.answer import AnswerReader, message_to_events
from providers.anthropic.request import chat_to_messages
from providers.base import ModelInfo, RelayingProvider
from providers.chat_request import ChatRequest
from providers.relay.answer import RelayedAnswer, proved_answer
from providers.relay.json_answer import read_json_answer
from providers.relay.messages_frames import MessagesFrames
from providers.relay.request import RelayRequest, WireFormat
from providers.upstream import RetryPolicy, Timeouts, Upstream
from providers.upstream_service import UpstreamService
from streaming.errors import UnsupportedFieldError, UpstreamProtocolError
from streaming.events import Event, JsonObject
from streaming.json_bytes import dump

API_VERSION = "2023-06-01"
HEADERS = {"accept": "application/json", "anthropic-version": API_VERSION}
_PATHS: Final[Mapping[WireFormat, str]] = {
    "messages": "/messages",
    "count_tokens": "/messages/count_tokens",
}
MODELS_PER_PAGE = 1000
MAX_MODEL_PAGES = 20

_log = structlog.get_logger(__name__)


class AnthropicProvider(RelayingProvider):
    """An upstream with `POST {base_url}/v1/messages` and `GET {base_url}/v1/models`.

    `base_url` may end with `/v1` or not; `api_key` None sends no `x-api-key`. The upstream client
    is shared and not closed here.
    """

    def __init__(
        self,
        *,
        name: str = "anthropic",
        base_url: str = "https://api.anthropic.com",
        default_model: str,
        upstream: Upstream,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.name = name
        self.default_model = default_model
        self.relays: frozenset[WireFormat] = frozenset(_PATHS)
        self.base_url = base_url.rstrip("/").removesuffix("/v1") + "/v1"
        self._service = UpstreamService(
            provider=name,
            base_url=self.base_url,
            upstream=upstream,
            key_headers={"x-api-key": api_key} if api_key else {},
            secrets=(api_key,) if api_key else (),
            timeouts=timeouts or Timeouts(),
            retry=retry or RetryPolicy(),
        )

    @override
    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        translated = chat_to_messages(request)
        if translated.dropped:
            request.drop(translated.dropped)
            _log.info(
                "Left out what the provider cannot take",
                provider=self.name,
                model=request.model,
                fields=translated.dropped,
            )
        body = orjson.dumps(translated.body)
        betas = {"anthropic-beta": ",".join(translated.betas)} if translated.betas else {}
        async with await self._service.ask(
            "/messages",
            headers={**HEADERS, **betas, **request.trace},
            body=body,
            deadline=request.deadline,
        ) as answer:
            read_body = partial(message_to_events, provider=self.name)
            events = answer_events(answer, AnswerReader(self.name), read_body)
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event

    @override
    def relays_for(self, model: str) -> frozenset[WireFormat]:
        return self.relays

    @override
    async def relay(self, request: RelayRequest) -> RelayedAnswer:
        if (path := _PATHS.get(request.wire)) is None:
            raise UnsupportedFieldError(
                f"{self.name} does not speak the {request.wire} format", param="model"
            )
        stream = {"stream": True} if request.stream else {}
        answer = await self._service.ask(
            path,
            headers={**HEADERS, **request.headers},
            body=dump({**request.body, **stream, "model": request.model}),
            deadline=request.deadline,
        )
        read_json = partial(
            read_json_answer,
            wire=request.wire,
            provider=self.name,
            answer_model=request.answer_model,
        )
        scanner = None
        if request.stream:
            scanner = MessagesFrames(self.name, answer_model=request.answer_model)
        return await proved_answer(answer, self.name, scanner, read_json)

    @override
    async def models(self) -> list[ModelInfo]:
        found: list[ModelInfo] = []
        query = {"limit": str(MODELS_PER_PAGE)}
        for _ in range(MAX_MODEL_PAGES):
            path = f"/models?{urlencode(query)}"
            async with await self._service.ask(path, headers=HEADERS) as answer:
                page = self._page(await answer.body())
            found.extend(self._model_infos(page))
            last_id = page.get("last_id")
            is_last = page.get("has_more") is not True or last_id == query.get("after_id")
            if is_last or not isinstance(last_id, str):
                break
            query["after_id"] = last_id
        return found

    @override
    async def aclose(self) -> None:
        """Does nothing: the upstream client belongs to who made it."""

    def _page(self, body: bytes) -> JsonObject:
        try:
            page = orjson.loads(body)
        except orjson.JSONDecodeError:
            page = None
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            raise UpstreamProtocolError(
                f"{self.name} answered something that is not a list of models; check its base URL",
                provider=self.name,
            )
        return page

    def _model_infos(self, page: JsonObject) -> Iterable[ModelInfo]:
        data = page["data"]
        for model in data if isinstance(data, list) else ():
            if isinstance(model, dict) and isinstance(model_id := model.get("id"), str):
                yield ModelInfo(model_id, self.name, _unix_seconds(model.get("created_at")))


def _unix_seconds(time: object) -> int:
    """The seconds of an RFC 3339 time; 0 where it is none."""
    try:
        return int(datetime.fromisoformat(str(time)).timestamp())
    except ValueError:
        return 0
