"""Exact answers, kept for the same request of the same owner; off unless a setting asks for it.

What this module promises: an answer is found again only by the same owner, on the same door, for
the same provider, base URL, model and every parameter of the body, whatever their order; it comes
back in the frames in which it went out, so that a hit streams like a miss; no cache grows over its
bound, and one that cannot be reached is a miss.

Whoever puts answers decides which: only whole ones, never errors, nor what ran tools of ours.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import orjson

from streaming.events import Usage

# What an entry takes besides its frames, about.
ENTRY_BYTES = 1024
# No answer takes more than this part of the cache in memory.
PART_OF_CACHE = 8
MAX_ANSWER_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A whole answer as it went out: the frames of a stream, or the one body of a JSON answer.

    `usage` is what the first one used; a hit tells it again in its body, and costs nothing.
    """

    frames: tuple[bytes, ...]
    content_type: str
    provider: str
    model: str
    usage: Usage

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return ENTRY_BYTES + sum(len(frame) + 64 for frame in self.frames)


class AnswerCache(Protocol):
    """Where answers are kept."""

    async def get(self, key: str) -> CachedAnswer | None:
        """The answer of a key, if there is one; it waits for the network at most briefly."""

    def put(self, key: str, answer: CachedAnswer) -> None:
        """Keep an answer; never waits, never fails."""

    async def aclose(self) -> None:
        """Close what is open, in bounded time."""


def cache_key(
    *,
    owner: str,
    door: str,
    provider: str,
    base_url: str,
    model: str,
    body: Mapping[str, Any],
) -> str:
    """The key of a request: a digest of who asks, whom, and all that is asked."""
    parts = [owner, door, provider, base_url, model, body]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Recorder:
    """Collects the frames of an answer as they go out, up to a bound."""

    __slots__ = ("_bytes", "_frames", "_max_bytes")

    def __init__(self, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._frames: list[bytes] | None = []
        self._bytes = 0
        self._max_bytes = max_bytes

    def add(self, frame: bytes) -> None:
        """Keep a frame; an answer over the bound is not kept at all."""
        if self._frames is not None:
            self._bytes += len(frame)
            self._frames.append(frame)
            if self._bytes > self._max_bytes:
                self._frames = None

    def answer(
        self, *, content_type: str, provider: str, model: str, usage: Usage
    ) -> CachedAnswer | None:
        """The answer, once it is whole; None if it is too large or empty."""
        if not self._frames:
            return None
        return CachedAnswer(tuple(self._frames), content_type, provider, model, usage)


class MemoryCache:
    """Answers in memory: the ones that were not used for longest go first."""

    def __init__(
        self,
        *,
        max_bytes: int,
        ttl_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._answers: OrderedDict[str, tuple[CachedAnswer, float]] = OrderedDict()
        self._bytes = 0

    async def get(self, key: str) -> CachedAnswer | None:
        """The answer of a key; it never waits."""
        found = self._answers.get(key)
        if found is None:
            return None
        if self._clock() >= found[1]:
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return found[0]

    def put(self, key: str, answer: CachedAnswer) -> None:
        """Keep an answer, in place of older ones if need be."""
        if answer.size > self._max_bytes // PART_OF_CACHE:
            return
        self._drop(key)
        self._answers[key] = (answer, self._clock() + self._ttl_seconds)
        self._bytes += answer.size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._answers)))

    async def aclose(self) -> None:
        """Forget all."""
        self._answers.clear()
        self._bytes = 0

    def _drop(self, key: str) -> None:
        found = self._answers.pop(key, None)
        if found is not None:
            self._bytes -= found[0].size


def encode_answer(answer: CachedAnswer) -> bytes:
    """An answer as bytes: one line of JSON with the lengths of its frames, then the frames."""
    head = {
        "lengths": [len(frame) for frame in answer.frames],
        "content_type": answer.content_type,
        "provider": answer.provider,
        "model": answer.model,
        "usage": asdict(answer.usage),
    }
    return b"".join((orjson.dumps(head), b"\n", *answer.frames))


def decode_answer(data: bytes) -> CachedAnswer | None:
    """The answer of its bytes; None for what this version did not write."""
    head, _, rest = data.partition(b"\n")
    try:
        fields = orjson.loads(head)
        frames = _cut(rest, fields["lengths"])
        usage = Usage(**fields["usage"])
        texts = (fields["content_type"], fields["provider"], fields["model"])
    except (ValueError, KeyError, TypeError):
        return None
    return CachedAnswer(frames, *texts, usage)


def _cut(data: bytes, lengths: Sequence[int]) -> tuple[bytes, ...]:
    if sum(lengths) != len(data):
        raise ValueError("the frames are not whole")
    frames, at = [], 0
    for length in lengths:
        frames.append(data[at : at + length])
        at += length
    return tuple(frames)


class BackgroundPuts:
    """Tasks that keep answers in the background, of which there are never more than a bound."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def has_room(self) -> bool:
        """Whether one more may run."""
        return len(self._tasks) < self._most

    def add(self, task: "asyncio.Task[None]") -> None:
        """Hold a task until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout_seconds: float) -> None:
        """Wait for what runs, and end what takes too long."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
