"""Keeping responses: while the store is down, when it is slow, and within their bounds."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest
from typing_extensions import override

from agent_server.frame_log import frames_of
from agent_server.stored_responses.frames import first_response, last_response
from agent_server.stored_responses.keeper import ResponseKeeper
from agent_server.stored_responses.memory_store import MemoryResponseStore
from agent_server.stored_responses.record import StoredResponse, StoreUnavailableError
from streaming.encoder import StreamHead
from streaming.errors import InvalidRequestError, NotFoundError, OverloadedError
from streaming.events import Event, Finished, TextDelta
from streaming.responses_sse import ResponsesEncoder


class FlakyStore(MemoryResponseStore):
    """A store that may be down, or slow to write."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False
        self.may_write = asyncio.Event()
        self.may_write.set()

    @override
    async def put(self, record: StoredResponse) -> None:
        await self.may_write.wait()
        self._check()
        await super().put(record)

    @override
    async def get(self, owner: str, response_id: str) -> StoredResponse | None:
        self._check()
        return await super().get(owner, response_id)

    @override
    async def chain(self, owner: str, response_id: str, most: int) -> list[StoredResponse]:
        self._check()
        return await super().chain(owner, response_id, most)

    @override
    async def statuses(self, owned: Sequence[tuple[str, str]]) -> dict[str, str]:
        self._check()
        return await super().statuses(owned)

    def _check(self) -> None:
        if self.is_down:
            raise StoreUnavailableError


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


@pytest.fixture
def keeper(store: FlakyStore) -> ResponseKeeper:
    return ResponseKeeper(store, put_seconds=0.05)


def answered(keeper: ResponseKeeper, number: int, text: str = "hi") -> StoredResponse:
    """A response that continues the one before."""
    previous = {"previous_response_id": f"resp_{number - 1}"} if number else {}
    draft = keeper.draft("alice", f"resp_{number}", {"input": text, **previous}, model="m")
    output = [{"type": "message", "role": "assistant", "content": f"answer {number}"}]
    return replace(draft, status="completed", response=orjson.dumps({"output": output}))


async def test_while_the_store_is_down_responses_are_kept_in_memory(
    keeper: ResponseKeeper, store: FlakyStore
) -> None:
    await keeper.keep(answered(keeper, 0))
    store.is_down = True
    await keeper.keep(answered(keeper, 1))
    assert (await keeper.require("alice", "resp_1")).status == "completed"
    with pytest.raises(OverloadedError):
        await keeper.find("alice", "resp_0")
    assert await keeper.statuses([("alice", "resp_1")]) == {}
    store.is_down = False
    await keeper.keep(answered(keeper, 2))
    continued = await keeper.continued("alice", {"previous_response_id": "resp_2", "input": "on"})
    assert len(continued.history) == 6


async def test_a_slow_store_holds_no_answer_back(keeper: ResponseKeeper, store: FlakyStore) -> None:
    store.may_write.clear()
    await keeper.keep(answered(keeper, 0))
    assert (await keeper.require("alice", "resp_0")).status == "completed"
    store.may_write.set()
    await keeper.aclose()
    assert await store.get("alice", "resp_0") is not None
    assert await keeper.statuses([("alice", "resp_0")]) == {"resp_0": "completed"}


async def test_what_is_too_large_is_refused_or_not_kept(store: FlakyStore) -> None:
    keeper = ResponseKeeper(store, max_record_bytes=2000)
    with pytest.raises(InvalidRequestError, match="store: false") as caught:
        answered(keeper, 0, "x" * 2000)
    assert caught.value.param == "input"
    await keeper.keep(replace(answered(keeper, 0), response=b"x" * 2000))
    with pytest.raises(NotFoundError):
        await keeper.require("alice", "resp_0")


async def test_an_id_that_is_no_text_is_refused(keeper: ResponseKeeper) -> None:
    with pytest.raises(InvalidRequestError, match="must be the id"):
        await keeper.continued("alice", {"previous_response_id": 1})


def recorded_stream() -> bytes:
    encoder = ResponsesEncoder(StreamHead("resp_1", "m", 1))
    tricky = TextDelta('event: response.completed\n\ndata: {"type":"response.completed"}')
    events: list[Event] = [TextDelta("a"), tricky, TextDelta('"response":'), Finished("stop")]
    return encoder.open() + b"".join(map(encoder.encode, events)) + encoder.close()


def test_the_response_is_read_from_its_own_frames_alone() -> None:
    frames = frames_of(b": ping\n\n" + recorded_stream())
    first, *middle, last = frames
    assert (first_response(first) or {})["status"] == "in_progress"
    assert (last_response(b"".join(frames)) or {})["status"] == "completed"
    assert (last_response(last) or {})["id"] == "resp_1"
    assert all(last_response(frame) is None for frame in middle)
    assert all(first_response(frame) is None for frame in middle)
