"""Answers calls to models, whichever door took them: opens the answer and writes it.

What this module promises: an answer that fails before its first byte raises, to become an HTTP
error; one that fails later ends with the format's error frame; whatever gives an answer is ended
with it, and the books of the call are closed, in every case.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from starlette.types import Send

from agent_server.answers import RawHeaders, StreamWriter, send_body
from agent_server.approval_answers import clicked_answers
from agent_server.call_books import CallBooks
from agent_server.call_traces import CallTraces
from agent_server.dropped_fields import dropped_headers
from agent_server.error_responses import log_error
from agent_server.gateway.call import ModelCall, OpenAnswer
from agent_server.gateway.gateway import Gateway
from agent_server.gateway.kept_answers import KeptAnswers, RecordedAnswer
from agent_server.gateway.names import AGENT_MODEL, Target
from agent_server.gateway.translate import TranslatedBody, TranslatedStream
from agent_server.log_config import get_logger
from agent_server.services import Agent
from agent_server.toolbox import AgentCaller
from providers.chat_request import ChatRequest
from streaming.encoder import EncoderClass, StreamHead
from streaming.errors import AgentServerError, BridgeUnavailableError

# How long a request waits for a backend that is just starting.
BACKEND_WAIT_SECONDS: Final = 20.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Seconds: silence until a keep-alive, and how long a status is held back for an upstream."""

    keep_alive_seconds: float = 10.0
    grace_seconds: float = 10.0


class ModelCalls:
    """All doors' way to an answer: the gateway's routes, or the workflow agent."""

    def __init__(
        self,
        gateway: Gateway,
        agent: Agent | None,
        books: CallBooks,
        times: StreamTimes,
        traces: CallTraces | None = None,
        kept: KeptAnswers | None = None,
    ) -> None:
        self.gateway = gateway
        self._kept = kept
        self._traces = traces
        self._agent = agent
        self._books = books
        self.times = times

    async def answer(self, call: ModelCall, send: Send, give_up: Callable[[], None]) -> None:
        """Answer a call; `give_up` ends the work for a client that reads nothing.

        Raises:
            AgentServerError: the call failed before anything was written.
        """
        try:
            target = await self.begin(call)
            if call.choice.format is None:
                await self._answer_json(call, target, send)
            else:
                await self._answer_stream(call, target, send, give_up)
        except BaseException as exc:
            call.failure = exc
            raise
        finally:
            self.finish(call)

    async def begin(self, call: ModelCall, target: Target | None = None) -> Target:
        """Admit a call to its target, which is that of its model's name unless one is given.

        Whoever begins a call finishes it, also where this raises.

        Raises:
            AgentServerError: the name means nothing, or a limit has no room.
        """
        self._books.begin(call)
        found = target or self.gateway.names.resolve(call.model)
        if call.caller.claims is not None:
            # Whatever the model: the agent alone holds an answer to the budget of a run token.
            found = replace(found, is_agent=True)
        await self._books.open(call, found)
        if self._traces is not None:
            self._traces.begin(call, found)
        return found

    def finish(self, call: ModelCall) -> None:
        """Give back what the call holds, and close its books."""
        call.trail.close(call.failure)
        self._books.close(call)
        if self._traces is not None:
            self._traces.end(call, self.gateway.base_url_of)

    async def aclose(self) -> None:
        """Release the providers of the gateway that is in force."""
        await self.gateway.providers.aclose()

    async def open(self, call: ModelCall, target: Target) -> OpenAnswer:
        """The answer to a call, once it has content; raises `AgentServerError` instead of one."""
        if target.is_agent and self._agent is not None:
            call.answer = await self._open_agent(call, target, self._agent)
        elif self._kept is not None:
            call.answer = await self._kept.open(call, target.plan, self.gateway)
        else:
            call.answer = await self.gateway.open(call, target.plan)
        return call.answer

    async def _answer_json(self, call: ModelCall, target: Target, send: Send) -> None:
        answer = await self.open(call, target)
        try:
            body = await answer.read()
        finally:
            await answer.aclose()
        call.bytes_out = len(body)
        await send_body(send, body, [_JSON, *call_headers(call)])

    async def _answer_stream(
        self,
        call: ModelCall,
        target: Target,
        send: Send,
        give_up: Callable[[], None],
    ) -> None:
        encoder_class = call.door.formats[call.choice.format or ""]
        writer = StreamWriter(
            send,
            _stream_headers(encoder_class),
            keep_alive=encoder_class.keep_alive,
            keep_alive_seconds=self.times.keep_alive_seconds,
            give_up=give_up,
        )
        try:
            if not target.is_agent:
                writer.hold(self.times.grace_seconds)
            try:
                answer = await self.open(call, target)
            except AgentServerError as exc:
                if not writer.is_begun:
                    raise
                log_error(exc)
                call.failure = exc
                encoder = encoder_class(_head(call, target))
                await writer.end(encoder.open() + encoder.fail(exc))
                return
            try:
                await writer.begin(call_headers(call))
                call.failure = await writer.write_all(
                    answer, lambda error: last_frames(answer, error, call, target)
                )
            finally:
                await answer.aclose()
        finally:
            writer.close()
            call.bytes_out = writer.bytes_written

    async def _open_agent(self, call: ModelCall, target: Target, agent: Agent) -> OpenAnswer:
        chat = replace(call.chat_elsewhere(target.model), stream=call.is_stream)
        _log_request(call, chat)
        await _wait_for_backend(agent)
        head = _head(call, target)
        call.agent_caller = AgentCaller(
            owner=call.caller.owner,
            may_not_execute=call.caller.refusal or "",
            detached=call.choice.detached,
            trace=call.trace,
            claims=call.caller.claims,
            name=call.caller.name,
            may_not_approve=call.caller.approval_refusal or "",
        )
        events = agent.loop.run(
            chat,
            provider=self.gateway.provider(target.plan, call.charges, self._traces),
            caller=call.agent_caller,
            response_id=head.response_id,
            model=head.model,
            clicked=clicked_answers(call.body) if head.answered_approvals else (),
        )
        if call.choice.format is None:
            body = TranslatedBody(events, lambda _: call.door.make_body(head))
            await body.prove()
            return body
        make_encoder = call.door.formats[call.choice.format]
        stream = TranslatedStream(events, lambda _: make_encoder(head))
        stream.open()
        return stream


