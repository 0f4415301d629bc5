"""Clients of detached chats before a scripted model, and a way to ask for each format."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from agent_server.accounts.keys import parse_api_keys
from tests.conftest import ALICE, BOB, KEY_ENTRIES
from tests.servers import Scripted, ScriptedServer, scripted
from tests.serving import serving

COMPLETIONS = "/v1/chat/completions"
USE_CHAT = "/api/chat"
STREAM = "/api/chat/chat-1/stream"
DETACHED = {"X-Workflow-Detached": "true"}
SSE = {"content-type": "text/event-stream"}
USER = {"role": "user", "content": "hello"}
PARTS = {"id": "1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
# A way to ask for each format: path, body and headers; all of them are about the chat `chat-1`.
OPENAI = (COMPLETIONS, {"messages": [USER], "stream": True}, {"X-Chat-Id": "chat-1"})
HOOK_5 = (USE_CHAT, {"id": "chat-1", "messages": [PARTS], "trigger": "submit-message"}, {})
HOOK_4 = (USE_CHAT, {"id": "chat-1", "messages": [{**PARTS, **USER}]}, {})
NUMBERED = {
    "openai-sse": OPENAI,
    "sse-inline": (*OPENAI[:2], {**OPENAI[2], "X-Streaming-Format": "sse-inline"}),
    "ui-v1": HOOK_5,
}
LINES = {
    "data-v1": HOOK_4,
    "vercel": (*OPENAI[:2], {**OPENAI[2], "X-Streaming-Format": "vercel"}),
}
FORMATS = NUMBERED | LINES


def delta(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    head = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    return b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n"


# The model says `Hel`, and the rest when it is told to.
HALTING = Scripted(
    pieces=(delta("Hel"),),
    headers=SSE,
    ending="late",
    rest=(delta("lo"), delta("", "stop"), b"data: [DONE]\n\n"),
)
# More than the server holds of one stream.
LONG = Scripted(
    pieces=tuple(delta("x" * 60_000) for _ in range(600)),
    headers=SSE,
    ending="late",
    rest=HALTING.rest,
)


class Chat:
    """A client of one key, before a server whose model is scripted."""

    def __init__(self, url: str, session: aiohttp.ClientSession, model: ScriptedServer) -> None:
        self.url = url
        self.session = session
        self.model = model

    async def post(
        self, ask: tuple[str, dict[str, Any], dict[str, str]] = HOOK_5, **headers: str
    ) -> aiohttp.ClientResponse:
        path, body, own = ask
        return await self.session.post(path, json=body, headers={**DETACHED, **own, **headers})

    async def broken_off(
        self, ask: tuple[str, dict[str, Any], dict[str, str]] = HOOK_5, **headers: str
    ) -> bytes:
        """What a client had of an answer when its connection broke in the middle."""
        answer = await self.post(ask, **headers)
        had = await read_until(answer, b"Hel")
        answer.close()
        return had

    async def get(self, path: str = STREAM, **headers: str) -> aiohttp.ClientResponse:
        return await self.session.get(path, headers=headers)

    async def resumed(self, path: str = STREAM, **headers: str) -> bytes:
        answer = await self.get(path, **headers)
        assert answer.status == 200, await answer.text()
        return await answer.read()

    async def status(self, path: str = STREAM, **headers: str) -> int:
        async with await self.get(path, **headers) as answer:
            assert answer.status != 204 or await answer.read() == b""
            return answer.status


@contextlib.asynccontextmanager
async def chatting(
    folder: Path, answer: Scripted = HALTING, **settings: Any
) -> AsyncIterator[tuple[Chat, Chat]]:
    """The chats of ALICE and BOB before one server and its model."""
    async with (
        scripted(answer) as model,
        serving(
            folder,
            api_keys=parse_api_keys(KEY_ENTRIES.split()),
            provider="openai",
            base_url=f"{model.url}/v1",
            provider_api_key="sk-upstream-key-0123456789",
            model="m",
            **settings,
        ) as url,
        session_of(url, ALICE) as alice,
        session_of(url, BOB) as bob,
    ):
        yield Chat(url, alice, model), Chat(url, bob, model)


def session_of(url: str, key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"})


async def read_until(answer: aiohttp.ClientResponse, text: bytes) -> bytes:
    assert answer.status == 200, await answer.text()
    said = bytearray()
    async with asyncio.timeout(20):
        while text not in said[-100_000:]:
            said += await answer.content.readany()
    return bytes(said)


def ids_of(stream: bytes) -> list[int]:
    lines = stream.decode().splitlines()
    return [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]


def after(stream: bytes, number: int) -> bytes:
    """The frames of a stream behind the one of this number."""
    end = stream.index(b"\n\n", stream.index(b"id: %d\n" % number))
    return stream[end + 2 :]
