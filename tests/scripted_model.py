"""A model on loopback that speaks OpenAI's streamed chat format and says what its script says.

Source of the format: OpenAI API reference, "Chat Completions", section "Streaming", 2026-11.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Script = Callable[[dict[str, Any]], "Turn"]


@dataclass(frozen=True)
class Call:
    """One tool call; `arguments` is JSON text, or an object that becomes one."""

    name: str
    arguments: Any = field(default_factory=dict)
    call_id: str = ""


@dataclass(frozen=True)
class Turn:
    """What the model says to one request: text, calls, why it ends, or how it breaks off.

    `breaks_after` cuts the connection after so many text parts; `hangs` says nothing more until the
    client leaves; what follows the first text part waits for `may_go_on`.
    """

    text: Sequence[str] = ()
    calls: Sequence[Call] = ()
    reason: str = ""
    usage: tuple[int, int] = (10, 5)
    breaks_after: int | None = None
    hangs: bool = False
    may_go_on: asyncio.Event | None = None


class ScriptedModel:
    """Answers each request by a script: a list of turns in order, or a function of the request.

    `requests` holds the bodies as they came; `hanging` is set when a turn hangs, `left` when its
    client has gone.
    """

    def __init__(self, script: Script | Sequence[Turn]) -> None:
        turns = iter(()) if callable(script) else iter(script)
        self._script: Script = script if callable(script) else lambda _: next(turns)
        self._numbers = itertools.count(1)
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self._asked = asyncio.Condition()
        self.hanging = asyncio.Event()
        self.left = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Serve `POST /chat/completions`."""
        body = orjson.loads(await request.read())
        self.requests.append(body)
        async with self._asked:
            self._asked.notify_all()
        turn = self._script(body)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number, text in enumerate(turn.text):
            if number == turn.breaks_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(_chunk({"content": text}))
            if number == 0 and turn.may_go_on is not None:
                await turn.may_go_on.wait()
        if turn.hangs:
            await self._hang()
        for index, call in enumerate(turn.calls):
            await response.write(_chunk({"tool_calls": [self._call(index, call)]}))
        reason = turn.reason or ("tool_calls" if turn.calls else "stop")
        await response.write(_chunk({}, reason))
        await response.write(_usage(*turn.usage) + b"data: [DONE]\n\n")
        return response

    async def asked(self, times: int) -> None:
        """Wait until so many requests have come."""
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.requests) >= times)

    def _call(self, index: int, call: Call) -> dict[str, Any]:
        arguments = call.arguments
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        call_id = call.call_id or f"model_call_{next(self._numbers)}"
        function = {"name": call.name, "arguments": arguments}
        return {"index": index, "id": call_id, "type": "function", "function": function}

    async def _hang(self) -> None:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


@contextlib.asynccontextmanager
async def scripted_model(script: Script | Sequence[Turn]) -> AsyncIterator[ScriptedModel]:
    """A model on a free port of loopback; its base URL is `url`."""
    model = ScriptedModel(script)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/chat/completions", model.answer)
    # Without it a handler is not told that its client has gone.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    model.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield model
    finally:
        await runner.cleanup()


def _chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": reason}
    return _frame({"choices": [choice]})


def _usage(prompt: int, completion: int) -> bytes:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return _frame({"choices": [], "usage": usage})


def _frame(fields: dict[str, Any]) -> bytes:
    head = {"id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1}
    return b"data: " + orjson.dumps({**head, "model": "scripted", **fields}) + b"\n\n"
