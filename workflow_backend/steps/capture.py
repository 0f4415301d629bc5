"""What a step writes: decoded, masked, its head and tail kept, its beginning shown live.

Guarantee: memory is bounded whatever the step writes, and reading never waits for anybody who
watches: what is not shown yet is held up to the live cap, what is over it is only counted.
"""

import asyncio
import codecs
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

from workflow_backend.masking import Masker

LIVE_CHUNK_CHARACTERS = 4_096
LIVE_INTERVAL_SECONDS = 0.1
LIVE_EVENT_COST = 128

Emit = Callable[[str], Awaitable[None]]
Log = Callable[[str, "HeadAndTail"], None]


class HeadAndTail:
    """A text of which only the beginning and the end are kept."""

    def __init__(self, max_characters: int) -> None:
        self._head: list[str] = []
        self._head_left = max_characters // 2
        self._tail: deque[str] = deque()
        self._tail_limit = max_characters - self._head_left
        self._tail_characters = 0
        self._dropped = 0
        self.characters = 0

    @property
    def is_truncated(self) -> bool:
        """Whether something in the middle is missing."""
        return self._missing() > 0

    def add(self, text: str) -> None:
        """Append to the text."""
        self.characters += len(text)
        if self._head_left:
            self._head.append(text[: self._head_left])
            text = text[len(self._head[-1]) :]
            self._head_left -= len(self._head[-1])
        if not text:
            return
        self._tail.append(text)
        self._tail_characters += len(text)
        while self._tail_characters - len(self._tail[0]) >= self._tail_limit:
            first = self._tail.popleft()
            self._tail_characters -= len(first)
            self._dropped += len(first)

    def text(self) -> str:
        """The text, with a line that tells how much is missing."""
        head, tail, missing = "".join(self._head), "".join(self._tail), self._missing()
        if not missing:
            return head + tail
        kept = tail[len(tail) - self._tail_limit :]
        return f"{head}\n... {missing} characters left out ...\n{kept}"

    def _missing(self) -> int:
        return self._dropped + max(0, self._tail_characters - self._tail_limit)


class Capture:
    """Takes the bytes of a step in; emits them live as texts; keeps head and tail.

    `log` is given each text, and what is kept of those before it.
    """

    def __init__(
        self,
        masker: Masker,
        emit: Emit,
        max_characters: int,
        live_bytes: int,
        log: Log = lambda _, __: None,
    ) -> None:
        self.kept = HeadAndTail(max_characters)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._masked = masker.stream()
        self._emit = emit
        self._log = log
        self._live_left = live_bytes
        self._pending = ""
        self._is_live = live_bytes > 0
        self._is_finished = False
        self._has_data = asyncio.Event()
        self._is_due = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    def feed(self, data: bytes) -> None:
        """Take a chunk in; never waits."""
        self._add(self._masked.feed(self._decoder.decode(data)))

    async def finish(self) -> None:
        """Take the end in and emit what is pending."""
        self._add(self._masked.feed(self._decoder.decode(b"", final=True)))
        self._add(self._masked.finish())
        self._is_finished = True
        self._has_data.set()
        self._is_due.set()
        if self._pump:
            await self._pump

    def _add(self, text: str) -> None:
        if not text:
            return
        self._log(text, self.kept)
        self.kept.add(text)
        if not self._is_live:
            return
        room = self._live_left - len(self._pending)
        self._pending += text[: max(room, 0)]
        if len(text) > room:
            self._is_live = False
            self._pending += "\n... further output is not shown live ...\n"
        if self._pump is None:
            self._pump = asyncio.create_task(self._run())
        self._has_data.set()
        if len(self._pending) >= LIVE_CHUNK_CHARACTERS:
            self._is_due.set()

    async def _run(self) -> None:
        """Emit what is pending every interval, or as soon as it fills a chunk."""
        while not self._is_finished or self._pending:
            await self._has_data.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LIVE_INTERVAL_SECONDS):
                    await self._is_due.wait()
            text = self._pending[:LIVE_CHUNK_CHARACTERS]
            self._pending = self._pending[len(text) :]
            if not self._is_finished:
                self._wait_for_more()
            if text:
                self._live_left -= len(text) + LIVE_EVENT_COST
                await self._emit(text)

    def _wait_for_more(self) -> None:
        if not self._pending:
            self._has_data.clear()
        if len(self._pending) < LIVE_CHUNK_CHARACTERS:
            self._is_due.clear()
