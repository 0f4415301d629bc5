"""Asks any upstream that speaks OpenAI's chat format, and gives its answer as events.

What this module promises: no error of JSON leaves it; an answer that is cut, malformed or in
another format is an error and never a success; closing the generator of `chat` drops the
connection at once; the key is in no error.
"""

from collections.abc import AsyncGenerator
from typing import Final

import orjson
from typing_extensions import override

from providers.base import ModelInfo, Provider
from providers.chat_request import ChatRequest
from providers.openai.answer import AnswerDecoder, parse_json
from providers.openai.quirks import OPENAI, Quirks
from providers.openai.request import request_to_body
from providers.upstream import RetryPolicy, Timeouts, Upstream
from providers.upstream_service import UpstreamService
from streaming.errors import InvalidRequestError, UpstreamProtocolError
from streaming.events import Event, JsonObject

_HEADERS: Final = {"accept": "application/json, text/event-stream"}


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
        self._quirks = quirks
        self._service = UpstreamService(
            provider=name,
            base_url=base_url.rstrip("/"),
            upstream=upstream,
            key_headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            secrets=(api_key,) if api_key else (),
            timeouts=timeouts or Timeouts(),
            retry=retry or RetryPolicy(),
        )

    @override
    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        body = _to_bytes(request_to_body(request, self._quirks, self.name))
        async with await self._service.ask(
            "/chat/completions", headers=_HEADERS, body=body
        ) as answer:
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
        async with await self._service.ask("/models", headers=_HEADERS) as answer:
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
