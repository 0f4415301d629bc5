"""The routes of responses on a real server, before scripted models."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

import openai
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agent_server.access import ALL_SCOPES, Caller
from agent_server.error_responses import error_response
from agent_server.listener import bind, url_of
from agent_server.model_calls import StreamTimes
from agent_server.routes.responses import CreateResponse, ResponseResources
from agent_server.stored_responses.background import BackgroundResponses
from agent_server.stored_responses.keeper import ResponseKeeper
from agent_server.stored_responses.memory_store import MemoryResponseStore
from agent_server.stored_responses.port import OpenedResponse, ProviderAnswer, ResponseCall
from agent_server.stored_responses.record import StoredResponse
from agent_server.stored_responses.responses import Responses
from providers.chat_request import ChatRequest
from streaming.encoder import StreamHead
from streaming.errors import AgentServerError, UpstreamConnectionError
from streaming.events import (
    Event,
    Finished,
    ReasoningBlock,
    ReasoningDelta,
    ReasoningEnded,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    WorkflowEvent,
)
from streaming.json_bytes import dump
from streaming.responses_body import ResponseBody
from streaming.responses_sse import ResponsesEncoder

USAGE = Usage(3, 2, 5)
SIGNED = ReasoningBlock("think", signature="sig")


class Answer:
    """Events as an answer of the Responses format, as `OpenedResponse` says."""

    headers: Iterable[tuple[bytes, bytes]] = ((b"x-provider", b"scripted"),)

    def __init__(
        self,
        models: "Models",
        call: ResponseCall,
        events: AsyncGenerator[Event, None],
        stored_by: str | None = None,
    ) -> None:
        head = call.head if stored_by is None else StreamHead("resp_theirs", "their-model", 1)
        settings = call.request.options.settings
        self.stored_by = stored_by
        self._models = models
        self._call = call
        self._events = events
        self._encoder = ResponsesEncoder(head, settings)
        self._body = ResponseBody(head, settings)
        self._steps = self._stream() if call.stream else self._collect()

    async def read(self) -> bytes:
        return await anext(self._steps, b"")

    def fail(self, error: AgentServerError) -> bytes:
        return self._encoder.fail(error)

    async def aclose(self) -> None:
        await self._steps.aclose()
        await self._events.aclose()
        self._models.closed.set()

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        yield self._encoder.open()
        async for event in self._events:
            if frames := self._encoder.encode(event):
                yield frames
        yield self._encoder.close()

    async def _collect(self) -> AsyncGenerator[bytes, None]:
        async for event in self._events:
            self._body.add(event)
        yield dump(self._body.body())


class Models:
    """Models that answer what their name says; `keeper` is a provider that keeps responses."""

    def __init__(self) -> None:
        self.calls: list[ResponseCall] = []
        self.asked: list[tuple[str, str, str, str]] = []
        self.may_go_on = asyncio.Event()
        self.closed = asyncio.Event()

    async def open(self, call: ResponseCall) -> OpenedResponse:
        self.calls.append(call)
        stored_by = self.kept_by(call)
        if call.model == "refuses":
            raise UpstreamConnectionError("the upstream cannot be reached")
        return Answer(self, call, self._events(call), stored_by)

    def kept_by(self, call: ResponseCall) -> str | None:
        return "keeper" if call.provider == "keeper" or call.model == "keeper" else None

    async def ask_provider(
        self, record: StoredResponse, method: str, path: str, query: str = ""
    ) -> ProviderAnswer:
        path = f"/responses/{record.response_id}{path}"
        self.asked.append((record.provider or "", method, path, query))

        async def body() -> AsyncGenerator[bytes, None]:
            yield b'{"id":"resp_theirs","object":"response","status":"cancelled",'
            yield b'"output":[],"deleted":true,"data":[]}'

        return ProviderAnswer(200, "application/json", body())

    async def _events(self, call: ResponseCall) -> AsyncGenerator[Event, None]:
        if call.model == "calls":
            for event in call_or_answer(call.request.chat):
                yield event
            return
        said = [f"{message.role}:{message.text}" for message in call.request.chat.messages]
        for piece in ("I heard ", " ".join(said)):
            yield TextDelta(piece)
        if call.model == "waits":
            await self.may_go_on.wait()
            yield TextDelta(" and waited")
        if call.model == "breaks":
            raise UpstreamConnectionError("the line was cut")
        if call.model == "steps":
            yield WorkflowEvent({"type": "step_running", "step": "x", "run_id": "r", "seq": 1})
        yield Finished("stop", usage=USAGE)


def call_or_answer(chat: ChatRequest) -> list[Event]:
    """A signed thought and a call of `look`, and, when its result is there, what came back."""
    newest = chat.messages[-1]
    if newest.role == "tool":
        is_whole = chat.messages[-2].reasoning == (SIGNED,)
        text = f"{newest.text}, and the thought is {'whole' if is_whole else 'broken'}"
        return [TextDelta(text), Finished("stop", usage=USAGE)]
    return [
        ReasoningDelta("think"),
        ReasoningEnded(SIGNED),
        TextDelta("Let me look. "),
        ToolCallStarted(0, "call_1", "look"),
        ToolCallDelta(0, '{"city":'),
        ToolCallDelta(0, '"Oslo"}'),
        ToolCallEnded(0, "call_1", "look", '{"city":"Oslo"}'),
        Finished("tool_calls", usage=USAGE),
    ]


class Server:
    """The routes on a real server, and clients of it."""

    def __init__(self, url: str, models: Models, responses: Responses) -> None:
        self.url = url
        self.models = models
        self.responses = responses
        self._clients: dict[str, openai.AsyncOpenAI] = {}

    def client(self, owner: str = "alice") -> openai.AsyncOpenAI:
        if owner not in self._clients:
            base_url = f"{self.url}/v1"
            self._clients[owner] = openai.AsyncOpenAI(
                base_url=base_url, api_key=owner, max_retries=0
            )
        return self._clients[owner]

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.close()
        await self.responses.aclose()


@contextlib.asynccontextmanager
async def serving(store: MemoryResponseStore, **bounds: Any) -> AsyncIterator[Server]:
    models = Models()
    keeper = ResponseKeeper(store)
    background = BackgroundResponses(models, keeper, **{"poll_seconds": 0.01, **bounds})
    responses = Responses(models, keeper, background)
    config = uvicorn.Config(app_of(responses), log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    listener = bind("127.0.0.1", 0)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    open_server = Server(url_of(listener), models, responses)
    try:
        yield open_server
    finally:
        await open_server.aclose()
        server.should_exit = True
        await running


def app_of(responses: Responses) -> Any:
    times = StreamTimes(keep_alive_seconds=0.05)
    resources = ResponseResources(responses, times)
    create = CreateResponse(responses, times)

    async def our_error(_: Request, exc: Exception) -> Any:
        assert isinstance(exc, AgentServerError)
        return error_response(exc)

    path = "/v1/responses/{response_id}"
    app = Starlette(
        routes=[
            Route("/v1/responses", create, methods=["POST"]),
            Route(path, resources.get, methods=["GET"]),
            Route(path, resources.delete, methods=["DELETE"]),
            Route(f"{path}/input_items", resources.input_items, methods=["GET"]),
            Route(f"{path}/cancel", resources.cancel, methods=["POST"]),
        ],
        exception_handlers={AgentServerError: our_error},
    )

    async def with_caller(scope: Scope, receive: Receive, send: Send) -> None:
        key = dict(scope["headers"]).get(b"authorization", b"Bearer alice").decode()
        owner = key.removeprefix("Bearer ")
        scope.setdefault("state", {})["caller"] = Caller(owner, owner, ALL_SCOPES, None)
        await app(scope, receive, send)

    return with_caller
