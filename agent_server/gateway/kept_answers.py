"""Answers from the response cache, and on their way into it.

What this module promises: only whole answers are kept, never one that failed, was cut or whose
client left early; a hit has the frames of the miss, one by one.
"""

from agent_server.accounts.cache import AnswerCache, CachedAnswer, Recorder, cache_key
from agent_server.gateway.call import ModelCall, OpenAnswer
from agent_server.gateway.gateway import Gateway
from agent_server.gateway.routes import RoutePlan
from streaming.events import FinishReason, Usage
from streaming.openai_sse import SSE_CONTENT_TYPE

JSON_CONTENT_TYPE = "application/json"


class KeptAnswers:
    """The response cache, as calls use it."""

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache

    async def open(self, call: ModelCall, plan: RoutePlan, gateway: Gateway) -> OpenAnswer:
        """The kept answer to a call, else the gateway's, which is kept when it is whole.

        `call.cache` says which. Raises what the gateway raises.
        """
        if not _is_cacheable(call):
            return await gateway.open(call, plan)
        key = _key(call, plan, gateway)
        kept = await self._cache.get(key)
        if kept is not None:
            call.cache = "hit"
            return KeptAnswer(kept)
        call.cache = "miss"
        return RecordedAnswer(await gateway.open(call, plan), call, key, self._cache)


class KeptAnswer:
    """An answer that was given before. Its `usage` is told again in its frames, and not paid."""

    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    response_id: str | None = None

    def __init__(self, kept: CachedAnswer) -> None:
        self.is_stream = kept.content_type != JSON_CONTENT_TYPE
        self.model: str | None = kept.model
        self._frames = iter(kept.frames)

    async def read(self) -> bytes:
        """The next frames, or the whole body; b"" at the end."""
        return next(self._frames, b"")

    async def aclose(self) -> None:
        """Nothing is behind it."""


class RecordedAnswer:
    """An answer that is kept when it has been read to its end; `inner` is the answer itself."""

    def __init__(self, inner: OpenAnswer, call: ModelCall, key: str, cache: AnswerCache) -> None:
        self.inner = inner
        self._call = call
        self._key = key
        self._cache = cache
        self._recorder = Recorder()

    @property
    def is_stream(self) -> bool:
        """Whether there are frames; else one JSON body."""
        return self.inner.is_stream

    @property
    def usage(self) -> Usage | None:
        """What the answer cost."""
        return self.inner.usage

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended."""
        return self.inner.finish_reason

    @property
    def response_id(self) -> str | None:
        """The upstream's id of the answer."""
        return self.inner.response_id

    @property
    def model(self) -> str | None:
        """The upstream's model."""
        return self.inner.model

    async def read(self) -> bytes:
        """The next frames, or the body; raises what the answer raises."""
        data = await self.inner.read()
        if data:
            self._recorder.add(data)
        if not data or not self.inner.is_stream:
            self._keep()
        return data

    async def aclose(self) -> None:
        """End whatever gives the answer, at once."""
        await self.inner.aclose()

    def _keep(self) -> None:
        route = self._call.trail.route
        answer = self._recorder.answer(
            content_type=SSE_CONTENT_TYPE if self.inner.is_stream else JSON_CONTENT_TYPE,
            provider=route.provider if route else "",
            model=self.inner.model or "",
            usage=self.inner.usage or Usage(),
        )
        if answer is not None and getattr(self.inner, "reported_error", None) is None:
            self._cache.put(self._key, answer)


def _is_cacheable(call: ModelCall) -> bool:
    """Whether nothing but this answer comes of the call: a response that is stored has an id."""
    if call.door.wire == "responses":
        return call.body.get("store") is False and not call.choice.detached
    return call.door.wire in {"chat", "messages", "embeddings"}


def _key(call: ModelCall, plan: RoutePlan, gateway: Gateway) -> str:
    routes = list(plan.all_routes())
    forwarded = {name: call.forwarded[name] for name in sorted(call.forwarded) if name in _SPOKEN}
    return cache_key(
        owner=call.caller.owner,
        door=f"{call.door.name} {call.choice.format} {call.choice.progress_text}",
        provider=" ".join(route.route_id for route in routes),
        base_url=" ".join(gateway.base_url_of(route) for route in routes),
        model=call.model or plan.name,
        body={"body": call.body, "headers": forwarded},
    )


# The headers that change an answer.
_SPOKEN = frozenset({"anthropic-beta", "anthropic-version", "openai-beta"})
