"""The registry of detached streams: its bounds, what it forgets, and its end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.types import Send

from agent_server.access import ALL_SCOPES, Caller
from agent_server.chat_streams import ChatStreams
from agent_server.detached_stream import DetachedStream
from agent_server.doors.chat import CHAT
from agent_server.gateway.call import ModelCall
from agent_server.stream_formats import StreamChoice
from streaming.errors import AgentServerError, ConflictError, OverloadedError, RateLimitError

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"x-kind", b"test")]}
LARGE = b"data: %b\n\n" % (b"x" * 1000)


class Answers:
    """Answers that write what the test tells them to, and end when it says so."""

    def __init__(self) -> None:
        self.sends: dict[str, Send] = {}
        self.ends: dict[str, asyncio.Event] = {}
        self.cancelled: list[str] = []

    async def answer(self, call: ModelCall, send: Send, give_up: Callable[[], None]) -> None:
        chat = str(call.body["id"])
        self.sends[chat], self.ends[chat] = send, asyncio.Event()
        if chat == "refused":
            raise OverloadedError("no room")
        if chat == "broken":
            raise ValueError("a bug")
        await send(HEAD)
        try:
            await self.ends[chat].wait()
        except asyncio.CancelledError:
            self.cancelled.append(chat)
            raise
        await send(body(b"data: end\n\n", more=False))

    async def say(self, chat: str, data: bytes) -> None:
        await self.sends[chat](body(data))


def body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


class Registry:
    """A registry, and answers that begin without a client that reads them."""

    def __init__(self, **bounds: Any) -> None:
        self.answers = Answers()
        self.streams = ChatStreams(self.answers.answer, keep_alive_seconds=10, **bounds)
        self._clients: dict[str, asyncio.Task[None]] = {}

    async def begin(self, chat: str, owner: str = "alice") -> DetachedStream:
        caller = Caller(owner, owner, ALL_SCOPES, None)
        choice = StreamChoice("openai-sse", detached=True)
        call = ModelCall(CHAT, caller, b"", {"id": chat}, choice, "m")
        begun = asyncio.Event()

        async def send(message: Any) -> None:
            begun.set()
            # A client that reads nothing.
            await asyncio.Event().wait()

        client = asyncio.create_task(self.streams.answer(call, {}, send, lambda: None))
        self._clients[chat] = client
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait([client, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=10)
        waiting.cancel()
        if client.done():
            await client
        client.cancel()
        stream = self.streams.find(owner, chat)
        assert stream is not None
        return stream

    async def end(self, stream: DetachedStream) -> None:
        self.answers.ends[stream.chat_id].set()
        async for _ in stream.read_after(stream.count):
            pass
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def registry(**bounds: Any) -> AsyncIterator[Registry]:
    made = Registry(**bounds)
    try:
        yield made
    finally:
        await made.streams.aclose()


async def whole(stream: DetachedStream, after: int = 0) -> bytes:
    async with asyncio.timeout(10):
        return b"".join([data async for data in stream.read_after(after)])


async def test_one_owner_has_so_many_under_way_and_all_together_so_many() -> None:
    async with registry(max_running=3, max_running_per_owner=2) as made:
        first = await made.begin("1")
        await made.begin("2")
        with pytest.raises(RateLimitError, match="2 detached answers of yours"):
            await made.begin("3")
        await made.begin("3", "bob")
        with pytest.raises(OverloadedError, match="gives 3 detached answers"):
            await made.begin("4", "carol")
        await made.end(first)
        assert await made.begin("4", "carol")


async def test_a_stream_that_was_replaced_goes_on_and_counts_until_it_ends() -> None:
    async with registry(max_running_per_owner=2) as made:
        first = await made.begin("1")
        reading = asyncio.create_task(whole(first))
        ending = made.answers.ends["1"]
        second = await made.begin("1")
        assert made.streams.find("alice", "1") is second
        with pytest.raises(RateLimitError):
            await made.begin("2")
        ending.set()
        assert await reading == b"id: 1\ndata: end\n\n"
        await asyncio.sleep(0)
        assert made.streams.find("alice", "1") is second
        await made.begin("2")


@pytest.mark.parametrize(("kept_seconds", "is_kept"), [(0.0, False), (60.0, True)])
async def test_what_has_ended_is_forgotten_after_its_time(
    kept_seconds: float, *, is_kept: bool
) -> None:
    async with registry(kept_seconds=kept_seconds) as made:
        await made.end(await made.begin("1"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert made.streams.has_any is is_kept
        assert (made.streams.find("alice", "1") is not None) is is_kept


async def test_for_what_is_new_the_oldest_that_has_ended_is_forgotten_first() -> None:
    async with registry(max_held_bytes=4500) as made:
        for chat in "12":
            stream = await made.begin(chat)
            await made.answers.say(chat, LARGE)
            await made.end(stream)
        running = await made.begin("3")
        for _ in range(2):
            await made.answers.say("3", LARGE)
        assert made.streams.find("alice", "1")
        await made.answers.say("3", LARGE)
        assert made.streams.find("alice", "1") is None
        assert made.streams.find("alice", "2")
        await made.end(running)
        assert (await whole(running)).count(LARGE) == 3


async def test_where_all_run_the_largest_gives_back_its_oldest_frames() -> None:
    async with registry(max_held_bytes=9000) as made:
        large, small = await made.begin("1"), await made.begin("2")
        for _ in range(8):
            await made.answers.say("1", LARGE)
        await made.answers.say("2", LARGE)
        await made.end(small)
        assert (await whole(small)).count(LARGE) == 1
        with pytest.raises(ConflictError, match="Last-Event-ID: 2'"):
            large.check_held_after(0)
        await made.end(large)
        assert (await whole(large, 2)).count(LARGE) == 6


async def test_forgetting_gives_back_exactly_what_was_held() -> None:
    async with registry(max_held_bytes=10_000) as made:
        for number in range(50):
            chat = f"chat {number % 3}"
            stream = await made.begin(chat)
            await made.answers.say(chat, LARGE)
            if number % 2:
                # Forgotten while it runs, or once it has ended.
                made.streams.forget("alice", chat)
            await made.end(stream)
            made.streams.forget("alice", chat)
        assert not made.streams.has_any
        # Were more counted than is held, this one would lose frames now; were less, none then.
        stream = await made.begin("last")
        for _ in range(9):
            await made.answers.say("last", LARGE)
        stream.check_held_after(0)
        await made.answers.say("last", LARGE)
        with pytest.raises(ConflictError):
            stream.check_held_after(0)


@pytest.mark.parametrize(
    ("chat", "message"), [("refused", "no room"), ("broken", "The server failed on this request")]
)
async def test_an_answer_that_never_began_raises_and_is_not_found(chat: str, message: str) -> None:
    async with registry() as made:
        with pytest.raises(AgentServerError, match=message):
            await made.begin(chat)
        await asyncio.sleep(0)
        assert not made.streams.has_any


async def test_at_the_end_of_the_server_what_runs_is_ended_and_its_readers_are_told() -> None:
    async with registry() as made:
        running, ended = await made.begin("1"), await made.begin("2")
        await made.end(ended)
        reading = asyncio.create_task(whole(running))
        await asyncio.sleep(0)
        await made.streams.aclose()
        assert made.answers.cancelled == ["1"]
        assert b'"code":"server_stopping"' in await reading


async def test_one_that_was_ended_before_its_first_step_still_ends() -> None:
    async with registry() as made:
        call = ModelCall(
            CHAT, Caller("a", "a", ALL_SCOPES, None), b"", {}, StreamChoice("openai-sse"), "m"
        )
        asking = asyncio.create_task(made.streams.answer(call, {}, asyncio.Queue().put, int))
        await asyncio.sleep(0)
        await made.streams.aclose()
        with pytest.raises(OverloadedError, match="stopping"):
            await asking
