"""`POST /v1/chat/completions` and `POST /api/chat`: one chat, in any stream format or as JSON."""

import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.types import ASGIApp

from agent_server.access import Caller
from agent_server.answers import CollectedAnswer, StreamedAnswer
from agent_server.gateway.names import AGENT_MODEL, Target
from agent_server.log_config import get_logger
from agent_server.requests.chat import read_chat
from agent_server.requests.json_body import read_json_object
from agent_server.requests.use_chat import is_use_chat_body, read_use_chat
from agent_server.services import Agent, Services, caller_of, services_of
from agent_server.stream_formats import StreamChoice, choose_format
from agent_server.toolbox import AgentCaller
from providers.chat_request import ChatRequest
from streaming.chat_completion import ChatCompletionBody
from streaming.encoder import Encoder, StreamHead
from streaming.errors import BridgeUnavailableError
from streaming.events import Event
from streaming.formats import FORMATS

# How long a request waits for a backend that is just starting.
BACKEND_WAIT_SECONDS = 20.0

log = get_logger()


async def chat_completions(request: Request) -> ASGIApp:
    """OpenAI's chat completions.

    Source: OpenAI API reference, "Chat", "Create chat completion", 2026-10.
    """
    caller_of(request).require("chat")
    body = read_json_object(await request.body())
    choice = choose_format(request.url.path, request.headers, body)
    chat = read_use_chat(body).request if is_use_chat_body(body) else read_chat(body)
    return await _answer(services_of(request), caller_of(request), chat, choice)


async def use_chat(request: Request) -> ASGIApp:
    """The AI SDK's `useChat`, of every major version from 3.4 on."""
    caller_of(request).require("chat")
    body = read_json_object(await request.body())
    choice = choose_format(request.url.path, request.headers, body)
    return await _answer(
        services_of(request), caller_of(request), read_use_chat(body).request, choice
    )


async def _answer(
    services: Services, caller: Caller, chat: ChatRequest, choice: StreamChoice
) -> ASGIApp:
    target = services.names.resolve(chat.model or None)
    _log_request(chat, choice)
    heads = _Heads(
        response_id=f"chatcmpl-{uuid.uuid4().hex}",
        asked_model=chat.model or (AGENT_MODEL if target.is_agent else target.model),
        choice=choice,
    )
    events = await _events(services, caller, chat, target, heads)
    if choice.format is None:
        return CollectedAnswer(events, ChatCompletionBody(heads.head(None)))
    return StreamedAnswer(
        events,
        heads.encoder,
        keep_alive_seconds=services.settings.keep_alive_seconds,
        grace_seconds=None if target.is_agent else services.settings.stream_grace_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Heads:
    """What the answer is called. A relayed one names the upstream's model, once that is known."""

    response_id: str
    asked_model: str
    choice: StreamChoice

    def head(self, model: str | None) -> StreamHead:
        return StreamHead(
            response_id=self.response_id,
            model=model or self.asked_model,
            created=int(time.time()),
            include_usage=self.choice.include_usage,
            progress_text=self.choice.progress_text,
            continues_message=self.choice.continues_message,
        )

    def encoder(self, model: str | None) -> Encoder:
        return FORMATS[self.choice.format or ""](self.head(model))


async def _events(
    services: Services, caller: Caller, chat: ChatRequest, target: Target, heads: _Heads
) -> AsyncGenerator[Event, None]:
    chat = replace(chat, model=target.model, stream=heads.choice.format is not None)
    if not target.is_agent or services.agent is None:
        return target.provider.chat(chat)
    await _wait_for_backend(services.agent)
    return services.agent.loop.run(
        chat,
        provider=target.provider,
        caller=AgentCaller(
            owner=caller.owner,
            may_not_execute=caller.refusal or "",
            detached=heads.choice.detached,
        ),
        response_id=heads.response_id,
        model=heads.asked_model,
    )


async def _wait_for_backend(agent: Agent) -> None:
    if not await agent.bridge.wait_ready(BACKEND_WAIT_SECONDS):
        raise BridgeUnavailableError(
            "The workflow backend is not ready. GET /health/ready says what is missing.",
            is_retryable=True,
            retry_after_seconds=5,
        )


def _log_request(chat: ChatRequest, choice: StreamChoice) -> None:
    texts = [message.text for message in chat.messages]
    log.info(
        "Processing request with %s format: %d messages, %d characters",
        (choice.format or "json").removeprefix("openai-"),
        len(texts),
        sum(map(len, texts)),
    )
    log.debug("Request text", newest=texts[-1])