def _head(call: ModelCall, target: Target) -> StreamHead:
    """What an answer is called that no upstream has named."""
    model = call.model or (AGENT_MODEL if target.is_agent else target.model)
    return call.door.head(model, call.choice)


def last_frames(
    answer: OpenAnswer, error: AgentServerError, call: ModelCall, target: Target
) -> bytes:
    """The last frames of a stream that fails in the middle."""
    if isinstance(answer, RecordedAnswer):
        answer = answer.inner
    if isinstance(answer, TranslatedStream):
        return answer.fail(error)
    return call.door.formats[call.choice.format or ""](_head(call, target)).fail(error)


def _stream_headers(encoder_class: EncoderClass) -> RawHeaders:
    headers = {
        "content-type": encoder_class.content_type,
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        **encoder_class.headers,
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def call_headers(call: ModelCall) -> RawHeaders:
    """Who answered, after how many tries, and what is left of the key's limits."""
    headers = [*call.admission.headers()] if call.admission else []
    if call.dropped:
        headers += dropped_headers(call.dropped)
    if call.cache is not None:
        headers.append((b"x-cache", call.cache.encode()))
    if call.door.wire == "messages":
        # By which Anthropic's SDKs know a request.
        headers.append((b"request-id", call.request_id.encode()))
    route = call.trail.route
    if route is not None:
        headers += route.headers
        headers.append((b"x-attempts", b"%d" % call.trail.attempts))
    return headers


def _log_request(call: ModelCall, chat: ChatRequest) -> None:
    texts = [message.text for message in chat.messages]
    log.info(
        "Processing request with %s format: %d messages, %d characters",
        (call.choice.format or "json").removeprefix("openai-"),
        len(texts),
        sum(map(len, texts)),
    )
    log.debug("Request text", newest=texts[-1])


async def _wait_for_backend(agent: Agent) -> None:
    if not await agent.bridge.wait_ready(BACKEND_WAIT_SECONDS):
        raise BridgeUnavailableError(
            "The workflow backend is not ready. GET /health/ready says what is missing.",
            is_retryable=True,
            retry_after_seconds=5,
        )


_JSON: Final = (b"content-type", b"application/json")
