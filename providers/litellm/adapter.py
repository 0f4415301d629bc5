"""Upstreams that only litellm knows, as one provider: `litellm/<its name of the model>`.

What this module promises: litellm is loaded by the first request and not before; a caller cannot
choose where a request goes, nor with which key; no error of litellm leaves the module; every wait
has a bound; closing the generator of `chat` ends the upstream's request.

Two things litellm hides: the signatures of thinking, so a tool turn goes back without its thinking
(litellm then asks for none), and an answer that ends in order but without a finish reason, which
counts as a "stop". An upstream with an adapter of its own here should be used through that one.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator
from typing import Any, TypeVar

import structlog
from typing_extensions import override

from providers.base import ModelInfo, Provider
from providers.chat_request import ChatRequest
from providers.litellm.arguments import chat_to_arguments
from providers.litellm.errors import library_error_to_error
from providers.litellm.library import check_installed, load_library
from providers.openai.wire import ChunkDecoder, answer_to_events
from providers.registry import ProviderConfigError
from providers.upstream import RetryPolicy, Timeouts, Upstream
from streaming.errors import AgentServerError, UpstreamTimeoutError
from streaming.events import Event, JsonObject

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class LiteLLMProvider(Provider):
    """Whatever litellm reaches; the keys of each upstream are in the variables that litellm reads.

    `api_key` and `base_url` go with every request, if they are given. litellm has connections of
    its own, so `upstream` is not used.

    Raises:
        ProviderConfigError: litellm is missing or malicious, or there is no default model.
    """

    def __init__(
        self,
        *,
        name: str = "litellm",
        default_model: str | None,
        base_url: str | None = None,
        api_key: str | None = None,
        upstream: Upstream | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        del upstream
        check_installed()
        if not default_model:
            raise ProviderConfigError(
                f"{name} has no default model; give --model in litellm's form, provider/model"
            )
        self.name = name
        self.default_model = default_model
        self._base_url = base_url
        self._api_key = api_key
        self._timeouts = timeouts or Timeouts()
        self._retry = retry or RetryPolicy()
        self._library: Any = None

    @override
    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        arguments, dropped = chat_to_arguments(request, self.name)
        if dropped:
            request.drop(dropped)
            _log.info(
                "Left out what the provider cannot take",
                provider=self.name,
                model=request.model,
                fields=dropped,
            )
        library = await self._load()
        waits = _Waits(self.name, self._timeouts)
        answer = await self._ask(library, arguments, waits)
        if not request.stream:
            for event in answer_to_events(answer.model_dump(), self.name):
                yield event
            return
        async with contextlib.aclosing(answer):
            decoder = ChunkDecoder(self.name)
            while True:
                with self._our_errors(library):
                    chunk = await waits.next(anext(answer, None))
                if chunk is None:
                    break
                for event in decoder.feed(chunk.model_dump()):
                    yield event
            for event in decoder.finish():
                yield event

    @override
    async def models(self) -> list[ModelInfo]:
        """The models of the upstreams for which litellm finds keys; it asks none of them."""
        library = await self._load()
        names = await asyncio.to_thread(library.get_valid_models, check_provider_endpoint=False)
        return [ModelInfo(str(name), self.name) for name in names]

    @override
    async def aclose(self) -> None:
        if self._library is not None:
            await self._library.close_litellm_async_clients()

    async def _load(self) -> Any:
        if self._library is None:
            self._library = await load_library()
        return self._library

    async def _ask(self, library: Any, arguments: JsonObject, waits: "_Waits") -> Any:
        """What litellm answers: a whole answer, or a stream whose head has come.

        It is asked again as any upstream is here: litellm's own repeats do not wait.
        """
        repeat = 0
        while True:
            asked = library.acompletion(
                **arguments,
                api_key=self._api_key,
                base_url=self._base_url,
                timeout=self._timeouts.total_seconds,
                num_retries=0,
            )
            try:
                with self._our_errors(library):
                    return await waits.first(asked)
            except AgentServerError as exc:
                jitter = random.random()  # noqa: S311 # no secret
                wait = self._retry.wait_seconds(repeat, exc.retry_after_seconds, jitter)
                if wait is None or not exc.is_retryable or isinstance(exc, UpstreamTimeoutError):
                    raise
            repeat += 1
            await asyncio.sleep(wait)

    @contextlib.contextmanager
    def _our_errors(self, library: Any) -> Iterator[None]:
        try:
            yield
        # The base of all its classes, and what it lets through from its HTTP client.
        except (library.exceptions.openai.OpenAIError, library.exceptions.httpx.HTTPError) as exc:
            raise library_error_to_error(
                exc,
                provider=self.name,
                now=time.time(),
                secrets=(self._api_key,) if self._api_key else (),
            ) from exc


class _Waits:
    """The bounds of one call, from the moment it is made; the first byte has one for each try."""

    def __init__(self, provider: str, timeouts: Timeouts) -> None:
        self._provider = provider
        self._timeouts = timeouts
        self._total = self._from_now(timeouts.total_seconds)
        self._first_byte = self._total
        self._has_begun = False

    async def first(self, answer: Awaitable[Any]) -> Any:
        """The head of the answer of a try, or all of one that is no stream."""
        self._first_byte = self._from_now(self._timeouts.first_byte_seconds)
        return await self._until(answer, self._first_byte, "first_byte_seconds")

    async def next(self, chunk: Awaitable[_T]) -> _T:
        """The next chunk; the first one still counts as the first byte."""
        if not self._has_begun:
            got = await self._until(chunk, self._first_byte, "first_byte_seconds")
            self._has_begun = True
            return got
        idle = self._from_now(self._timeouts.idle_seconds)
        return await self._until(chunk, idle, "idle_seconds")

    async def _until(self, awaited: Awaitable[_T], limit: float, field: str) -> _T:
        try:
            async with asyncio.timeout_at(min(limit, self._total)):
                return await awaited
        except TimeoutError as exc:
            name = field if limit < self._total else "total_seconds"
            seconds = getattr(self._timeouts, name)
            raise UpstreamTimeoutError(
                f"{self._provider} did not answer in {seconds:g} s ({name})",
                provider=self._provider,
                param=name,
            ) from exc

    @staticmethod
    def _from_now(seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds
