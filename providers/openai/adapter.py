"""Asks any upstream that speaks OpenAI's chat format, and gives its answer as events.

What this module promises: no error of JSON leaves it; an answer that is cut, malformed or in
another format is an error and never a success; closing the generator of `chat` drops the
connection at once; the key is in no error.
"""

from collections.abc import AsyncGenerator
from typing import Final

import orjson
import structlog
from typing_extensions import override

from providers.base import ModelInfo, Provider
from providers.chat_request import ChatRequest
from providers.openai.answer import AnswerDecoder, parse_json
from providers.openai.quirks import OPENAI, Quirks
from providers.openai.request import request_to_body
from providers.rejection import MAX_ERROR_BYTES, read_rejection, rejection_to_error
from providers.upstream import RetryPolicy, Timeouts, Upstream, UpstreamAnswer, UpstreamCall
from streaming.errors import (
    AgentServerError,
    InvalidRequestError,
    UpstreamError,
    UpstreamProtocolError,
)
from streaming.events import Event, JsonObject

OK_STATUSES: Final = range(200, 300)

_log = structlog.get_logger(__name__)


class OpenAIProvider(Provider):
    """An upstream with `POST {base_url}/chat/completions` and `GET {base_url}/models`.

    `api_key` None sends no `Authorization`. The upstream client is shared and not closed here.
    """

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        default_model: str,
        upstream: Upstream,
        api_key: str | None = None,
        quirks: Quirks = OPENAI,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.name = name
        self.default_model = default_model
        self._base_url = base_url.rstrip("/")
        self._upstream = upstream
        self._api_key = api_key
        self._quirks = quirks
        self._timeouts = timeouts or Timeouts()
        self._retry = retry or RetryPolicy()

    @override
    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        body = _to_bytes(request_to_body(request, self._quirks, self.name))
        async with await self._ask("/chat/completions", "POST", body) as answer:
            decoder = AnswerDecoder(self.name, answer.media_type)
            while data := await answer.read():
                for event in decoder.feed(data):
                    yield event
                if decoder.is_ended:
                    await answer.drain()
                    return
            for event in decoder.end():
                yield event

    @override
    async def models(self) -> list[ModelInfo]:
        async with await self._ask("/models", "GET", None) as answer:
            value = parse_json(await answer.body(), self.name)
        # Together answers the bare list.
        rows = value.get("data") if isinstance(value, dict) else value
        if not isinstance(rows, list):
            raise UpstreamProtocolError(
                f"{self.name} listed its models in an unknown form; check its base URL",
                provider=self.name,
            )
        return [_model_info(row, self.name) for row in rows if isinstance(row, dict)]

    @override
    async def aclose(self) -> None:
        """Nothing is held here: the client belongs to who made it."""

    async def _ask(self, path: str, method: str, body: bytes | None) -> UpstreamAnswer:
        headers = {"accept": "application/json, text/event-stream"}
        if body is not None:
            headers["content-type"] = "application/json"
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key}"
        call = UpstreamCall(
            provider=self.name,
            url=self._base_url + path,
            method=method,
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
        return rejection_to_error(
            read_rejection(body),
            provider=self.name,
            status=answer.status,
            retry_after_seconds=answer.retry_after_seconds,
            secrets=(self._api_key,) if self._api_key else (),
        )


def _to_bytes(body: JsonObject) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as exc:
        raise InvalidRequestError(f"the request cannot be written as JSON: {exc}") from exc


def _model_info(row: JsonObject, provider: str) -> ModelInfo:
    created = row.get("created")
    return ModelInfo(
        model_id=str(row.get("id") or ""),
        owned_by=str(row.get("owned_by") or provider),
        created=int(created) if isinstance(created, int | float) else 0,
    )
