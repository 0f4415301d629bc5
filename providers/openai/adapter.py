"""Asks any upstream that speaks OpenAI's formats, and gives its answer as events or as it is.

What this module promises: no error of JSON leaves it; an answer that is cut, malformed or in
another format is an error and never a success; closing the generator of `chat` drops the
connection at once; the key is in no error.
"""

from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache, partial
from typing import Final, Literal

from typing_extensions import override

from providers.base import ModelInfo, RelayingProvider
from providers.chat_request import ChatRequest
from providers.json_fields import to_bytes
from providers.openai.addresses import Addresses
from providers.openai.answer import AnswerDecoder, parse_json
from providers.openai.quirks import OPENAI, Quirks
from providers.openai.relayed_body import relayed_body
from providers.openai.request import request_to_body
from providers.relay.answer import RelayedAnswer, proved_answer
from providers.relay.chat_frames import ChatFrames
from providers.relay.frames import FrameScanner
from providers.relay.json_answer import read_json_answer, read_stored_answer
from providers.relay.messages_frames import MessagesFrames
from providers.relay.request import RelayRequest, WireFormat
from providers.relay.responses_frames import ResponsesFrames
from providers.responses.adapter import ResponsesAdapter
from providers.upstream import RetryPolicy, Timeouts, Upstream
from providers.upstream_service import UpstreamService
from streaming.errors import UnsupportedFieldError, UpstreamProtocolError
from streaming.events import Event, JsonObject

_HEADERS: Final = {"accept": "application/json, text/event-stream"}
# Source: Anthropic API documentation, "Versions", 2026-10.
_ANTHROPIC_HEADERS: Final = {**_HEADERS, "anthropic-version": "2023-06-01"}
_FORMAT_HEADERS: Final[Mapping[WireFormat, Mapping[str, str]]] = {
    "chat": _HEADERS,
    "responses": _HEADERS,
    "embeddings": _HEADERS,
    "messages": _ANTHROPIC_HEADERS,
    "count_tokens": _ANTHROPIC_HEADERS,
}
CHAT_ONLY: Final[frozenset[WireFormat]] = frozenset({"chat"})
MOST_MODELS: Final = 512


class OpenAIProvider(RelayingProvider):
    """An upstream with `POST {base_url}/chat/completions` and `GET {base_url}/models`.

    A model that answers there alone, as the quirks tell, is asked by `POST {base_url}/responses`.
    `api_key` None sends none; it goes as `Authorization: Bearer` or in the `key_header`. `paths`
    are those that are not OpenAI's. The upstream client is shared and not closed here.
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
        relays: frozenset[WireFormat] = CHAT_ONLY,
        keeps_responses: bool = False,
        key_header: str | None = None,
        paths: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.name = name
        self.default_model = default_model
        self.relays = relays
        self.keeps_responses = keeps_responses
        self._quirks = quirks
        self._wire_of = lru_cache(MOST_MODELS)(quirks.wire_of)
        self._addresses = Addresses(base_url, paths or {})
        header, value = (
            (key_header, api_key) if key_header else ("authorization", f"Bearer {api_key}")
        )
        self.base_url = self._addresses.root
        self._service = UpstreamService(
            provider=name,
            base_url=self._addresses.root,
            upstream=upstream,
            key_headers={header: value} if api_key and value else {},
            secrets=(api_key,) if api_key else (),
            timeouts=timeouts or Timeouts(),
            retry=retry or RetryPolicy(),
        )
        self._responses = ResponsesAdapter(self._service)

    @override
    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        if self._wire_of(request.model) == "responses":
            path = self._addresses.path("responses", request.model)
            return self._responses.chat(request, path)
        return self._chat(request)

    async def _chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        body = to_bytes(request_to_body(request, self._quirks, self.name))
        path = self._addresses.path("chat", request.model)
        headers = {**_HEADERS, **request.trace}
        deadline = request.deadline
        async with await self._service.ask(
            path, headers=headers, body=body, deadline=deadline
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
    def relays_for(self, model: str) -> frozenset[WireFormat]:
        elsewhere = self._wire_of(model) == "responses"
        return self.relays - CHAT_ONLY if elsewhere else self.relays

    @override
    async def relay(self, request: RelayRequest) -> RelayedAnswer:
        if request.wire not in self.relays_for(request.model):
            raise UnsupportedFieldError(
                f"{self.name} does not take {request.model} in the {request.wire} format",
                param="model",
            )
        body = relayed_body(request, self._quirks, self.name)
        path = self._addresses.path(request.wire, request.model)
        headers = _FORMAT_HEADERS[request.wire]
        if request.headers:
            headers = {**headers, **request.headers}
        answer = await self._service.ask(
            path, headers=headers, body=body, deadline=request.deadline
        )
        read_json = partial(
            read_json_answer,
            wire=request.wire,
            provider=self.name,
            answer_model=request.answer_model,
        )
        scanner = self._scanner(request) if request.stream else None
        return await proved_answer(answer, self.name, scanner, read_json)

    async def fetch(
        self,
        method: Literal["GET", "POST", "DELETE"],
        path: str,
        headers: Mapping[str, str] | None = None,
        answer_model: str | None = None,
    ) -> RelayedAnswer:
        """What the upstream says of a response that it keeps, such as `GET /responses/{id}`.

        `path` follows the base URL and may have a query; `answer_model` is what the client calls
        the model, None where that is the upstream's name. The answer is JSON or a stream, and is
        passed on as it is, also of a response that failed. Raises what `relay` raises.
        """
        answer = await self._service.ask(
            self._addresses.with_query(path),
            method=method,
            headers={**_HEADERS, **(headers or {})},
            body=b"{}" if method == "POST" else None,
        )
        return await proved_answer(
            answer,
            self.name,
            ResponsesFrames(self.name, answer_model=answer_model, is_stored=True),
            partial(read_stored_answer, provider=self.name, answer_model=answer_model),
            takes_either=True,
        )

    @override
    async def models(self) -> list[ModelInfo]:
        async with await self._service.ask(
            self._addresses.path("models"), headers=_HEADERS
        ) as answer:
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

    def _scanner(self, request: RelayRequest) -> FrameScanner | None:
        if request.wire == "responses":
            return ResponsesFrames(self.name, answer_model=request.answer_model)
        if request.wire == "messages":
            return MessagesFrames(self.name, answer_model=request.answer_model)
        if request.wire != "chat":
            return None
        choices = request.body.get("n")
        return ChatFrames(
            self.name,
            include_usage=request.include_usage,
            choices=choices if isinstance(choices, int) else 1,
            marks=self._quirks.relay_marks,
            answer_model=request.answer_model,
        )


def _model_info(row: JsonObject, provider: str) -> ModelInfo:
    created = row.get("created")
    return ModelInfo(
        model_id=str(row.get("id") or ""),
        owned_by=str(row.get("owned_by") or provider),
        created=int(created) if isinstance(created, int | float) else 0,
    )
