"""Anthropic's Messages API as a provider: sends requests, gives events.

Source: Anthropic API documentation, "Create a Message", "Streaming messages" and "List Models",
2026-10, with `anthropic-version: 2023-06-01`.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlencode

import orjson
import structlog
from typing_extensions import override

from providers.anthropic.answer import AnswerReader, message_to_events
from providers.anthropic.request import chat_to_messages
from providers.base import ModelInfo, Provider
from providers.chat_request import ChatRequest
from providers.rejection import MAX_ERROR_BYTES, read_rejection, rejection_to_error
from providers.upstream import RetryPolicy, Timeouts, Upstream, UpstreamAnswer, UpstreamCall
from streaming.errors import AgentServerError, UpstreamError, UpstreamProtocolError
from streaming.events import Event, JsonObject
from streaming.sse import SSEDecoder

API_VERSION = "2023-06-01"
OK_STATUSES = range(200, 300)
MODELS_PER_PAGE = 1000
MAX_MODEL_PAGES = 20

_log = structlog.get_logger(__name__)


class AnthropicProvider(Provider):
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
        self._base_url = base_url.rstrip("/").removesuffix("/v1") + "/v1"
        self._upstream = upstream
        self._api_key = api_key
        self._timeouts = timeouts or Timeouts()
        self._retry = retry or RetryPolicy()

    @override
    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        translated = chat_to_messages(request)
        if translated.dropped:
            _log.info(
                "left out what the provider cannot take",
                provider=self.name,
                model=request.model,
                fields=translated.dropped,
            )
        body = orjson.dumps(translated.body)
        async with await self._ask("/messages", body=body, betas=translated.betas) as answer:
            head = await _head(answer)
            # Not every server between names the content type of a stream; a message is an object.
            if head.lstrip().startswith(b"{"):
                for event in message_to_events(head + await answer.body(), self.name):
                    yield event
                return
            async with contextlib.aclosing(self._streamed(head, answer)) as events:
                async for event in events:
                    yield event

    @override
    async def models(self) -> list[ModelInfo]:
        found: list[ModelInfo] = []
        query = {"limit": str(MODELS_PER_PAGE)}
        for _ in range(MAX_MODEL_PAGES):
            async with await self._ask(f"/models?{urlencode(query)}") as answer:
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

    async def _ask(
        self, path: str, *, body: bytes | None = None, betas: tuple[str, ...] = ()
    ) -> UpstreamAnswer:
        headers = {"accept": "application/json", "anthropic-version": API_VERSION}
        if body is not None:
            headers["content-type"] = "application/json"
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        if self._api_key:
            headers["x-api-key"] = self._api_key
        call = UpstreamCall(
            provider=self.name,
            url=self._base_url + path,
            method="GET" if body is None else "POST",
            headers=headers,
            body=body,
            timeouts=self._timeouts,
            retry=self._retry,
        )
        answer = await self._upstream.request(call)
        _log.debug(
            "upstream answered",
            provider=self.name,
            status=answer.status,
            upstream_request_id=answer.request_id,
        )
        if answer.status in OK_STATUSES:
            return answer
        async with answer:
            raise await self._rejection(answer)

    async def _rejection(self, answer: UpstreamAnswer) -> AgentServerError:
        try:
            body = await answer.body(MAX_ERROR_BYTES)
        except UpstreamError:
            # The status says enough where the body is cut or endless.
            body = b""
        rejection = read_rejection(body)
        if rejection.message and answer.request_id:
            message = f"{rejection.message} (request {answer.request_id})"
            rejection = replace(rejection, message=message)
        return rejection_to_error(
            rejection,
            provider=self.name,
            status=answer.status,
            retry_after_seconds=answer.retry_after_seconds,
            secrets=(self._api_key,) if self._api_key else (),
        )

    async def _streamed(self, head: bytes, answer: UpstreamAnswer) -> AsyncGenerator[Event, None]:
        decoder = SSEDecoder()
        reader = AnswerReader(self.name)
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


async def _head(answer: UpstreamAnswer) -> bytes:
    """The first bytes of an answer, so many that one is no white space, if it has one."""
    head = await answer.read()
    while head.isspace() and (more := await answer.read()):
        head += more
    return head


def _unix_seconds(time: object) -> int:
    """The seconds of an RFC 3339 time; 0 where it is none."""
    try:
        return int(datetime.fromisoformat(str(time)).timestamp())
    except ValueError:
        return 0
