"""The detached streams of the chat doors: they go on without a reader, and can be read again.

What this module promises: nobody finds the stream of another owner; at most `max_running` answers
are under way, `max_running_per_owner` of one owner; all streams together hold `max_held_bytes` and
little more; one that has ended is forgotten after `kept_seconds`; `aclose` ends all of them.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from starlette.types import Message, Send

from agent_server.detached_stream import DetachedStream
from agent_server.error_responses import INTERNAL_ERROR, stopping
from agent_server.followed_stream import FollowedStream
from agent_server.gateway.call import ModelCall
from agent_server.log_config import get_logger
from agent_server.request_headers import RequestHeaders
from agent_server.requests.chat_id import chat_id_header, chat_id_of
from streaming.errors import (
    AgentServerError,
    InvalidRequestError,
    OverloadedError,
    RateLimitError,
)

MAX_RUNNING: Final = 256
MAX_RUNNING_PER_OWNER: Final = 64
MAX_HELD_BYTES: Final = 256 * 1024 * 1024
KEPT_SECONDS: Final = 600.0
END_SECONDS: Final = 5.0
# Writes the whole answer to a call; the last argument ends it for a client that reads nothing.
Answer: TypeAlias = Callable[[ModelCall, Send, Callable[[], None]], Awaitable[None]]

log = get_logger()


class ChatStreams:
    """The detached streams of one server."""

    def __init__(
        self,
        answer: Answer,
        *,
        keep_alive_seconds: float,
        max_running: int = MAX_RUNNING,
        max_running_per_owner: int = MAX_RUNNING_PER_OWNER,
        max_held_bytes: int = MAX_HELD_BYTES,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self._answer = answer
        self._keep_alive_seconds = keep_alive_seconds
        self._max_running = max_running
        self._max_running_per_owner = max_running_per_owner
        self._max_held_bytes = max_held_bytes
        self._kept_seconds = kept_seconds
        # Those that can be found, and those that run: the newest of a chat takes the place of the
        # one before it, which may still run. Both in the order in which they began.
        self._found: dict[tuple[str, str], DetachedStream] = {}
        self._running: dict[asyncio.Task[None], DetachedStream] = {}
        self._timers: dict[DetachedStream, asyncio.TimerHandle] = {}
        self._held_bytes = 0

    @property
    def has_any(self) -> bool:
        """Whether there is a stream to be found."""
        return bool(self._found)

    async def answer(
        self, call: ModelCall, headers: RequestHeaders, send: Send, give_up: Callable[[], None]
    ) -> None:
        """Begin an answer, and show it to the client that asked, for as long as that reads.

        Raises:
            AgentServerError: the answer failed before its first byte, or there is no room for it.
        """
        stream = self._begin(call, chat_id_of(call.body, headers))
        await stream.begun()
        await self.follow(stream).write(send, give_up)

    def find(self, owner: str, chat_id: str) -> DetachedStream | None:
        """The newest stream of a chat, None where nothing of it is known."""
        return self._found.get((owner, chat_id))

    def follow(self, stream: DetachedStream, after: int = 0) -> FollowedStream:
        """The frames of a stream that has begun after the one of this number, for one client."""
        return FollowedStream(
            stream.read_after(after),
            headers=(*stream.headers, chat_id_header(stream.chat_id)),
            keep_alive=stream.keep_alive,
            keep_alive_seconds=self._keep_alive_seconds,
            fail=stream.fail,
            on_whole=stream.delivered,
        )

    def supersede(self, call: ModelCall, headers: RequestHeaders) -> None:
        """Forget the stream of a chat that goes on by a call which is not detached."""
        # A name that no stream can have is none of ours to refuse here.
        with contextlib.suppress(InvalidRequestError):
            if (chat_id := chat_id_of(call.body, headers)) is not None:
                self.forget(call.caller.owner, chat_id)

    def forget(self, owner: str, chat_id: str) -> None:
        """Nobody shall find the stream of a chat any more."""
        stream = self._found.pop((owner, chat_id), None)
        if stream is None:
            return
        if timer := self._timers.pop(stream, None):
            timer.cancel()
        if stream not in self._running.values():
            self._held_bytes -= stream.held_bytes

    async def aclose(self) -> None:
        """End what runs; the runs of the agent go on."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=END_SECONDS)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _begin(self, call: ModelCall, chat_id: str | None) -> DetachedStream:
        owner = call.caller.owner
        self._check_room(owner)
        response_id = call.door.new_id()
        call.choice = replace(call.choice, response_id=response_id)
        stream = DetachedStream(
            owner,
            chat_id or response_id,
            call.door.formats[call.choice.format or ""],
            call.door.head(call.model or "", call.choice),
        )
        self.forget(*stream.key)
        self._found[stream.key] = stream
        task = asyncio.create_task(self._drive(stream, call))
        self._running[task] = stream
        task.add_done_callback(self._settle)
        return stream

    def _check_room(self, owner: str) -> None:
        own = sum(stream.owner == owner for stream in self._running.values())
        if own >= self._max_running_per_owner:
            raise RateLimitError(
                f"{own} detached answers of yours are under way already. Wait until one has ended, "
                "or ask without X-Workflow-Detached.",
                retry_after_seconds=10,
            )
        if len(self._running) >= self._max_running:
            raise OverloadedError(
                f"The server gives {self._max_running} detached answers already. Try again later, "
                "or without X-Workflow-Detached.",
                retry_after_seconds=10,
            )

    async def _drive(self, stream: DetachedStream, call: ModelCall) -> None:
        """Have the answer written into its stream, and end that however the answer ends."""

        async def send(message: Message) -> None:
            before = stream.held_bytes
            stream.take(message)
            self._grow(stream.held_bytes - before)

        failure: AgentServerError | None = None
        try:
            await self._answer(call, send, _nobody)
        except AgentServerError as exc:
            failure = exc
        except asyncio.CancelledError:
            failure = stopping()
            raise
        except Exception as exc:
            log.exception("Detached answer failed", error_type=type(exc).__name__)
            failure = AgentServerError(INTERNAL_ERROR, code="internal_error")
        finally:
            before = stream.held_bytes
            stream.end(failure)
            self._grow(stream.held_bytes - before)
            log.info("Detached answer ended", chat_id=stream.chat_id, **call.log_fields)

    def _grow(self, size: int) -> None:
        """Count what a stream holds more, and make room for it."""
        self._held_bytes += size
        while self._held_bytes > self._max_held_bytes:
            ended = next(iter(self._timers), None)
            if ended is not None:
                self.forget(*ended.key)
                continue
            largest = max(self._running.values(), key=lambda stream: stream.held_bytes)
            before = largest.held_bytes
            largest.forget_oldest()
            if largest.held_bytes == before:
                return
            self._held_bytes -= before - largest.held_bytes

    def _settle(self, task: "asyncio.Task[None]") -> None:
        """Keep a stream that has ended for those who come late, if any can."""
        stream = self._running.pop(task)
        # One that was cancelled before its first step.
        stream.end(stopping())
        if self._found.get(stream.key) is not stream:
            self._held_bytes -= stream.held_bytes
        elif stream.failure is not None:
            # Who asked was told, and there is nothing to read.
            self.forget(*stream.key)
        else:
            loop = asyncio.get_running_loop()
            forget = partial(self.forget, *stream.key)
            self._timers[stream] = loop.call_later(self._kept_seconds, forget)


def _nobody() -> None:
    """Nobody is cut off: what takes the answer never lets it wait."""
